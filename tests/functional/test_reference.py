"""What the hand-written pages say of the program is so: keys of JSON, names of events, environment variables."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from interlock.fsm.happening import Happening

ROOT = Path(__file__).parents[2]
JSON = (ROOT / "docs" / "reference" / "json.md").read_text()
GUIDE = (ROOT / "docs" / "guide.md").read_text()
CREATE = ("create", "web", "-t", "tiny", "--driver", "simulated")
LIFE = (
    CREATE,
    *((verb, "web") for verb in ("start", "provision", "resume", "suspend", "restart", "stop", "kill", "reset")),
)
LIFE += (("up", "web", "-t", "tiny"), *((verb, "web") for verb in ("protect", "unprotect")))

OUTCOMES = (
    "create, start, up, stop, kill, suspend, restart, reset, delete, protect, unprotect, resume, provision, "
    "clone, rename, edit"
)
SECTIONS = {
    "list, inspect": ((("list",), ("inspect", "web")), {"spec", "logs", "can"}),
    OUTCOMES: (
        (
            *LIFE[1:],
            ("stop", "web"),
            ("edit", "web", "--cpus", "3"),
            ("rename", "web", "site"),
            ("delete", "--force", "site"),
        ),
        set(),
    ),
    "repair": ((("repair", "web"),), set()),
    "can": ((("can", "web"),), set()),
    "disk create, import, list, inspect, resize": (
        (
            ("disk", "create", "data", "--size", "16MiB"),
            ("disk", "import", "old", "old.qcow2"),
            ("disk", "list"),
            ("disk", "inspect", "data"),
            ("disk", "resize", "data", "--size", "32MiB"),
        ),
        set(),
    ),
    "image build, import, list, inspect": (
        (("image", "import", "old.qcow2", "--name", "old"), ("image", "list"), ("image", "inspect", "old")),
        {"kernel_arguments", "made_of", "packages"},
    ),
    "prune, image prune": ((("image", "prune"), ("prune",)), set()),
    "doctor": ((("doctor",),), set()),
}
"""Title of a section → the commands whose objects it describes, and the keys that only `inspect` has."""


def documented(title):
    """Return the top-level keys that a section's table names."""
    section = JSON.split(f"## {title}\n")[1].split("\n## ")[0]
    cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    return {word.split(".")[0] for cell in cells for word in re.findall(r"`([^`]+)`", cell) if not word.startswith(".")}


@pytest.mark.parametrize("title", SECTIONS)
def test_reference_of_json_names_the_keys_that_are_printed(interlock, tmp_path, title):
    """Every key of every object is explained, and none is explained that is not there."""
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "old.qcow2", "16M"], check=True, timeout=60)
    commands, inspected = SECTIONS[title]
    interlock(*CREATE)
    if title == "prune, image prune":
        interlock("image", "import", "old.qcow2", "--name", "old")
    for command in commands:
        done = interlock(*command, "--format", "json")
        keys = {key for line in done.stdout.splitlines() for key in json.loads(line)}
        expected = documented(title) - (set() if "inspect" in command else inspected)
        assert (command, expected) == (command, keys), done.stderr


def test_reference_of_messages_names_every_event():
    """A program that reads the messages finds each event in the list."""
    assert set(re.findall(r"`(transition_\w+)`", JSON)) == {str(happening) for happening in Happening}


def test_guide_lists_the_environment_variables_that_are_read():
    """The table has each variable of Interlock's own that a source of the program names, and no other."""
    sources = [
        *ROOT.glob("*.py"),
        *(path for folder in ROOT.glob("*/__init__.py") for path in folder.parent.rglob("*.py")),
    ]
    read = {name for path in sources for name in re.findall(r'"(INTERLOCK_[A-Z_]+)"', path.read_text())}
    table = GUIDE.split("## Environment variables\n")[1].split("\n## ")[0]
    assert set(re.findall(r"INTERLOCK_[A-Z_]+", table)) == read
