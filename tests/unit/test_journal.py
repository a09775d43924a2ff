"""The journal keeps every line, survives interrupted writes, and reports lines that it cannot understand."""

import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import DamagedError
from interlock.fsm import journal as journal_module
from interlock.fsm.journal import FILE, LINE_BYTES, NO_LINE, Journal, Line, Phase
from interlock.fsm.records import now
from interlock.fsm.states import State
from interlock.fsm.table import Trigger
from interlock.host.process import this_process

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def a_line(phase=Phase.done, **facts):
    """Return a line of `start`, with `facts`."""
    return Line(Trigger.start, State.created, State.running, phase, this_process(), now(), **facts)


FIELDS = sorted([*a_line(step="s", deadline=now(), detail="d", error={}).to_json(), "actor.pid"])


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path)


def test_append_line_last_returns_it(journal):
    """A line that is read equals the one appended, in every field."""
    error = {"reference": "driver-failed", "message": "ä\n", "hint": None, "details": ["one", "two"]}
    line = journal.append(a_line(Phase.failed, step="s", deadline=now(), detail="d", elapsed_s=1.5, error=error), seq=7)
    assert line.seq == 7
    assert journal.last() == line


def test_lines_many_appended_come_oldest_first(journal):
    """The whole history is read in its order."""
    appended = [journal.append(a_line(phase), seq=seq) for seq, phase in enumerate(Phase, start=1)]
    assert list(journal.lines()) == appended


@pytest.mark.parametrize("size", [0, 100, 8192, 100_000])
def test_last_line_of_any_length_is_read_whole(journal, size, monkeypatch):
    """A long line, as older versions wrote it, can be read, and so can the line after it."""
    monkeypatch.setattr(journal_module, "LINE_BYTES", 1 << 30)
    journal.append(a_line(detail="x" * size), seq=1)
    assert journal.last().seq == 1
    journal.append(a_line(), seq=2)
    journal.append(a_line(detail="y" * min(size, 8000)), seq=3)
    assert journal.last().detail == "y" * min(size, 8000)


@pytest.mark.parametrize("character", ["x", "\0", "ä", "\U0001f980", "\udcff", '"'])
def test_append_of_endless_words_writes_a_short_line(journal, character):
    """A line has a maximal length, whatever a guest says; cuts are marked, and the last words stay."""
    words = character * 1_000_000
    error = {"reference": "degraded", "message": words, "hint": words, "details": [words] * 1000 + ["last"]}
    written = journal.append(a_line(Phase.failed, step=words, detail=words, error=error), seq=1)
    assert journal.path.stat().st_size <= LINE_BYTES
    assert journal.last() == written
    assert written.step.endswith("…")
    assert written.error["message"].endswith("…")
    assert written.error["details"][-1] == "last"


def test_append_to_a_long_journal_drops_its_oldest_lines(journal, monkeypatch):
    """The journal never exceeds its limit, the numbers continue, and the latest lines are complete."""
    monkeypatch.setattr(journal_module, "LIMIT_BYTES", 20_000)
    monkeypatch.setattr(journal_module, "KEPT_BYTES", 5_000)
    for seq in range(1, 500):
        journal.append(a_line(detail=str(seq)), seq=seq)
        assert journal.path.stat().st_size < 20_000 + LINE_BYTES
    lines = list(journal.lines())
    assert [line.seq for line in lines] == list(range(lines[0].seq, 500))
    assert lines[0].seq > 400


