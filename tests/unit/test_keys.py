import stat
import subprocess
import sys
from base64 import b64decode

import pytest

from interlock.errors import HostError
from interlock.guest.keys import USER_KEY, in_dropbears_form, new_host_key, user_key


def test_user_key_made_once_and_private(tmp_path):
    """The first call makes the key, later calls return it, and only its owner may read it."""
    first = user_key(tmp_path / "keys")
    assert user_key(tmp_path / "keys") == first
    path = tmp_path / "keys" / USER_KEY
    assert path.read_bytes() == first.private
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert [entry.name for entry in (tmp_path / "keys").iterdir()] == ["user"]


def test_user_key_public_half_belongs_to_the_private(tmp_path):
    """The public key that goes into guests matches the private key."""
    pair = user_key(tmp_path)
    derived = subprocess.run(["ssh-keygen", "-y", "-f", tmp_path / USER_KEY], capture_output=True, check=True).stdout
    assert derived.split()[:2] == pair.public.split()[:2]
    assert pair.public.startswith(b"ssh-ed25519 ")


def test_user_key_made_by_processes_at_once_is_one_key(tmp_path):
    """If several processes make the key at once, one wins and all return its key."""
    make = "import sys, pathlib, interlock.guest.keys as k; print(k.user_key(pathlib.Path(sys.argv[1])).public)"
    command = [sys.executable, "-c", make, tmp_path / "keys"]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    assert len({racer.communicate(timeout=60)[0] for racer in racers}) == 1
    assert [entry.name for entry in (tmp_path / "keys").iterdir()] == ["user"]


def test_new_host_key_is_new_each_time():
    """No two guests can be mistaken for each other."""
    assert new_host_key().public != new_host_key().public


def test_key_for_dropbear_has_both_halves_and_the_kind():
    """The kind and both halves are RFC 4251 strings, as dropbearconvert writes them. Other forms are refused."""
    pair = new_host_key()
    public = b64decode(pair.public.split()[1])[-32:]
    made = in_dropbears_form(pair.private)
    assert made.startswith(b"\0\0\0\x0bssh-ed25519\0\0\0\x40")
    assert (len(made), made[-32:]) == (4 + 11 + 4 + 64, public)
    with pytest.raises(ValueError, match="not an OpenSSH key"):
        in_dropbears_form(b"PRIVATE\n")


def test_user_key_without_ssh_keygen_names_the_package(tmp_path, monkeypatch):
    """On a host without OpenSSH, the error says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError) as caught:
        user_key(tmp_path / "keys")
    assert caught.value.hint == "apt install openssh-client"
