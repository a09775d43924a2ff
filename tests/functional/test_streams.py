"""Results go to stdout, everything else to stderr; only terminals get terminal codes and questions."""

import json
import os
import re
import subprocess

import pytest

from interlock.fsm.states import State

LIFE = [
    ("create", "web", "-t", "tiny", "--driver", "simulated"),
    ("start", "web"),
    ("start", "web"),
    ("restart", "web"),
    ("stop", "web"),
    ("reset", "web"),
    ("up", "web"),
    ("kill", "web"),
    ("delete", "web"),
]


def test_streams_of_each_transition_for_people_are_stderr_alone(interlock):
    """stdout has nothing that is meant for people, and neither stream has terminal codes."""
    for arguments in LIFE:
        done = interlock(*arguments)
        assert (done.returncode, done.stdout) == (0, "")
        assert "\x1b" not in done.stderr


@pytest.mark.slow
def test_streams_of_each_transition_as_json_parse_line_by_line(interlock):
    """One result on stdout, and every line of the log is an object."""
    for arguments in LIFE:
        done = interlock("--log-format", "json", *arguments, "--format", "json")
        (result,) = map(json.loads, done.stdout.splitlines())
        assert (result["name"], result["trigger"] in arguments or arguments[0] in ("up", "restart")) == ("web", True)
        events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
        assert all(event.startswith("transition_") for event in events)


@pytest.mark.parametrize(
    "arguments", [("start",), ("start", "web"), ("fly",), ("start", "./no.yaml"), ("create", "web", "-t", "no")]
)
def test_streams_of_an_error_as_json_parse_line_by_line(interlock, arguments):
    """Programs can read errors too: reference, message, hint and exit code."""
    done = interlock("--log-format", "json", *arguments)
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.stdout, records[-1]["event"], records[-1]["exit_code"]) == ("", "error", done.returncode)


@pytest.mark.parametrize(
    ("arguments", "instance", "operation"),
    [
        (("start", "nope"), "nope", "start"),
        (("list", "nope"), "nope", None),
        (("inspect", "nope"), "nope", None),
        (("create", "web", "-t", "nope"), "web", "create"),
        (("image", "delete", "nope"), None, None),
    ],
)
def test_error_says_which_instance_and_operation_it_is_about(interlock, arguments, instance, operation):
    """Both are given as far as they are known; the requested operation is known before anything is begun."""
    error = json.loads(interlock("--log-format", "json", *arguments).stderr.splitlines()[-1])
    assert (error.get("instance"), error.get("operation")) == (instance, operation)


@pytest.mark.parametrize("arguments", [(), ("nope",), ("list", "nope"), ("start", "--fast", "web"), ("start", "web")])
def test_error_off_a_terminal_is_a_line_of_the_log(interlock, monkeypatch, arguments):
    """Without a chosen format and without a terminal, every line is logfmt."""
    monkeypatch.delenv("INTERLOCK_LOG_FORMAT")
    (line,) = interlock(*arguments).stderr.splitlines()
    assert re.match(r"timestamp=\S+ level=error event=error ", line)


def test_options_that_up_ignores_are_a_warning(interlock, bring):
    """The warning appears even with `-q`, as an event `note`."""
    bring(State.created)
    (line,) = interlock("-q", "--log-format", "json", "up", "web", "--cpus", "2").stderr.splitlines()
    note = json.loads(line)
    assert (note["event"], note["level"], note["instance"]) == ("note", "warning", "web")
    assert "--cpus ignored" in note["message"]


def test_quiet_start_says_nothing_and_a_quiet_error_is_said(interlock, bring):
    """Both the option and the variable work."""
    bring(State.created)
    assert interlock("--quiet", "start", "web").stderr == ""
    done = interlock("stop", "nope", env={**os.environ, "INTERLOCK_QUIET": "1"})
    assert done.stderr.startswith("error: not-found")


def test_list_of_a_name_where_nothing_is_says_so_once(on_terminal):
    """So it is on a terminal, where an empty list without names says how to make an instance."""
    code, text = on_terminal("list", "nope")
    assert (code, "no instances" in text) == (4, False)
    assert "no instances" in on_terminal("list")[1]


def test_streams_of_error_hold_no_traceback_unless_asked(interlock):
    """A traceback is printed only with `--debug`."""
    assert "Traceback" not in interlock("start", "web").stderr
    assert "Traceback" in interlock("--debug", "start", "web").stderr


@pytest.mark.parametrize("arguments", [("list",), ("--help",), ("history", "web", "--steps"), ("diagram",)])
def test_stdout_whose_reader_is_gone_ends_it_quietly(begin, bring, arguments, injected):
    """`interlock list | head -1` prints no error."""
    bring(State.running)
    reader, writer = os.pipe()
    os.close(reader)
    process = begin(*arguments, stdout=writer)
    os.close(writer)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (141, "")
    injected("nobody reads stdout or stderr")


def test_stderr_whose_reader_is_gone_calls_nothing_off(begin, bring, state, injected):
    """A closed stderr does not end a start."""
    bring(State.created)
    reader, writer = os.pipe()
    os.close(reader)
    process = begin("start", "web", stderr=writer)
    os.close(writer)
    process.communicate(timeout=60)
    assert (process.returncode, state()) == (0, "running")
    injected("nobody reads stdout or stderr")


def test_commands_that_destroy_ask_nothing(interlock, bring):
    """No command waits for an answer: with standard input at its end, each does what its arguments say."""
    bring(State.running)
    assert interlock("delete", "web", "--force", stdin=subprocess.DEVNULL).returncode == 0


def test_terminal_gets_the_sentences_and_colours(on_terminal, bring):
    """On a terminal, messages are coloured sentences, and the cursor is visible again at the end."""
    bring(State.created)
    code, text = on_terminal("start", "web")
    assert (code, "timestamp=" in text) == (0, False)
    assert 'starting "web"' in text
    assert '\x1b[32mstarted "web" in' in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def test_terminal_gets_a_coloured_list(on_terminal, bring):
    """The table shows each state in its colour."""
    bring(State.running)
    assert "\x1b[32mrunning\x1b[0m" in on_terminal("list")[1]


def test_terminal_with_log_format_gets_the_log(on_terminal, bring):
    """`--log-format` also works on a terminal."""
    bring(State.created)
    assert "timestamp=" in on_terminal("--log-format", "logfmt", "start", "web")[1]


def test_terminal_gets_an_error_in_colour(on_terminal, bring):
    """Errors are coloured on a terminal."""
    bring(State.running)
    code, text = on_terminal("delete", "web")
    assert (code, "\x1b[1;31merror: illegal-transition\x1b[0m" in text) == (3, True)
