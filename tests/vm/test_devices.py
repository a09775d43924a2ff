"""What a machine has besides processor and disk, on real guests: folders, ports, sockets, disks, copies of files."""

import os
import shlex
import signal
import socket
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from interlock.disks import Disks
from interlock.drivers.contract import Deadline, disk_file
from interlock.drivers.qemu import disk_lock, logs, mounts, ssh_control
from interlock.errors import CancelledError, DriverError, HostError
from interlock.fsm.spec import Copy, Disk, Forward, Mount
from interlock.host import process as host
from interlock.host.cancellation import calling_off
from interlock.host.home import Home

pytestmark = [pytest.mark.vm, pytest.mark.warm]

MIB = 1 << 20
START_S = 600.0
PAGE = "from the guest\n"

CONNECT = "import socket; client = socket.socket(socket.AF_UNIX); "
ANSWER = """
import socket
datagrams = socket.socket(type=socket.SOCK_DGRAM)
datagrams.bind(("0.0.0.0", 5300))
server = socket.socket(socket.AF_UNIX)
server.bind("/tmp/inward")
server.listen()
server.accept()[0].sendall(b"in")
while True:
    datagrams.sendto(b"datagram", datagrams.recvfrom(16)[1])
"""
"""Serves in a guest: one connection to a socket, then datagrams."""


def forward(**changes) -> Forward:
    """Return a forward of TCP on the loopback, with `changes`."""
    facts = {"proto": "tcp", "guest_ip": "127.0.0.1", "guest_port": 0, "guest_socket": ""}
    facts |= {"host_ip": "127.0.0.1", "host_port": 0, "host_socket": "", "reverse": False}
    return Forward(**(facts | changes))


@pytest.fixture
def created(driver, steps):
    """Return a context in which a site's machine exists; afterwards nothing of it is left alive."""

    @contextmanager
    def create(site):
        driver.create(site, steps.append)
        try:
            yield site
        finally:
            driver.kill(site, steps.append)

    return create


@pytest.fixture
def start(driver, steps):
    return lambda site: driver.start(site, steps.append, Deadline(START_S))


@pytest.fixture
def in_guest(driver):
    """Return a function that runs a script in a guest and returns its output."""

    def run(site, script, *arguments) -> str:
        line = driver.shell(site, ["sh", "-c", script, "sh", *arguments], terminal=False)
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def serve(in_guest):
    """Return a function that makes the guest answer HTTP on an address and port of the guest."""

    def begin(site, address) -> None:
        script = f"mkdir -p /tmp/www; printf %s {shlex.quote(PAGE)} >/tmp/www/page; sudo httpd -p {address} -h /tmp/www"
        in_guest(site, script)

    return begin


@pytest.fixture
def port(free_port):
    """Return a loopback port that is free now."""
    return free_port()


@pytest.fixture
def disks(tmp_path):
    """Return a store of disks on the sites' file system."""
    return Disks(Home(tmp_path / "home", tmp_path / "run"))


@pytest.fixture
def attach(disks):
    """Return a function that attaches disks to a site, as `create` does."""

    def link(site, *names) -> None:
        for name in names:
            os.link(disks.path(name), site.directory / disk_file(name))

    return link


@pytest.fixture
def shared(tmp_path):
    """Return two folders to mount, each with a file; their names have characters that option syntax may trip over."""
    folders = tmp_path / "read me, please", tmp_path / "write here"
    for folder in folders:
        folder.mkdir()
        (folder / "hello").write_text(f"{folder.name}\n")
    return folders


def until(condition, seconds=300.0):
    """Return what `condition` returns once it is true; fail after `seconds`."""
    deadline = Deadline(seconds)
    while not (found := condition()):
        assert not deadline.passed, "the deadline passed"
        time.sleep(0.02)
    return found


def page(address) -> bytes:
    """Return the body of the HTTP answer from a loopback port, or from the socket at that path."""
    family = socket.AF_INET if isinstance(address, int) else socket.AF_UNIX
    with socket.socket(family) as client:
        client.settimeout(30)
        client.connect(("127.0.0.1", address) if isinstance(address, int) else str(address))
        client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    return answer.partition(b"\r\n\r\n")[2]


