"""The one place where Interlock runs other programs: bounded in time and in what is kept of their words.

Each runs in a session of its own, so it can neither ask on the user's terminal nor be hit by a key pressed there. That
session ends with the call and with this process, even one that is killed: a guard in it waits at a pipe whose writing
end is ours alone, and at the end of that pipe kills the session's process group. (PR_SET_PDEATHSIG would reach the
program and not its children, and would fire at the end of the thread that started it.)
"""

import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple, Protocol

from ..errors import DeadlineError, DriverError, HostError
from . import cancellation
from .bounds import Words, last_words

PACKAGES = {"qemu-img": "qemu-utils", "setsid": "util-linux", "ssh": "openssh-client", "ssh-keygen": "openssh-client"}
"""The Debian package of each program that is looked for by its name."""

_PIECE_BYTES = 64 << 10
_LAST_PIECES = 16
"""A pipe holds a MiB at most: a program that ended has said no more than that since we last looked."""

_TURN_S = 5.0
_DEATH_S = 10.0
"""After SIGKILL a process ends at once, unless the kernel keeps it in an uninterruptible wait."""

_LEASHED = """\
guard='trap "" HUP INT TERM; read -r _ || { kill -TERM 0; sleep "$1"; kill -KILL 0; }'
( sh -c "$guard" guard "$1" <"$0" >/dev/null 2>&1 & )
shift
exec "$@"
"""
"""Leave a guard behind and become the program. `$0` is the pipe: its end ends the session, a line in it does not."""

MERGED: Final = subprocess.STDOUT
"""As `stderr`: what is said there is heard with what is said on stdout."""

Sink = Callable[[bytes], object] | IO[bytes] | int | None
"""Where a program's words go: to a function, piece by piece; into a file; nowhere else than into the result (None)."""


class Wait(Protocol):
    """How to wait: for any of `descriptors` to become readable, at most `seconds`. Raises to call the work off."""

    def __call__(self, seconds: float, *descriptors: int) -> list[int]: ...


class Ended(NamedTuple):
    """How a program ended, and what it said, as far as nobody else was given that."""

    status: int
    """Its exit status; negative, a signal's number."""
    stdout: bytes
    stderr: bytes

    @property
    def words(self) -> tuple[str, ...]:
        """The last lines that it said: on stderr, else on stdout."""
        return last_words(self.stderr) or last_words(self.stdout)


def run(  # noqa: C901 - one thing after the other
    command: Sequence[str | Path],
    *,
    stdin: bytes | int = b"",
    stdout: Sink = None,
    stderr: Sink = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    umask: int = -1,
    timeout_s: float = math.inf,
    wait: Wait | None = None,
    grace_s: float = 0.0,
    leaves: bool = False,
) -> Ended:
    """Run `command` and return how it ended, whatever its status; what it left in the background has ended too.

    `stdin` is what it reads, or the descriptor that it reads from. With `leaves`, what a successful program leaves in
    the background stays: a program that detaches itself. `grace_s` is the time between SIGTERM and SIGKILL where the
    work is called off: for a program that has something to clean up. Instead of by `timeout_s`, in seconds, a caller
    may bound the work by its own `wait`.

    Raises HostError when the program is not installed, DriverError when the host cannot run it, DeadlineError with its
    last words at `timeout_s`, and what
    `wait` or a sink raises; the program and its children are gone then.
    """
    words = [str(word) for word in command]
    name = Path(words[0]).name
    found = shutil.which(words[0], path=(env or os.environ).get("PATH"))
    if found is None:
        hint = f"apt install {PACKAGES[name]}" if name in PACKAGES else None
        raise HostError(f"{words[0]} is not installed", hint=hint)
    out, err = Words(), Words()
    sinks = out.hear if stdout is None else stdout, err.hear if stderr is None else stderr
    guarded, leash = os.pipe()
    given = stdin if isinstance(stdin, int) else _readable(stdin)
    try:
        child = subprocess.Popen(
            ["/bin/sh", "-c", _LEASHED, f"/dev/fd/{guarded}", f"{grace_s:g}", found, *words[1:]],
            stdin=given,
            stdout=_target(sinks[0]),
            stderr=_target(sinks[1]),
            cwd=cwd,
            env=env,
            umask=umask,
            start_new_session=True,
            pass_fds=(guarded,),
        )
    except OSError as error:
        os.close(leash)
        raise DriverError(f"cannot run {name}: {error.strerror or error}") from error
    except BaseException:
        os.close(leash)
        raise
    finally:
        os.close(guarded)
        if not isinstance(stdin, int):
            os.close(given)
    heard = zip((child.stdout, child.stderr), sinks, strict=True)
    pipes = {pipe.fileno(): sink for pipe, sink in heard if pipe and callable(sink)}
    until = time.monotonic() + timeout_s

    def clock(seconds: float, *descriptors: int) -> list[int]:
        left_s = until - time.monotonic()
        if left_s <= 0:
            said = last_words(bytes(err)) or last_words(bytes(out))
            raise DeadlineError(f"{name} did not end within {timeout_s:g} s", details=said)
        return cancellation.readable(min(seconds, left_s), descriptors)

    try:
        _listen(child, pipes, wait or clock)
        status = child.wait()
        if leaves and status == 0:
            os.write(leash, b"\n")
        else:
            _kill(child)
    except BaseException:
        _call_off(child, grace_s)
        raise
    finally:
        for pipe in (child.stdout, child.stderr):
            if pipe:
                pipe.close()
        os.close(leash)
    return Ended(status, bytes(out), bytes(err))


def _listen(child: "subprocess.Popen[bytes]", pipes: dict[int, Callable[[bytes], object]], wait: Wait) -> None:
    """Give what comes through `pipes` to their sinks, until `child` has ended.

    What runs on in the background may hold a pipe open, so its end is not waited for: only what is in it is taken.
    """
    for pipe in pipes:
        os.set_blocking(pipe, False)
    ended = os.pidfd_open(child.pid)
    try:
        while ended not in (ready := wait(_TURN_S, ended, *pipes)):
            for pipe in ready:
                if not _take(pipe, pipes[pipe]):
                    del pipes[pipe]
        for pipe, sink in pipes.items():
            for _ in range(_LAST_PIECES):
                if not _take(pipe, sink):
                    break
    finally:
        os.close(ended)


def _take(pipe: int, sink: Callable[[bytes], object]) -> bool:
    """Give the next piece in `pipe` to `sink`; False when there is none."""
    with suppress(BlockingIOError):
        if piece := os.read(pipe, _PIECE_BYTES):
            sink(piece)
            return True
    return False


def _call_off(child: "subprocess.Popen[bytes]", grace_s: float) -> None:
    """End `child` and all of its session: asked first, if there is a grace, and killed after it."""
    if grace_s:
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
            child.wait(grace_s)
    _kill(child)
    with suppress(subprocess.TimeoutExpired):
        child.wait(_DEATH_S)


def _kill(child: "subprocess.Popen[bytes]") -> None:
    """Kill the session's group. Its number is nobody else's while the guard, which is in it, waits at our pipe."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _target(sink: Sink) -> IO[bytes] | int:
    return subprocess.PIPE if callable(sink) or sink is None else sink


def _readable(content: bytes) -> int:
    """Return a descriptor from which `content` is read: neither a pipe that fills up nor a file on a disk."""
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
