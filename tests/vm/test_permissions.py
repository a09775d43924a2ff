"""Everything that a real guest leaves on the host is private to its owner: files, sockets, port, secrets."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.vm

MARK = "hunter2-of-the-first-boot"
TEMPLATE = f"""\
images: [{{location: 'build:tiny', arch: x86_64}}, {{location: 'build:tiny', arch: aarch64}}]
memory: 128MiB
disk: 64MiB
provision: [{{script: 'echo {MARK} >/root/secret'}}]
"""

HOLDERS = {"ssh.key", "initrd", "seed.iso"}
"""The files of an instance that contain a secret because the guest or ssh needs it."""


@pytest.fixture
def umask() -> Iterator[int]:
    """Set a umask that removes no permission, and return it."""
    before = os.umask(0)
    yield 0
    os.umask(before)


def listening(pid: int) -> list[str]:
    """Return the local addresses on which `pid` listens for TCP, as /proc/net/tcp writes them. Source: proc(5)."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            sockets.add(str(link.readlink()))
    tables = [Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


def test_life_of_a_guest_is_private(vms, umask, tmp_path, capfd):
    """Whatever the umask: no mode bit for others, sockets only in the runtime directory, the port on the loopback only,
    and neither key nor script in an argument, a log, a record or anything printed."""
    home = vms.home
    template = tmp_path / "tiny.yaml"
    template.write_text(TEMPLATE)
    vms.create("web", str(template))
    vms.start("web")

    status = vms.status("web")
    seen = status.observation
    address = int.from_bytes(bytes([127, 0, 0, 1]), "little")
    assert listening(seen.pid) == [f"{address:08X}:{seen.ssh_port:04X}"]
    command = Path(f"/proc/{seen.pid}/cmdline").read_bytes()
    runtime = home.sockets("web")
    everything = {path: path.lstat().st_mode for root in (home.root, runtime) for path in (root, *root.rglob("*"))}
    vms.stop("web")
    vms.reset("web")
    everything |= {path: path.lstat().st_mode for path in home.root.rglob("*")}

    assert os.umask(umask) == umask
    files = {path: mode for path, mode in everything.items() if not stat.S_ISLNK(mode)}
    assert {str(path): oct(mode) for path, mode in files.items() if mode & 0o077} == {}
    assert {path.parent for path, mode in files.items() if stat.S_ISSOCK(mode)} == {runtime}

    private = (home.directory("web") / "ssh.key").read_bytes().splitlines()[1]
    secrets = (MARK.encode(), private, b"PRIVATE KEY")
    records = json.dumps([vms.status("web").to_json(), *(line.to_json() for line in vms.history("web"))]).encode()
    printed = "".join(capfd.readouterr()).encode()
    kept = {
        path.name: path.read_bytes()
        for path in home.directory("web").iterdir()
        if path.is_file() and path.name not in HOLDERS | {"kernel", "base.qcow2"}
    }
    said = {**kept, "argv": command, "records": records, "printed": printed}
    assert [name for name, text in said.items() if any(secret in text for secret in secrets)] == []
