"""Everything that a person reads on stderr, word for word: a reviewed file, compared with what the program prints."""

import json
import re
import shlex
from pathlib import Path

import pytest

from interlock.log import json_schema

GOLDEN = Path(__file__).parents[1] / "golden" / "cli.txt"
_, *PARTS = re.split(r"^== (.*)\n", GOLDEN.read_text(encoding="utf-8"), flags=re.MULTILINE)
SCENES = {title: text.strip() for title, text in zip(PARTS[::2], PARTS[1::2], strict=True)}

ORDERS = {
    "": {},
    "fails": {"start": {"error": "the disk is on fire"}, "reset": {"error": "no space left"}},
    "hangs": {"start": {"hang": True}, "stop": {"hang": True}},
    "cannot be killed": {"start": {"error": "no"}, "kill": {"error": "it will not die"}},
}
"""The simulated driver's orders, by the remark after a command line."""


def masked(text, folder):
    """Return `text` without the parts that differ from run to run."""
    text = re.sub(r" *\b\d+\.\d s\b", " 0.0 s", text.replace(str(folder), "DIR"))
    return re.sub(r"\bpid \d+", "pid N", text)


@pytest.mark.parametrize("scene", SCENES)
def test_messages_of_scene_are_the_reviewed_ones(interlock, tmp_path, agrees, scene):
    """Each command prints the reviewed words and ends with the reviewed exit code."""
    said = []
    for line in SCENES[scene].splitlines():
        prompt, _, command = line.partition(" ")
        if prompt not in ("$", "%"):
            continue
        command, _, remark = command.partition("  # ")
        done = interlock("--log-format", "human", *shlex.split(command)[1:], orders=ORDERS[remark])
        said += [line] if prompt == "%" else [line, *masked(done.stderr, tmp_path).splitlines(), f"[{done.returncode}]"]
    agrees(GOLDEN, "\n".join(said), part=scene)


LOGFMT = re.compile(r'(\w+=(?:"(?:[^"\\]|\\.)*"|[^\s"=]*)(?: (?!$)|$))+')
"""A line of logfmt: keys and values; values with blanks are quoted. Source: brandur.org/logfmt."""


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["json", "logfmt"])
@pytest.mark.parametrize("scene", SCENES)
def test_messages_of_scene_as_a_log_are_records_to_the_last_line(interlock, scene, log_format):
    """Errors, hints and notes too: each JSON line matches the schema, and each logfmt line can be parsed."""
    jsonschema = pytest.importorskip("jsonschema", reason="checks the lines: pip install '.[dev]'")
    strict = jsonschema.Draft202012Validator({**json_schema(), "additionalProperties": False})
    for line in SCENES[scene].splitlines():
        prompt, _, command = line.partition(" ")
        if prompt not in ("$", "%"):
            continue
        command, _, remark = command.partition("  # ")
        done = interlock("--log-format", log_format, *shlex.split(command)[1:], orders=ORDERS[remark])
        said = done.stderr.splitlines()
        assert done.returncode == 0 or said
        for one in said:
            if log_format == "json":
                strict.validate(json.loads(one))
            else:
                assert LOGFMT.fullmatch(one), one


def test_messages_of_start_tell_nothing_of_creation():
    """A start mentions no creation, template or image, whatever the outcome: it does nothing with them."""
    said = [line for line in SCENES["start"].splitlines() if not line.startswith(("$", "%"))]
    assert said
    assert [line for line in said if re.search(r"creating|template|image", line, re.IGNORECASE)] == []
