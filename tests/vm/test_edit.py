"""Edit on a real guest: after its next start the guest has what was asked for."""

import socket
import urllib.request

import pytest

from interlock import Wishes
from interlock.errors import DriverError

pytestmark = [pytest.mark.vm, pytest.mark.warm]

MIB = 1 << 20
SIZES = "nproc; awk '/MemTotal/ { print $2 }' /proc/meminfo; cat /sys/block/vda/size; cat kept"


def test_edited_guest_has_what_was_asked_for_and_boots_in_place_of_a_saved_memory(vms):
    """A grown disk keeps its content. The old machine's memory is not resumed, and the reason is given."""
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
    """A saved memory still fits after a change of forwards: the guest is not booted, and its server can be reached."""
    vms.create("web", "tiny", Wishes(user="root"))
    vms.start("web")
    vms.run("web", ["sh", "-c", "mkdir www; echo served >www/index.html; httpd -p 8080 -h www"])
    vms.suspend("web")
    port = free_port()
    vms.edit("web", f"portForwards[]={{hostPort: {port}, guestPort: 8080}}")
    vms.start("web")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=300) as answer:
        assert answer.read() == b"served\n"


def test_edited_forwards_of_a_running_guest_change_at_once(vms, free_port):
    """QEMU's network and ssh both follow, without a boot of the guest. A port that is taken changes nothing."""
    vms.create("web", "tiny", Wishes(user="root"))
    vms.start("web")
    vms.run("web", ["sh", "-c", "mkdir www; echo served >www/index.html; httpd -p 8080 -h www"])
    process = vms.status("web").observation.pid
    first, second, third = (free_port() for _ in range(3))
    rule = "portForwards=[{{guestPort: 8080, hostPort: {}, guestIP: {}}}]"
    for port, ip in ((first, "0.0.0.0"), (second, "127.0.0.1"), (first, "127.0.0.1"), (third, "0.0.0.0")):
        vms.edit("web", rule.format(port, ip))
        assert [port] == [one for one in (first, second, third) if is_served(one)]
    with socket.create_server(("127.0.0.1", second)):
        for ip in ("0.0.0.0", "127.0.0.1"):
            with pytest.raises(DriverError):
                vms.edit("web", rule.format(second, ip))
            assert (is_served(third), vms.status("web").spec.forwards[0].host_port) == (True, third)
    outcome = vms.edit("web", "portForwards=[]", "cpus=3")
    assert outcome.detail.endswith("→ 8080/udp, at once; at the next start cpus 1 → 3")
    assert not is_served(third)
    assert vms.status("web").observation.pid == process


def test_disk_of_a_guest_grows_at_once_or_by_its_next_start_and_so_does_its_file_system(vms):
    """A guest without resize2fs keeps running, and a step says that its file system keeps its size."""
    vms.create("web", "tiny", Wishes(user="root", disk_bytes=200 * MIB))
    vms.start("web")
    vms.run("web", ["sh", "-c", "echo written >kept; sync"])
    assert vms.edit("web", "disk=300MiB").detail == "disk 200MiB → 300MiB, at once"
    assert 250 < space_mib(vms) < 300
    vms.stop("web")
    vms.edit("web", "disk=400MiB")
    vms.start("web")
    assert (vms.run("web", ["cat", "kept"]).text, 350 < space_mib(vms) < 400) == ("written", True)

    vms.run("web", ["mv", "/sbin/resize2fs", "/sbin/elsewhere"])
    steps = []
    vms.edit("web", "disk=500MiB", on_event=lambda event: steps.append(event.step or ""))
    assert "the file system keeps its size; grow it in the guest: this guest has no resize2fs" in steps
    assert (vms.status("web").observation.condition, space_mib(vms) < 400) == (None, True)


def test_edited_mounts_are_those_of_the_guest_from_its_next_start_on(vms, tmp_path):
    """Folders come, move and go; nothing fails in the guest's boot, even after a reset."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    vms.create("web", "tiny", Wishes(user="root"))
    edits = (
        (f"[{{location: {tmp_path}/one, mountPoint: /a}}]", "one -"),
        (f"[{{location: {tmp_path}/two, mountPoint: /a}}, {{location: {tmp_path}/one, mountPoint: /b}}]", "two one"),
    )
    for mounts, found in edits:
        assert vms.edit("web", f"mounts={mounts}").detail.endswith("takes effect at the next start")
        vms.restart("web")
        assert vms.run("web", ["sh", "-c", LOOK]).text == found
        assert vms.status("web").observation.condition is None
    vms.stop("web")
    vms.reset("web")
    vms.start("web")
    assert vms.run("web", ["sh", "-c", LOOK]).text == "two one"


LOOK = 'echo "$(cat /a/file) $(cat /b/file 2>/dev/null || echo -)"'


def space_mib(vms):
    """Return the size in MiB of the file system that has the guest's data."""
    return int(vms.run("web", ["df", "-m", "/disk"]).text.split()[-5])


def is_served(port):
    """Return whether the guest's server answers at the host's `port`."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=300) as answer:
            return answer.read() == b"served\n"
    except OSError:
        return False
