"""The connection to another machine: the system's OpenSSH, and one connection that all commands share.

    runtime/host-<12 hex digits>        the control socket of the shared connection; it closes after a minute
    runtime/host-<12 hex digits>.met    which Interlock answered over which connection: it is asked only once
    runtime/host-<12>-<12 more>.ssh     stands in for ssh to reach guests of one of that host's homes

The user's own ssh_config(5) applies: aliases, keys, agents, jump hosts. ssh asks nothing (BatchMode), so a login
that needs an answer fails at once, with the command to type. A call is one round trip: the Interlock there begins with
a greeting on stderr, which says what it is; everything after it is the command's own.
"""

import json
import math
import os
import shlex
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..errors import (
    CancelledError,
    DeadlineError,
    HostError,
    InterlockError,
    NoInterlockError,
    UnreachableError,
    VersionMismatchError,
)
from ..host import cancellation
from ..host.bounds import last_words
from ..host.files import make_private_directory, read_own, write_whole
from ..host.home import Home, short_name
from ..host.run import Ended, Sink, run
from ..version import CONTRACT, __version__
from .address import Host
from .greeting import CALL, GREETING, KEEP

_LONGEST_PATH_BYTES = 90
"""ssh makes the socket under a name that is 17 bytes longer and renames it. The limit for that is 107: unix(7)."""

_LONGEST_PREFACE_BYTES = 64 << 10
"""How much of the output of login scripts before the greeting is kept."""

_OPTIONS = (
    "BatchMode=yes",
    "ForwardX11=no",
    "ConnectTimeout=15",
    # A connection that broke silently is given up after half a minute.
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",
    # The user's settings for interactive logins do not apply here.
    "EscapeChar=none",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
)

_SHARED_S = 60

_FIND = 'PATH="$PATH:$HOME/.local/bin"; command -v -- "$1" >/dev/null || exit 127; exec "$@"'
"""pip and pipx install into ~/.local/bin, which is not on the PATH of a session without a login."""

_NOT_FOUND = 127
_SSH_FAILED = 255
"""The exit status of ssh's own failures, as opposed to the command's. Source: ssh(1)."""


