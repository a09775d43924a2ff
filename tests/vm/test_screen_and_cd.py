"""Machines with a CD to boot from, a screen or a TPM, on real guests and with a real viewer."""

import hashlib
import io
import os
import socket
import subprocess
from pathlib import Path

import pytest
from pycdlib import PyCdlib

from interlock import InterlockError, State
from interlock.guest import cpio
from interlock.host.progress import unheard
from interlock.images.builders import kernel, tiny
from interlock.images.builders.packages import Unpacked, bootstrap

pytestmark = pytest.mark.vm

PACKAGES = ("linux-image-amd64", "isolinux", "syslinux-common")
"""A kernel for the boot loader to start, and a boot loader that starts from a CD."""

MENU = b"DEFAULT live\nLABEL live\nKERNEL /KERNEL\nINITRD /INITRD\nAPPEND console=ttyS0 panic=-1 cryptomgr.notests\n"

TAKES_SEED = """
mkdir -p /cidata /seed
mount -t iso9660 -o ro /dev/vdb /cidata && cp -r /cidata/interlock/. /seed/
printf %b "$(sed -n 's/.*"ed25519_private": "\\(.*\\)",*$/\\1/p' /cidata/user-data)" >/seed/ssh_host_ed25519_key
printf %b "$(sed -n 's/.*"ed25519_public": "\\(.*\\)",*$/\\1/p' /cidata/user-data)" >/seed/ssh_host_ed25519_key.pub
umount /cidata
say "loading modules is over"
"""
"""Does what cloud-init does in the systems that people have on CDs: it reads the seed from a disk."""

TEMPLATE = """
images:
- location: {iso}
  arch: x86_64
boot: bios
cpus: 1
memory: 512MiB
disk: 1GiB
video: {{display: vnc, vnc: {{display: "127.0.0.1:{display},to=999"}}}}
"""


@pytest.fixture(scope="session")
def live_cd(tmp_path_factory) -> Path:
    """Return the image of a CD that boots a whole system into memory: the tiny guest, with its own kernel."""
    folder = tmp_path_factory.mktemp("cd")
    tar, iso = folder / "packages.tar", folder / "live.iso"
    names = (*PACKAGES, *tiny._PROGRAMS)
    bootstrap(tar, "x86_64", names, suite="bookworm", variant="extract", report=unheard)
    with Unpacked(tar) as files:
        tree = tiny._root(files, tiny.ARCHES["x86_64"])
        tree |= kernel.modules(files, tiny._text("modules") + "\nisofs\n")
        tree |= kernel.modules(files, tiny._text("mount-modules"), order="order.mounts")
        boot = tree["etc/boot"].data.decode()
        begin = boot.index("# QEMU's user network")
        tree["etc/boot"] = cpio.file((boot[:begin] + TAKES_SEED + boot[begin:]).encode(), 0o755)
        content = {
            "ISOLINUX.BIN": files.read("usr/lib/ISOLINUX/isolinux.bin"),
            "LDLINUX.C32": files.read("usr/lib/syslinux/modules/bios/ldlinux.c32"),
            "ISOLINUX.CFG": MENU,
            "KERNEL": kernel.image(files),
            "INITRD": cpio.pack(tree),
        }
    cd = PyCdlib()
    cd.new(interchange_level=3, vol_ident="LIVE")
    for name, data in content.items():
        cd.add_fp(io.BytesIO(data), len(data), f"/{name if '.' in name else name + '.'};1")
    cd.add_eltorito("/ISOLINUX.BIN;1", "/BOOT.CAT;1", boot_load_size=4, boot_info_table=True)
    cd.write(iso)
    return iso


@pytest.fixture
def of_cd(vms, live_cd, tmp_path):
    """Return a maker of instances that boot from the CD."""

    def make(name: str, more: str = "") -> None:
        path = tmp_path / f"{name}.yaml"
        path.write_text(TEMPLATE.format(iso=live_cd, display=100 + os.getpid() % 800) + more)
        vms.create(name, str(path))

    yield make
    for image in vms.images.list():
        if image.origin == str(live_cd):
            vms.images.delete(image.name, force=True)


