"""Forks of real guests: the original keeps its connections, and each copy is another machine that was not booted."""

import json
import subprocess
from contextlib import contextmanager

import pytest

from interlock.creation.plan import Wishes
from interlock.drivers.contract import KNOWN_HOSTS
from interlock.drivers.qemu import agent, forking, identity, ssh_control
from interlock.drivers.qemu.boot import RESUMING
from interlock.errors import DriverError
from interlock.fsm.states import State
from interlock.guest.agent import AgentError

pytestmark = pytest.mark.vm

DEADLINE_S = 900.0
NAMES = ("one", "two", "three")


@pytest.fixture
def start(vms):
    """Return a function that starts an instance and returns the reported steps."""

    def start(name):
        steps = []
        type(vms)(on_event=lambda event: steps.append(event.step or "")).start(name)
        return steps

    return start


@pytest.fixture
def bring(vms):
    """Return a function that starts `web` from a template."""

    def bring(template="tiny", **wishes):
        user = "root" if template == "tiny" else "ada"
        vms.create("web", template, Wishes(user=user, **wishes))
        vms.start("web")

    return bring


@contextmanager
def connected(vms, name):
    """Keep a session open in the guest, and yield a function that says whether it still answers."""
    line = vms.shell(name, ["sh", "-c", "while read -r word; do echo $word; done"])
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:

        def answers(word):
            session.stdin.write(f"{word}\n")
            session.stdin.flush()
            return session.stdout.readline() == f"{word}\n"

        yield answers
        session.stdin.close()


@pytest.mark.warm
def test_copy_whose_agent_was_too_slow_takes_its_identity_over_ssh(vms, who_is, start, bring, monkeypatch):
    """The agent took an identity before, that of the original, and still says when the copy is ready."""
    bring()
    vms.fork("web", "one")
    ask, refused = agent.ask, []

    def slow(runtime, verb, *rest, **options):
        if verb == "ping":
            refused.append(verb)
            raise AgentError("too slow")
        return ask(runtime, verb, *rest, **options)

    monkeypatch.setattr(agent, "ask", slow)
    assert RESUMING in start("one")
    assert refused
    assert who_is("one")[0] == "one"


@pytest.mark.parametrize("template", ["tiny", pytest.param("debian", marks=pytest.mark.warm("debian"))])
def test_one_guest_becomes_four_different_ones_that_were_not_booted(vms, home, ask, who_is, start, bring, template):
    """Each copy keeps the processes of the original, on its own disk and under its own identity, also after its next
    boot.
    """
    bring(template)
    boot = ask("web", "cat /proc/sys/kernel/random/boot_id")
    ask("web", "echo before >kept; sync")
    with connected(vms, "web") as answers:
        assert answers("first")
        vms.fork("web", *NAMES)
        assert answers("second")
    assert [vms.status(name).state for name in NAMES] == [State.created] * 3
    assert all(vms.status(name).saved for name in NAMES)
    assert all(RESUMING in start(name) for name in NAMES)
    everybody = ("web", *NAMES)
    who = [who_is(name) for name in everybody]
    assert [said[0] for said in who] == list(everybody)
    words = [word for said in who for word in said]
    assert len(set(words)) == len(words)
    assert len({(home.directory(name) / KNOWN_HOSTS).read_bytes() for name in everybody}) == 4
    assert len({vms.status(name).observation.ssh_port for name in everybody}) == 4
    assert {ask(name, "cat /proc/sys/kernel/random/boot_id") for name in everybody} == {boot}
    for name in everybody:
        assert ask(name, f"cat kept; echo {name} >own; sync; cat own") == f"before\n{name}\n"
    vms.delete("web", force=True)
    vms.kill("two")
    vms.start("two")
    assert ask("two", "cat kept own") == "before\ntwo\n"
    assert who_is("two")[0] == "two"
    assert ask("two", "cat /proc/sys/kernel/random/boot_id") != boot


@pytest.mark.slow
def test_fifty_copies_of_one_moment_are_fifty_machines(vms, home, who_is, bring):
    """No two share a machine id, a host key or random numbers. Ten run at a time."""
    bring()
    names = [f"copy{number}" for number in range(50)]
    vms.fork("web", *names)
    who, keys = [], [(home.directory("web") / KNOWN_HOSTS).read_bytes()]
    for ten in (names[at : at + 10] for at in range(0, 50, 10)):
        for name in ten:
            vms.start(name)
        who += [who_is(name) for name in ten]
        keys += [(home.directory(name) / KNOWN_HOSTS).read_bytes() for name in ten]
        for name in ten:
            vms.delete(name, force=True)
    assert [said[0] for said in who] == names
    words = [word for said in who for word in said]
    assert len(words) == 50 * 4
    assert len(set(words)) == len(words)
    assert len(set(keys)) == 51


