"""Which machine is meant: `ssh://[user@]host[:port][/home]`, or a name from the user's hosts.yaml.

    # ~/.config/interlock/hosts.yaml
    build: ssh://me@build.example.org
    lab:
      url: ssh://lab.example.org:2222/srv/interlock    # /srv/interlock: the home there, as INTERLOCK_HOME names it
      program: /opt/interlock/bin/interlock            # where the program is, if it is not on the PATH there

No machine is contacted here.
"""

import re
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ..errors import InterlockError, NotFoundError, UsageError
from ..host.files import read_own
from ..host.home import NAME, config_folder

FILE = "hosts.yaml"

HERE = "local"
"""The name of this machine wherever a host can be named."""

PROGRAM = "interlock"

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*\$?")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|[0-9A-Fa-f:.]+(%[\w.-]+)?")
"""None of them begins with a dash, which ssh would read as an option."""

_EXAMPLE = "interlock --host ssh://me@build.example.org list"


class Host(NamedTuple):
    """A machine that can be reached by ssh, and the Interlock there."""

    label: str
    """The user's name for it: from hosts.yaml, or its URL."""
    name: str
    """The name for ssh: an address, or a `Host` of the user's ssh_config(5)."""
    user: str | None = None
    port: int | None = None
    home: str | None = None
    """The home there; None for the one in that host's environment."""
    program: str = PROGRAM

    @property
    def way(self) -> list[str]:
        """The arguments with which `ssh` gets there."""
        port = [] if self.port is None else ["-p", str(self.port)]
        return [*port, f"{self.user}@{self.name}" if self.user else self.name]

    def typed(self, *words: str, options: tuple[str, ...] = ()) -> str:
        """Return what to type to run `words` there; without words, to log in."""
        command = (shlex.join(words),) if words else ()
        return shlex.join(["ssh", *options, *self.way, *command])


def find(text: str) -> Host | None:
    """Return the machine that `text` means; None for this one.

    Raises UsageError for an invalid address, NotFoundError for a name that is not in hosts.yaml.
    """
    if text in ("", HERE):
        return None
    if "://" in text:
        return parsed(text, text)
    hosts = named()
    if text in hosts:
        return hosts[text]
    known = f"it has: {', '.join(hosts)}" if hosts else "it names none"
    hint = _EXAMPLE
    with suppress(UsageError):
        hint = shlex.join([PROGRAM, "--host", parsed(f"ssh://{text}", f"ssh://{text}").label, "list"])
    raise NotFoundError(f'{_place()} has no host "{text}"; {known}', hint=hint)


def named() -> dict[str, Host]:
    """Return the machines of the user's hosts.yaml, by name, in the order of the file; empty if there is no file."""
    path = _place()
    try:
        text = read_own(path.resolve())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    import yaml

    try:
        entries = yaml.safe_load(text) or {}
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(entries, dict):
        raise UsageError(f"{path}: expected names and addresses, such as `build: ssh://me@build.example.org`")
    return {str(name): _entry(path, name, entry) for name, entry in entries.items()}


def _place() -> Path:
    return config_folder() / FILE


def _entry(path: Path, name: object, entry: Any) -> Host:
    """Return the machine that one entry of the file describes."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or name == HERE:
        raise UsageError(f"{path}: a host cannot be called {name!r}")
    known = {"url": entry} if isinstance(entry, str) else entry
    if not isinstance(known, dict) or not isinstance(known.get("url"), str):
        raise UsageError(f"{path}: {name}: expected an address such as ssh://me@build.example.org")
    unknown = [str(key) for key in known if key not in ("url", "program")]
    if unknown:
        raise UsageError(f"{path}: {name}: unknown key {unknown[0]}; there are url and program")
    program = known.get("program", PROGRAM)
    if not isinstance(program, str) or not program or program.startswith("-") or "\0" in program:
        raise UsageError(f"{path}: {name}: program: expected the path of a program")
    try:
        return parsed(known["url"], name)._replace(program=program)
    except InterlockError as error:
        raise UsageError(f"{path}: {name}: {error.message}") from error


def parsed(url: str, label: str) -> Host:
    """Return the machine at `url`, which is called `label`; raises UsageError for an invalid URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _unfit(url, str(error)) from error
    user, name = unquote(parts.username or ""), unquote(parts.hostname or "")
    wrong = (
        "it must begin with ssh://"
        if parts.scheme != "ssh"
        else "it must not contain a password"
        if parts.password is not None
        else "it must not have a query or fragment"
        if parts.query or parts.fragment
        else "it names no host"
        if not _HOST.fullmatch(name)
        else "its user is not a valid user name"
        if parts.username is not None and not _USER.fullmatch(user)
        else "its port is not a valid port"
        if port == 0
        else ""
    )
    home = unquote(parts.path)
    if wrong or "\0" in home:
        raise _unfit(url, wrong or "its path is not a valid path")
    return Host(label, name, user or None, port, home if home.strip("/") else None)


def _unfit(url: str, why: str) -> UsageError:
    url = re.sub(r"(?<=:)[^/@]*(?=@)", "…", url)  # a password stays out of logs
    return UsageError(f"{url}: {why}; expected ssh://[user@]host[:port][/home]", hint=_EXAMPLE)
