"""Gives a running guest another identity, by ssh: for guests whose agent does not answer, or that have none."""

import io
import os
import time
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import DriverError
from . import agent, session, ssh
from .report import bounded_words, lines
from .seed import IDENTITY_FILE, PROGRAM_FILE, first_boot_facts
from .session import Endpoint, Wait

_TAKE = (
    'd=$(mktemp -d) && IFS= read -r line && cat >"$d/interlock" && '
    'printf "%s\\n" "$line" | sh "$d/interlock" identity; status=$?; rm -rf "$d"; exit $status'
)
"""Runs the program that follows on stdin, on the line before it: the guest's own may be of an older version."""


_MARK = 'echo "interlock: copying $1" >/dev/kmsg && cat /proc/sys/kernel/random/boot_id'
"""What the agent does when it is asked for `copying`."""


def request(facts: Mapping[str, bytes], *, boot: str = "", mark: str = "") -> str:
    """Return the line of words by which a guest becomes the one of `facts` (`seed.identity_facts`).

    `boot` and `mark` are what the original answered, and wrote, to `copying` just before it was copied; empty for a
    guest that is no copy of a running one.
    """
    return agent.escaped({**facts, **_present(boot, mark)})


class FirstBoot(NamedTuple):
    """What a guest that was nobody's is handed to become somebody's."""

    line: str
    """A `request`."""
    archive: bytes
    """What the seed has in folders, as a tar archive; empty if there is nothing."""


def first_boot(initrd: bytes, former: Mapping[str, bytes], *, boot: str, mark: str) -> FirstBoot:
    """Return what makes of a guest with the seed `former`, which was nobody's, the one that has its seed in `initrd`.

    `boot` and `mark` are as for `request`. Raises ValueError where there is no seed.
    """
    facts = first_boot_facts(initrd, former)
    inside = {name: content for name, content in facts.items() if "/" in name}
    line = request({name: content for name, content in facts.items() if name not in inside}, boot=boot, mark=mark)
    return FirstBoot(line, _archive(inside) if inside else b"")


def _archive(files: Mapping[str, bytes]) -> bytes:
    from tarfile import TarFile, TarInfo

    out = io.BytesIO()
    with TarFile(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _present(boot: str, mark: str) -> dict[str, bytes]:
    """Return what a guest needs to know of the moment in which it continues."""
    return {
        "clock": str(round(time.time())).encode(),
        "random": os.urandom(64).hex().encode(),
        "boot": boot.encode(),
        "mark": mark.encode(),
    }


def copying(endpoint: Endpoint, mark: str, wait: Wait) -> str:
    """Have the kernel of the guest behind `endpoint` log `mark`, and return the id of its boot: for guests without an
    agent. Raises DriverError with the guest's words, and what `wait` does."""
    said = bounded_words()
    failed = session.run(endpoint, ssh.as_root("sh", "-c", _MARK, "sh", mark), wait, hear=said.hear)
    words = lines(bytes(said))
    if failed or not words:
        raise DriverError("the guest cannot be prepared to be copied", details=words[-5:])
    return words[-1]


def give(endpoint: Endpoint, line: str, wait: Wait) -> None:
    """Have the guest behind `endpoint` take the identity of `line`, a `request`; it shows its old host key until then.

    Raises DriverError with the guest's words, and what `wait` does.
    """
    said = bounded_words()
    stdin = b"\n".join((line.encode(), IDENTITY_FILE.read_bytes(), PROGRAM_FILE.read_bytes()))
    if session.run(endpoint, ssh.as_root("sh", "-c", _TAKE), wait, stdin=stdin, hear=said.hear):
        raise DriverError("the guest did not take its new identity", details=lines(bytes(said))[-5:])
