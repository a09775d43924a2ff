"""Three Ganeti nodes on this machine, each in its own namespaces, with real virtual machines under emulation.

    nodes.py up DIRECTORY           make the cluster and its secret; DIRECTORY must not exist
    nodes.py run DIRECTORY COMMAND  run COMMAND where the nodes and the guests can be reached
    nodes.py down DIRECTORY         end all nodes, and remove DIRECTORY
    nodes.py during COMMAND         run COMMAND, whose environment names a cluster and a home for images; unless ours
                                    does so already, they are made for it and removed after it

    DIRECTORY/                      0700
    ├── chroot/                     Debian with Ganeti, which all nodes share read-only
    ├── node1/, node2/, node3/      the files that each node has written, and its root
    ├── shared/                     /srv on all nodes: the guests' disks, and files from Interlock for the nodes
    ├── clusters/test.yaml          the cluster's record for Interlock, with the secret
    └── processes.json              the first process of each node, and the one that holds the bridge

It needs root, mmdebstrap and Debian's packages. The addresses, 192.0.2.0/24 of RFC 5737, are used only inside the
namespaces. INTERLOCK_CLUSTER_CHROOT names a tar file in which the chroot is cached between runs.

The commands that set up the hosts and the cluster are those of docs/cluster.md, read from the page.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from interlock.host import process
from interlock.images.builders.packages import RELEASE, mirrors

VARIABLE, HOME = "INTERLOCK_TEST_CLUSTER", "INTERLOCK_TEST_HOME"
CACHE = "INTERLOCK_CLUSTER_CHROOT"
PACKAGES = ("openssh-server", "iproute2", "procps")
"""What a host has before anybody follows the page, except for Debian itself."""
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cluster.md"
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NODE = Path(__file__).with_name("node.sh")

DOMAIN = "example.test"
CLUSTER, MANAGER = "192.0.2.10", "192.0.2.1"
NODES = {f"node{number}": f"192.0.2.{10 + number}" for number in (1, 2, 3)}
USER = "interlock"

_HYPERVISOR = (
    "kvm:kvm_flag=disabled,vhost_net=false,kvm_path=/usr/bin/qemu-system-x86_64,cpu_type=max,serial_console=true,"
    "migration_downtime=300,vnc_bind_address="
)
_ROOM = "--ipolicy-vcpu-ratio=64"
_HERE = {
    "gnt-cluster init ": f"gnt-cluster init --no-etc-hosts --hypervisor-parameters {_HYPERVISOR} {_ROOM} ",
    "example.org": DOMAIN,
}
"""How the commands of the page differ here: the nodes share one /etc/hosts, guests are emulated, and there is room for
a hundred of them on two processors."""
_ACTIONS_S = 300


class FailedError(Exception):
    """A command that sets up the cluster failed."""


def documented(heading: str) -> list[str]:
    """Return the blocks of shell in the section `heading` of docs/cluster.md."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return FENCE.findall(section)


def here(script: str) -> str:
    """Return commands of the page as they are run in this cluster."""
    for words, ours in _HERE.items():
        script = script.replace(words, ours)
    return script


