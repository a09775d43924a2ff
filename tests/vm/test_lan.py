"""The network that the guests of one home share: real guests reach each other, whatever happens to one of them."""

import pytest

pytestmark = pytest.mark.vm

TEMPLATE = "base: {base}\nnetworks: [{{lima: user-v2}}]\n"

WHERE = "ip addr show lima0 | awk '/ether/ { print $2 } / inet / { print $2 }'"

BANNER = "busybox nc -w 60 {} 22 </dev/null | head -n 1"


@pytest.fixture
def up(vms, tmp_path):
    """Return a function that creates an instance on the network and starts it."""

    def up(name, base="template:tiny"):
        path = tmp_path / f"{base.rpartition(':')[2]}.yaml"
        path.write_text(TEMPLATE.format(base=base))
        vms.up(name, str(path))

    return up


@pytest.fixture
def reach(ask):
    """Return a function that checks that the named guests all reach each other's sshd, by these names."""

    def reach(*names):
        for one in names:
            for other in names:
                for called in (f"lima-{other}.internal", f"{other}.interlock.internal"):
                    assert ask(one, BANNER.format(called)).startswith("SSH-"), f"{one} does not reach {called}"

    return reach


def test_guests_reach_each_other_whichever_of_them_is_ended(vms, up, reach, ask):
    """The first guest's hypervisor has the switch in use; when it ends, the second one's takes over at once."""
    up("one")
    up("two")
    reach("one", "two")
    before = ask("one", WHERE)
    vms.kill("one")
    up("three")
    reach("two", "three")
    vms.start("one")
    assert ask("one", WHERE) == before, "its place stays its own"
    reach("one", "two", "three")


def test_guest_that_was_suspended_is_where_it_was(vms, up, reach):
    """Its memory has its addresses, and the other guests find it again."""
    up("one")
    up("two")
    vms.suspend("one")
    assert "resuming" in str(vms.start("one").detail)
    reach("one", "two")


def test_copies_have_places_of_their_own(vms, up, reach, ask):
    """A fork gets another address before it meets its original; a clone boots with another one."""
    up("one")
    vms.fork("one", "two")
    assert "resuming" in str(vms.start("two").detail)
    reach("one", "two")
    vms.stop("one")
    vms.clone("one", "three")
    vms.start("one")
    vms.start("three")
    reach("one", "two", "three")
    vms.restart("two")
    reach("one", "two", "three")
    places = [ask(name, WHERE).split() for name in ("one", "two", "three")]
    assert len({word for place in places for word in place}) == 6


def test_guests_of_debian_reach_each_other(vms, up, reach, ask):
    """The network daemon of a Debian guest leaves the card alone, also after its next boot."""
    up("one", "template:debian")
    up("two")
    reach("one", "two")
    vms.restart("one")
    reach("one", "two")
    assert ask("one", "networkctl list lima0 --no-legend").split()[-1] == "unmanaged"
    assert ask("one", "ip -o -4 addr show | grep -c ' 198.1[89]'").strip() == "1"
