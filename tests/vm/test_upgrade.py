"""A machine that an earlier version created can be started, stopped and deleted."""

import shutil
import subprocess
from pathlib import Path

import pytest

from interlock.fsm.states import State

RELEASES = sorted((Path(__file__).parents[1] / "releases").iterdir())


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.name)
@pytest.mark.usefixtures("hasty")
def test_machine_of_an_earlier_version_starts_and_stops(vms, home, release):
    """The machine has no guest: its firmware finds nothing to boot, which is enough for start and stop."""
    home.prepare()
    shutil.copytree(release / "vm", home.directory("vm"))
    home.directory("vm").chmod(0o700)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", home.directory("vm") / "disk.qcow2", "64M"], check=True)
    assert vms.start("vm").state is State.running
    assert vms.status("vm").observation.ssh_port
    assert vms.stop("vm", timeout_s=1).state is State.stopped
    assert vms.delete("vm").state is State.absent
