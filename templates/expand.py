"""Which texts of a template may hold variables, which variables each may use, and what replaces them."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from .document import Path, at, place_in, written
from .mistakes import Mistake, mistake, shortened
from .variables import Value, VariableError, names, replaced, unknown

HOST = ("Home", "Dir", "Name", "UID", "User", "GlobalTempDir", "TempDir")
GUEST = ("Home", "Name", "Hostname", "UID", "User")
HOME = ("Name", "Hostname", "UID", "User")
MESSAGE = ("Name", "Dir", "HostOS", "HostArch", "User", "Home")
INSTANCE = re.compile(r"Instance\.(Name|Dir|Hostname|Config(\.\w+)+)")
"""Further variables of a message, as in Lima: those of the instance and, after `Config`, values of the template."""

FIELDS: dict[str, tuple[str, ...]] = {
    "user.home": HOME,
    "mounts[].location": HOST,
    "mounts[].mountPoint": GUEST,
    "provision[].script": GUEST,
    "provision[].content": GUEST,
    "provision[].expression": GUEST,
    "provision[].path": GUEST,
    "provision[].owner": GUEST,
    "probes[].script": GUEST,
    "portForwards[].guestSocket": GUEST,
    "portForwards[].hostSocket": HOST,
    "copyToHost[].guest": GUEST,
    "copyToHost[].host": HOST,
    "message": MESSAGE,
}
"""Field → the variables that it may use, besides `.Param.NAME` and, in a message, those of INSTANCE."""

INTERNAL = "internal_netplanOptional"
"""A param with which Lima's templates control Lima."""

_SCRIPTS = ("provision[].script", "probes[].script")
"""Fields in which a param is also in the environment, as `PARAM_NAME`."""


@dataclass(frozen=True, slots=True)
class Host:
    """The values of the host's variables."""

    name: str
    """The name of the instance."""
    dir: str
    """The instance's own directory."""
    home: str
    """Of the user who creates the instance, like uid and user."""
    uid: int
    user: str
    temp_dir: str = "/tmp"  # noqa: S108 - what the variable stands for
    global_temp_dir: str = "/tmp"  # noqa: S108 - likewise
    os: str = "linux"
    """As Go spells it, like arch."""
    arch: str = "amd64"

    def values(self) -> dict[str, str]:
        """Return variable → text."""
        return {
            "Home": self.home,
            "Dir": self.dir,
            "Name": self.name,
            "UID": str(self.uid),
            "User": self.user,
            "GlobalTempDir": self.global_temp_dir,
            "TempDir": self.temp_dir,
            "HostOS": self.os,
            "HostArch": self.arch,
        }


@dataclass(frozen=True, slots=True)
class Guest:
    """The values of the guest's variables."""

    name: str
    hostname: str
    uid: int
    user: str
    home: str
    """The home if the template sets no other."""

    def values(self) -> dict[str, str]:
        """Return variable → text."""
        return {
            "Home": self.home,
            "Name": self.name,
            "Hostname": self.hostname,
            "UID": str(self.uid),
            "User": self.user,
        }


