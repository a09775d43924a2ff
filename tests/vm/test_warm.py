"""Warm images of real guests: a first start continues from one under its own identity, and boots where that fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from stores import copy_store

from interlock.creation.plan import Wishes
from interlock.drivers.contract import KNOWN_HOSTS
from interlock.drivers.qemu import agent, identity
from interlock.drivers.qemu.boot import BEGINNING, RESUMING
from interlock.errors import DriverError
from interlock.fsm.states import State

pytestmark = pytest.mark.vm

SCRIPTED = """\
base: template:tiny
provision:
- mode: system
  script: sleep 2; echo "by root in $(hostname)" >/root/ran
- mode: user
  script: echo "$GREETING $(id -un)" >~/ran
env: {GREETING: hello}
"""


@pytest.fixture
def vms(vms, home, borrowed):
    """Return the API on a home with its own image store, which has the same images."""
    vms.images.build("tiny")
    home.images.unlink()
    copy_store(borrowed / "images", home.images)
    return vms


@pytest.mark.parametrize("image", ["tiny", pytest.param("debian", marks=pytest.mark.warm("debian"))])
def test_first_starts_begin_from_the_warm_image_as_different_guests(vms, home, ask, who_is, image):
    """Neither was booted, and they share no identity; nothing is left of the machine that made the warm image."""
    made = vms.warm(image)
    assert [status.name for status in vms.instances()] == []
    names = ("one", "two")
    for name in names:
        vms.create(name, image, Wishes(user="root" if name == "one" else "ada"))
        assert vms.start(name).detail == BEGINNING
    assert vms.images.warm(vms.images.get(image))[0]["instances"] == sorted(names)
    who = [who_is(name) for name in names]
    assert [said[0] for said in who] == list(names)
    assert not set(who[0]) & set(who[1])
    assert len({(home.directory(name) / KNOWN_HOSTS).read_bytes() for name in names}) == 2
    assert len({ask(name, "cat /proc/sys/kernel/random/boot_id") for name in names}) == 1
    assert ask("two", "id -un") == "ada\n"
    assert ask("two", "sudo sh -c 'cat /root/.ssh/authorized_keys 2>/dev/null; true'") == ""
    for name in names:
        ask(name, f"echo {name} >own; sync")
    vms.images.delete_warm(image)
    assert not made.folder.exists()
    vms.kill("two")
    assert vms.start("two").detail is None
    assert ask("two", "cat own; hostname") == "two\ntwo\n"
    vms.kill("one")
    vms.reset("one")
    assert vms.start("one").detail == BEGINNING
    vms.suspend("one")
    assert vms.start("one").detail == RESUMING
    vms.fork("one", "three")
    vms.start("three")
    assert ask("three", "hostname") == "three\n"


def test_command_makes_one_and_programs_read_of_it(vms):
    """The sizes are those of the built-in template of the same name; the second call makes no other warm image."""
    for _ in range(2):
        done = subprocess.run(
            [Path(sys.executable).with_name("interlock"), "image", "warm", "tiny", "--format", "json"],
            capture_output=True,
            check=True,
            timeout=600,
        )
        (form,) = json.loads(done.stdout)["warm"]
        assert (form["cpus"], form["memory_bytes"], form["disk_bytes"]) == (1, 256 << 20, 1 << 30)
        assert (form["driver"], form["instances"]) == ("qemu", [])
    assert vms.warm("tiny").created_at == form["created_at"]
    assert vms.warm("tiny", force=True).created_at > form["created_at"]  # made by a boot, not from the previous one


def test_scripts_run_in_a_guest_that_was_not_booted(vms, ask, tmp_path):
    """They run as at any first boot, in the template's environment, and the start waits for them."""
    vms.warm("tiny")
    template = tmp_path / "web.yaml"
    template.write_text(SCRIPTED)
    vms.create("web", str(template), Wishes(user="ada"))
    assert vms.start("web").detail == BEGINNING
    assert ask("web", "cat ran; sudo cat /root/ran; echo $GREETING") == "hello ada\nby root in web\nhello\n"


def test_guest_that_takes_no_identity_is_ended_and_boots_from_a_fresh_disk(vms, ask, monkeypatch):
    """The same start boots it, and its detail says why."""
    vms.warm("tiny")
    vms.create("web", "tiny", Wishes(user="root"))

    def fail(*_):
        raise DriverError("the guest is deaf")

    monkeypatch.setattr(identity, "hand_over", fail)
    assert "the guest is deaf" in vms.start("web").detail
    assert ask("web", "hostname; cat /var/lib/interlock/booted").split()[0] == "web"


def test_warm_image_that_does_not_fit_any_more_is_not_used(vms, home):
    """It is for other processors, or a file of it is damaged: the guest boots, and the reason is given."""
    vms.create("web", "tiny", Wishes(user="root", warm=True))
    vms.edit("web", "cpus=2")
    assert "number of processors" in vms.start("web").detail
    vms.create("db", "tiny", Wishes(user="root"))
    devices = home.directory("db") / "warm/devices"
    content = devices.read_bytes()
    devices.unlink()  # the file's other links keep its content
    devices.write_bytes(content[:-1])
    assert vms.start("db").detail == "booting cold, without the warm image: it is damaged"
    vms.create("cold", "tiny", Wishes(user="root"))
    assert vms.start("cold", cold=True).detail == "booting cold, without the warm image: as asked"


def test_start_that_was_cut_short_begins_again(vms, ask, monkeypatch):
    """When its start was killed, the guest ran without an identity: what it wrote is thrown away."""
    vms.warm("tiny")
    vms.create("web", "tiny", Wishes(user="root"))

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(identity, "hand_over", die)
        with pytest.raises(Killed):
            vms.start("web")
    assert vms.status("web").state is State.created
    assert vms.start("web").detail == BEGINNING
    assert ask("web", "hostname") == "web\n"
    assert agent.ask(vms.engine.site("web").runtime, "ping")
