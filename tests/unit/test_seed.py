import base64
import io
import json
import subprocess

import pycdlib
import pytest

from interlock.guest import seed
from interlock.guest.keys import KeyPair
from interlock.guest.seed import FirstBoot

FIRST_BOOT = FirstBoot(
    user="ada",
    hostname="web",
    instance_id="i-1",
    authorized_keys=("ssh-ed25519 AAAA ada",),
    host_key=KeyPair(b"PRIVATE\n", b"ssh-ed25519 BBBB\n"),
    scripts=(b"#!/bin/sh\necho one\n", b"echo two >&2\nexit 3\n"),
)


def extracted(archive, folder):
    subprocess.run(["cpio", "-idm", "--quiet", "--no-absolute-filenames"], input=archive, cwd=folder, check=True)
    return folder / "seed"


def iso_files(image):
    """Return the volume label and the files of an ISO image, by their Rock Ridge names."""
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(image))
    label = iso.pvd.volume_identifier.decode().strip()
    files = {}
    for child in iso.list_children(rr_path="/"):
        if child is not None and child.is_file():
            out = io.BytesIO()
            name = child.rock_ridge.name().decode()
            iso.get_file_from_iso_fp(out, rr_path=f"/{name}")
            files[name] = out.getvalue()
    iso.close()
    return label, files


def user_data():
    text = iso_files(seed.nocloud(FIRST_BOOT))[1]["user-data"].decode()
    header, _, body = text.partition("\n")
    assert header == "#cloud-config"
    return json.loads(body)


def test_overlay_has_one_file_for_each_fact(tmp_path):
    """A guest's first program reads its facts with `cat`."""
    root = extracted(seed.overlay(FIRST_BOOT), tmp_path)
    assert {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()} == {
        "authorized_keys": b"ssh-ed25519 AAAA ada\n",
        "first-boot": seed._FIRST_BOOT.encode(),
        "hostname": b"web\n",
        "instance-id": b"i-1\n",
        "scripts/000": FIRST_BOOT.scripts[0],
        "scripts/001": FIRST_BOOT.scripts[1],
        "ssh_host_ed25519_key": b"PRIVATE\n",
        "ssh_host_ed25519_key.pub": b"ssh-ed25519 BBBB\n",
        "user": b"ada\n",
    }


def test_overlay_is_private_to_root(tmp_path):
    """The host's private key, and secrets in scripts, are not for every login of the guest."""
    root = extracted(seed.overlay(FIRST_BOOT), tmp_path)
    assert root.stat().st_mode & 0o777 == 0o700
    assert (root / "ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600


def test_overlay_of_the_same_facts_is_the_same():
    """An instance's initrd does not change under it when the overlay is made again."""
    assert seed.overlay(FIRST_BOOT) == seed.overlay(FIRST_BOOT)


def test_nocloud_is_the_volume_that_cloud_init_looks_for():
    """cloud-init finds a NoCloud seed by its label and these two names."""
    label, files = iso_files(seed.nocloud(FIRST_BOOT))
    assert label == "cidata"
    assert set(files) == {"user-data", "meta-data"}
    assert json.loads(files["meta-data"]) == {"instance-id": "i-1", "local-hostname": "web"}


def test_nocloud_user_may_log_in_by_key_and_become_root():
    """Passwords open nothing; sudo asks for none."""
    data = user_data()
    assert data["users"] == [
        {
            "name": "ada",
            "ssh_authorized_keys": ["ssh-ed25519 AAAA ada"],
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "shell": "/bin/bash",
            "lock_passwd": True,
        }
    ]
    assert data["ssh_pwauth"] is False


def test_nocloud_gives_the_host_key():
    """A key that is given is not generated, and the host knows whom it talks to."""
    assert user_data()["ssh_keys"] == {"ed25519_private": "PRIVATE\n", "ed25519_public": "ssh-ed25519 BBBB\n"}


def test_nocloud_carries_the_scripts_byte_for_byte():
    """What the template says is what the guest runs."""
    files = {item["path"]: base64.b64decode(item["content"]) for item in user_data()["write_files"]}
    assert files["/var/lib/interlock/seed/scripts/000"] == FIRST_BOOT.scripts[0]
    assert files["/var/lib/interlock/seed/scripts/001"] == FIRST_BOOT.scripts[1]
    assert files["/var/lib/interlock/seed/instance-id"] == b"i-1\n"


@pytest.fixture
def guest(tmp_path, monkeypatch):
    """A folder that plays the guest's /var/lib/interlock, with the seed laid out and its script pointing here."""
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setattr(seed, "_FIRST_BOOT", seed._FIRST_BOOT.replace("/var/lib/interlock", str(state)))
    return extracted(seed.overlay(FIRST_BOOT), tmp_path), state


def test_first_boot_runs_the_scripts_then_names_the_instance(guest):
    """What each script said and how it ended is kept; one that fails does not hold the guest back."""
    root, state = guest
    subprocess.run([root / "first-boot"], check=True)
    assert {path.name: path.read_text() for path in (state / "scripts").iterdir()} == {
        "000.log": "one\n",
        "000.status": "0\n",
        "001.log": "two\n",
        "001.status": "3\n",
    }
    assert (state / "booted").read_text() == "i-1\n"
    assert [path.name for path in state.glob("booted*")] == ["booted"]