class Connection:
    """A connection from this machine's Interlock to that of `host`."""

    def __init__(self, host: Host) -> None:
        self.host = host
        runtime = Home.from_environment().runtime
        self.folder = runtime
        self.key = f"host-{short_name(chr(0).join((*host.way, host.program)))}"
        """The beginning of the names of this connection's files."""
        self.typed_host: str | None = host.label
        """The name of the host in commands to type; None if INTERLOCK_HOST gives it."""
        self.sent: list[str] = []
        """Files that were sent there for the next command, which removes them."""
        self.named: dict[str, str] = {}
        """The path of such a file → its name here, for hints."""
        self._greeting: Mapping[str, Any] = {}
        """The greeting of the last call."""
        self._socket = runtime / self.key
        self._met = runtime / f"{self.key}.met"

    def line(
        self,
        words: Sequence[str],
        *,
        terminal: bool = False,
        greet: bool = True,
        leash: bool = False,
        shared: bool = True,
        settings: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> list[str]:
        """Return the command line of this machine that asks for `words` there.

        With `leash`, its standard input is a leash: a line in it is the number of a signal, and its end means that the
        caller has ended.
        `settings` are environment variables for the command there, `options` are further options for ssh.
        """
        host, home = self.host, {"INTERLOCK_HOME": self.host.home} if self.host.home else {}
        call = {
            "contract": CONTRACT,
            "version": __version__,
            "greet": greet,
            "leash": leash,
            "host": self.typed_host,
            "way": host.way,
            "sent": self.sent,
            "named": self.named,
            "settings": {**home, **(settings or {})},
        }
        there = ["sh", "-c", _FIND, "sh", host.program, CALL, json.dumps(call), *words]
        return [*self._ssh(shared=shared), "-t" if terminal else "-T", *options, *host.way, "--", shlex.join(there)]

    def _ssh(self, *, shared: bool = True) -> list[str]:
        line = ["ssh"]
        for option in (*_OPTIONS, *self._sharing(shared=shared)):
            line += ["-o", option]
        return line

    def _sharing(self, *, shared: bool) -> tuple[str, ...]:
        if not shared or len(bytes(self._socket)) > _LONGEST_PATH_BYTES:
            return ("ControlMaster=no", "ControlPath=none")
        path = str(self._socket).replace("%", "%%")
        return ("ControlMaster=auto", f'ControlPath="{path}"', f"ControlPersist={_SHARED_S}")

    def call(
        self,
        words: Sequence[str],
        *,
        stdin: bytes | int | None = None,
        stdout: Sink = None,
        stderr: Callable[[bytes], object] | None = None,
        settings: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        shared: bool = True,
        timeout_s: float = math.inf,
    ) -> Ended:
        """Run `words` there and return how that ended; the stderr in it, if not sent elsewhere, lacks the greeting.

        When the work is cancelled here, it is cancelled there, too, and its end is awaited; when this process is
        killed, it is as if its terminal had been closed. A command with `stdin` ends with its streams instead. Raises
        UnreachableError, also after `timeout_s` seconds, NoInterlockError, VersionMismatchError, HostError.
        """
        make_private_directory(self.folder)
        ear = _Ear(stderr)
        line = self.line(words, leash=stdin is None, settings=settings, options=options, shared=shared)
        held, leash = os.pipe()
        try:
            ended = run(
                line,
                stdin=held if stdin is None else stdin,
                stdout=stdout,
                stderr=ear.hear,
                timeout_s=timeout_s,
                wait=_Waiting(leash, ear) if stdin is None and math.isinf(timeout_s) else None,
            )
        except DeadlineError as error:
            raise UnreachableError(
                f'host "{self.host.label}" did not answer within {timeout_s:g} s',
                hint=self.host.typed("true", options=("-v",)),
                details=error.details,
            ) from error
        finally:
            os.close(held)
            os.close(leash)
        if ear.greeting is None:
            raise self._silence(ended.status, bytes(ear.preface))
        self._greeting = ear.greeting
        self._check(ear.greeting)
        return ended._replace(stderr=bytes(ear.kept))

    def keep(self, name: str, content: bytes, typed: str | None = None) -> str:
        """Send `content` to a file called `name` there, for the next call, which removes it; return its path there.

        In hints from there, it is called `typed`.
        """
        sent, self.sent = self.sent, []  # this call must not remove the files of the next one
        ended = self.call([KEEP, name], stdin=content)
        if ended.status:
            raise self.broken()
        path = ended.stdout.decode().strip()
        self.sent = [*sent, path]
        if typed is not None:
            self.named[path] = typed
        return path

    def clock(self) -> str:
        """Return the current time there, UTC, ISO 8601: clocks differ."""
        self.call([])
        return str(self._greeting.get("time"))

    def meet(self) -> None:
        """Return once the Interlock there is known to be compatible; it is asked only once per connection.

        Raises what `call` raises.
        """
        with suppress(OSError):
            if self.is_open() and read_own(self._met) == self._identity():
                return
        self.call([])
        with suppress(OSError):
            write_whole(self._met, self._identity())

    def is_open(self) -> bool:
        """Return whether a shared connection is open now."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self._socket))
            except OSError:
                return False
        return True

    def _identity(self) -> bytes:
        """Return an identifier of this shared connection, which no later one has; raises OSError if there is none."""
        seen = self._socket.stat()
        return f"{seen.st_ino} {seen.st_ctime_ns} {__version__}".encode()

    def _check(self, greeting: Mapping[str, Any]) -> None:
        theirs, version = greeting.get("contract"), greeting.get("version")
        if theirs == CONTRACT:
            return
        older = "there" if isinstance(theirs, int) and theirs < CONTRACT else "here"
        raise VersionMismatchError(
            f'host "{self.host.label}" has Interlock {version}, which is not compatible with {__version__} here: '
            f"the contract is {theirs} there and {CONTRACT} here; upgrade the one {older}",
            hint=self.host.typed("pipx", "upgrade", "interlock") if older == "there" else "pipx upgrade interlock",
        )

    def _silence(self, status: int, said: bytes) -> InterlockError:
        """Return the error for a call that no Interlock there answered."""
        host, words = self.host, last_words(said)
        text = "\n".join(words)
        if status == _NOT_FOUND:
            where = f'"{host.program}"' if "/" in host.program else f'"{host.program}" on its PATH or in ~/.local/bin'
            return NoInterlockError(
                f'host "{host.label}" has no program {where}; install Interlock there, or set `program` in '
                "hosts.yaml to its path",
                hint=host.typed(),
                details=words,
            )
        if status != _SSH_FAILED:
            return VersionMismatchError(
                f'"{host.program}" on host "{host.label}" is not an Interlock that can be called from another host, '
                f"as {__version__} can; upgrade it",
                hint=host.typed("pipx", "upgrade", "interlock"),
                details=words,
            )
        if "forwarding" in text:
            return HostError(f'ssh cannot listen here for host "{host.label}"', details=words)
        *_, last = words or ("ssh ended without a message",)
        if "Permission denied" in text:
            hint = shlex.join(["ssh-copy-id", *host.way])
        elif "verification failed" in text:
            hint = host.typed("true")  # ssh then shows the key and asks
        else:
            hint = host.typed("true", options=("-v",))
        return UnreachableError(f'host "{host.label}" cannot be reached: {last}', hint=hint, details=words[:-1])

    def broken(self, name: str | None = None) -> UnreachableError:
        """Return the error for a connection that ended before the command, which may have been about `name`."""
        look = ("inspect", name) if name else ("list",)
        return UnreachableError(
            f'the connection to host "{self.host.label}" broke',
            hint=shlex.join(["interlock", "--host", self.host.label, *look]),
        )


class _Ear:
    """Receives stderr: a preface of login scripts or of ssh, the greeting, and the command's own output."""

    def __init__(self, sink: Callable[[bytes], object] | None) -> None:
        self.preface = bytearray()
        self.kept = bytearray()
        self.greeting: dict[str, Any] | None = None
        self._sink = sink or self._keep

    def _keep(self, piece: bytes) -> None:
        self.kept += piece[: max(0, (4 << 20) - len(self.kept))]

    def hear(self, piece: bytes) -> None:
        """Take the next piece."""
        if self.greeting is not None:
            self._sink(piece)
            return
        self.preface += piece
        before, mark, rest = bytes(self.preface).partition(GREETING)
        line, newline, after = rest.partition(b"\n")
        if mark and newline:
            with suppress(ValueError):
                self.greeting = dict(json.loads(line))
                self.preface[:] = before
                if after:
                    self._sink(after)
        elif len(self.preface) > _LONGEST_PREFACE_BYTES:
            del self.preface[: -_LONGEST_PREFACE_BYTES // 2]


class _Waiting:
    """Waits for a call; when the work is cancelled here, it tells the other end through the leash, and waits for it."""

    def __init__(self, leash: int, ear: _Ear) -> None:
        self._leash, self._ear = leash, ear
        self._told = False

    def __call__(self, seconds: float, *descriptors: int) -> list[int]:
        """Return the readable ones of `descriptors`; raises CancelledError while nobody there is at work yet."""
        if self._told:
            with cancellation.shielded():
                return cancellation.readable(seconds, descriptors)
        try:
            return cancellation.readable(seconds, descriptors)
        except CancelledError:
            if self._ear.greeting is None:
                raise
            self._told = True
            os.write(self._leash, b"%d\n" % cancellation.number())
            return []
