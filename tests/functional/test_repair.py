"""`interlock repair`: says what is wrong with an instance and fixes it, or gives the way out."""

import json

import pytest

from interlock.fsm.states import State


@pytest.fixture
def journal(home):
    """Return the path of the journal of `web`."""
    return home.directory("web") / "journal.jsonl"


def test_repair_of_damaged_journal_mends_it_and_says_how(interlock, bring, journal, state):
    """The hint of `list` fixes it; afterwards the instance can be started."""
    bring(State.stopped)
    with journal.open("ab") as file:
        file.write(b"garbage\n")
    listed = interlock("list")
    assert (listed.returncode, listed.stderr) == (0, "hint: interlock repair web\n")
    assert interlock("inspect", "web").stderr == "hint: interlock repair web\n"
    assert interlock("start", "web").stderr.splitlines()[-1] == "hint: interlock repair web"
    done = interlock("repair", "web")
    (aside,) = journal.parent.glob("journal.jsonl.damaged-*")
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (
        0,
        "",
        [f"1 line of the journal could not be read; kept in {aside}", '"web" is repaired; it is stopped'],
    )
    assert (interlock("start", "web").returncode, state()) == (0, "running")


@pytest.mark.parametrize("source", [State.created, State.running, State.stopped])
def test_repair_of_healthy_instance_succeeds_and_says_so(interlock, bring, source):
    """Asking for what is already so does nothing, successfully; programs read it on stdout."""
    bring(source)
    done = interlock("repair", "web", "--format", "json")
    assert (done.returncode, done.stderr) == (0, f'"web" is not damaged: nothing to repair; it is {source}\n')
    assert json.loads(done.stdout) == {"name": "web", "state": source, "mended": []}


def test_repair_of_what_cannot_be_mended_is_8_and_says_the_way_out(interlock, bring, home):
    """A lost spec cannot be repaired; the hint removes the instance."""
    bring(State.running)
    (home.directory("web") / "spec.json").write_bytes(b"{")
    refused = interlock("repair", "web")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (8, "hint: interlock delete web --force")
    assert interlock("delete", "web", "--force").returncode == 0
    assert interlock("repair", "web").returncode == 4


@pytest.fixture
def lose_lines(journal):
    """Return a function that removes the journal's lines after a trigger's intent, as a damaged disk may."""

    def lose(trigger):
        lines = journal.read_bytes().splitlines(keepends=True)
        begun = [f'"trigger":"{trigger}"'.encode() in line and b'"begun"' in line for line in lines]
        journal.write_bytes(b"".join(lines[: begun.index(True) + 1]))

    return lose


@pytest.mark.parametrize("asked", ["reset", "stop", "start"])
def test_operation_of_a_machine_at_rest_is_not_repeated_once_it_runs(interlock, bring, lose_lines, state, asked):
    """A machine that runs proves that lines were lost: its disk is in use, and the request is judged from `running`."""
    bring(State.stopped)
    interlock("reset", "web")
    interlock("start", "web")
    lose_lines("reset")
    foreseen, done = interlock(asked, "web", "--dry-run"), interlock(asked, "web")
    expected = {"reset": (3, "running"), "stop": (0, "stopped"), "start": (0, "running")}[asked]
    assert (foreseen.returncode, done.returncode, state()) == (expected[0], *expected)
    assert "reset" in done.stderr.splitlines()[0]


def test_operation_is_not_repeated_on_an_instance_that_has_been_protected(interlock, bring, lose_lines, history):
    """It was protected after the operation, whose last line is lost; it can be unprotected."""
    bring(State.stopped)
    interlock("reset", "web")
    interlock("protect", "web")
    lose_lines("reset")
    assert interlock("reset", "web", "--dry-run").returncode == interlock("reset", "web").returncode == 3
    assert interlock("unprotect", "web").returncode == 0
    assert history()[-2:] == [("reset", "undone"), ("unprotect", "done")]
