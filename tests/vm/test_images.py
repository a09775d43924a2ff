"""What our images promise, tested on the images themselves, with a bare QEMU command line and no driver."""

import json
import platform
import socket
import subprocess
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from interlock.guest.facts import SYSTEM, Script, Seed
from interlock.guest.keys import USER_KEY, new_host_key, user_key
from interlock.guest.seed import BOOTED, SCRIPTS, _iso, nocloud, overlay
from interlock.images.builders.build import build
from interlock.images.builders.recipe import Recipe
from interlock.images.store import Store

pytestmark = pytest.mark.vm

ARCH = platform.machine()
DEADLINE_S = 900.0
FIRMWARE = {"x86_64": "/usr/share/OVMF/OVMF_CODE.fd", "aarch64": "/usr/share/AAVMF/AAVMF_CODE.fd"}


class Guest:
    """One machine made from an image; its disk outlives each boot."""

    def __init__(
        self, home: Path, folder: Path, port: int, image, *, way: str = "kernel", user: str = "ada", scripts=()
    ) -> None:
        self.folder, self.port, self.image, self.way, self.user = folder, port, image, way, user
        self.key = home / "keys" / USER_KEY
        self.host_key = host_key = new_host_key()
        self.authorized = authorized = user_key(home / "keys").public.decode().strip()
        said = tuple(Script(SYSTEM, script, once=True) for script in scripts)
        seed = Seed(user, "web", "i-1", (authorized,), host_key, scripts=said)
        (folder / "known_hosts").write_bytes(b"guest " + host_key.public)
        store = Store(home / "images")
        self.files = {role: store.path(blob.digest) for role, blob in image.files.items()}
        base = ["-b", self.files["disk"], "-F", "qcow2"] if "disk" in self.files else []
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", *base, folder / "disk.qcow2", "4G"], check=True, timeout=300
        )
        (folder / "seed.iso").write_bytes(nocloud(seed))
        if way == "kernel":
            (folder / "initrd").write_bytes(self.files["initrd"].read_bytes() + overlay(seed))

    def command(self) -> list[str | Path]:
        machine = "q35" if ARCH == "x86_64" else "virt"
        boot: list[str | Path] = ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE[ARCH]}"]
        if self.way == "kernel":
            boot = ["-kernel", self.files["kernel"], "-initrd", self.folder / "initrd"]
            boot += ["-append", self.image.kernel_arguments]
        else:
            boot += ["-drive", f"if=virtio,format=raw,readonly=on,file={self.folder}/seed.iso"]
        return [
            *[f"qemu-system-{ARCH}", "-nodefaults", "-no-user-config", "-display", "none"],
            *["-machine", machine, "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "512"],
            *["-no-reboot", "-device", "pvpanic-pci", "-device", "virtio-rng-pci"],
            *["-drive", f"if=virtio,format=qcow2,file={self.folder}/disk.qcow2"],
            *["-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22", "-device", "virtio-net-pci,netdev=net"],
            *["-serial", f"file:{self.folder}/serial"],
            *["-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"],
            *boot,
        ]

    @contextmanager
    def booted(self, question: str = f"cat {BOOTED}", answer: str = "i-1"):
        """Run the machine until the block ends; on entry its first boot has ended and it answers ssh."""
        with subprocess.Popen(self.command()) as self.process:
            try:
                wait_until(lambda: self.ssh(question, check=False) == answer, self.process)
                yield self
            finally:
                self.process.kill()

    def ssh(self, command: str, *, check: bool = True) -> str:
        options = ["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3", "-o", "HostKeyAlias=guest"]
        options += ["-o", f"UserKnownHostsFile={self.folder}/known_hosts", "-i", str(self.key), "-p", str(self.port)]
        line = ["ssh", *options, f"{self.user}@127.0.0.1", command]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
        if check:
            assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def press_power_button(self) -> list[str]:
        """Press the power button, and return the names of the events that QEMU wrote until it ended."""
        return self.events({"execute": "system_powerdown"})

    def events(self, *commands: dict[str, str]) -> list[str]:
        """Return QEMU's events from now until it ends, each as its name, with the reason of a shutdown."""
        said = []
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(DEADLINE_S)
            monitor.connect(str(self.folder / "qmp"))
            for command in ({"execute": "qmp_capabilities"}, *commands):
                monitor.sendall(json.dumps(command).encode())
            for line in monitor.makefile():
                message = json.loads(line)
                if "event" in message:
                    said.append(" ".join([message["event"], message.get("data", {}).get("reason", "")]).strip())
        self.process.wait(30)
        return said


def wait_until(condition, process) -> None:
    """Wait until `condition()` is true. Fails when the machine ends, or at the deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert process.poll() is None, "the machine ended"
        assert time.monotonic() < end, "the deadline passed"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def tiny(images_home):
    return build(Store(images_home / "images"), Recipe("tiny", ARCH), print)


@pytest.fixture(scope="session")
def debian(images_home):
    return build(Store(images_home / "images"), Recipe("debian", ARCH), print)


@pytest.fixture
def guest_of(images_home, tmp_path, free_port):
    """Return a function that makes the test's only machine: `guest_of(tiny)`."""
    return partial(Guest, images_home, tmp_path, free_port())


SCRIPT = b"#!/bin/sh\necho ran >>/var/lib/interlock/runs\nid -u\n"


def check_first_boot(guest: Guest) -> None:
    """Check that the user has the promised rights, and that the script ran as root."""
    assert guest.ssh("id -un; hostname; sudo id -u") == "ada\nweb\n0"
    assert guest.ssh(f"sudo cat {SCRIPTS}/000-system.log {SCRIPTS}/000-system.status") == "0\n0"


def test_tiny_with_a_disk_boots_first_only_once(guest_of, tiny):
    """On a blank disk, the homes and the record of the first boot outlive a stop."""
    guest = guest_of(tiny, scripts=(SCRIPT,))
    with guest.booted():
        check_first_boot(guest)
        guest.ssh("echo kept > note; sync")
        assert guest.press_power_button()[-1] == "SHUTDOWN guest-shutdown"
    with guest.booted():
        assert guest.ssh("cat note") == "kept"
        assert guest.ssh("cat /var/lib/interlock/runs") == "ran"
        assert guest.press_power_button()[-1] == "SHUTDOWN guest-shutdown"


def test_tiny_disk_that_holds_something_is_left_alone(guest_of, tiny, tmp_path):
    """Only a blank disk is formatted: any other may have somebody's data."""
    guest = guest_of(tiny, user="root")
    disk = tmp_path / "disk.qcow2"
    raw = tmp_path / "raw"
    raw.write_bytes(b"precious" + bytes(2**20))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True, timeout=300)
    with guest.booted():
        assert guest.ssh("head -c 8 /dev/vda") == "precious"