def servants(*paths) -> list[int]:
    """Return the pids of live processes whose command lines name one of `paths`, as a machine's helpers do."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            if any(bytes(path) in words for path in paths) and host.started_ticks(int(entry.name)):
                found.append(int(entry.name))
    return found


def test_forwards_lead_to_listeners_in_the_guest(make_site, created, start, in_guest, serve, tmp_path, free_port):
    """QEMU forwards to the guest's own address, ssh to its loopback, from ports and from sockets of the host."""
    path = tmp_path / "a folder" / "s:1"
    port, second = free_port(), free_port()
    ways = (
        forward(guest_ip="0.0.0.0", guest_port=80, host_port=port),
        forward(guest_port=81, host_port=second),
        forward(guest_port=81, host_socket=str(path)),
    )
    with created(make_site(forwards=ways)) as site:
        start(site)
        serve(site, "0.0.0.0:80")
        serve(site, "127.0.0.1:81")
        assert [page(address).decode() for address in (port, second, path)] == [PAGE] * 3
        assert "Connection refused" in in_guest(site, "nc 10.0.2.15 81 </dev/null 2>&1 || true")
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_forwards_end_with_the_machine_however_it_ends(driver, make_site, created, start, steps, port):
    """After a stop, and after the hypervisor's death, no process is left and the port is free at once."""
    with created(make_site(forwards=(forward(guest_port=22, host_port=port),))) as site:
        start(site)
        until(lambda: len(servants(site.runtime, site.directory)) == 3)  # QEMU, ssh, and the shell that runs ssh
        os.kill(driver.observe(site).pid, signal.SIGKILL)
        until(lambda: servants(site.runtime, site.directory) == [])
        start(site)
        assert driver.observe(site).condition is None
        driver.stop(site, steps.append, Deadline(60))
        assert servants(site.runtime, site.directory) == []
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_forwards_of_a_hung_ssh_do_not_outlive_the_machine(driver, make_site, created, start, steps, port):
    """An ssh that does not notice the end of the machine is ended with the machine."""
    with created(make_site(forwards=(forward(guest_port=22, host_port=port),))) as site:
        start(site)
        for served in set(servants(site.runtime, site.directory)) - {driver.observe(site).pid}:
            os.kill(served, signal.SIGSTOP)
        driver.kill(site, steps.append)
        assert servants(site.runtime, site.directory) == []


def test_forwards_after_a_reboot_are_said_to_be_down_and_resume_opens_them(
    driver, make_site, created, start, in_guest, serve, steps, port
):
    """A reboot of the guest drops the connection: the condition says so, and `resume` restores it without a boot."""
    with created(make_site(forwards=(forward(guest_port=81, host_port=port),))) as site:
        start(site)
        in_guest(site, "sudo sh -c '(sleep 3; reboot -f) >/dev/null 2>&1 &'")
        until(lambda: driver.observe(site).condition == "port forwards are down")
        until(lambda: subprocess.run(driver.shell(site, ["true"], terminal=False), check=False).returncode == 0)
        driver.resume(site, steps.append)
        assert driver.observe(site).condition is None
        serve(site, "127.0.0.1:81")
        assert page(port).decode() == PAGE


def test_sessions_share_one_connection_until_the_guest_reboots_and_then_the_next(
    driver, make_site, created, start, in_guest
):
    """A reboot ends the running sessions and their connection; the next session works, and opens another connection."""
    with created(make_site()) as site:
        start(site)
        until(lambda: ssh_control.call(site.runtime))
        assert in_guest(site, "echo $SSH_CONNECTION") == in_guest(site, "echo $SSH_CONNECTION")
        with subprocess.Popen(driver.shell(site, ["sleep", "600"], terminal=False)) as lasting:
            in_guest(site, "sudo sh -c '(sleep 3; reboot -f) >/dev/null 2>&1 &'")
            until(lambda: lasting.poll() is not None)
        until(lambda: subprocess.run(driver.shell(site, ["true"], terminal=False), check=False).returncode == 0)
        until(lambda: ssh_control.call(site.runtime))
        assert in_guest(site, "echo $SSH_CONNECTION") == in_guest(site, "echo $SSH_CONNECTION")
        os.kill(driver.observe(site).pid, signal.SIGKILL)
        until(lambda: servants(site.runtime, site.directory) == [])


def test_sessions_side_by_side_over_one_connection_all_run(driver, make_site, created, start):
    """No session is lost when one begins while another ends, as happens with dropbear 2022.83."""
    with created(make_site()) as site:
        start(site)
        until(lambda: ssh_control.call(site.runtime))
        assert (site.runtime / ssh_control.SHARED).exists()

        def run(number: int) -> tuple[int, bytes]:
            line = driver.shell(site, ["echo", str(number)], terminal=False)
            ended = subprocess.run(line, stdout=subprocess.PIPE, check=False, timeout=START_S)
            return ended.returncode, ended.stdout

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(run, range(60))) == [(0, b"%d\n" % number) for number in range(60)]


