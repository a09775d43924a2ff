"""The one place where Interlock runs other programs, with bounds on their time and on what is kept of their output.

Each runs in its own session, so it can neither prompt on the user's terminal nor be interrupted by a key pressed there.
The session ends with the call, and with this process even if it is killed: a guard in the session reads from a pipe
whose writing end only we hold, and when that closes, the guard kills the session's process group. (PR_SET_PDEATHSIG
would reach the program but not its children, and would fire when the thread that started it ends.)
"""

import math
import os
import select
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
from .process import group_runs

PACKAGES = {"qemu-img": "qemu-utils", "setsid": "util-linux", "ssh": "openssh-client", "ssh-keygen": "openssh-client"}
"""The Debian package of each program."""

_PIECE_BYTES = 64 << 10
_LAST_PIECES = 16
"""A pipe holds at most 1 MiB, so a program that has ended left at most that much unread."""

_TURN_S = 5.0
_WATCH_S = 0.1
_DEATH_S = 10.0
"""How long to wait after SIGKILL: a process ends at once, unless it is in an uninterruptible wait."""

_CLOSING_MS = 10.0
"""How long to wait for the pipe to be closed: what has left the session may live on with it open."""

_LEASHED = """\
guard='trap "" HUP INT TERM; read -r _ || { kill -TERM 0; sleep "$1"; kill -KILL 0; }'
( sh -c "$guard" guard "$1" <"$0" >/dev/null 2>&1 & )
shift
exec "$@"
"""
"""Start the guard, then become the program. `$0` is the pipe: its end ends the session, a line in it does not."""

MERGED: Final = subprocess.STDOUT
"""As `stderr`: merged into stdout."""

Sink = Callable[[bytes], object] | IO[bytes] | int | None
"""Where a program's output goes: to a function, piece by piece; into a file; or only into the result (None)."""


class Wait(Protocol):
    """Waits until any of `descriptors` is readable, at most `seconds`. Raises to cancel the work."""

    def __call__(self, seconds: float, *descriptors: int) -> list[int]: ...


class Ended(NamedTuple):
    """How a program ended, and its output, as far as that went nowhere else."""

    status: int
    """Its exit status, or the negative number of a signal."""
    stdout: bytes
    stderr: bytes

    @property
    def words(self) -> tuple[str, ...]:
        """Its last lines on stderr, or else on stdout."""
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
    watch: Callable[[int], object] | None = None,
) -> Ended:
    """Run `command` and return how it ended, whatever its status; what it left in the background has ended too.

    `stdin` is the input, or a descriptor to read it from. With `leaves`, what a successful program left in the
    background keeps running: for programs that detach. `grace_s` is the time between SIGTERM and SIGKILL when the work
    is cancelled, for programs that clean up. A caller may bound the work by `timeout_s`, in seconds, or by its own
    `wait`. `watch` is called with the program's process id about ten times a second while it runs.

    Raises HostError if the program is not installed, DriverError if the host cannot run it, DeadlineError with its
    last words at `timeout_s`, and what `wait` or a sink raises; the program and its children are gone then.
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
        _listen(child, pipes, wait or clock, watch)
        status = child.wait()
        if leaves and status == 0:
            os.write(leash, b"\n")
        else:
            _kill(child, leash)
    except BaseException:
        _call_off(child, leash, grace_s)
        raise
    finally:
        for pipe in (child.stdout, child.stderr):
            if pipe:
                pipe.close()
        os.close(leash)
    return Ended(status, bytes(out), bytes(err))


def _listen(
    child: "subprocess.Popen[bytes]",
    pipes: dict[int, Callable[[bytes], object]],
    wait: Wait,
    watch: Callable[[int], object] | None,
) -> None:
    """Pass what comes through `pipes` to their sinks until `child` has ended.

    A process left in the background may hold a pipe open, so this does not wait for the pipe's end.
    """
    for pipe in pipes:
        os.set_blocking(pipe, False)
    ended = os.pidfd_open(child.pid)
    try:
        while ended not in (ready := wait(_WATCH_S if watch else _TURN_S, ended, *pipes)):
            if watch:
                watch(child.pid)
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
    """Pass the next piece in `pipe` to `sink`; return whether there was one."""
    with suppress(BlockingIOError):
        if piece := os.read(pipe, _PIECE_BYTES):
            sink(piece)
            return True
    return False


def _call_off(child: "subprocess.Popen[bytes]", leash: int, grace_s: float) -> None:
    """End `child` and its whole session: by SIGTERM first if there is a grace, then by SIGKILL."""
    if grace_s:
        with suppress(subprocess.TimeoutExpired, ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
            child.wait(grace_s)
    _kill(child, leash)
    with suppress(subprocess.TimeoutExpired):
        child.wait(_DEATH_S)


def _kill(child: "subprocess.Popen[bytes]", leash: int) -> None:
    """Kill the session's process group, and return when nothing of it runs any more: its locks are released then.

    Its number cannot be reused while the guard, a member, waits at our pipe. Only our child's end can be waited for; of
    the others, the pipe tells that their end is near: it reports an error once nobody can read from it.
    """
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    give_up = time.monotonic() + _DEATH_S
    readers = select.poll()
    readers.register(leash, 0)
    readers.poll(_CLOSING_MS)
    while group_runs(child.pid) and time.monotonic() < give_up:
        readers.poll(_CLOSING_MS)


def _target(sink: Sink) -> IO[bytes] | int:
    return subprocess.PIPE if callable(sink) or sink is None else sink


def _readable(content: bytes) -> int:
    """Return a descriptor to read `content` from: neither a pipe, which could fill up, nor a file on disk."""
    descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
