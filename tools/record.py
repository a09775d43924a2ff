"""Records a session in a real terminal as docs/session.svg.

Usage: INTERLOCK_HOME=$(mktemp -d) python tools/record.py      (needs tmux; the tiny image is built first if missing)

The commands are typed into a terminal of tmux, so the picture shows what a person sees, colours and all.
"""

import shlex
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS = 108
SESSION = """\
interlock create web --template tiny --yes
interlock start web
interlock shell web -- uname -sr
interlock list
interlock delete web
interlock stop web
interlock history web
"""
BIN = Path(sys.executable).parent


def tmux(*arguments: str) -> str:
    """Run tmux on a server of our own and return what it printed."""
    command = ["tmux", "-L", "interlock-record", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Record and write."""
    interlock = str(BIN / "interlock")
    subprocess.run([interlock, "image", "build", "tiny"], check=True)
    script = "".join(f"printf '\\033[1m$ %s\\033[0m\\n' {shlex.quote(line)}; {line}\n" for line in SESSION.splitlines())
    shell = f"export PATH={shlex.quote(str(BIN))}:$PATH\nclear\n{script}sleep 600\n"
    tmux("new-session", "-d", "-x", str(COLUMNS), "-y", "60", "sh", "-c", shell)
    try:
        while "PHASE" not in tmux("capture-pane", "-p"):
            time.sleep(0.5)
        time.sleep(1.0)
        screen = tmux("capture-pane", "-p", "-e").rstrip()
    finally:
        tmux("kill-server")
        subprocess.run([interlock, "delete", "--force", "web"], check=True)
    console = Console(record=True, width=COLUMNS, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 - until exit
    console.print(Text.from_ansi(screen))
    Path("docs/session.svg").write_text(console.export_svg(title="interlock", theme=MONOKAI))


if __name__ == "__main__":
    main()
