"""Running limactl: which program that is, what it is given, and how its output is turned into our steps and errors.

Only `create` can see a template, which it reads from its standard input: `limactl start NAME` of an instance that does
not exist would make one from a template called `default`, so limactl looks for templates in a folder that does not
exist.
"""

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DeadlineError, DriverError, HostError
from ...host.bounds import WORD_LENGTH, WORDS, clipped
from ...host.progress import Report, unheard
from ...host.run import run
from .folder import Folder, parsed

VARIABLE = "INTERLOCK_LIMACTL"
"""Names the program; otherwise it is the first `limactl` in PATH that is not Interlock's own."""

OURS = b"by Interlock:"
"""A text in the first lines of Interlock's stand-in for limactl."""

HINT = "interlock doctor"

NO_TEMPLATES = "no-templates"
"""A folder in the home that is never made: limactl looks for templates there."""

_LINE_BYTES = 64 << 10


class Words(NamedTuple):
    """The meaning of a line of limactl: a pattern of its text, and our words for it."""

    pattern: re.Pattern[str]
    step: str


_REQUIREMENT = r"Waiting for the \w+ requirement \d+ of \d+: [`\"]{}"

STEPS = tuple(
    Words(re.compile(pattern), step)
    for pattern, step in (
        ("Attempting to download the image", "fetching the image"),
        ("Converting", "converting the image"),
        ("Attempting to download the nerdctl archive", "fetching nerdctl"),
        (r"Resiz", "growing the disk"),
        ("hostagent socket created", "host agent started"),
        (r"Starting (QEMU|VZ|WSL)", "hypervisor started"),
        (_REQUIREMENT.format("ssh"), "waiting for ssh"),
        (_REQUIREMENT.format("(user session|Explicitly start ssh)"), "waiting for the user's session"),
        (_REQUIREMENT.format("boot scripts"), "waiting for the boot scripts"),
        (_REQUIREMENT.format('(?P<what>[^`"]+)'), "checking: {what}"),
        ("Waiting for the guest agent to be running", "waiting for Lima's guest agent"),
        ("Waiting for the host agent and the driver processes to shut down", "asking the guest to shut down"),
    )
)
"""Lines of limactl's output that become steps. The rest does not matter to people."""


class Heard:
    """Reads limactl's log: reports its steps, and keeps its complaints."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rest = b""
        self._said = ""
        self.complaints: list[str] = []
        self.fatal = ""

    def hear(self, piece: bytes) -> None:
        """Take the next piece of its standard error."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self._rest = self._rest[-_LINE_BYTES:]
        for line in lines:
            self._line(line)

    def end(self) -> None:
        """Take what is left: the last line may lack its end."""
        self.hear(b"\n")

    def _line(self, line: bytes) -> None:
        data = parsed(line)
        level = None if data is None else str(data.get("level", "info"))
        text = _text(line, data)
        if level in ("error", "fatal") or (level is None and text):
            self.complaints = [*self.complaints, text][-WORDS:]
            self.fatal = text if level == "fatal" else self.fatal
            return
        for pattern, words in STEPS:
            if found := pattern.search(text):
                step = words.format(**found.groupdict())
                if step != self._said:
                    self._said = step
                    self._report(step)
                return


def find() -> str:
    """Return the path of limactl; raises HostError where it is not installed."""
    named = os.environ.get(VARIABLE)
    places = [named] if named else [f"{place}/limactl" for place in os.get_exec_path()]
    for place in places:
        if (path := shutil.which(place)) and not _is_ours(path):
            return path
    if named:
        raise HostError(f"{VARIABLE}={named} is not a limactl that can be run", hint=HINT)
    raise HostError(f"limactl is not on PATH; install Lima, or name the program by {VARIABLE}", hint=HINT)


def _is_ours(path: str) -> bool:
    with suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - its first bytes are enough
        return OURS in file.read(512)
    return False


def version() -> str:
    """Return what `limactl --version` says; raises HostError or DriverError where it cannot be run."""
    ended = run([find(), "--version"], timeout_s=30)
    if ended.status:
        raise DriverError("limactl --version failed", details=ended.words)
    return ended.stdout.decode(errors="replace").strip()


def home() -> Path:
    """Return the LIMA_HOME of this user, its links resolved."""
    from ...host.home import user_home

    named = os.environ.get("LIMA_HOME")
    return Path(os.path.realpath(named)) if named else (user_home() / ".lima").resolve()


def output(home: Path, words: Sequence[str]) -> str:
    """Return what `limactl WORDS` prints, which only looks; raises DriverError with the cause where it fails."""
    ended = run([find(), *words], env={**os.environ, "LIMA_HOME": str(home)}, timeout_s=60)
    if ended.status:
        raise DriverError(f"limactl {words[0]} failed", details=ended.words)
    return ended.stdout.decode(errors="replace")


def call(
    folder: Folder,
    words: Sequence[str],
    report: Report = unheard,
    *,
    stdin: bytes = b"",
    timeout_s: float = float("inf"),
) -> None:
    """Run `limactl WORDS`, which are about the instance of `folder`.

    Raises DriverError saying why that failed, in limactl's words; DeadlineError after `timeout_s`
    seconds; HostError where limactl is not installed. Processes that it left in the background live on.
    """
    heard = Heard(report)
    environment = {**os.environ, "LIMA_HOME": str(folder.home), "LIMA_TEMPLATES_PATH": str(folder.home / NO_TEMPLATES)}
    try:
        ended = run(
            [find(), "--log-format", "json", *words],
            stdin=stdin,
            stderr=heard.hear,
            env=environment,
            timeout_s=timeout_s,
            leaves=True,
        )
    except DeadlineError as error:
        raise DeadlineError(error.message, details=heard.complaints) from None
    heard.end()
    if ended.status:
        causes = [*heard.complaints, *_causes(folder)][-WORDS:]
        what = f'limactl cannot {words[0]} "{folder.name}"'
        raise DriverError(f"{what}: {cause(heard, causes) or f'limactl ended with {ended.status}'}", details=causes)


def cause(heard: Heard, causes: Sequence[str]) -> str:
    """Return why limactl failed: where its host agent ended, the hypervisor's last words say more than its own."""
    hypervisor = [words for words in causes if words.startswith("qemu-system-")]
    if hypervisor and heard.fatal.startswith("exiting"):
        return hypervisor[-1]
    return heard.fatal or (causes[-1] if causes else "")


def _causes(folder: Folder) -> list[str]:
    """Return what the host agent and the hypervisor complained of in the run that failed."""
    found = []
    for line in folder.log():
        text = str(line.get("msg", ""))
        if text.startswith("qemu[stderr]: "):
            found.append(text.removeprefix("qemu[stderr]: "))
        elif line.get("level") in ("error", "fatal"):
            found.append(_with_error(line, text))
    return [clipped(text, WORD_LENGTH) for text in dict.fromkeys(found)]


def _text(line: bytes, data: dict[str, Any] | None) -> str:
    """Return the text of a line of limactl's log, parsed as `data` if it is JSON, without Lima's internal prefix."""
    text = line.decode(errors="replace").strip() if data is None else _with_error(data, str(data.get("msg", "")))
    return clipped(text.removeprefix("[hostagent] "), WORD_LENGTH)


def _with_error(data: dict[str, Any], text: str) -> str:
    return f"{text}: {data['error']}" if data.get("error") else text
