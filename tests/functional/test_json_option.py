"""`--json`: whatever becomes of a command, a program reads one object on stdout for each thing that it asked about."""

import json

import pytest

CREATE = ("create", "web", "-t", "tiny", "--driver", "simulated")


def objects(done):
    """Return the objects that a command printed."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_result_is_an_object(interlock):
    """As with --format json, wherever the option stands."""
    assert objects(interlock(*CREATE, "--json"))[0]["state"] == "created"
    assert objects(interlock("start", "--json", "web"))[0]["state"] == "running"
    assert objects(interlock("list", "--json"))[0]["name"] == "web"
    assert objects(interlock("can", "web", "stop", "--json", "--format", "yaml"))[0]["legal"] is True


@pytest.mark.parametrize(
    ("arguments", "name", "reference", "code"),
    [
        (("start", "nope", "--json"), "nope", "not-found", 4),
        (("list", "nope", "--json"), "nope", "not-found", 4),
        (("wait", "nope", "--json", "--timeout", "0"), "nope", "not-found", 4),
        (("disk", "delete", "nope", "--json"), None, "not-found", 4),
        (("image", "delete", "nope", "--json"), None, "not-found", 4),
        (("start", "web", "--json", "--nope"), None, "usage", 2),
        (("start", "--json"), None, "usage", 2),
        (("create", "../x", "-t", "tiny", "--json"), "../x", "invalid-name", 2),
    ],
)
def test_error_is_an_object_on_stdout_and_words_on_stderr(interlock, arguments, name, reference, code):
    """A program need not read two streams, and a person's log keeps the words."""
    done = interlock(*arguments)
    (found,) = objects(done)
    error = found["error"]
    assert (done.returncode, found["name"], error["reference"], error["exit_code"]) == (code, name, reference, code)
    assert error["message"] in done.stderr
    assert set(error) == {"reference", "message", "hint", "details", "exit_code"}


def test_of_several_each_has_an_object(interlock):
    """A failure stops no other, and its key says that it is one."""
    interlock(*CREATE)
    done = interlock("start", "web", "nope", "--json")
    found = {it["name"]: it for it in objects(done)}
    assert (found["web"]["state"], found["nope"]["error"]["reference"]) == ("running", "not-found")
    assert done.returncode == 4


def test_error_without_the_option_leaves_stdout_empty(interlock):
    """--format json is for results, as ever; and what a guest is to run is not ours to read."""
    assert not interlock("start", "nope", "--format", "json").stdout
    assert not interlock("run", "nope", "--", "jq", "--json").stdout
    assert not interlock("run", "nope", "jq", "--json").stdout