def run(command: Sequence[str | Path], *, stdin: str | None = None, timeout_s: float = _ACTIONS_S) -> str:
    """Return the output of `command`. Raises FailedError with its output if it fails."""
    ended = subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if ended.returncode:
        raise FailedError(f"{' '.join(map(str, command))}: {ended.returncode}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


_STARTED: list["subprocess.Popen[bytes]"] = []
"""Processes that outlive the call that started them; without a reference, Python would warn about them."""


class Nodes(NamedTuple):
    """The cluster in `directory`."""

    directory: Path

    # -- making and ending it ---------------------------------------------------------------------------------------

    def up(self) -> None:
        """Make the cluster; on failure, remove everything again."""
        self.directory.mkdir(mode=0o700, parents=True)
        try:
            on_each, founding, adding, _ = documented("From one machine to three nodes")
            self._unpack(on_each)
            for folder in ("interlock", "ganeti/shared"):
                (self.directory / "shared" / folder).mkdir(parents=True)
            self._lay_bridge()
            for name in NODES:
                self.power_on(name)
            secret = secrets.token_urlsafe()
            certificate = self._found(founding, adding.replace("SECRET", secret))
            self._write_record(certificate, secret)
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End everything that `up` and `power_on` started, and remove the directory. Safe to repeat."""
        for name in [*NODES, "bridge"]:
            self.power_off(name)
        shutil.rmtree(self.directory, ignore_errors=True)

    def power_off(self, name: str) -> None:
        """End the node like a power cut: when its first process is killed, the kernel kills all the others."""
        recorded = self._processes()
        if (actor := recorded.pop(name, None)) is None:
            return
        with suppress(ProcessLookupError):
            process.send(actor, signal.SIGKILL)
        while process.alive(actor):
            time.sleep(0.05)
        self._record(recorded)

    def power_on(self, name: str) -> None:
        """Start the node with its former disk; Ganeti's daemons start too once the node is in the cluster.

        A former master fails to start those of a master, if the cluster has got another one meanwhile.
        """
        place = self.directory / name
        place.mkdir(exist_ok=True)
        words = [NODE, f"{name}.{DOMAIN}", self.directory / "chroot", place, self.directory / "shared"]
        self._start(name, ["--mount", "--uts", "--ipc", "--pid", *words])
        peer, ours = f"to-{name}", str(self._processes()[name].pid)
        self.outside("ip", "link", "add", peer, "type", "veth", "peer", "name", "eth0", "netns", ours)
        self.outside("ip", "link", "set", peer, "master", "lan", "up")
        # The guests' network cards join the node's bridge, like its own.
        self.sh(
            name,
            "ip link set lo up && ip link add br0 type bridge && ip link set eth0 master br0 up && "
            f"ip address add {NODES[name]}/24 dev br0 && ip link set br0 up && ip route add default via {MANAGER}"
            " && /usr/sbin/sshd && { [ ! -e /var/lib/ganeti/config.data ] && [ ! -e /var/lib/ganeti/server.pem ] ||"
            " /usr/lib/ganeti/daemon-util start-all || [ -e /var/lib/ganeti/config.data ]; }",
        )

    def up_nodes(self) -> list[str]:
        """Return the names of the nodes that are powered on."""
        recorded = self._processes()
        return [name for name in NODES if name in recorded]

    def readmit(self, name: str, master: str = "node1") -> None:
        """Take a node that was set offline, and has been powered on again, back into the cluster."""
        self.sh(master, f"gnt-node add --readd --no-ssh-key-check {name}.{DOMAIN}")

    # -- using it ---------------------------------------------------------------------------------------------------

    def outside(self, *command: str | Path, timeout_s: float = _ACTIONS_S) -> str:
        """Run `command` on this machine, in the network of the bridge, and return its output."""
        return run([*self.prefix(), *command], timeout_s=timeout_s)

    @property
    def network(self) -> str:
        """The file of the network namespace from which nodes and guests can be reached."""
        return f"/proc/{self._processes()['bridge'].pid}/ns/net"

    @property
    def record(self) -> Path:
        """The path of the cluster's record for a home."""
        return self.directory / "clusters" / "test.yaml"

    def prefix(self) -> list[str]:
        """Return the words to put before a command of this machine to run it in the network of the bridge."""
        return ["nsenter", f"--net={self.network}"]

    def sh(self, name: str, script: str, *, stdin: str | None = None, timeout_s: float = _ACTIONS_S) -> str:
        """Run the shell script on the node, and return its output."""
        inside = ["nsenter", "--target", str(self._processes()[name].pid), "--all", "--wdns=/"]
        environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"]
        return run([*inside, *environment, "/bin/sh", "-c", script], stdin=stdin, timeout_s=timeout_s)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _unpack(self, on_each: str) -> None:
        """Make the chroot, or unpack it from the cache; `on_each` are the commands of the page for each host."""
        install, *others = on_each.splitlines()
        packages = install.removeprefix("apt install ").split()
        cache = os.environ.get(CACHE)
        tar = Path(cache) if cache else self.directory / "chroot.tar"
        chroot = self.directory / "chroot"
        if not tar.exists():
            fresh = tar.with_name(f".{tar.name}.{os.getpid()}")
            policy = 'printf "#!/bin/sh\\nexit 101\\n" >"$1/usr/sbin/policy-rc.d"; chmod +x "$1/usr/sbin/policy-rc.d"'
            run(
                [
                    "mmdebstrap",
                    "--mode=root",
                    "--variant=minbase",
                    "--format=tar",
                    f"--include={','.join((*packages, *PACKAGES))}",
                    '--aptopt=Apt::Install-Recommends "false"',
                    '--aptopt=Acquire::Languages "none"',
                    f'--setup-hook=mkdir -p "$1/usr/sbin"; {policy}',
                    RELEASE,
                    fresh,
                    *mirrors(Path("/etc"), RELEASE),
                ],
                timeout_s=1800,
            )
            fresh.rename(tar)
        chroot.mkdir()
        run(["tar", "--extract", "--preserve-permissions", "--numeric-owner", "--file", tar, "--directory", chroot])
        if not cache:
            tar.unlink()
        hosts = {CLUSTER: "cluster", **{address: name for name, address in NODES.items()}}
        lines = [f"{address} {name}.{DOMAIN} {name}" for address, name in hosts.items()]
        (chroot / "etc/hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        run([ROOT / "tools" / "ganeti-os.sh", chroot])
        run(["chroot", chroot, "/bin/sh", "-ec", "\n".join(["cd /", *others])])

    def _lay_bridge(self) -> None:
        self._start("bridge", ["sh", "-c", "echo; exec sleep infinity"])
        self.outside("ip", "link", "set", "lo", "up")
        self.outside("ip", "link", "add", "lan", "type", "bridge", "forward_delay", "0")
        self.outside("ip", "address", "add", f"{MANAGER}/24", "dev", "lan")
        self.outside("ip", "link", "set", "lan", "up")

    def _found(self, founding: str, adding: str) -> str:
        """Found a cluster on the first node and add the others; return RAPI's certificate and the secret of its user.

        `founding` and `adding` are the commands of the page for `node1`.
        """
        first, *others = NODES
        self.sh(first, here(founding))
        key = self.sh(first, "cat /root/.ssh/id_rsa.pub")
        for name in others:
            self.sh(name, "mkdir -p -m 700 /root/.ssh && cat >/root/.ssh/authorized_keys", stdin=key)
        printed = self.sh(first, f"set -e\n{here(adding)}")
        return printed[printed.index("-----BEGIN CERTIFICATE-----") :]

    def _write_record(self, certificate: str, secret: str) -> None:
        """Give RAPI's user to each node, and write the record with which Interlock reaches the cluster."""
        users = "/var/lib/ganeti/rapi/users"
        for name in NODES:  # each may become the master
            self.sh(
                name,
                f"umask 027 && cat >{users}.new && chown gnt-rapi:gnt-masterd {users}.new && mv {users}.new {users}",
                stdin=f"{USER} {secret} write\n",
            )
        record = {
            "driver": "ganeti",
            "url": f"https://{CLUSTER}:5080",
            "certificate": certificate,
            "user": USER,
            "secret": secret,
            "network": "guests",
            "store": str(self.directory / "shared" / "interlock"),
            "store_on_nodes": "/srv/interlock",
        }
        self.record.parent.mkdir(mode=0o700)
        self.record.touch(mode=0o600)
        self.record.write_text(json.dumps(record, indent=2))  # which is YAML, too

    # -- processes --------------------------------------------------------------------------------------------------

    def _start(self, name: str, words: Sequence[str | Path]) -> None:
        """Start a process in its own network namespace, and record it once it has printed a line."""
        with (self.directory / f"{name}.log").open("w") as log:
            started = subprocess.Popen(
                ["unshare", "--net", "--fork", "--kill-child", *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert started.stdout is not None
        if started.stdout.read(1) != b"\n":
            started.wait()
            raise FailedError(f"{name}: {(self.directory / f'{name}.log').read_text()}")
        started.stdout.close()
        _STARTED.append(started)
        (child,) = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        actor = process.Actor(int(child), process.started_ticks(int(child)) or 0, process.boot_id())
        self._record({**self._processes(), name: actor})

    def _processes(self) -> dict[str, process.Actor]:
        with suppress(FileNotFoundError):
            data = json.loads((self.directory / "processes.json").read_text())
            return {name: process.Actor(*fields) for name, fields in data.items()}
        return {}

    def _record(self, processes: dict[str, process.Actor]) -> None:
        if self.directory.exists():
            (self.directory / "processes.json").write_text(json.dumps(processes))


def during(command: Sequence[str]) -> int:
    """Run `command` while there is a cluster, and return its exit code."""
    named = os.environ.get(VARIABLE)
    with ExitStack() as after:
        place = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="interlock-cluster-")))
        nodes = Nodes(Path(named).absolute() if named else place / "cluster")
        if not named:
            after.callback(nodes.down)
        if not nodes.directory.exists():
            nodes.up()
        names = {VARIABLE: str(nodes.directory), HOME: os.environ.get(HOME, str(place / "home"))}
        return subprocess.run(command, env={**os.environ, **names}, check=False).returncode


def main() -> None:
    """Do what the command line says."""
    what, *words = sys.argv[1:]
    if what == "during":
        sys.exit(during(words))
    nodes = Nodes(Path(words[0]).absolute())
    if what == "up":
        nodes.up()
    elif what == "down":
        nodes.down()
    elif what == "run":
        line = [*nodes.prefix(), *words[1:]]
        os.execvp(line[0], line)  # noqa: S606 - it replaces this process


if __name__ == "__main__":
    main()