@pytest.mark.warm("debian")
def test_sockets_are_forwarded_both_ways_over_what_an_earlier_run_left(
    make_site, created, start, in_guest, tmp_path, port
):
    """Host reaches guest and guest reaches host, although a dead socket lies at both paths; datagrams arrive too."""
    inward, outward = str(tmp_path / "inward"), str(tmp_path / "outward")
    ways = (
        forward(guest_socket="/tmp/inward", host_socket=inward),
        forward(guest_socket="/tmp/outward", host_socket=outward, reverse=True),
    )
    datagrams = forward(proto="udp", guest_ip="0.0.0.0", guest_port=5300, host_port=port)
    with created(make_site(template="debian", forwards=(datagrams,))) as site:
        start(site)
        in_guest(site, 'python3 -c "$1"', "import socket; socket.socket(socket.AF_UNIX).bind('/tmp/outward')")
        with closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(inward)
        start(site._replace(spec=site.spec._replace(forwards=(datagrams, *ways))))
        with closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(outward)
            server.listen()
            in_guest(site, 'python3 -c "$1"', f"{CONNECT}client.connect('/tmp/outward'); client.sendall(b'out')")
            with server.accept()[0] as accepted:
                assert accepted.recv(16) == b"out"
        in_guest(site, 'nohup python3 -c "$1" >/dev/null 2>&1 &', ANSWER)
        in_guest(site, "until [ -S /tmp/inward ]; do sleep 0.1; done")
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(inward)
            assert client.recv(16) == b"in"
        with closing(socket.socket(type=socket.SOCK_DGRAM)) as client:
            client.connect(("127.0.0.1", port))
            client.settimeout(1)
            assert until(lambda: _asked(client)) == b"datagram"


def _asked(client) -> bytes | None:
    client.send(b"?")
    with suppress(TimeoutError):
        return client.recv(16)
    return None


def test_forward_that_the_guest_refuses_fails_the_start_in_ssh_s_words(make_site, created, start, tmp_path):
    """The tiny guest's sshd forwards no sockets: the start fails, and the error names the step."""
    path = str(tmp_path / "host.sock")
    with (
        created(make_site(forwards=(forward(guest_socket="/tmp/guest.sock", host_socket=path, reverse=True),))) as site,
        pytest.raises(DriverError, match=r"cannot forward ports: .* was refused; last step: forwarding ports"),
    ):
        start(site)


def test_start_with_a_taken_port_names_its_owner_and_runs_nothing(make_site, created, start):
    """The owner of a taken port is named before a hypervisor is started."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        for changes in ({"forwards": (forward(guest_port=80, host_port=port),)}, {"ssh_port": port}):
            with created(make_site(f"web{len(changes.get('forwards', ()))}", **changes)) as site:
                with pytest.raises(DriverError, match=rf"tcp port {port} of 127\.0\.0\.1 .* \(pid {os.getpid()}\)"):
                    start(site)
                assert not (site.directory / "hypervisor.id").exists()


def test_ssh_port_that_the_spec_names_is_the_one(driver, make_site, created, start, port):
    """An instance whose spec names an ssh port gets exactly that port."""
    with created(make_site(ssh_port=port)) as site:
        start(site)
        assert driver.observe(site).ssh_port == port


def test_start_without_a_mounted_folder_names_it_and_runs_nothing(make_site, created, start, tmp_path):
    """A missing folder is reported before QEMU is started."""
    gone = str(tmp_path / "gone")
    with created(make_site(mounts=(Mount(gone, "/mnt", writable=False, type="9p", security_model="none"),))) as site:
        with pytest.raises(DriverError, match=f"mounts {gone}, but this host has no such folder") as caught:
            start(site)
        assert caught.value.hint == f"mkdir -p {gone}"
        assert not (site.directory / "hypervisor.id").exists()


def test_disk_is_found_by_its_serial_and_outlives_the_instance(
    driver, make_site, created, start, in_guest, disks, attach
):
    """The next machine reads what the first one wrote, although the first was reset and deleted."""
    for name, kind in (("data", "qcow2"), ("raw", "raw")):
        disks.create(name, 16 * MIB, kind)
    find = 'for it in /sys/block/*/serial; do [ "$(cat $it)" = disk1 ] && d=/dev/$(basename ${it%/serial}); done; '
    attached = (Disk("data", "qcow2"), Disk("raw", "raw"))
    for name, script, expected in (
        ("one", "echo kept | sudo dd of=$d conv=fsync 2>/dev/null", ""),
        ("two", "sudo head -c 5 $d", "kept\n"),
    ):
        site = make_site(name, disks=attached)
        attach(site, "data", "raw")
        with created(site):
            start(site)
            assert in_guest(site, find + script) == expected
            driver.kill(site, print)
            driver.reset(site, print)
            driver.delete(site, print)
    assert disks.path("raw").read_bytes().startswith(b"kept\n")


@pytest.mark.usefixtures("hasty")
def test_disk_that_another_machine_has_names_it_until_that_one_is_dead(
    driver, make_site, created, start, disks, attach
):
    """A disk belongs to one machine at a time. The lease is held by a live process: SIGKILL frees it."""
    disks.create("data", 16 * MIB)
    sites = [make_site(name, disks=(Disk("data", "qcow2"),)) for name in ("one", "two")]
    for site in sites:
        attach(site, "data")
    with created(sites[0]) as one, created(sites[1]) as two:
        start(one)
        pid = driver.observe(one).pid
        with pytest.raises(DriverError) as caught:
            start(two)
        assert caught.value.message == f'disk "data" is in use by instance "one" (pid {pid})'
        assert not driver.observe(two).alive
        os.kill(pid, signal.SIGKILL)
        until(lambda: not driver.observe(one).alive)
        start(two)
        assert driver.observe(two).alive


@pytest.mark.usefixtures("hasty")
def test_disk_lost_in_the_race_names_its_owner_too(driver, make_site, created, start, disks, attach, monkeypatch):
    """The message is the same when QEMU's own lock stops the second machine."""
    disks.create("data", 16 * MIB)
    sites = [make_site(name, disks=(Disk("data", "qcow2"),)) for name in ("one", "two")]
    for site in sites:
        attach(site, "data")
    with created(sites[0]) as one, created(sites[1]) as two:
        start(one)
        check, answers = disk_lock.check, iter([True])
        monkeypatch.setattr(disk_lock, "check", lambda site: next(answers, None) or check(site))
        with pytest.raises(DriverError, match=r'disk "data" is in use by instance "one"'):
            start(two)
        assert not driver.observe(two).alive


