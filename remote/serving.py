"""The other end of a call: what Interlock does on this machine for the Interlock of another machine.

    interlock remote-call '{"contract": 1, ...}' start web

It greets on stderr, takes the caller's settings into its environment, and then runs as if called with the rest. The
caller passes on the signals that it gets. When the caller is gone, because the connection broke or its process was
killed, this process is cancelled as if its terminal had been closed (SIGHUP).
"""

import json
import os
import re
import shlex
import signal
import sys
import time
from _thread import start_new_thread

from ..version import CONTRACT, __version__
from .greeting import GREETING, REFUSED
from .hints import for_host

TYPE_CHECKING = False  # as in `typing`, but without importing it
if TYPE_CHECKING:
    from typing import Any

_STDIN, _STDERR = 0, 2

_USAGE = 2
"""The exit code of `errors.UsageError`, whose module is not loaded yet."""

SENT = "sent-"
"""The prefix of the name of a folder, in the runtime directory, for one file that was sent."""

_caller: "dict[str, Any]" = {}
"""What the caller says about itself."""

_FILE_HERE = re.compile(r" --file[ =]")
"""The option of a hint that names a file on this machine: the text kept from an editor. Typed elsewhere, it would be
sent."""


def begin() -> None:
    """Replace the process's arguments by those that the call carries; exit if it carries none."""
    call = _call()
    if call.get("greet"):
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds // 1000:06}Z"
        greeting = {"contract": CONTRACT, "version": __version__, "time": moment}
        os.write(_STDERR, GREETING + json.dumps(greeting).encode() + b"\n")
    if call.get("contract") != CONTRACT:
        sys.exit(REFUSED)
    del sys.argv[1:3]
    if not sys.argv[1:]:  # the greeting was all that was wanted
        sys.exit(0)
    _caller.update(call)
    os.environ.pop("INTERLOCK_HOST", None)  # the caller's choice has led here
    os.environ.update(call.get("settings", {}))
    if sent := call.get("sent"):
        _remove_at_the_end(sent)
    if call.get("leash"):
        leash = os.dup(_STDIN)
        os.set_inheritable(leash, False)  # noqa: FBT003
        os.dup2(os.open(os.devnull, os.O_RDONLY), _STDIN)
        start_new_thread(_follow, (leash,))


def _call() -> "dict[str, Any]":
    """Return what the caller says about itself; exit if it says nothing, as when a person types the command."""
    try:
        call = dict(json.loads(sys.argv[2]))
    except (IndexError, ValueError, TypeError):
        call = {}
    if "contract" not in call:
        os.write(_STDERR, b"error: usage\nremote-call is what another host's Interlock calls\nhint: interlock --help\n")
        sys.exit(_USAGE)
    return call


def _follow(leash: int) -> None:
    """Send this process the signals whose numbers come through `leash`, and at its end SIGHUP."""
    with open(leash, "rb") as lines:
        for line in lines:
            os.kill(os.getpid(), int(line))
    os.kill(os.getpid(), signal.SIGHUP)


def _remove_at_the_end(sent: "list[str]") -> None:
    """Remove the files `sent`, and their folders, when this process ends."""
    import atexit
    from pathlib import Path

    from ..host.files import remove_tree

    for path in map(Path, sent):
        if path.parent.name.startswith(SENT):
            atexit.register(remove_tree, path.parent)


def on_leash() -> bool:
    """Return whether the caller can cancel this process through its standard input, which a thread reads."""
    return bool(_caller.get("leash"))


def typed(hint: str) -> str:
    """Return `hint`, a command for this machine, as it is typed where the user is."""
    for here, there in _caller.get("named", {}).items():
        hint = hint.replace(shlex.quote(here), shlex.quote(there))
    if hint.startswith("export "):  # the user's variables do not reach this machine: they must be set in a login here
        return shlex.join(["ssh", "-t", *_caller["way"]])
    commands = re.split(r" (?:&&|\|\||\|) ", hint)
    if all(command.startswith("interlock ") for command in commands):
        if not _FILE_HERE.search(hint):
            return for_host(hint, _caller.get("host"))
        if home := _caller.get("settings", {}).get("INTERLOCK_HOME"):
            hint = f"INTERLOCK_HOME={shlex.quote(home)} {hint}"
    return shlex.join(["ssh", "-t", *_caller["way"], hint])
