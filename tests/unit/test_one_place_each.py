"""Some code exists in one place only, because a second copy would miss the next correction."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("*.py"), *(path for sign in ROOT.glob("*/__init__.py") for path in sign.parent.rglob("*.py"))]


@pytest.mark.parametrize(
    ("what", "places"),
    [
        (r"fcntl\.flock\(", {"host/locks.py", "drivers/qemu/switch.py"}),
        (r"subprocess\.(Popen|run|call|check_\w+)\(", {"host/run.py", "commands/guest.py", "top/outside.py"}),
        (r"(?m)^Report = ", {"host/progress.py"}),
        (r'b"QFI', {"host/disk_format.py"}),
        (r"a-z0-9\._-\]\{0,62\}", {"host/home.py"}),
        (r"a-z0-9_-\]\{0,62\}", {"host/home.py"}),
    ],
    ids=["flock", "subprocess", "Report", "qcow2", "name", "name of an image"],
)
def test_what_has_one_place_is_nowhere_else(what, places):
    """Besides host/run.py, only `shell` and `top` run programs: those that share the user's terminal.

    The switch of a network is a program of its own and imports nothing of ours.
    """
    found = {str(path.relative_to(ROOT)) for path in SOURCES if re.search(what, path.read_text(encoding="utf-8"))}
    assert found == places