def response(challenge: bytes, password: str) -> bytes:
    """Return the answer of a viewer who knows the password. Source: RFC 6143, 7.2.2: DES, each byte's bits reversed."""
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode().ljust(8, b"\0"))
    command = ["openssl", "enc", "-des-ecb", "-nopad", "-K", key.hex(), "-provider", "legacy", "-provider", "default"]
    return subprocess.run(command, input=challenge, capture_output=True, check=True).stdout


def admitted(address: str, password: str) -> bool:
    """Return whether the server at `address` admits a viewer with that password. Source: RFC 6143, 7.1."""
    ip, _, port = address.rpartition(":")
    with socket.create_connection((ip, int(port)), timeout=300) as viewer:
        stream = viewer.makefile("rwb")
        assert stream.read(12).startswith(b"RFB ")
        stream.write(b"RFB 003.008\n")
        stream.flush()
        kinds = stream.read(stream.read(1)[0])
        assert kinds == b"\x02", "there is a way in without a password"
        stream.write(b"\x02")
        stream.flush()
        stream.write(response(stream.read(16), password))
        stream.flush()
        return stream.read(4) == bytes(4)


def test_machine_boots_from_a_cd_with_an_empty_disk(vms, of_cd, ask, live_cd, home):
    """The CD's system takes the instance's seed, finds a disk for its data, and boots from the CD again."""
    of_cd("live")
    vms.start("live")
    assert ask("live", "hostname; echo kept >~/kept").split() == ["live"]
    vms.stop("live")
    vms.start("live")
    assert ask("live", "cat ~/kept").strip() == "kept"
    linked = (home.directory("live") / "cd.iso").stat()
    assert linked.st_nlink > 1, "the instance has the store's file, not one of its own"
    assert hashlib.sha256(live_cd.read_bytes()).hexdigest() in {
        path.name for path in home.images.glob("**/*") if path.is_file() and path.stat().st_ino == linked.st_ino
    }


def test_screen_is_shown_to_those_who_know_the_password_of_the_run(vms, of_cd):
    """Each run has its own password, in a file that only its owner can read and that is removed with the run."""
    of_cd("live")
    vms.start("live")
    seen = vms.status("live").observation.vnc
    file = Path(seen.password_file)
    password = file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert seen.address.startswith("127.0.0.1:")
    assert admitted(seen.address, password)
    assert not admitted(seen.address, password[::-1])
    vms.suspend("live")
    assert not file.exists()
    assert vms.status("live").observation is None
    vms.start("live")
    assert file.read_text() != password
    assert admitted(vms.status("live").observation.vnc.address, file.read_text())


def test_tpm_keeps_its_state_and_ends_with_its_machine(vms, of_cd, ask, processes, home):
    """The guest's TPM still works after a suspend; its state outlives the run, its process does not."""
    of_cd("live", "tpm: true\n")
    vms.start("live")
    assert ask("live", "cat /sys/class/tpm/tpm0/tpm_version_major").strip() == "2"
    state = home.directory("live") / "tpm"
    assert {path.stat().st_mode & 0o077 for path in state.iterdir()} == {0}
    vms.suspend("live")
    assert "resuming" in str(vms.start("live").detail)
    assert ask("live", "cat /sys/class/tpm/tpm0/tpm_version_major").strip() == "2"
    vms.kill("live")
    assert processes() == []
    assert state.is_dir()


def test_image_of_a_kernel_alone_has_no_tpm(vms, tmp_path):
    """A TPM measures what firmware starts; QEMU loads this kernel itself, without firmware."""
    path = tmp_path / "kernel.yaml"
    path.write_text("base: template:tiny\ntpm: true\n")
    with pytest.raises(InterlockError, match="a machine with a TPM boots by its firmware"):
        vms.create("web", str(path))
    assert vms.status("web").state is State.absent