def test_copies_are_fetched_private_and_gone_with_the_machine(driver, make_site, created, start, steps, tmp_path):
    """Root's files too, whole and 0600; one may be missing; `delete_on_stop` deletes however the machine ends."""
    kept, gone = tmp_path / "new folder" / "kept", tmp_path / "gone"
    copies = (
        Copy("/etc/passwd", str(kept), skip_if_missing=False, delete_on_stop=False),
        Copy("/proc/1/environ", str(gone), skip_if_missing=False, delete_on_stop=True),  # only root may read it
        Copy("/no/such file", str(tmp_path / "never"), skip_if_missing=True, delete_on_stop=True),
    )
    with created(make_site(copies=copies)) as site:
        start(site)
        assert b"ada:" in kept.read_bytes()
        assert gone.read_bytes()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert sorted(path.name for path in kept.parent.iterdir()) == ["kept"]
        assert not (tmp_path / "never").exists()
        os.kill(driver.observe(site).pid, signal.SIGKILL)
        until(lambda: not driver.observe(site).alive)
        driver.stop(site, steps.append, Deadline(5))
        assert (kept.exists(), gone.exists()) == (True, False)


def test_copies_that_cannot_be_had_degrade_the_machine(driver, make_site, created, start, tmp_path):
    """The guest runs, each failed copy is named with its reason, and no partial file is left, even of /dev/zero."""
    target = tmp_path / "copies" / "it"
    wanted = [
        Copy(path, str(target), skip_if_missing=False, delete_on_stop=True, max_bytes=1 << 20)
        for path in ("/no/such", "/etc", "/dev/zero")
    ]
    with created(make_site(copies=tuple(wanted))) as site:
        degraded = start(site)
        assert driver.observe(site).condition.startswith("degraded: copy of /no/such failed: there is no such file")
        assert [line for line in degraded.details if line.startswith("copy of")] == [
            "copy of /no/such: failed",
            "copy of /etc: failed",
            "copy of /dev/zero: failed",
        ]
        assert list(target.parent.iterdir()) == []


