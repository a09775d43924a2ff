"""Records the contents of a real terminal, with colours: docs/session.svg, and the screens in docs/screens.

Usage: INTERLOCK_HOME=$(mktemp -d) python tools/record.py [NAME...]     (needs tmux; the tiny image is built if missing)

The commands are typed into a terminal of tmux. Makes all pictures, or only those called NAME.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

BIN = Path(sys.executable).parent
INTERLOCK = str(BIN / "interlock")
DOCS = Path(__file__).parents[1] / "docs"
PATIENCE_S = 120
SESSION = """\
interlock create web --template tiny --yes
interlock start web
interlock shell web -- uname -sr
interlock list
interlock delete web
interlock stop web
interlock history web
"""


class Terminal:
    """A terminal of tmux, on a server of our own, with a shell in it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        shell = f"PATH={shlex.quote(str(BIN))}:$PATH PS1='$ ' exec sh"
        self._tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), "sh", "-c", shell)
        self.shows("$")

    def type(self, line: str) -> None:
        """Type a line and press Enter."""
        self._tmux("send-keys", "-l", line)
        self.press("Enter")

    def press(self, key: str) -> None:
        self._tmux("send-keys", key)

    def shows(self, *words: str) -> None:
        """Return once all of `words` are on the screen."""
        self.until(lambda screen: all(word in screen for word in words))

    def until(self, condition: Callable[[str], bool]) -> None:
        """Return once the text on the screen meets `condition`."""
        end = time.monotonic() + PATIENCE_S
        while not condition(screen := self._tmux("capture-pane", "-p")):
            if time.monotonic() > end:
                raise TimeoutError(screen)
            time.sleep(0.1)

    def write(self, path: Path) -> None:
        """Write the contents of the screen as a picture."""
        screen = self._tmux("capture-pane", "-p", "-e").rstrip()
        with Path(os.devnull).open("w") as nowhere:
            console = Console(record=True, width=self.columns, file=nowhere)
            console.print(Text.from_ansi(screen))
            path.parent.mkdir(exist_ok=True)
            path.write_text(console.export_svg(title="interlock", theme=MONOKAI, unique_id=path.stem))
        print(path)

    def close(self) -> None:
        self._tmux("kill-server")

    @staticmethod
    def _tmux(*arguments: str) -> str:
        command = ["tmux", "-L", "interlock-record", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def terminal(columns: int = 100, rows: int = 24) -> Iterator[Terminal]:
    """Yield a terminal, and close it afterwards."""
    made = Terminal(columns, rows)
    try:
        yield made
    finally:
        made.close()


def interlock(*arguments: str) -> None:
    subprocess.run([INTERLOCK, *arguments], check=True, capture_output=True)


def session(path: Path) -> None:
    """Record a whole lifecycle, line by line."""
    with terminal(108, 60) as shown:
        for number, line in enumerate(SESSION.splitlines(), 2):
            shown.type(line)
            shown.until(lambda screen, prompts=number: len(re.findall(r"^\$", screen, re.MULTILINE)) == prompts)
        shown.write(path)
    interlock("delete", "--force", "web")


@contextmanager
def three() -> Iterator[None]:
    """Make an instance that is running, one that is stopped, and one that was never started."""
    names = ("build", "db", "web")
    try:
        for name in names:
            interlock("create", name, "--template", "tiny", "--yes")
        for name in ("db", "web"):
            interlock("start", name)
        interlock("stop", "db")
        yield
    finally:
        for name in names:
            subprocess.run([INTERLOCK, "delete", "--force", name], check=False, capture_output=True)


def listing(path: Path) -> None:
    with terminal() as shown:
        shown.type("interlock list")
        shown.shows("STATUS", "guest shut down")
        shown.write(path)


def progress(path: Path) -> None:
    """Record a start in the middle."""
    with terminal() as shown:
        shown.type("interlock start build")
        shown.shows("kernel booting")
        time.sleep(0.5)
        shown.write(path)
        shown.shows("started")
    interlock("stop", "build")


def refusal(path: Path) -> None:
    with terminal() as shown:
        shown.type("interlock delete web")
        shown.shows("hint:")
        shown.write(path)


def history(path: Path) -> None:
    with terminal(120) as shown:
        shown.type("interlock history db")
        shown.shows("PHASE", "stop")
        shown.write(path)


def top(path: Path) -> None:
    """Record the live view while an instance starts."""
    with terminal(80) as shown:
        shown.type("interlock top")
        shown.shows("build", "quit")
        shown.press("s")
        shown.shows("kernel booting", "x call off")
        time.sleep(1.5)
        shown.write(path)
        shown.shows('started "build"')
        shown.press("q")
        shown.shows("$")
    interlock("stop", "build")


SCREENS: dict[str, Callable[[Path], None]] = {
    "list": listing,
    "start": progress,
    "error": refusal,
    "history": history,
    "top": top,
}


def main() -> None:
    """Record the pictures and write them."""
    wanted = sys.argv[1:] or ["session", *SCREENS]
    subprocess.run([INTERLOCK, "image", "build", "tiny"], check=True)
    if "session" in wanted:
        session(DOCS / "session.svg")
    with three():
        for name in wanted:
            if name in SCREENS:
                SCREENS[name](DOCS / "screens" / f"{name}.svg")


if __name__ == "__main__":
    main()