def test_tiny_takes_files_by_scp(guest_of, tiny, tmp_path):
    """The guest has an sftp server, so files are copied as to any other guest."""
    guest = guest_of(tiny)
    (tmp_path / "batch").write_text(f"put {tmp_path}/known_hosts copied\n")
    with guest.booted():
        options = ["-o", f"UserKnownHostsFile={tmp_path}/known_hosts", "-o", "HostKeyAlias=guest", "-F", "none"]
        line = ["sftp", "-b", tmp_path / "batch", *options, "-i", guest.key, "-P", str(guest.port), "ada@127.0.0.1"]
        subprocess.run(line, check=True, capture_output=True, timeout=300)
        assert guest.ssh("cat copied") == (tmp_path / "known_hosts").read_text().strip()


def test_tiny_reports_a_panic_to_qemu(guest_of, tiny):
    """QEMU reports a panic as such, not as a shutdown."""
    guest = guest_of(tiny)
    with guest.booted():
        guest.ssh("(sleep 1; echo c | sudo tee /proc/sysrq-trigger) >/dev/null 2>&1 &")
        assert guest.events()[:1] == ["GUEST_PANICKED"]


def test_debian_boots_without_cloud_init_and_reports_a_boot_that_fails(guest_of, debian):
    """Our own initrd lays the seed over the root: cloud-init does not run, and its work is done. The root file system
    has the size of the disk. A boot prints almost nothing on the serial port, except that sshd failed.
    """
    guest = guest_of(debian, scripts=(SCRIPT,))
    serial = guest.folder / "serial"
    with guest.booted():
        check_first_boot(guest)
        assert len(serial.read_text().splitlines()) < 5
        assert guest.ssh("systemctl --failed --no-legend; systemctl is-active cloud-init || true") == "inactive"
        assert int(guest.ssh("df --output=size -B1M / | tail -1")) > 3500
        guest.ssh("echo Nonsense yes | sudo tee -a /etc/ssh/sshd_config; sync")
        assert guest.press_power_button()[-1] == "SHUTDOWN guest-shutdown"
    serial.write_bytes(b"")
    with subprocess.Popen(guest.command()) as guest.process:
        try:
            wait_until(lambda: "Nonsense" in serial.read_text(errors="replace"), guest.process)
        finally:
            guest.process.kill()


CLOUD_CONFIG = """\
#cloud-config
users:
- name: ada
  ssh_authorized_keys: ["{authorized}"]
write_files:
- path: /etc/written
  content: by cloud-init
- path: /var/lib/cloud/scripts/per-boot/tell
  permissions: "0755"
  content: |
    #!/bin/sh
    echo booted >>/var/lib/ran
"""


def test_debian_by_firmware_obeys_anyones_cloud_config(guest_of, debian):
    """Like any cloud image, it obeys a cloud-config that somebody else wrote."""
    guest = guest_of(debian, way="firmware")
    private, public = guest.host_key
    keys = json.dumps({"ed25519_private": private.decode(), "ed25519_public": public.decode()})
    user_data = CLOUD_CONFIG.format(authorized=guest.authorized) + f"ssh_keys: {keys}\n"
    seed = {"user-data": user_data.encode(), "meta-data": b"instance-id: i-9\nlocal-hostname: theirs\n"}
    (guest.folder / "seed.iso").write_bytes(_iso(seed))
    with guest.booted("cat /var/lib/ran", "booted"):
        assert guest.ssh("hostname; cat /etc/written") == "theirs\nby cloud-init"
        assert guest.ssh("cloud-init status") == "status: done"


VARIANT = b"""\
apt-get -qq update
apt-get -qq install --no-install-recommends hello >/dev/null
echo "$(id -un) in $(. /etc/os-release; echo $ID)" >/etc/made-by
"""


def test_debian_variant_has_the_packages_and_what_the_script_did(guest_of, images_home):
    """The packages are in the guest and in the manifest, and the script has run."""
    recipe = Recipe("debian", ARCH, packages=("figlet",), script=VARIANT)
    image = build(Store(images_home / "images"), recipe, print)
    assert image.name == recipe.default_name
    assert {"figlet", "hello", "systemd"} <= image.packages.keys()
    with guest_of(image).booted() as guest:
        assert guest.ssh("cat /etc/made-by; test ! -e /script && echo clean") == "root in debian\nclean"
        version = guest.ssh("figlet -v >/dev/null && hello >/dev/null && dpkg-query -W -f '${Version}' figlet")
        assert version == image.packages["figlet"]
        assert guest.ssh("systemctl --failed --no-legend; cat /etc/resolv.conf") == guest.ssh("cat /etc/resolv.conf")
