"""`interlock history`: every transition of an instance, as recorded."""

import json
import re

from interlock.fsm.states import State


def test_history_as_json_is_the_journal_line_for_line(interlock, bring, home):
    """JSON has every field of every line."""
    bring(State.stopped)
    journal = (home.directory("web") / "journal.jsonl").read_text().splitlines()
    printed = interlock("history", "web", "--format", "json").stdout.splitlines()
    assert [json.loads(line) for line in printed] == [json.loads(line) for line in journal]


def test_history_as_table_has_a_line_for_each_outcome(interlock, bring):
    """People read the outcome of each transition and the state that it led to."""
    bring(State.stopped)
    rows = [re.split(r"\s{2,}", line) for line in interlock("history", "web").stdout.splitlines()[1:]]
    assert [row[2:6] for row in rows] == [
        ["create", "absent", "created", "done"],
        ["start", "created", "running", "done"],
        ["stop", "running", "stopped", "done"],
    ]


def test_history_with_steps_shows_them(interlock, bring):
    """With `--steps`, each step of a transition has a line."""
    bring(State.running)
    assert "waiting for the simulated guest" in interlock("history", "web", "--steps").stdout


def test_history_of_absent_instance_is_not_found(interlock):
    """An absent instance has no history."""
    assert interlock("history", "web").returncode == 4


def test_history_of_damaged_journal_names_the_line(interlock, bring, home):
    """The error says where the journal cannot be parsed, and what fixes it."""
    bring(State.created)
    path = home.directory("web") / "journal.jsonl"
    path.write_text("{}\n" + path.read_text())
    done = interlock("history", "web")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (8, "hint: interlock repair web")
    assert f"{path}:1: " in done.stderr


def test_history_of_a_journal_that_was_shortened_says_so(interlock, bring, home):
    """The rest is shown, with a note that it is incomplete; `repair` does not take a shortened journal for damaged."""
    bring(State.running)
    journal = home.directory("web") / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[-2:]))
    first = json.loads(journal.read_bytes().splitlines()[0])["seq"]
    done = interlock("history", "web")
    assert done.returncode == 0
    assert f"the journal keeps only its latest lines: those before line {first} are gone" in done.stderr
    assert "missing" not in interlock("repair", "web").stderr
