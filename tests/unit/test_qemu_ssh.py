"""The ssh configuration that we write, as ssh itself reads it."""

import shlex
import subprocess
from pathlib import Path

import pytest

from interlock.drivers.contract import KNOWN_HOSTS, SSH_KEY
from interlock.guest import ssh


def understood(config: Path, name: str) -> dict[str, str]:
    """Return the options that ssh takes from `config` for the host `name`, with lower-case names."""
    shown = subprocess.run(["ssh", "-G", "-F", config, name], capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)


@pytest.mark.parametrize("folder", ["web", "two words", 'a "quote"', "100%h", "back\\slash", "ünï"])
def test_config_with_odd_path_is_read_as_written(tmp_path, folder):
    """The home may be anywhere: every character in its path is escaped for ssh."""
    directory = tmp_path / folder
    directory.mkdir()
    config = directory / ssh.CONFIG
    control = directory / "ssh.sock"
    config.write_text(ssh.config("web", "ada", 22022, directory / SSH_KEY, directory / KNOWN_HOSTS, control=control))
    said = understood(config, "web")
    assert said["controlpath"] == str(control)
    # ssh -G shows names with `%` as they were written: `%%` is one `%` when the file is opened.
    assert said["identityfile"].replace("%%", "%").strip('"') == str(directory / SSH_KEY)
    assert said["userknownhostsfile"].replace("%%", "%").strip('"') == str(directory / KNOWN_HOSTS)


def test_config_pins_the_guest_and_reads_nothing_else(tmp_path):
    """The guest is identified by its key, and no session is a master for others, which would end with it."""
    config = tmp_path / ssh.CONFIG
    config.write_text(ssh.config("Web.1", "ada", 22022, tmp_path / SSH_KEY, tmp_path / KNOWN_HOSTS))
    said = understood(config, "Web.1")
    expected = {
        "hostname": "127.0.0.1",
        "port": "22022",
        "user": "ada",
        "hostkeyalias": "guest",
        "stricthostkeychecking": "true",
        "identitiesonly": "yes",
        "controlmaster": "false",
    }
    assert {key: said[key] for key in expected} == expected


def test_config_puts_the_quick_key_exchange_first_and_forbids_none(tmp_path):
    """A guest in FIPS mode does not support curve25519; ssh falls back to an exchange that the guest supports."""
    config = tmp_path / ssh.CONFIG
    config.write_text(ssh.config("web", "ada", 22022, tmp_path / SSH_KEY, tmp_path / KNOWN_HOSTS))
    exchanges = understood(config, "web")["kexalgorithms"].split(",")
    assert exchanges[0] == "curve25519-sha256"
    assert "ecdh-sha2-nistp256" in exchanges


def test_config_ends_sessions_of_a_silent_guest(tmp_path):
    """When a guest reboots, QEMU would keep its sessions open for ever."""
    config = tmp_path / ssh.CONFIG
    config.write_text(ssh.config("web", "ada", 22022, tmp_path / SSH_KEY, tmp_path / KNOWN_HOSTS))
    said = understood(config, "web")
    assert 0 < int(said["serveraliveinterval"]) * int(said["serveralivecountmax"]) <= 60


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"forwardagent": "no", "identityagent": "none", "forwardx11": "no"}),
        ({"forward_agent": True}, {"forwardagent": "yes", "identityagent": None, "identitiesonly": "yes"}),
        ({"forward_x11": True}, {"forwardx11": "yes", "forwardx11trusted": "no"}),
        ({"forward_x11": True, "forward_x11_trusted": True}, {"forwardx11": "yes", "forwardx11trusted": "yes"}),
        ({"forward_x11_trusted": True}, {"forwardx11": "no"}),
    ],
)
def test_config_forwards_what_is_wanted_alone(tmp_path, wanted, expected):
    """A forwarded agent must be known to ssh, but its keys are still not tried for the login."""
    config = tmp_path / ssh.CONFIG
    config.write_text(ssh.config("web", "ada", 22022, tmp_path / SSH_KEY, tmp_path / KNOWN_HOSTS, **wanted))
    said = understood(config, "web")
    assert {key: said.get(key) for key in expected} == expected


@pytest.mark.parametrize("arguments", [["ls"], ["echo", "two words", "it's", "", "$HOME", "*", "a\nb"], ["-t"]])
def test_command_line_survives_the_guests_shell(arguments):
    """ssh joins the arguments with blanks and the guest's shell splits them; the command gets the same arguments."""
    *_, name, separator, command = ssh.command_line(Path("/x/ssh.config"), "web", arguments)
    assert (name, separator) == ("web", "--")
    assert shlex.split(command) == arguments


def test_command_line_without_command_is_a_login_shell():
    """No empty command is passed, because ssh would run that instead of a shell."""
    line = ssh.command_line(Path("/x/ssh.config"), "web", [], terminal=True)
    assert line == ["ssh", "-F", "/x/ssh.config", "-t", "web"]
