"""Output on stdout is readable for people and for programs, and cannot control the terminal."""

import json
import sys
import time

import pytest
import yaml

from interlock.commands.stdout import local_time, print_record, print_records, print_table, size
from interlock.commands.terminal import printable
from interlock.fsm.states import State


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (512 << 20, "512 MiB"),
        (10 << 30, "10 GiB"),
        (1 << 53, "8192 TiB"),
    ],
)
def test_size_of_bytes_is_as_people_read_it(number, expected):
    """Sizes are in powers of 1024 with a unit; an unknown size is a dash."""
    assert size(number) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain ä\tb\n", "plain ä\tb\n"), ("\x1b[31mred\x1b[0m", "[31mred[0m"), ("a\r\x07b\x9bc", "abc")],
)
def test_printable_text_has_no_control_characters(text, expected):
    """A guest's text cannot move the cursor, change colours or ring the bell."""
    assert printable(text) == expected


def test_print_table_columns_are_aligned(capsys):
    """Each column begins below its title, and lines have no trailing blanks."""
    print_table(["NAME", "STATUS"], [["web", "running"], ["database", "x"]])
    assert capsys.readouterr().out == "NAME      STATUS\nweb       running\ndatabase  x\n"


def test_print_table_with_odd_text_keeps_one_line_a_row(capsys):
    """A cell cannot break its row or control the terminal."""
    print_table(["NAME", "DETAIL"], [["web", "one\ntwo\x1b[2J"]])
    assert capsys.readouterr().out == "NAME  DETAIL\nweb   one two[2J\n"


def test_print_table_on_terminal_colours_the_state_and_not_the_name(capsys, monkeypatch):
    """The state is coloured, even if the instance's name contains the same word."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(["NAME", "STATUS", "CPUS"], [["running1", "running", "1"]])
    assert capsys.readouterr().out.splitlines()[1] == "running1  \x1b[32mrunning\x1b[0m  1"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_print_table_on_terminal_without_colours_has_none(capsys, monkeypatch, name, value):
    """NO_COLOR and a dumb terminal turn colours off; everything else is as on any terminal."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv(name, value)
    print_table(["NAME", "STATUS"], [["web", "running"]])
    assert capsys.readouterr().out == "NAME  STATUS\nweb   running\n"


def test_print_record_on_terminal_breaks_long_values_between_words(capsys, monkeypatch):
    """A value continues in its own column."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_record({"name": "web", "reason": "the guest did not answer in the time that it had"}, "table")
    assert capsys.readouterr().out.splitlines() == [
        "name    web",
        "reason  the guest did not answer in the",
        "        time that it had",
    ]


WIDE = [["web", "yes", "Boots what create made, and ends when the guest answers."], ["database", "no", "-"]]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            80,
            """\
NAME      LEGAL  WHY
web       yes    Boots what create made, and ends when the guest answers.
database  no     -
""",
        ),
        (
            44,
            """\
NAME      LEGAL  WHY
web       yes    Boots what create made, and
                 ends when the guest
                 answers.
database  no     -
""",
        ),
        (
            36,
            """\
NAME      LEGAL
    WHY
web       yes
    Boots what create made, and ends
    when the guest answers.
database  no
    -
""",
        ),
    ],
    ids=["wide", "narrow", "too narrow for a column"],
)
def test_print_table_on_narrow_terminal_folds_what_does_not_fit(capsys, monkeypatch, columns, expected):
    """The terminal would break lines anywhere, which makes columns hard to follow."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(["NAME", "LEGAL", "WHY"], WIDE)
    assert capsys.readouterr().out == expected


def test_print_table_on_narrow_terminal_keeps_words_whole_and_states_coloured(capsys, monkeypatch):
    """A broken path could not be copied, and a status is recognized by its colour."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "31")
    print_table(["NAME", "STATUS"], [["web", "running · degraded: /a/path/as-long-as-this/one is cut off"]])
    assert capsys.readouterr().out.splitlines()[1:] == [
        "web   \x1b[32mrunning\x1b[0m · degraded:",
        "      /a/path/as-long-as-this/one",
        "      is cut off",
    ]


def test_print_table_elsewhere_keeps_a_line_a_row(capsys, monkeypatch):
    """Output that is not a terminal has no width; programs read one row per line."""
    monkeypatch.setenv("COLUMNS", "20")
    print_table(["NAME", "LEGAL", "WHY"], WIDE)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_print_records_as_json_is_one_object_a_line(capsys):
    """Each line is one JSON object, and non-ASCII text survives."""
    records = [{"name": "ä\n", "state": State.running}, {"name": "b", "state": None}]
    print_records(iter(records), "json", ())
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == records


def test_print_records_as_yaml_is_one_document_each(capsys):
    """Each record is a document of plain values."""
    records = [{"name": "ä", "state": State.running, "can": ["stop"]}, {"name": "b"}]
    print_records(iter(records), "yaml", ())
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == records


def test_print_records_without_any_prints_no_title(capsys):
    """An empty table prints nothing, not even its titles."""
    print_records(iter([]), "table", (("NAME", lambda record: record["name"]),))
    assert capsys.readouterr().out == ""


def test_print_record_as_table_is_flat(capsys):
    """Keys of inner records are joined with dots and lists with commas; an unknown value is a dash."""
    print_record({"name": "web", "spec": {"cpus": 2}, "can": ["stop", "kill"], "pid": None}, "table")
    assert capsys.readouterr().out == "name       web\nspec.cpus  2\ncan        stop, kill\npid        -\n"


def test_print_record_of_records_and_long_texts_is_one_fact_a_line(capsys):
    """Lists of records get one line per value, with the index in its key; lines of a long text stay in their column."""
    print_record({"forwards": [{"port": 80}, {"port": 81}], "message": "two\nlines\n", "none": []}, "table")
    assert capsys.readouterr().out.splitlines() == [
        *("forwards[0].port  80", "forwards[1].port  81", "message           two", "                  lines", "none")
    ]


def test_local_time_is_the_hosts_with_its_offset(monkeypatch):
    """A time in UTC is shown in local time; any other text is shown unchanged."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XST-05:30")
        time.tzset()
        shown = local_time("2026-03-01T13:02:59.123456Z"), local_time("unknown")
    time.tzset()
    assert shown == ("2026-03-01 18:32:59 +0530", "unknown")
