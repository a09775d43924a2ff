"""What another machine asks of this one besides commands: its part of `copy` and `tunnel`, files that it sends, and
calls of its Python API."""

import base64
import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CancelledError, DriverError, UsageError
from ..host.files import make_private_directory, open_private, remove_tree
from ..host.home import Home
from ..remote import serving
from ..remote.greeting import COMPLETE, INSTANCES, KEEP, RUN, SFTP, TUNNEL, WAY
from .program import become, saying_open
from .stdout import print_record, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .plain import Work
    from .session import Session

_SENT_BYTES = 64 << 20

_LEFT_S = 3600
"""The age at which a sent file is removed: its command should have read it long ago, right after its start."""


def part(words: "Sequence[str]") -> "Work | None":
    """Return the work that the call `words` asks for; None for an unknown call."""
    asked, *given = words
    parts: dict[str, Callable[..., int]] = {
        WAY: _way,
        SFTP: _sftp,
        TUNNEL: _tunnel,
        KEEP: _keep,
        RUN: _run,
        INSTANCES: _instances,
        COMPLETE: _complete,
    }
    work = parts.get(asked)
    return work and (lambda session: work(session, *given))


def _way(session: "Session", what: str, *words: str) -> int:
    """Succeed if the guests can be reached now, for `copy` or for a tunnel."""
    return _place(session, *words) if what == TUNNEL else _may_copy(session, words)


def _may_copy(session: "Session", guests: "Sequence[str]") -> int:
    """Succeed if files can be copied into and out of the `guests` now."""
    for name in guests:
        session.bind(name, "copy")
        session.interlock.copy_line(f"{name}:", ".", backend="scp")
    return 0


def _sftp(session: "Session", name: str) -> int:
    """Become the connection to the sftp server in the guest `name`."""
    session.bind(name, "copy")
    vms = session.interlock
    vms.copy_line(f"{name}:", ".", backend="scp")
    become(["ssh", "-F", str(vms.ssh_config(name)), "-o", "BatchMode=yes", "-s", name, "sftp"])


def _place(session: "Session", name: str, wanted: str) -> int:
    """Print where on this machine a tunnel into the guest `name` can begin: a socket, or for SOCKS a free port."""
    session.bind(name, "shell")
    session.interlock.ssh_config(name)
    if wanted == "socks":
        with socket.create_server(("127.0.0.1", 0)) as free:
            place = f"127.0.0.1:{free.getsockname()[1]}"
    else:
        place = str(make_private_directory(session.interlock.home.runtime) / f"tunnel-{os.urandom(6).hex()}")
    write(f"{place}\n")
    return 0


def _tunnel(session: "Session", name: str, wanted: str, place: str) -> int:
    """Forward connections at `place` to the guest `name` until cancelled; print a line once `place` is open."""
    from ..host.run import run

    port = None if wanted == "socks" else int(wanted)
    here = int(place.rpartition(":")[2]) if port is None else place
    line = session.interlock.tunnel(name, port, here)
    try:
        return run(saying_open(line), stdout=1, stderr=2).status
    except CancelledError as error:
        return error.exit_code  # Ctrl-C is the normal end of a tunnel
    finally:
        with suppress(OSError):
            Path(place).unlink()


def _keep(_: "Session", name: str) -> int:
    """Keep standard input in a file called `name` until the command that reads it ends; print the path of the file.

    `serving` removes the file.
    """
    text = sys.stdin.buffer.read(_SENT_BYTES + 1)
    if len(text) > _SENT_BYTES or "/" in name or name in ("", ".", ".."):
        raise UsageError(f"{name}: not a file name, or larger than 64 MiB")
    runtime = make_private_directory(Home.from_environment().runtime)
    _remove_what_was_left(runtime)
    folder = make_private_directory(runtime / f"{serving.SENT}{os.urandom(6).hex()}")
    with open_private(folder / name, "xb") as file:
        file.write(text)
    write(f"{folder / name}\n")
    return 0


def _remove_what_was_left(runtime: Path) -> None:
    """Remove files in `runtime` whose command never came, because the connection broke or the caller was cancelled."""
    for folder in runtime.glob(f"{serving.SENT}*"):
        with suppress(OSError, DriverError):
            if time.time() - folder.stat().st_mtime > _LEFT_S:
                remove_tree(folder)


def _run(session: "Session", options: str, name: str, *argv: str) -> int:
    """Run `argv` in the guest `name`, and print how it ended and its output, as base64."""
    session.bind(name, "shell")
    asked = json.loads(options)
    sent = asked.pop("stdin", None)
    stdin = Path(sent).read_bytes() if sent else b""
    done = session.interlock.run(name, argv, input=stdin, **asked)
    said = {key: base64.b64encode(it).decode() for key, it in (("stdout", done.stdout), ("stderr", done.stderr))}
    print_record({"status": done.status, **said}, "json")
    return 0


def _complete(_: "Session", shell: str, begun: str, *words: str) -> int:
    """Print the completions for `shell` of the word `begun` after `words`."""
    from .completing import lines_of

    write(lines_of(shell, words, begun))
    return 0


def _instances(session: "Session") -> int:
    """Print every instance as `list` does, with its spec."""
    for status in session.interlock.instances():
        spec = {"spec": status.spec.to_json()} if status.spec else {}
        print_record({**status.to_json(), **spec}, "json")
    return 0