def test_guest_that_floods_its_serial_port_fills_no_disk(driver, make_site, created, steps, monkeypatch, tmp_path):
    """The log stays within its limits while nobody reads it and keeps the last output; the exit reason is known."""
    flood = bytes.fromhex("baf803 b078 ee ebfd")  # mov dx, 0x3f8; mov al, 'x'; again: out dx, al; jmp again
    (tmp_path / "sector").write_bytes(flood.ljust(510, b"\0") + b"\x55\xaa" + bytes(1 << 20))
    small = logs.SERIAL._replace(limit_kib=64, kept_bytes=16 << 10)
    monkeypatch.setattr(logs, "SERIAL", small)
    site = make_site(boot="bios", arch="x86_64")
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", tmp_path / "sector", site.directory / "base.qcow2"]
    subprocess.run(convert, check=True)
    with created(site):
        log, files, sizes = site.directory / small.file, set(), set()

        def look() -> str | None:
            with suppress(FileNotFoundError):
                seen = log.stat()
                files.add(seen.st_ino)
                sizes.add(seen.st_size)
            return "seen" if len(files) > 3 else None

        with pytest.raises(CancelledError, match="seen"), calling_off(look):
            driver.start(site, steps.append, Deadline(START_S))
        assert max(sizes) <= 2 * small.limit_kib * 1024
        os.kill(driver.observe(site).pid, signal.SIGTERM)
        until(lambda: not driver.observe(site).alive)
        assert driver.observe(site).exit_reason == "hypervisor was terminated by a signal"
        assert log.read_bytes().endswith(b"x" * 1000)


def test_bios_machine_says_on_its_serial_port_that_it_finds_nothing(driver, make_site, created, steps):
    """A machine without UEFI runs, and the output of its BIOS is visible."""
    with created(make_site(boot="bios", arch="x86_64")) as site:

        def look() -> str | None:
            log = site.directory / "serial.log"
            return "seen" if log.exists() and b"No bootable device" in log.read_bytes() else None

        with pytest.raises(CancelledError, match="seen"), calling_off(look):
            driver.start(site, steps.append, Deadline(START_S))
        assert not list(site.directory.glob("firmware.*"))


def test_bios_machine_of_another_architecture_is_refused(driver, make_site, steps):
    """A BIOS is refused at creation for an architecture without one."""
    site = make_site(boot="bios")
    with pytest.raises(DriverError, match="a machine of architecture aarch64 has no BIOS"):
        driver.create(site._replace(spec=site.spec._replace(arch="aarch64")), steps.append)


def need_virtiofsd() -> None:
    """Skip the test if no virtiofsd can be run: it came with QEMU up to 7.2, and is a separate package since."""
    try:
        program = mounts.find()
    except HostError as error:
        pytest.skip(error.message)
    if program.in_c and os.geteuid() != 0:
        pytest.skip(f"{program.path} can be run by root only")


def test_mounts_are_read_and_written_as_the_spec_says(make_site, created, start, in_guest, shared):
    """The guest finds each folder by its tag, over 9p and virtiofs, and cannot write to a read-only one."""
    need_virtiofsd()
    mounts = tuple(
        Mount(str(folder), "/mnt", writable=folder is shared[1], type=kind, security_model="none")
        for kind in ("9p", "virtiofs")
        for folder in shared
    )
    with created(make_site(mounts=mounts)) as site:
        start(site)
        in_guest(site, "while read -r it; do sudo insmod /lib/modules/$it.ko; done </lib/modules/order.mounts")
        for number, mount in enumerate(mounts):
            options = f"-t {mount.type} {'-o trans=virtio,version=9p2000.L' if mount.type == '9p' else ''}"
            in_guest(site, f"sudo mkdir /m{number} && sudo mount {options} mount{number} /m{number}")
        for read_only, writable, file in (("/m0", "/m1", "by9p"), ("/m2", "/m3", "byvirtiofs")):
            assert in_guest(site, f"cat {read_only}/hello {writable}/hello") == "read me, please\nwrite here\n"
            assert "Read-only" in in_guest(site, f"sudo touch {read_only}/no 2>&1 || true")
            in_guest(site, f"sudo sh -c 'umask 022; echo out >{writable}/{file}'")
            assert (shared[1] / file).read_text() == "out\n"
            assert stat.S_IMODE((shared[1] / file).stat().st_mode) == 0o644
    assert [path.name for path in shared[0].iterdir()] == ["hello"]


def test_mount_whose_daemon_ended_is_reported(driver, make_site, created, start, shared):
    """The guest hangs in that folder, the condition says why, and a restart fixes it."""
    need_virtiofsd()
    folders = [Mount(str(folder), "/mnt", writable=True, type="virtiofs", security_model="none") for folder in shared]
    with created(make_site(mounts=tuple(folders))) as site:
        start(site)
        assert driver.observe(site).condition is None
        for pid in servants(site.runtime / "mount1.sock"):
            if pid != driver.observe(site).pid:
                os.kill(pid, signal.SIGKILL)
        until(lambda: driver.observe(site).condition)
        assert driver.observe(site).condition == f"degraded: {shared[1]} is cut off: its virtiofsd ended"
        driver.kill(site, print)
        start(site)
        assert driver.observe(site).condition is None
