"""`interlock copy`, `tunnel` and `ssh-config`: arguments and refusals; what they do is tested on real guests."""

import pytest

from interlock import UsageError
from interlock.api import guest_of
from interlock.fsm.states import State


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("web:/etc/hostname", "web"),
        ("web:", "web"),
        ("a.b-c_1:x", "a.b-c_1"),
        ("/etc/a:b", None),
        ("./web:x", None),
        ("notes.txt", None),
        ("two words:x", None),
        (":x", None),
    ],
)
def test_path_in_a_guest_begins_with_a_name_and_a_colon(path, name):
    """As with scp, a path with a slash before the colon is on the host."""
    assert guest_of(path) == name


@pytest.mark.parametrize("paths", [(), ("web:a",), ("a", "b"), ("a", "./web:b")])
def test_copy_without_a_guest_or_without_a_target_is_refused(vms, paths):
    """The error says how to write a path in a guest."""
    with pytest.raises(UsageError, match="a guest, written NAME:PATH"):
        vms.copy_line(*paths)


def test_copy_between_guests_needs_both_to_run(interlock, bring, vms):
    """The error names the guest that is down, whichever comes first."""
    bring(State.running)
    vms.create("db", "tiny", driver="simulated")
    for paths in (("web:a", "db:b"), ("db:a", "web:b"), ("web:a", "notes", "db:")):
        done = interlock("copy", *paths)
        assert (done.returncode, 'instance "db" is created; copy is legal' in done.stderr) == (3, True)


@pytest.mark.parametrize(
    ("state", "code", "lines"),
    [
        (State.absent, 4, ['there is no instance "web"', "hint: interlock create web --template debian"]),
        (
            State.stopped,
            3,
            [
                'instance "web" is stopped; copy is legal from running only',
                "hint: interlock start web && interlock copy web:/etc/hostname .",
            ],
        ),
        (State.running, 2, ['driver "simulated" has no shell']),
    ],
)
def test_copy_where_none_is_possible_says_why(interlock, bring, state, code, lines):
    """`copy` is a row of the table; the refusal says how to get there."""
    bring(state)
    done = interlock("copy", "web:a", ".")
    assert (done.returncode, done.stderr.splitlines()[1:]) == (code, lines)


@pytest.mark.parametrize("command", [("ssh-config", "web"), ("tunnel", "web", "80")])
def test_way_into_a_guest_needs_one_that_runs_and_has_ssh(interlock, bring, command):
    """Both are refused wherever `shell` is."""
    bring(State.created)
    done = interlock(*command)
    assert (done.returncode, "shell is legal from running only" in done.stderr) == (3, True)
    interlock("start", "web")
    done = interlock(*command)
    assert (done.returncode, 'driver "simulated" has no shell' in done.stderr) == (2, True)


def test_tunnel_needs_a_port_or_a_proxy(interlock):
    """One of them, not both."""
    for arguments in ([], ["80", "--socks", "1080"]):
        done = interlock("tunnel", "web", *arguments)
        assert (done.returncode, "give a port of the guest, or --socks" in done.stderr) == (2, True)


@pytest.mark.parametrize("ports", ["", "http", "0", "65536", "80:", ":80", "1:2:3", "-1"])
def test_tunnel_refuses_what_is_no_port(interlock, ports):
    """The error says what is expected."""
    done = interlock("tunnel", "web", "--", ports)
    assert (done.returncode, "expected a port such as 8080, or two such as 8080:80" in done.stderr) == (2, True)
