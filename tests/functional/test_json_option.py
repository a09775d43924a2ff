"""`--json`: whatever the outcome, a program reads one object on stdout for each thing that it asked about."""

import json
import signal

import pytest

from interlock import __version__

CREATE = ("create", "web", "-t", "tiny", "--driver", "simulated")


def objects(done):
    """Return the objects that a command printed."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_result_is_an_object(interlock):
    """The result is that of --format json, wherever the option stands."""
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
    """A program need not read two streams, and a person's log still has the words."""
    done = interlock(*arguments)
    (found,) = objects(done)
    error = found["error"]
    assert (done.returncode, found["name"], error["reference"], error["exit_code"]) == (code, name, reference, code)
    assert error["message"] in done.stderr
    assert set(error) == {"reference", "message", "hint", "details", "exit_code"}


@pytest.mark.parametrize(
    "words",
    [("nope", "--json"), ("--json", "nope"), ("disk", "nope", "--json"), ("--json",), ("--nope", "ls", "--json")],
)
def test_command_that_does_not_exist_is_an_object_too(interlock, words):
    """So is a missing command: a program that mistypes one reads the error where it reads everything else."""
    done = interlock(*words)
    (found,) = objects(done)
    assert (done.returncode, found["error"]["reference"]) == (2, "usage")


def test_option_before_the_command_is_the_same(interlock):
    """It works in front of a group's command too."""
    interlock(*CREATE)
    assert objects(interlock("--json", "list"))[0]["name"] == "web"
    assert (
        interlock("snapshot", "--json", "list", "web").stdout == interlock("snapshot", "list", "web", "--json").stdout
    )


@pytest.mark.parametrize("words", [("--version", "--json"), ("--json", "version")])
def test_version_is_an_object(interlock, words):
    """A program that asks for the version need not parse a line."""
    assert objects(interlock(*words)) == [{"name": "interlock", "version": __version__}]


def test_command_in_a_guest_is_an_object_with_what_it_said(interlock):
    """The exit code is the guest program's; a --json among the guest program's own arguments is left to it."""
    interlock(*CREATE)
    interlock("start", "web")
    done = interlock("run", "--json", "web", "--", "jq", "--json")
    (found,) = objects(done)
    assert (done.returncode, found["status"], found["name"], found["stdout"]) == (127, 127, "web", "")
    assert "no answer to: jq --json" in found["stderr"]


def test_what_only_people_can_use_is_refused(interlock):
    """A login and the live view have no result."""
    for words in (("shell", "--json", "web"), ("top", "--json")):
        done = interlock(*words)
        (found,) = objects(done)
        assert (done.returncode, found["error"]["reference"]) == (2, "usage")


@pytest.mark.usefixtures("limactl")
def test_texts_of_a_machine_are_objects(interlock, vms):
    """The objects are how ssh reaches it, and each line of its logs."""
    vms.create("web", {"images": [{"location": "/images/debian.qcow2"}]}, driver="lima")
    vms.start("web")
    (ssh,) = objects(interlock("ssh-config", "web", "--json"))
    assert (ssh["options"]["hostname"], ssh["options"]["host"]) == ("127.0.0.1", "web")
    log, path = next(iter(vms.logs("web").items()))
    path.write_bytes(b"one\r\n\xff\n" + b"x" * (64 << 10) + b"y")
    lines = [found["line"] for found in objects(interlock("logs", "web", f"--{log}", "--json"))]
    assert lines == ["one", "\ufffd", "x" * (64 << 10), "y"]


@pytest.mark.usefixtures("limactl")
def test_log_that_is_followed_is_a_stream_until_it_is_interrupted(begin, vms):
    """Each line is printed when it is complete, and interrupting the stream is not an error."""
    vms.create("web", {"images": [{"location": "/images/debian.qcow2"}]}, driver="lima")
    vms.start("web")
    log, path = next(iter(vms.logs("web").items()))
    path.write_bytes(b"one\nunended")
    following = begin("logs", "web", f"--{log}", "--follow", "--json")
    assert json.loads(following.stdout.readline())["line"] == "one"
    with path.open("ab") as file:
        file.write(b" no more\n")
    assert json.loads(following.stdout.readline())["line"] == "unended no more"
    following.send_signal(signal.SIGINT)
    assert following.communicate() == ("", "")
    assert following.returncode == 130


def test_autostart_has_an_object_for_each(interlock, tmp_path, monkeypatch):
    """A missing instance holds up no other."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    interlock(*CREATE)
    done = interlock("autostart", "enable", "nope", "web", "--json")
    failed, found = objects(done)
    assert (done.returncode, failed["name"], found) == (4, "nope", {"name": "web", "autostart": True, "changed": True})


def test_of_several_each_has_an_object(interlock):
    """A failure holds up no other, and its object has the key `error`."""
    interlock(*CREATE)
    done = interlock("start", "web", "nope", "--json")
    found = {it["name"]: it for it in objects(done)}
    assert (found["web"]["state"], found["nope"]["error"]["reference"]) == ("running", "not-found")
    assert done.returncode == 4


def test_error_without_the_option_leaves_stdout_empty(interlock):
    """--format json is for results only, and `--json` among a guest command's arguments is not ours to read."""
    assert not interlock("start", "nope", "--format", "json").stdout
    assert not interlock("run", "nope", "--", "jq", "--json").stdout
    assert not interlock("run", "nope", "jq", "--json").stdout
