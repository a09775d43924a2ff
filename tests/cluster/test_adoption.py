"""A home adopts instances that another home made: because that one is lost, or faster than it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster.conftest import emptied, make_home

from interlock import Interlock
from interlock.errors import HostError, InterlockError

BOOT = ["cat", "/proc/sys/kernel/random/boot_id"]


def test_running_instance_of_a_lost_home_is_adopted(vms, create, other_home):
    """It is the same guest afterwards, reached with its former keys; the former home may only forget it."""
    create(vms, "web")
    vms.start("web")
    boot = vms.run("web", BOOT).text

    other_home.adopt("web", cluster="test")

    assert other_home.status("web").state == "running"
    assert other_home.run("web", BOOT).text == boot
    assert vms.status("web").state == "stopped"
    with pytest.raises(HostError, match="does not belong to this home any more"):
        vms.start("web")
    vms.delete("web")
    other_home.stop("web")
    other_home.start("web")
    assert other_home.run("web", BOOT).text != boot
    other_home.delete("web", force=True)
    assert other_home.adoptable(cluster="test") == {}


def test_of_homes_that_adopt_at_once_one_succeeds(vms, create, nodes, images_home, tmp_path):
    """Three homes take over one instance, and its owner stops it meanwhile: afterwards one of them owns it."""
    create(vms, "web")
    vms.start("web")
    homes = [Interlock(make_home(tmp_path / f"home{number}", images_home, nodes)) for number in range(3)]
    found = [home.adoptable(cluster="test")["web"] for home in homes]

    with ThreadPoolExecutor(4) as threads:
        begun = [threads.submit(home.adopt, one) for home, one in zip(homes, found, strict=True)]
        stopping = threads.submit(vms.stop, "web")
    errors = [one.exception() for one in begun]

    assert errors.count(None) == 1
    assert all(isinstance(error, InterlockError) and "changed hands" in str(error) for error in filter(None, errors))
    assert isinstance(stopping.exception(), InterlockError | None)
    owner = homes[errors.index(None)]
    assert [home.home.names() for home in homes if home is not owner] == [[], []]
    tags = nodes.sh("node1", "gnt-instance list-tags web").split()
    assert len([tag for tag in tags if tag.startswith("interlock:home:")]) == 1
    with emptied(owner):
        owner.start("web")
        assert owner.run("web", ["hostname"]).text == "web"
    assert vms.status("web").state == "stopped"
