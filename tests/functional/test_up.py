"""`interlock up`: creates an absent instance, then starts it: two transitions, each announced."""

import pytest

from interlock.fsm.states import State


@pytest.mark.parametrize("source", State)
def test_up_from_any_state_ends_running(interlock, bring, state, source):
    """`up` ends in `running` from every state."""
    bring(source)
    assert interlock("up", "web", "-t", "tiny", "--driver", "simulated").returncode == 0
    assert state() == "running"


def test_up_of_absent_instance_announces_both_transitions(interlock, history):
    """`up` announces `create` and `start`, the two rows of the table."""
    done = interlock("--log-format", "human", "up", "web", "-t", "tiny", "--driver", "simulated")
    said = [line for line in done.stderr.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in said] == ["creating", "created", "starting", "started"]
    assert history() == [("create", "done"), ("start", "done")]


def test_up_of_existing_instance_needs_no_template(interlock, bring, state):
    """An existing instance is started as it is."""
    bring(State.stopped)
    assert interlock("up", "web").returncode == 0
    assert state() == "running"


def test_up_of_absent_instance_without_template_is_not_found(interlock):
    """Without a template, `up` of an absent instance creates nothing."""
    assert interlock("up", "web").returncode == 4


def test_up_whose_start_fails_leaves_it_created(interlock, state):
    """When the start fails, the created instance stays, and the next `up` starts it."""
    failed = interlock("up", "web", "-t", "tiny", "--driver", "simulated", orders={"start": {"error": "no"}})
    assert failed.returncode == 6
    assert state() == "created"


def test_up_of_an_instance_that_is_being_created_joins(begin, at_work, tmp_path, history):
    """Two `up` at once make one instance: the second waits for the creation, and shares the start."""
    orders = {"create": {"until": str(tmp_path / "go")}}
    up = ("up", "web", "-t", "tiny", "--driver", "simulated")
    first = begin(*up, orders=orders)
    at_work()
    second = begin("--log-format", "logfmt", *up)
    assert any("transition_joined" in line for line in second.stderr)
    (tmp_path / "go").touch()
    assert [(process.communicate(timeout=60), process.returncode)[1] for process in (first, second)] == [0, 0]
    assert history() == [("create", "done"), ("start", "done")]


def test_up_of_existing_instance_names_the_options_that_it_ignores(interlock, bring):
    """`up --cpus` of an existing instance says that the option is ignored."""
    bring(State.created)
    said = interlock("up", "web", "-t", "tiny", "--cpus", "8", "--memory", "2GiB").stderr
    assert 'instance "web" exists and is started as it is: --cpus, --memory ignored' in said
    assert "ignored" not in interlock("up", "web", "-t", "tiny").stderr


@pytest.mark.parametrize("command", [("up", "web"), ("restart", "web"), ("start", "web")])
def test_command_that_starts_minds_timeout_and_on_failure(interlock, bring, vms, command):
    """`up` and `restart` take the options of `start`."""
    bring(State.created)
    hang = {"start": {"hang": True}}
    done = interlock(*command, "--timeout", "0.1", "--on-failure", "keep", orders=hang)
    assert done.returncode == 7
    assert vms.engine.port(vms.engine.site("web")).observe(vms.engine.site("web")).alive
    # This start finishes the interrupted one, within its own timeout.
    again = interlock("start", "web", "--timeout", "0.1", orders=hang)
    assert (again.returncode, "within 0.1 s" in again.stderr or "in 0.1 s" in again.stderr) == (7, True)
    assert not vms.engine.port(vms.engine.site("web")).observe(vms.engine.site("web")).alive
