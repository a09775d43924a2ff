"""What a new guest takes from this host: read once, by `create`, and recorded. Later starts read none of it."""

import getpass
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from ..errors import UsageError
from ..guest.facts import HOST_ADDRESS
from ..templates.values import LOGIN, ZONE

DEFAULT_USER = "interlock"
DEFAULT_UID = 1000
"""For an instance that root creates: the guest's user is an ordinary user even then."""

ZONES = Path("/usr/share/zoneinfo")
_ZONE_BYTES = 1 << 16
"""The largest file has a few thousand bytes."""

_PROXIES = ("ftp_proxy", "http_proxy", "https_proxy", "no_proxy")


def user() -> str:
    """Return the creating user's login, for the guest's user; DEFAULT_USER for root, or if there is no valid login."""
    try:
        login = getpass.getuser()
    except (OSError, KeyError):
        return DEFAULT_USER
    return login if os.geteuid() != 0 and LOGIN.fullmatch(login) else DEFAULT_USER


def uid() -> int:
    """Return the creating user's uid, so that files in mounts keep their owner in the guest; DEFAULT_UID for root."""
    return os.geteuid() or DEFAULT_UID


def full_name() -> str:
    """Return the creating user's full name, or "". Source: passwd(5), the first part of GECOS."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_gecos.split(",")[0]
    except KeyError:
        return ""
    return name if os.geteuid() != 0 and name.isprintable() and ":" not in name else ""


def timezone(etc: Path = Path("/etc")) -> str:
    """Return the name of the host's time zone, such as `Europe/Paris`; empty if it is unknown."""
    link = os.path.realpath(etc / "localtime")
    if ZONES in Path(link).parents:
        return str(Path(link).relative_to(ZONES))
    try:
        return (etc / "timezone").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def zone(name: str) -> bytes:
    """Return the file of the time zone `name`, for guests without a zone database. Source: tzfile(5).

    Empty if this host has no database. Raises UsageError for a malformed name, or one that the database lacks.
    """
    if not ZONE.fullmatch(name):
        raise UsageError(f"timezone: {name!r} is not a time zone", hint="timedatectl list-timezones")
    if not ZONES.is_dir():
        return b""
    try:
        content = (ZONES / name).read_bytes()[:_ZONE_BYTES]
    except OSError:
        content = b""
    if not content.startswith(b"TZif"):
        raise UsageError(f'timezone: there is no time zone "{name}"', hint="timedatectl list-timezones")
    return content


def environment(asked: Mapping[str, str], *, proxies: bool) -> dict[str, str]:
    """Return the environment `asked` for a guest, with this process's proxies if `proxies`.

    A proxy appears in lower and upper case, because programs look for either. In those of this process, the host's
    loopback is replaced by the address at which the guest reaches the host. `asked` takes precedence.
    """
    found: dict[str, str] = {}
    for name in _PROXIES:
        given = [asked[key] for key in (name, name.upper()) if key in asked]  # an empty value: no proxy
        value = next(filter(None, given), "")
        if not given and proxies:
            value = os.environ.get(name) or os.environ.get(name.upper()) or ""
            value = value if name == "no_proxy" else _seen_from_guest(value)
        if value:
            found |= {name: value, name.upper(): value}
    return {**found, **asked}


def public_keys(home: Path) -> tuple[str, ...]:
    """Return the public keys in the folder `.ssh` of `home`, one line each, sorted by file."""
    return tuple(
        line.strip()
        for path in sorted((home / ".ssh").glob("*.pub"))
        for line in path.read_text(errors="replace").splitlines()
        if line.strip() and not line.startswith("#")
    )


def _seen_from_guest(proxy: str) -> str:
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # not a URL, so not on the loopback
        return proxy
    if parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        return proxy
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{HOST_ADDRESS}{port}"))
