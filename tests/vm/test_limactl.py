"""The drop-in limactl on a real guest: the calls that every embedder makes, in the same form."""

import json
import re
import socket
import subprocess
import sys
from functools import partial

import pytest

pytestmark = pytest.mark.vm

LIMACTL = [sys.executable, "-m", "interlock.limactl"]

TEMPLATE = """\
images: [{location: "build:tiny"}]
cpus: 1
memory: 512MiB
disk: 4GiB
mounts: []
containerd: {system: false, user: false}
message: "{{.Name}} is up"
"""


@pytest.fixture
def limactl(vms, tmp_path, monkeypatch):
    """Return a function that runs the drop-in on the home of `vms`, and returns exit code, results and messages."""
    monkeypatch.setenv("LIMA_HOME", str(tmp_path / "lima"))
    assert not list(vms.instances())
    run = partial(subprocess.run, capture_output=True, text=True, check=False, timeout=600)
    return lambda *words, given="": run([*LIMACTL, *words], input=given)


def test_instance_lives_as_embedders_expect(limactl, tmp_path):
    """Each call works: create, edit, start, enter, copy in and out, list, stop and delete."""
    made = limactl("create", "--tty=false", "--name=web", "-", given=TEMPLATE)
    assert (made.returncode, made.stdout) == (0, ""), made.stderr
    assert limactl("edit", "--tty=false", "--set", ".cpus = 2", "web").returncode == 0
    started = limactl("start", "--tty=false", "web")
    assert (started.returncode, started.stdout) == (0, ""), started.stderr
    assert "READY. Run `limactl shell web`" in started.stderr
    assert "web is up" in started.stderr
    (web,) = map(json.loads, limactl("list", "--json").stdout.splitlines())
    assert (web["status"], web["vmType"], web["config"]["cpus"]) == ("Running", "qemu", 2)

    with subprocess.Popen([*LIMACTL, "watch", "--history", "--json"], stdout=subprocess.PIPE) as watcher:
        assert watcher.stdout is not None
        seen = (json.loads(line)["event"]["status"] for line in watcher.stdout)
        assert next(filter(None, seen)) == {"running": True, "sshLocalPort": web["sshLocalPort"]}
        watcher.terminate()

    assert limactl("shell", "web", "nproc").stdout == "2\n"
    shell = limactl("shell", "--workdir=/tmp", "web", "sh", "-c", 'pwd; cat; exit "$1"', "sh", "7", given="héllo\n")
    assert (shell.returncode, shell.stdout) == (7, "/tmp\nhéllo\n"), shell.stderr
    (tmp_path / "sent").write_bytes(bytes(range(256)))
    assert limactl("copy", str(tmp_path / "sent"), "web:there").returncode == 0
    assert limactl("copy", "web:there", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == bytes(range(256))
    proxied = limactl("tunnel", "--tty=false", "web")
    port = int(re.fullmatch(r"Set `ALL_PROXY=socks5h://127\.0\.0\.1:(\d+)`, etc\.\n", proxied.stdout)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=300) as proxy:
        proxy.sendall(b"\x05\x01\x00")
        assert proxy.recv(2) == b"\x05\x00"  # RFC 1928: no authentication is asked for
    by_ssh = subprocess.run(["ssh", "-F", web["sshConfigFile"], "lima-web", "exit 5"], check=False, timeout=300)
    assert by_ssh.returncode == 5

    refused = limactl("delete", "web")
    assert (refused.returncode, refused.stderr.count("level=fatal")) == (1, 1)
    assert limactl("stop", "web").returncode == 0
    assert limactl("list", "--format={{.Status}} {{.SSHLocalPort}}", "web").stdout == "Stopped 0\n"
    again = limactl("shell", "web", "true")
    assert (again.returncode, "instance `web` is stopped" in again.stderr) == (1, True)
    assert limactl("delete", "web").returncode == 0
    assert (limactl("list", "-q").stdout, (tmp_path / "lima" / "web").exists()) == ("", False)
