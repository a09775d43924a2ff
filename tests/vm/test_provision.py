"""What guests do with their seeds: everything that a seed can hold, for each kind of guest, at first and later boots.

The tests add disks and a folder to the driver's own list of devices.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from interlock.creation import plan as planning
from interlock.drivers.contract import Deadline, Site
from interlock.drivers.qemu import boot, hypervisor
from interlock.drivers.qemu.driver import QemuDriver
from interlock.errors import DeadlineError
from interlock.fsm.spec import Probe
from interlock.guest import probes, provision, readiness, ssh
from interlock.guest.facts import BOOT, DEPENDENCY, SYSTEM, USER, File, GuestDisk, MountPoint, Script
from interlock.guest.report import Failure
from interlock.guest.seed import SCRIPTS, nocloud, overlay
from interlock.guest.session import Endpoint
from interlock.host.home import Home

pytestmark = pytest.mark.vm

ARCH = platform.machine()
MIB = 1 << 20
START_S = 900.0

ZONE = Path("/usr/share/zoneinfo/Asia/Kolkata").read_bytes()

EVERYTHING = {
    "uid": 1234,
    "home": "/home/countess",
    "comment": "Ada Lovelace",
    "timezone": "Asia/Kolkata",
    "zone": ZONE,
    "env": {"GREETING": 'it\'s a "day" #1', "http_proxy": "http://10.0.2.2:3128"},
    "param": {"COLOUR": "deep blue"},
    "dns": ("10.0.2.3",),
    "hosts": {"registry.test": "10.0.2.7"},
    "disks": (
        GuestDisk("disk0", "data", "/mnt/my data", format=True),
        GuestDisk("disk1", "theirs", "/mnt/theirs", format=True),
    ),
    "mounts": (MountPoint("mount0", "/mnt/from host", "9p", "trans=virtio,version=9p2000.L"),),
    "files": (
        File("/etc/made/by/us", b"\x00\xff\n", owner="ada:ada", permissions=0o640),
        File("/etc/hostname", b"never\n", overwrite=False),
    ),
    "scripts": (
        Script(USER, b'#!/bin/sh\necho "$(id -un) $HOME $PARAM_COLOUR $XDG_RUNTIME_DIR"; pwd; touch mine\n'),
        Script(
            SYSTEM, b'echo "$GREETING" "$PARAM_COLOUR"; cat /etc/made/by/us >/dev/null && echo system >>/root/order\n'
        ),
        Script(DEPENDENCY, b"#!/bin/sh\nls /etc/made 2>&- || echo dependency >>/root/order\n"),
        Script(BOOT, b"#!/bin/sh\ncat '/mnt/from host/note' && echo boot >>/root/order\n"),
        Script(SYSTEM, b"#!/bin/sh\nprintf 'one\\n\\033[31mtwo'; exit 3\n"),
        Script(SYSTEM, b'#!/bin/sh\nset -u\necho "$LIMA_CIDATA_USER" >>/root/order\n', once=True),
    ),
}

FAILURES = (
    Failure("disk at /mnt/theirs", 1, ("/dev/VDX is not blank, and has no file system that can be mounted",)),
    Failure("script 004 (system)", 3, ("one", "two")),
)
"""What fails in EVERYTHING. A disk's name in the guest depends on how many other disks the guest has."""


def anonymous(failures: tuple[Failure, ...]) -> tuple[Failure, ...]:
    """Return `failures` without the names of disks."""
    return tuple(
        replace(failure, output=tuple(re.sub("vd[a-z]", "VDX", line) for line in failure.output))
        for failure in failures
    )