def test_append_to_a_journal_of_two_mebibytes_keeps_a_quarter_of_one(journal):
    """With the real limits, a journal is small enough for a listing."""
    text = journal_module._written(a_line(detail="x" * 1000))[1]
    journal.path.write_bytes(text * ((2 << 20) // len(text)))
    journal.append(a_line(), seq=7)
    assert 200_000 < journal.path.stat().st_size < 300_000


def test_lines_of_an_enormous_journal_are_refused_unread(journal):
    """No journal of ours is that long; a sparse file of that size is not read into memory."""
    with journal.path.open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(DamagedError, match="larger than"):
        list(journal.lines())


def test_last_of_an_enormous_line_reads_a_mebibyte(journal, monkeypatch):
    """A line without a beginning is damage; the search for it stops after 1 MiB."""
    with journal.path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(0, 2)
        file.write(b"\n")
    taken, pread = [], os.pread

    def measured(descriptor, size, offset):
        taken.append(size)
        return pread(descriptor, min(size, 1 << 20), offset)

    monkeypatch.setattr(os, "pread", measured)
    with pytest.raises(DamagedError, match="not a journal line"):
        journal.last()
    assert max(taken) == 1 << 20


def test_append_to_a_long_journal_on_a_full_disk_still_writes(journal, monkeypatch):
    """If there is no room to rewrite the journal, the line is appended: a machine can still be stopped."""
    journal.append(a_line(), seq=1)
    monkeypatch.setattr(journal_module, "LIMIT_BYTES", 0)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal_module, "write_whole", full)
    journal.append(a_line(), seq=2)
    assert [line.seq for line in journal.lines()] == [1, 2]


def test_last_of_a_huge_journal_reads_no_more_than_its_end(journal):
    """`list` costs the same however much the guest has said."""
    with journal.path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(0, 2)
        file.write(b"\n")
    journal.append(a_line(), seq=7)
    assert journal.last().seq == 7


@pytest.mark.parametrize("phase", Phase)
def test_line_state_follows_its_phase(phase):
    """Only `done` moves the state; after any other line the source still holds."""
    expected = State.running if phase is Phase.done else State.created
    assert a_line(phase).state == expected


@pytest.mark.parametrize("torn", [b'{"seq":2,"time":"2026', b"\0\0\0\0"])
def test_last_torn_line_after_it_is_ignored(journal, torn):
    """A line without its newline does not count."""
    line = journal.append(a_line(), seq=1)
    with journal.path.open("ab") as file:
        file.write(torn)
    assert journal.last() == line
    assert list(journal.lines()) == [line]


def test_append_after_torn_line_cuts_it(journal):
    """The next writer cuts the torn line off before it writes."""
    journal.append(a_line(), seq=1)
    with journal.path.open("ab") as file:
        file.write(b'{"seq":2,')
    journal.append(a_line(), seq=2)
    assert [line.seq for line in journal.lines()] == [1, 2]
    assert journal.path.read_bytes().count(b"\n") == 2


def test_append_on_full_disk_leaves_the_file_as_it_was(journal, monkeypatch):
    """If the disk fills up in the middle of a line, no part of that line stays."""
    journal.append(a_line(), seq=1)
    before = journal.path.read_bytes()
    write = os.write

    def write_half_then_fail(descriptor, text):
        if len(text) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, text[: len(text) // 2])

    monkeypatch.setattr(os, "write", write_half_then_fail)
    with pytest.raises(OSError, match="No space left"):
        journal.append(a_line(), seq=2)
    assert journal.path.read_bytes() == before


@pytest.mark.parametrize("phase", Phase)
def test_append_every_line_that_decides_is_flushed(journal, monkeypatch, phase):
    """All lines but steps are on disk when `append` returns; a step decides nothing."""
    journal.append(a_line(), seq=1)
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    journal.append(a_line(phase), seq=2)
    assert bool(flushed) == (phase is not Phase.step)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"half a line", b"\n", b"[]\n", b"null\n", b"{}\n", b"\xff\n", b"[" * 5000 + b"\n"],
    ids=["missing", "empty", "torn", "blank", "list", "null", "object", "not-utf-8", "deep"],
)
def test_last_of_no_journal_is_damaged_and_names_the_file(journal, content):
    """Whatever is there instead of a journal, the error is ours and names the file."""
    if content is not None:
        journal.path.write_bytes(content)
    with pytest.raises(DamagedError, match=FILE):
        journal.last()


def test_lines_with_damage_in_the_middle_name_its_number(journal):
    """Reading stops at the line that cannot be understood, and the error has its number."""
    journal.append(a_line(), seq=1)
    with journal.path.open("ab") as file:
        file.write(b"{}\n")
    journal.append(a_line(), seq=3)
    assert journal.last().seq == 3
    with pytest.raises(DamagedError, match=f"{FILE}:2: "):
        list(journal.lines())


@settings(deadline=None)  # the machine may be busy
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_parse_any_value_in_any_field_is_refused_or_usable(field, value):
    """An accepted line is usable; any other raises an exception of NO_LINE."""
    data = a_line(Phase.left, step="s", deadline=now(), detail="d", error={"message": "m"}).to_json()
    place, _, key = field.rpartition(".")
    (data[place] if place else data)[key] = value
    try:
        line = Line.parse(json.dumps(data).encode())
    except NO_LINE:
        return
    assert line.since.endswith("Z")
    assert isinstance(line.detail, str | None)
    assert isinstance(line.step, str | None)
    assert isinstance(line.error, dict | None)
