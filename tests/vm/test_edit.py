"""Edit on a real guest: what was asked for is what the guest has after its next start."""

import urllib.request

import pytest

from interlock import Wishes

pytestmark = pytest.mark.vm

MIB = 1 << 20
SIZES = "nproc; awk '/MemTotal/ { print $2 }' /proc/meminfo; cat /sys/block/vda/size; cat kept"


def test_edited_guest_has_what_was_asked_for_and_boots_in_place_of_a_saved_memory(vms):
    """A disk that has grown holds what was on it. The memory of the old machine is not resumed, and why is said."""
    vms.create("web", "tiny", Wishes(user="root", cpus=1, memory_bytes=192 * MIB, disk_bytes=1024 * MIB))
    vms.start("web")
    vms.run("web", ["sh", "-c", "echo written >kept; sync"])
    vms.suspend("web")
    assert vms.edit("web", "cpus=2", "memory=256MiB", "disk=1100MiB").changed
    steps = []
    vms.start("web", on_event=lambda event: steps.append(event.step or ""))
    assert any("the saved memory was set aside: it was saved by a machine with memory" in step for step in steps)
    processors, memory_kib, sectors, kept = vms.run("web", ["sh", "-c", SIZES]).text.split()
    assert (processors, int(sectors), kept) == ("2", 1100 * MIB // 512, "written")
    assert 192 < int(memory_kib) / 1024 <= 256


def test_edited_forwards_are_those_of_a_guest_that_continues(vms, free_port):
    """They are no part of what a saved memory fits: the guest is not booted, and its server is reached."""
    vms.create("web", "tiny", Wishes(user="root"))
    vms.start("web")
    vms.run("web", ["sh", "-c", "mkdir www; echo served >www/index.html; httpd -p 8080 -h www"])
    vms.suspend("web")
    port = free_port()
    vms.edit("web", f"portForwards[]={{hostPort: {port}, guestPort: 8080}}")
    vms.start("web")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=120) as answer:
        assert answer.read() == b"served\n"