class Guest:
    """One machine with the facts that a test gives it."""

    def __init__(self, site: Site, patch: pytest.MonkeyPatch) -> None:
        self.site, self.driver = site, QemuDriver()
        self.steps: list[str] = []
        self.failures: tuple[Failure, ...] = ()
        wait = readiness.wait_until_ready

        def remembered(*arguments: object, **named: object) -> tuple[Failure, ...]:
            failures: tuple[Failure, ...] = wait(*arguments, **named)  # type: ignore[arg-type]
            self.failures = anonymous(failures)
            return failures

        patch.setattr(readiness, "wait_until_ready", remembered)
        self.driver.create(site, self.steps.append)

    @property
    def endpoint(self) -> Endpoint:
        port = self.driver.observe(self.site).ssh_port
        return Endpoint(self.site.name, self.site.directory / ssh.CONFIG, port or 0, self.site.spec.instance_id)

    def start(self) -> None:
        self.driver.start(self.site, self.steps.append, Deadline(START_S))

    def stop(self) -> None:
        assert self.driver.stop(self.site, self.steps.append, Deadline(START_S)) == "guest shut down"

    def sh(self, script: str) -> str:
        """Return what `script` prints in a shell of the user, without trailing blanks."""
        line = self.driver.shell(self.site, ["sh", "-c", script], terminal=False)
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.rstrip()

    def provision(self) -> tuple[Failure, ...]:
        with hypervisor.held(hypervisor.find(self.site.directory)) as pidfd:
            assert pidfd is not None
            return anonymous(provision.run(self.endpoint, Deadline(START_S), pidfd, self.steps.append))

    def probe(self, *wanted: Probe, deadline_s: float = START_S) -> None:
        with hypervisor.held(hypervisor.find(self.site.directory)) as pidfd:
            assert pidfd is not None
            probes.run(self.endpoint, wanted, Deadline(deadline_s), pidfd, self.steps.append)


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the machine a blank disk, a disk with data, and a folder."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "note").write_text("from the host\n")
    (tmp_path / "disk0").write_bytes(b"")
    os.truncate(tmp_path / "disk0", 64 * MIB)
    (tmp_path / "disk1").write_bytes(b"precious" + bytes(64 * MIB))
    build = boot.build

    def extended(*arguments: object) -> list[str]:
        return [
            *build(*arguments),  # type: ignore[arg-type]
            *("-fsdev", f"local,id=fs,path={tmp_path}/shared,security_model=none"),
            *("-device", "virtio-9p-pci,fsdev=fs,mount_tag=mount0"),
            *("-blockdev", f"raw,node-name=disk0,file.driver=file,file.filename={tmp_path}/disk0"),
            *("-device", "virtio-blk-pci,drive=disk0,serial=disk0"),
            *("-blockdev", f"raw,node-name=disk1,file.driver=file,file.filename={tmp_path}/disk1"),
            *("-device", "virtio-blk-pci,drive=disk1,serial=disk1"),
        ]

    monkeypatch.setattr(boot, "build", extended)


@pytest.fixture
def make(images_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Guest]]:
    """Return a maker of guests from a template, with facts that replace those of creation."""
    runtime = tmp_path / "run"
    made: list[Guest] = []

    def make(template: str, *, user: str = "ada", **facts: object) -> Guest:
        monkeypatch.setattr(planning, "overlay", lambda seed: overlay(replace(seed, **facts)))  # type: ignore[arg-type]
        monkeypatch.setattr(planning, "nocloud", lambda seed: nocloud(replace(seed, **facts)))  # type: ignore[arg-type]
        wishes = planning.Wishes(cpus=2, memory_bytes=512 * MIB, disk_bytes=4096 * MIB, user=user)
        home = Home(root=images_home, runtime=runtime)
        draft = planning.plan(home, "web", template, QemuDriver(), wishes)(print)
        directory = tmp_path / "web"
        directory.mkdir(mode=0o700)
        for file, content in draft.materials.items():
            if isinstance(content, bytes):
                (directory / file).write_bytes(content)
            else:
                shutil.copyfile(content, directory / file)
        (directory / "ssh.key").chmod(0o600)
        made.append(Guest(Site("web", directory, runtime / "web", draft.spec), monkeypatch))
        return made[-1]

    yield make
    for guest in made:
        guest.driver.kill(guest.site, guest.steps.append)
    shutil.rmtree(runtime, ignore_errors=True)


FACTS = r"""
echo "$(id -un) $(id -u) $HOME"
grep ^ada: /etc/passwd | cut -d: -f5 | cut -d, -f1
hostname
echo "$GREETING|$http_proxy"
date +%z
cat /etc/resolv.conf
for name in registry.test host.lima.internal web; do grep -w $name /etc/hosts | cut -d' ' -f1 | tail -1; done
"""


