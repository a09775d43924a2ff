"""`interlock migrate` and `interlock cluster`: instances and the nodes of their cluster."""

import json

import pytest

from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import OutOfReachError
from interlock.fsm.records import Observation
from interlock.fsm.rehearsal import Rehearsal
from interlock.fsm.states import EXISTING, State
from interlock.fsm.table import Trigger


@pytest.mark.parametrize("source", EXISTING)
def test_migrate_says_where_the_instance_is_now(interlock, bring, state, history, source):
    """The state stays, and the outcome names the node."""
    bring(source)
    done = interlock("migrate", "web", "--node", "node2.example.test", "--format", "json")
    assert (done.returncode, state()) == (0, source)
    assert json.loads(done.stdout)["detail"] == "to node2.example.test"
    assert history()[-1] == ("migrate", "done")


def test_failover_is_a_migrate_with_that_word(interlock, bring, vms):
    """The history records which of the two was asked for."""
    bring(State.running)
    assert interlock("cluster", "failover", "web").returncode == 0
    assert [line.trigger for line in vms.history("web")][-1] == "migrate"
    assert list(vms.history("web"))[-1].asked == {"failover": True}


def test_migrate_of_a_machine_that_has_no_cluster_is_refused(interlock, bring, history):
    """A driver that has only this host says so; the state stays."""
    bring(State.running)
    done = interlock("migrate", "web", orders={"migrate": {"error": "it runs on this host alone"}})
    assert (done.returncode, "it runs on this host alone" in done.stderr) == (6, True)
    assert history()[-1] == ("migrate", "failed")


def test_stop_calls_a_migrate_off(interlock, begin, bring, at_work, state, history):
    """A user who stops the machine does not wait until it has moved."""
    bring(State.running)
    moving = begin("migrate", "web", orders={"migrate": {"hang": True}})
    at_work()
    assert interlock("stop", "web").returncode == 0
    assert (moving.wait(30), state()) == (130, "stopped")
    assert history()[-2:] == [("migrate", "failed"), ("stop", "done")]


class Blind(SimulatedDriver):
    """A driver whose cluster cannot reach its machines."""

    def observe(self, _site):
        return Observation(alive=None, condition="unreachable: its node node1 does not answer", node="node1")


def test_failover_alone_leads_out_of_a_node_that_is_down(make_engine, bring, history):
    """While nobody knows whether the machine is alive, everything but a failover is refused before it begins."""
    bring(State.running)
    engine, before = make_engine(Blind()), history()
    assert engine.status("web").state is State.running
    for trigger in (Trigger.stop, Trigger.kill, Trigger.provision, Trigger.migrate):
        with pytest.raises(OutOfReachError, match="its node node1 does not answer"):
            engine.fire("web", trigger)
    assert history() == before
    assert engine.fire("web", Trigger.migrate, failover=True).changed


def test_failover_gives_up_what_a_dead_process_left(make_engine, begin, at_work, bring, history):
    """Nobody knows how far it got, so no rule of its row can settle it; the state stays."""
    bring(State.running)
    process = begin("stop", "web", orders={"stop": {"hang": True}})
    at_work()
    process.kill()
    process.wait()
    assert make_engine(Blind()).fire("web", Trigger.migrate, failover=True).state is State.running
    assert history()[-2:] == [("stop", "undone"), ("migrate", "done")]


def test_dry_run_of_a_failover_foresees_that_alone(home, bring):
    """Not knowing whether the machine is alive is no reason to plan for its exit."""
    bring(State.running)
    rehearsal = Rehearsal(home, lambda _: Blind())
    with pytest.raises(OutOfReachError, match="its node node1 does not answer"):
        rehearsal.fire("web", Trigger.migrate)
    foreseen = rehearsal.fire("web", Trigger.migrate, failover=True)
    assert [step.trigger for step in foreseen.steps or ()] == [Trigger.migrate]