def texts(data: object, path: Path = ()) -> Iterator[tuple[Path, str, str]]:
    """Yield each text that may hold variables in `data`, the plain form of a template: (path, field, text)."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, item in inner:
        here = (*path, key)
        field = re.sub(r"\[\d+\]", "[]", written(here))
        if isinstance(item, str) and field in FIELDS:
            yield here, field, item
        yield from texts(item, here)


def misused(tree: yaml.Node, data: dict[str, object]) -> list[Mistake]:
    """Return a mistake for each unknown variable, each text that cannot be parsed, and each unused param."""
    params = _params(data)
    wrong, used = [], set()
    for path, field, text in texts(data):
        known = (*FIELDS[field], *params)
        try:
            for name, offset in names(text) if "{{" in text else ():
                used.add(name)
                if name not in known and not (field == "message" and INSTANCE.fullmatch(name)):
                    wrong.append(_inside(tree, path, offset, unknown(name, known)))
        except VariableError as error:
            wrong.append(_inside(tree, path, error.offset, error.words))
        if field in _SCRIPTS:
            used |= {f"Param.{name}" for name in re.findall(r"\bPARAM_(\w+)", text)}
    for name in params:
        key = name.removeprefix("Param.")
        if name not in used and key != INTERNAL and re.fullmatch(r"[A-Za-z]\w*", key):
            wrong.append(mistake(tree, ("param", key), "no text of the template uses it", at_key=True))
    return wrong


def expanded(tree: yaml.Node, data: dict[str, Any], host: Host, guest: Guest) -> list[Mistake]:
    """Replace the variables in `data`, the plain form of `tree`, and make paths on the host absolute.

    Returns a mistake for what could not be replaced, for an unknown `~user`, and for a mount that would hide the
    guest's home.
    """
    params = _params(data)
    wrong = []
    inside = guest.values()
    for path, field, text in sorted(texts(data), key=lambda found: found[1] != "user.home"):
        of_host = FIELDS[field] in (HOST, MESSAGE)
        values = {**(host.values() if of_host else inside), **params}
        known: dict[str, Value] = {name: it for name, it in values.items() if name in FIELDS[field] or name in params}
        try:
            if field == "message":
                known |= _of_instance(text, data, host, guest)
            value = replaced(text, known)
        except VariableError as error:
            wrong.append(_inside(tree, path, error.offset, error.words))
            continue
        if field == "user.home":
            inside = {**inside, "Home": value}
        _set(data, path, value)
    _make_absolute(data, host)
    for position, mount in enumerate(() if data.get("plain") is True else _mappings(data, "mounts")):
        if str(mount.get("location", "")).startswith("~"):
            wrong.append(mistake(tree, ("mounts", position, "location"), "unknown user in `~user`"))
        if str(mount.get("mountPoint", "")).rstrip("/") == inside["Home"].rstrip("/"):
            words = f"expected a folder other than the guest's home, {inside['Home']}"
            wrong.append(mistake(tree, ("mounts", position, "mountPoint"), words))
    return wrong


def _of_instance(text: str, data: dict[str, Any], host: Host, guest: Guest) -> dict[str, Value]:
    """Return the values of the INSTANCE variables in `text`; "" for values that the template does not set."""
    known = {"Instance.Name": host.name, "Instance.Dir": host.dir, "Instance.Hostname": guest.hostname}
    asked = [name for name, _ in names(text) if INSTANCE.fullmatch(name)]
    return {name: known.get(name) or _said(data, name.lower().split(".")[2:]) for name in asked}


def _said(data: object, path: list[str]) -> Value:
    """Return the value of `data` at `path`, which is in lower case: Go spells keys differently from templates."""
    for part in path:
        inner = data.items() if isinstance(data, dict) else ()
        data = next((value for key, value in inner if key.lower() == part), None)
    return "" if data in (None, [], {}) else data if isinstance(data, bool) else str(data)


def _make_absolute(data: dict[str, Any], host: Host) -> None:
    """Make paths on the host absolute, and give every mount a mount point."""
    for mount in _mappings(data, "mounts"):
        if isinstance(mount.get("location"), str):
            mount["location"] = _at_home(mount["location"], host)
            if mount["location"].startswith("/"):
                mount.setdefault("mountPoint", mount["location"])
    for forward in _mappings(data, "portForwards"):
        socket = forward.get("hostSocket")
        if isinstance(socket, str) and not socket.startswith("/"):
            forward["hostSocket"] = f"{host.dir}/sock/{socket}"
    certificates = data.get("caCerts")
    if isinstance(certificates, dict) and isinstance(certificates.get("files"), list):
        certificates["files"] = [_at_home(str(path), host) for path in certificates["files"]]


def _at_home(path: str, host: Host) -> str:
    """Return `path` with `~` or `~USER` replaced by that home; unchanged if there is no such user."""
    if path == "~" or path.startswith("~/"):
        return host.home + path[1:]
    return os.path.expanduser(path)  # noqa: PTH111 - Path's own raises where there is no such user


def _mappings(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = data.get(key)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _params(data: Mapping[str, object]) -> dict[str, str]:
    params = data.get("param")
    return {f"Param.{name}": str(value) for name, value in params.items()} if isinstance(params, dict) else {}


def _inside(tree: yaml.Node, path: Path, offset: int, words: str) -> Mistake:
    node, _ = at(tree, path)
    return Mistake(place_in(node, offset), shortened(written(path)), words)


def _set(data: object, path: Path, value: str) -> None:
    *way, last = path
    for part in way:
        data = data[part]  # type: ignore[index] # the path was found in `data`
    data[last] = value  # type: ignore[index] # likewise