def check_facts(guest: Guest) -> None:
    """Check the facts that hold for every kind of guest, in one login: each login takes an emulated guest a second."""
    assert guest.sh(FACTS).splitlines() == [
        "ada 1234 /home/countess",
        "Ada Lovelace",
        "web",
        'it\'s a "day" #1|http://10.0.2.2:3128',
        "+0530",
        "nameserver 10.0.2.3",
        *("10.0.2.7", "10.0.2.2", "127.0.1.1"),
    ]


def check_first_boot(guest: Guest) -> None:
    """Start for the first time, and check that everything in EVERYTHING has happened."""
    guest.start()
    assert guest.failures == FAILURES
    assert readiness.WAITING_FOR_FIRST_BOOT in guest.steps
    check_facts(guest)
    assert guest.sh("sudo cat /root/order") == "boot\ndependency\nsystem\nada"
    assert guest.sh("stat -c '%U %G %a' /etc/made/by/us") == "ada ada 640"
    assert guest.sh("cat /etc/hostname") == "web"
    assert guest.sh(f"sudo head -n 1 {SCRIPTS}/001-system.log") == 'it\'s a "day" #1 deep blue'
    assert guest.sh(f"sudo cat {SCRIPTS}/000-user.log") == "ada /home/countess deep blue /run/user/1234\n/home/countess"
    assert guest.sh(f"sudo cat {SCRIPTS}/004-system.status") == "3"
    assert guest.sh("grep 'my.040data' /proc/mounts | cut -d' ' -f3") == "ext4"
    assert guest.sh("grep 'from.040host' /proc/mounts | cut -d' ' -f3") == "9p"
    # Only root can read what may be secret, and the guest's host key is nowhere but in its place.
    assert guest.sh("ls /var/lib/interlock/seed >/dev/null 2>&1 || echo denied") == "denied"
    assert guest.sh("sudo find /var/lib/interlock/seed -name ssh_host_ed25519_key") == ""


def check_later(guest: Guest) -> None:
    """Start again and provision: what runs at each boot runs again, and what runs once does not."""
    guest.sh("sudo sh -c 'echo kept > \"/mnt/my data/kept\"; rm /root/order; sync'")
    guest.stop()
    guest.start()
    assert guest.failures == FAILURES
    assert guest.sh("sudo grep -v dependency /root/order") == "boot\nsystem"
    assert guest.sh("cat '/mnt/my data/kept'") == "kept"
    assert guest.sh("cat '/mnt/from host/note'") == "from the host"
    check_facts(guest)

    assert guest.provision() == FAILURES
    assert guest.sh("sudo grep -v dependency /root/order") == "boot\nsystem\nboot\nsystem\nada"
    begun = [step for step in guest.steps if step.startswith("running script")]
    assert begun == [
        "running script 003 (boot)",
        "running script 002 (dependency)",
        "running script 001 (system)",
        "running script 004 (system)",
        "running script 005 (system)",
        "running script 000 (user)",
    ]


@pytest.mark.usefixtures("devices")
def test_tiny_does_everything_its_seed_says(make):
    """The tiny guest, made of busybox and dropbear, does everything that its seed says."""
    guest = make("tiny", **EVERYTHING)
    check_first_boot(guest)
    check_later(guest)


@pytest.mark.usefixtures("devices")
def test_debian_by_cloud_init_does_everything_its_seed_says(make):
    """A full Debian that boots like any cloud image, from a NoCloud disk.

    test_templates shows what it does with a seed from the initrd.
    """
    guest = make("debian-firmware", **EVERYTHING)
    check_first_boot(guest)
    check_later(guest)


def test_probe_runs_as_the_guests_user(make):
    """A probe runs as the guest's user; one that fails until the deadline is reported with its output and its hint."""
    guest = make("tiny")
    guest.start()
    guest.probe(Probe("that it is ada", '#!/bin/sh\n[ "$(id -un) $HOME" = "ada /home/ada.guest" ]\n', ""))
    assert guest.steps[-1] == "probing: that it is ada"
    with pytest.raises(DeadlineError) as caught:
        guest.probe(Probe("never", "#!/bin/sh\necho no\nexit 1\n", "a hint"), deadline_s=5)
    assert caught.value.details == ("no", "a hint")
