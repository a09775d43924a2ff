"""The drop-in, call by call: calls.txt is the table of the calls that embedders make, and the answers."""

import os
import re
import shlex
from pathlib import Path

import pytest

from interlock.limactl.__main__ import run

TABLE = Path(__file__).with_name("calls.txt")


def parts(text):
    """Return the titles of the table's parts; each part begins with an empty LIMA_HOME."""
    return re.findall(r"^== (.*)$", text, re.MULTILINE)


def answer(call, lima, capfd):
    """Return the drop-in's answer to `call`, without the parts that differ between runs.

    As in a shell, environment variables may precede the call, and `< FILE` may follow it.
    """
    line, given, file = call.partition(" < ")
    words = shlex.split(line)
    with pytest.MonkeyPatch.context() as patch, Path(file if given else os.devnull).open(encoding="utf-8") as stdin:
        while re.match(r"_?[A-Z_]+=", words[0]):
            patch.setenv(*words.pop(0).split("=", 1))
        patch.setattr("sys.stdin", stdin)
        code = run(words)
    said = capfd.readouterr()
    lines = [f"$ {call}"]
    for stream, text in (("out", said.out), ("err", said.err)):
        lines += [f"{stream} {line}".rstrip() for line in plain(text, lima).splitlines()]
    return "\n".join([*lines, f"rc {code}"])


def plain(text, lima):
    """Return `text` without times, paths of this run, and details that differ between hosts."""
    text = (
        text.replace("\x1b", "ESC")
        .replace(str(lima), "LIMA")
        .replace(str(Path.cwd()), "HERE")
        .replace(os.uname().machine, "ARCH")
    )
    text = re.sub(r'time="[^"]*"', "time=T", re.sub(r'"time":"[^"]*"', '"time":"T"', text))
    text = re.sub(r"\b\d+(\.\d+)? m?s\b|\b\d+ B of", "N s", re.sub(r"since(\": ?\"|: ')[^'\"]*", r"since\1T", text))
    text = re.sub(
        r"((?<=User)[ =]|user\": ?{\s*\"name\": ?\"|\"timezone\": ?\"|timezone: |    name: )[\w/+-]+", r"\1X", text
    )
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "T", text)
    return re.sub(r"DIR +IN", "DIR    IN", text)


@pytest.mark.parametrize("part", parts(TABLE.read_text()))
def test_call_is_answered_as_embedders_expect(part, lima, capfd, agrees):
    """The calls of a part, made one after the other in one home, have the output and exit codes of the table."""
    table = TABLE.read_text().split(f"== {part}\n")[1].split("\n== ")[0]
    calls = re.findall(r"^\$ (.*)$", table, re.MULTILINE)
    agrees(TABLE, "\n".join(answer(call, lima, capfd) for call in calls), part=part)


def test_no_answer_of_the_table_is_a_defect():
    """A table that was regenerated from a broken program would contain these words."""
    assert "defect of Interlock" not in TABLE.read_text()
