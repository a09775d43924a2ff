"""The agent in real guests: what it answers, and what becomes of it where it is missing, hangs or floods its port."""

import json
import subprocess

import pytest

from interlock.creation.plan import Wishes
from interlock.drivers.contract import KNOWN_HOSTS, Deadline
from interlock.drivers.qemu import agent, hypervisor, identity
from interlock.errors import DeadlineError
from interlock.guest import seed, ssh
from interlock.guest.agent import AgentError, listening, load
from interlock.guest.facts import Identity
from interlock.guest.identity import request
from interlock.guest.keys import new_host_key, pin
from interlock.guest.session import Endpoint
from interlock.host.files import read_own, write_whole

pytestmark = [pytest.mark.vm, pytest.mark.warm]

DEADLINE_S = 900.0


@pytest.fixture
def site(vms):
    """Return a function that returns where an instance lies."""
    return vms.engine.site


def inside(site, *command):
    """Return what `command` prints in the guest of `site`, over a connection of its own."""
    line = ssh.command_line(site.directory / ssh.CONFIG, site.name, command, options=("ControlPath=none",))
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout


def signal(site, name):
    """Send the signal to the agent in the guest of `site`, and to what starts it."""
    # Patterns that do not match themselves.
    found = 'grep -qs -e "seed/[a]gent" -e "serve-[a]gent" "$it/cmdline"'
    inside(site, "sudo", "sh", "-c", f'for it in /proc/[0-9]*; do ! {found} || kill -{name} "${{it#/proc/}}"; done')


def refusal(site):
    """Return why the agent of `site` does not answer; nothing if it does, or for lack of time."""
    try:
        agent.ask(site.runtime, "ping", timeout_s=60)
    except AgentError as error:
        return "" if "within" in error.message else error.message
    return ""


def become(site, name):
    """Have the guest of `site` become the one of the instance `name`; return the id of its machine."""
    host_key = new_host_key()
    new = Identity(name, f"{name}-host", f"i-{name}", host_key)
    facts = seed.identity_facts(new, initrd=read_own(site.directory / "initrd", 1 << 30))
    endpoint = Endpoint(site.name, site.directory / ssh.CONFIG, 0, f"i-{name}")
    with hypervisor.held(hypervisor.settled(site.directory)) as pidfd:
        identity.give(site, endpoint, request(facts), Deadline(DEADLINE_S), pidfd)
    write_whole(site.directory / KNOWN_HOSTS, pin(host_key))
    booted = "sudo cat /var/lib/interlock/booted"
    inside(site, "sh", "-c", f'until [ "$({booted})" = i-{name} ]; do sleep 0.1; done')  # after the host has its answer
    said = inside(site, "sh", "-c", f"hostname; cat /etc/machine-id; {booted}").split()
    assert said == [f"{name}-host", facts["machine-id"].decode().strip(), f"i-{name}"]
    return said[1]


@pytest.mark.parametrize("template", ["tiny", pytest.param("debian", marks=pytest.mark.warm("debian"))])
def test_agent_answers_and_gives_the_guest_another_identity(template, vms, site):
    """It says what listens and how busy the guest is; what it makes of the guest shows the key that is pinned now."""
    vms.create("web", template)
    vms.start("web")
    web = site("web")
    assert agent.listens(web.directory)
    assert len(agent.ask(web.runtime, "ping", timeout_s=DEADLINE_S)) == 36
    assert agent.readiness(web) is True
    assert agent.readiness(web._replace(spec=web.spec._replace(instance_id="i-other"))) is not True
    assert ("0.0.0.0", 22) in listening(agent.ask(web.runtime, "ports", timeout_s=DEADLINE_S))
    assert 0 < load(agent.ask(web.runtime, "load", timeout_s=DEADLINE_S)).available_bytes < 1 << 30
    assert len({become(web, name) for name in ("one", "two")}) == 2
    signal(web, "STOP")
    with pytest.raises(AgentError, match="did not answer"):
        agent.ask(web.runtime, "ping")
    become(web, "three")  # over ssh


def test_guest_that_floods_the_port_is_given_up_and_serves_on(vms, site, until):
    """What it writes fills no memory of the host's, costs a bounded time, and disturbs neither ssh nor stop."""
    vms.create("web", "tiny")
    vms.start("web")
    web = site("web")
    # init starts it in the place of the agent.
    script = 'for port in /sys/class/virtio-ports/*; do yes >"/dev/${port##*/}"; done'
    inside(web, "sudo", "sh", "-c", 'echo "$1" >/etc/serve-agent', "sh", script)
    signal(web, "KILL")
    until(lambda: "floods" in refusal(web))
    become(web, "copy")  # over ssh
    vms.stop("web")


def test_machine_of_an_older_version_starts_and_changes_identity_without_an_agent(vms, site):
    """A record without the port is a machine without it, as before, whatever its guest's seed holds."""
    vms.create("web", "tiny")
    record = site("web").directory / "qemu.json"
    board = json.loads(record.read_text())
    record.write_text(json.dumps({name: value for name, value in board.items() if name != "agent_port"}))
    vms.start("web")
    web = site("web")
    assert not agent.listens(web.directory)
    with pytest.raises(AgentError, match="cannot be reached"):
        agent.ask(web.runtime, "ping")
    become(web, "copy")
    vms.stop("web")


def test_guest_of_root_lets_root_in(vms):
    """Images have a folder for root's keys already, in which ours belongs all the same."""
    vms.create("web", "tiny", Wishes(user="root"))
    vms.start("web")
    assert vms.run("web", ["id", "-un"]).text == "root"


def test_guest_that_does_not_let_the_host_in_does_not_count_as_up(vms, site):
    """Its agent could say that all is well; what nobody can enter does not run."""
    vms.create("web", "tiny")
    vms.start("web")
    inside(site("web"), "sh", "-c", "echo nobody >~/.ssh/authorized_keys; sync")
    vms.stop("web")
    with pytest.raises(DeadlineError) as refused:
        vms.start("web", timeout_s=60)
    assert "Permission denied" in " ".join((refused.value.message, *refused.value.details))