def test_disk_of_each_is_whole_although_it_was_written_to(vms, bring, write, wait_for_number, check_numbers):
    """A process writes while its guest is forked twice, and a copy forked again: each disk has every flushed number."""
    bring()
    write("web")
    for original, copy in (("web", "one"), ("web", "two"), ("one", "three")):
        wait_for_number(original)
        vms.fork(original, copy)
        vms.start(copy)
    for name in ("web", *NAMES):
        check_numbers(name)


@pytest.mark.warm
def test_guest_without_an_agent_takes_its_identity_over_ssh(vms, ask, who_is, bring, start):
    """The agent hangs in the original, and therefore in the copy."""
    bring()
    hang = 'grep -qs -e "seed/[a]gent" -e "serve-[a]gent" "$it/cmdline"'
    ask("web", f'for it in /proc/[0-9]*; do ! {hang} || kill -STOP "${{it#/proc/}}"; done')
    with pytest.raises(agent.AgentError):
        agent.ask(vms.engine.site("web").runtime, "ping")
    vms.fork("web", "one")
    assert RESUMING in start("one")
    assert ask("one", "hostname") == "one\n"
    web, one = (who_is(name) for name in ("web", "one"))
    assert not set(web) & set(one)


@pytest.mark.warm
def test_copy_that_takes_no_identity_is_ended_and_keeps_its_memory(vms, ask, who_is, bring, monkeypatch):
    """It never counts as running under the original's identity; its next start gives it its own."""
    bring()
    vms.fork("web", "one")

    def fail(*_):
        raise DriverError("the guest did not take its new identity")

    with monkeypatch.context() as patch:
        patch.setattr(identity, "give", fail)
        with pytest.raises(DriverError, match="did not take its new identity"):
            vms.start("one")
    status = vms.status("one")
    assert (status.state, status.saved) == (State.created, True)
    assert not vms.engine.ports("qemu").observe(vms.engine.site("one")).alive
    vms.start("one")
    assert ask("one", "hostname") == "one\n"
    assert not set(who_is("web")) & set(who_is("one"))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("portForwards: [{{guestPort: 8080, hostPort: {port}}}]", "forwards port {port} of this host"),
        ("additionalDisks: [data]", "has the disk data attached"),
        ("mounts: [{{location: {folder}, mountPoint: /srv}}]", "so its memory cannot be saved"),
    ],
)
@pytest.mark.warm
def test_what_cannot_be_forked_is_refused_and_runs_on(vms, tmp_path, free_port, asked, why):
    """The fork is refused before the guest is paused, and no copy is left."""
    folder, port, template = tmp_path / "folder", free_port(), tmp_path / "web.yaml"
    folder.mkdir()
    vms.disks.create("data", 64 << 20)
    template.write_text(f"base: template:tiny\n{asked.format(port=port, folder=folder)}\n")
    vms.create("web", str(template))
    vms.start("web")
    with pytest.raises(DriverError, match=why.format(port=port)):
        vms.fork("web", "one")
    assert (vms.status("web").state, vms.status("web").observation.condition) == (State.running, None)
    assert vms.status("one").state is State.absent


@pytest.mark.warm
def test_machine_that_does_not_tell_its_guest_of_the_copying_is_refused(vms, home):
    """Copies of a machine from an older version would draw the same random numbers."""
    vms.create("web", "tiny")
    record = home.directory("web") / "qemu.json"
    board = json.loads(record.read_text())
    record.write_text(json.dumps({**board, "generation_device": False}))
    vms.start("web")
    with pytest.raises(DriverError, match="the same random numbers"):
        vms.fork("web", "one")


@pytest.mark.warm
def test_fork_that_fails_while_the_guest_stands_still_lets_it_run(vms, ask, bring, monkeypatch):
    """Whenever the fork fails, the guest continues, and what it then writes is on its disk."""
    bring()
    for method in ("_change_over", "finish"):

        def fail(*_):
            raise DriverError("the memory is on fire")

        with monkeypatch.context() as patch:
            patch.setattr(forking, method, fail)
            with pytest.raises(DriverError, match="on fire"):
                vms.fork("web", "one")
        ask("web", f"echo written >{method}; sync")
        assert (vms.status("web").state, vms.status("web").observation.condition) == (State.running, None)
    vms.fork("web", "one")
    vms.kill("web")
    vms.start("web")
    assert ask("web", "cat _change_over finish") == "written\nwritten\n"


@pytest.mark.warm
def test_first_start_of_a_copy_opens_no_connection_that_nobody_asked_for(vms, ask, bring, monkeypatch):
    """A login is expensive for an emulated guest, and most of many copies may never be used."""
    bring()
    vms.fork("web", "one")
    with monkeypatch.context() as patch:
        patch.setattr(ssh_control, "call", lambda _: pytest.fail("it was opened"))
        vms.start("one")
    ask("one", "true")
