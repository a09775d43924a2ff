"""The agent in real guests: what it answers, and what happens where it is missing, hangs or floods its port."""

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
    """Return a function that returns the site of an instance."""
    return vms.engine.site


def inside(site, *command):
    """Return what `command` prints in the guest of `site`, over its own connection."""
    line = ssh.command_line(site.directory / ssh.CONFIG, site.name, command, options=("ControlPath=none",))
    return subprocess.run(line, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout


def signal(site, name):
    """Send a signal to the agent in the guest of `site`, and to the program that starts it."""
    # Patterns that do not match themselves.
    found = 'grep -qs -e "seed/[a]gent" -e "serve-[a]gent" "$it/cmdline"'
    inside(site, "sudo", "sh", "-c", f'for it in /proc/[0-9]*; do ! {found} || kill -{name} "${{it#/proc/}}"; done')


def refusal(site):
    """Return why the agent of `site` does not answer; an empty string if it does, or if it runs out of time."""
    try:
        agent.ask(site.runtime, "ping", timeout_s=60)
    except AgentError as error:
        return "" if "within" in error.message else error.message
    return ""


def become(site, name):
    """Give the guest of `site` the identity of an instance `name`; return the new machine id."""
    host_key = new_host_key()
    new = Identity(name, f"{name}-host", f"i-{name}", host_key)
    facts = seed.identity_facts(new, initrd=read_own(site.directory / "initrd", 1 << 30))
    endpoint = Endpoint(site.name, site.directory / ssh.CONFIG, 0, f"i-{name}")
    with hypervisor.held(hypervisor.settled(site.directory)) as pidfd:
        identity.give(site, endpoint, request(facts), Deadline(DEADLINE_S), pidfd)
    write_whole(site.directory / KNOWN_HOSTS, pin(host_key))
    booted = "sudo cat /var/lib/interlock/booted"
    inside(site, "sh", "-c", f'until [ "$({booted})" = i-{name} ]; do sleep 0.1; done')  # written after the answer
    said = inside(site, "sh", "-c", f"hostname; cat /etc/machine-id; {booted}").split()
    assert said == [f"{name}-host", facts["machine-id"].decode().strip(), f"i-{name}"]
    return said[1]


@pytest.mark.parametrize("template", ["tiny", pytest.param("debian", marks=pytest.mark.warm("debian"))])
def test_agent_answers_and_gives_the_guest_another_identity(template, vms, site):
    """It reports what listens and how busy the guest is; after a change of identity, ssh finds the newly pinned key."""
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
    """Its output fills no memory on the host, costs a bounded time, and disturbs neither ssh nor stop."""
    vms.create("web", "tiny")
    vms.start("web")
    web = site("web")
    # init starts this script instead of the agent.
    script = 'for port in /sys/class/virtio-ports/*; do yes >"/dev/${port##*/}"; done'
    inside(web, "sudo", "sh", "-c", 'echo "$1" >/etc/serve-agent', "sh", script)
    signal(web, "KILL")
    until(lambda: "floods" in refusal(web))
    become(web, "copy")  # over ssh
    vms.stop("web")


def test_machine_of_an_older_version_starts_and_changes_identity_without_an_agent(vms, site):
    """A record without the port describes a machine without it, whatever its guest's seed holds."""
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
    """Images already have a folder for root's keys, and our key is added to it."""
    vms.create("web", "tiny", Wishes(user="root"))
    vms.start("web")
    assert vms.run("web", ["id", "-un"]).text == "root"


def test_guest_that_does_not_let_the_host_in_does_not_count_as_up(vms, site):
    """The agent may report that all is well, but a guest that nobody can log in to is not running."""
    vms.create("web", "tiny")
    vms.start("web")
    inside(site("web"), "sh", "-c", "echo nobody >~/.ssh/authorized_keys; sync")
    vms.stop("web")
    with pytest.raises(DeadlineError) as refused:
        vms.start("web", timeout_s=60)
    assert "Permission denied" in " ".join((refused.value.message, *refused.value.details))
