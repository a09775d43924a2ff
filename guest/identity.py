"""Gives a running guest another identity over ssh, for guests without an agent, or whose agent does not answer."""

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
"""Passes the first line of stdin to the program that follows it on stdin: the guest's own program may be older."""


_MARK = 'echo "interlock: copying $1" >/dev/kmsg && cat /proc/sys/kernel/random/boot_id'
"""Logs the mark and prints the boot's id, as the agent does for `copying`."""


def request(facts: Mapping[str, bytes], *, boot: str = "", mark: str = "") -> str:
    """Return the line that gives a guest the identity in `facts` (`seed.identity_facts`).

    `boot` is the original's answer to `copying` just before it was copied, and `mark` is what it then logged; both are
    empty for a guest that is not a copy of a running one.
    """
    return agent.escaped({**facts, **_present(boot, mark)})


class FirstBoot(NamedTuple):
    """What a guest that belonged to no instance is given to become an instance's guest."""

    line: str
    """A `request`."""
    archive: bytes
    """The facts in folders of the seed, as a tar archive; empty if the seed has no folders."""


def first_boot(initrd: bytes, former: Mapping[str, bytes], *, boot: str, mark: str) -> FirstBoot:
    """Return what turns a guest with the seed `former`, which belonged to no instance, into one with `initrd`'s seed.

    `boot` and `mark` are as for `request`. Raises ValueError if there is no seed.
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
    """Return what a guest needs to know about the moment at which it continues."""
    return {
        "clock": str(round(time.time())).encode(),
        "random": os.urandom(64).hex().encode(),
        "boot": boot.encode(),
        "mark": mark.encode(),
    }


def copying(endpoint: Endpoint, mark: str, wait: Wait) -> str:
    """Have the kernel of the guest behind `endpoint` log `mark`, and return the boot's id: for guests without an agent.

    Raises DriverError with the guest's output, and what `wait` raises.
    """
    said = bounded_words()
    failed = session.run(endpoint, ssh.as_root("sh", "-c", _MARK, "sh", mark), wait, hear=said.hear)
    words = lines(bytes(said))
    if failed or not words:
        raise DriverError("the guest cannot be prepared to be copied", details=words[-5:])
    return words[-1]


def give(endpoint: Endpoint, line: str, wait: Wait) -> None:
    """Have the guest behind `endpoint` take the identity in `line`, a `request`; until then it shows its old host key.

    Raises DriverError with the guest's output, and what `wait` raises.
    """
    said = bounded_words()
    stdin = b"\n".join((line.encode(), IDENTITY_FILE.read_bytes(), PROGRAM_FILE.read_bytes()))
    if session.run(endpoint, ssh.as_root("sh", "-c", _TAKE), wait, stdin=stdin, hear=said.hear):
        raise DriverError("the guest did not take its new identity", details=lines(bytes(said))[-5:])
