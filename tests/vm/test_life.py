"""The whole life of real guests, through the real program: what the README promises."""

import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import interlock
from interlock.host.process import started_ticks

pytestmark = pytest.mark.vm

PACKAGE = Path(interlock.__file__).parent
PROGRAM = str(Path(sys.executable).with_name("interlock"))
UNHEARD = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(borrowed: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return an environment with its own home, which borrows the images that were built once."""
    root = tmp_path / "home"
    root.mkdir(mode=0o700)
    (root / "images").symlink_to(borrowed / "images")
    runtime = tempfile.mkdtemp(prefix="il-")  # a socket's path must be short
    yield {**os.environ, "INTERLOCK_HOME": str(root), "XDG_RUNTIME_DIR": runtime, "INTERLOCK_LOG_FORMAT": "human"}
    shutil.rmtree(runtime)


@pytest.fixture
def run(environment: dict[str, str]) -> Iterator[Run]:
    """Return a runner of `interlock`; afterwards no instance is left alive."""

    def run(*arguments: str, code: int = 0, **options: object) -> object:
        done = subprocess.run(
            [PROGRAM, *arguments], env=environment, capture_output=True, text=True, timeout=1200, check=False, **options
        )
        assert code == done.returncode, done.stderr
        return done

    yield run
    for status in listed(run):
        run("delete", "--force", status["name"])


def listed(run: Run) -> list[dict[str, object]]:
    """Return the records that `list` prints."""
    return [json.loads(line) for line in run("list", "--format", "json").stdout.splitlines()]


def wait_for_status(run: Run, state: str) -> dict[str, object]:
    """Return the only instance's status once it is in `state`."""
    give_up = time.monotonic() + 120
    while True:
        status = listed(run)[0]
        if status["state"] == state:
            return status
        assert time.monotonic() < give_up, status
        time.sleep(0.2)


@pytest.mark.parametrize("template", ["tiny", pytest.param("debian", marks=pytest.mark.warm("debian"))])
def test_life_of_a_real_guest(run: Run, template: str, tmp_path: Path) -> None:
    """A guest is created, started, entered, stopped, started again with what was written, and deleted without a trace.

    The Debian guest, which runs OpenSSH's server, is started only once here: a boot under emulation takes long.
    """
    run("create", "web", "--template", template)
    assert listed(run)[0]["state"] == "created"

    run("start", "web", "--timeout", "900")
    assert listed(run)[0]["state"] == "running"
    assert run("shell", "web", "--", "sh", "-c", "hostname; echo kept > kept; sync; exit 7", code=7).stdout == "web\n"
    said = run("run", "--timeout", "60", "web", "--", "sh", "-c", "cat; echo oops >&2; exit 3", code=3, input="a  b\n")
    assert (said.stdout, said.stderr) == ("a  b\n", "oops\n")
    said = run("run", "--json", "web", "--", "sh", "-c", "cat; echo oops >&2; exit 3", code=3, input="a  b\n")
    assert json.loads(said.stdout) == {"name": "web", "status": 3, "stdout": "a  b\n", "stderr": "oops\n"}
    assert run("shell", "--workdir", "/etc", "--shell", "sh", "web", "pwd").stdout == "/etc\n"

    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "a: b").write_text("there and back")
    run("copy", "-r", str(tmp_path / "a folder"), "web:")
    run("copy", "web:a folder/a: b", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "there and back"
    assert "No such file" in run("copy", "web:nope", str(tmp_path), code=1).stderr

    assert "guest shut down" in run("stop", "web").stderr
    assert listed(run)[0]["state"] == "stopped"

    if template == "tiny":
        run("start", "web")
        assert run("shell", "web", "cat", "kept").stdout == "kept\n"
        assert run("shell", "web", "cat", input="through stdin").stdout == "through stdin"
        run("delete", "web", code=3)
    run("delete", "--force", "web")
    assert listed(run) == []


@pytest.mark.warm
def test_tunnel_and_ssh_config_lead_into_the_guest(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """A port of this host leads to the guest's ssh while the program runs; ssh works with the printed configuration."""
    run("up", "web", "--template", "tiny")
    (tmp_path / "ssh.config").write_text(run("ssh-config", "web").stdout)
    line = ["ssh", "-F", str(tmp_path / "ssh.config"), "web", "hostname"]
    assert subprocess.run(line, capture_output=True, text=True, check=True, timeout=300).stdout == "web\n"

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tunnel = subprocess.Popen([PROGRAM, "tunnel", "web", f"{port}:22"], env=environment, stderr=subprocess.PIPE)
    try:
        assert tunnel.stderr
        assert f'forwarding 127.0.0.1:{port} to port 22 of "web"; Ctrl-C ends it'.encode() in tunnel.stderr.readline()
        assert greeting(port).startswith(b"SSH-2.0-")
    finally:
        tunnel.terminate()
        tunnel.communicate(timeout=300)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))

    line = [PROGRAM, "tunnel", "--json", "web", "--socks", str(port)]
    proxy = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert proxy.stdout
        opened = {"name": "web", "host_ip": "127.0.0.1", "host_port": port, "guest_port": None}
        assert json.loads(proxy.stdout.readline()) == opened
        taken = run("tunnel", "--json", "web", f"{port}:22", code=6).stdout
        assert "already in use" in json.loads(taken)["error"]["details"][0]
        assert greeting(port, through=b"localhost").startswith(b"SSH-2.0-")
    finally:
        proxy.terminate()
        proxy.communicate(timeout=300)


@pytest.mark.warm
def test_copy_from_guest_to_guest_and_environment_of_a_session(
    run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    """Files and folders go through this host; a session can get the caller's variables, but not this host's own."""
    for name in ("web", "db"):
        run("up", name, "--template", "tiny")
    run("shell", "web", "--", "sh", "-c", "mkdir site; echo one > site/a; echo two > 'b c'")
    run("copy", "-r", "web:site", "web:b c", "db:")
    assert run("shell", "db", "--", "sh", "-c", "cat site/a 'b c'").stdout == "one\ntwo\n"
    (tmp_path / "three").write_text("three\n")
    run("copy", str(tmp_path / "three"), "db:site/a", "web:site")
    assert run("shell", "web", "--", "sh", "-c", "cat site/three").stdout == "three\n"
    assert "No such file" in run("copy", "web:nope", "db:", code=1).stderr
    environment["COLOUR"], environment["SSH_TTY"] = "a  'b'", "this host's"
    said = run("shell", "--preserve-env", "web", "env").stdout
    assert ("COLOUR=a  'b'" in said, "this host's" in said) == (True, False)
    assert run("shell", "--preserve-env", "web", input='echo "$COLOUR"').stdout == "a  'b'\n"
    assert "COLOUR" not in run("shell", "web", "env").stdout


@pytest.mark.warm
def test_copy_by_rsync_has_the_result_of_one_by_scp(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """Both directions give the same: files, folders, patterns, links and existing targets. `auto` takes rsync once the
    guest has it; at a terminal it sums up the copy.
    """
    rsync = shutil.which("rsync")
    assert rsync, "apt install rsync"
    run("up", "web", "--template", "tiny")
    assert "has no rsync" in run("copy", "--backend", "rsync", "web:x", ".", code=4).stderr
    assert run("copy", "web:/etc/hostname", str(tmp_path)).stderr == "copying by scp\n"
    bring_program(run, rsync, tmp_path / "program")

    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "a b").write_text("one")
    (site / "sub" / "it's").write_text("two")
    (site / "sub" / "run").write_text("#!/bin/sh\n")
    (site / "sub" / "run").chmod(0o751)
    (site / "link").symlink_to("a b")
    os.utime(site / "a b", (1_000_000_000, 1_000_000_000))
    found = []
    for backend in ("scp", "rsync"):
        place = tmp_path / backend
        place.mkdir()

        def copy(*arguments: str, backend: str = backend, code: int = 0) -> str:
            return run("copy", "--backend", backend, *arguments, code=code).stderr

        run("shell", "web", "--", "sh", "-c", "rm -rf t; mkdir t t/real; ln -s real t/site")
        copy("-r", str(site), "web:t")  # into a folder, which has a link to another of its name
        copy("-r", f"{site}/", "web:t/new")
        copy(str(site / "a b"), str(site / "sub" / "it's"), "web:~/t/")
        copy("web:t/real/a b", "web:t/real/sub/r*", str(place))
        copy("-r", "web:t/new", str(place / "made"))
        copy("-r", "web:t/new", str(place / "made"))
        copy("web:t", str(place), code=1 if backend == "scp" else 2)  # a folder
        assert "No such file" in copy("web:nope", str(place), code=1 if backend == "scp" else 23)
        look = "cd t && find . | LC_ALL=C sort | while read -r it; do stat -c '%n %F %a' \"$it\"; done"
        back = sorted((str(it.relative_to(place)), oct(it.stat().st_mode)) for it in place.rglob("*"))
        found.append((run("shell", "web", "--", "sh", "-c", look).stdout, back, (place / "a b").stat().st_mtime))
    assert found[0] == found[1]
    assert (dict(found[0][1])["made/new/link"], found[0][2]) == ("0o100644", 1_000_000_000)
    assert run("copy", "-r", str(site), "web:t").stderr == "copying by rsync\n"
    assert "by rsync in" in on_terminal(environment, "copy", "-r", str(site), "web:t")


def bring_program(run: Run, program: str, folder: Path) -> None:
    """Copy `program` of this host into the guest `web`, with the libraries that it needs."""
    folder.mkdir()
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    libraries = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    for file in (program, *libraries):
        shutil.copy(file, folder)
    loader = next(Path(file).name for file in libraries if "/ld-" in file)
    name = Path(program).name
    (folder / "start").write_text(f'#!/bin/sh\nexec /opt/{loader} --library-path /opt /opt/{name} "$@"\n')
    (folder / "start").chmod(0o755)
    run("copy", "-r", str(folder), "web:")
    move = f"sudo mkdir -p /opt && sudo mv {folder.name}/* /opt && sudo mv /opt/start /usr/bin/{name}"
    run("shell", "web", "--", "sh", "-c", move)


def on_terminal(environment: dict[str, str], *arguments: str) -> str:
    """Return what `interlock` writes to a terminal."""
    leader, follower = pty.openpty()
    streams = {"stdin": follower, "stdout": follower, "stderr": follower}
    with subprocess.Popen([PROGRAM, *arguments], env={**environment, "TERM": "xterm"}, **streams) as process:
        os.close(follower)
        received = b""
        with suppress(OSError):  # the last writer has ended
            while piece := os.read(leader, 1024):
                received += piece
    os.close(leader)
    assert process.returncode == 0, received
    return received.decode()


def greeting(port: int, through: bytes = b"") -> bytes:
    """Return the first bytes that the server behind `port` sends, once it listens.

    `through`: the host whose sshd a SOCKS proxy on `port` should reach. Source: RFC 1928.
    """
    give_up = time.monotonic() + 120
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
                if through:
                    connection.sendall(b"\x05\x01\x00")
                    assert connection.recv(2) == b"\x05\x00"
                    connection.sendall(b"\x05\x01\x00\x03" + bytes([len(through)]) + through + (22).to_bytes(2, "big"))
                    assert connection.recv(10)[:2] == b"\x05\x00"
                return connection.recv(8)
        except ConnectionRefusedError:
            assert time.monotonic() < give_up
            time.sleep(0.1)


def test_start_speaks_of_nothing_but_starting(run: Run) -> None:
    """What `start` prints, for a created and for a stopped instance, mentions neither creation nor templates."""
    run("create", "web", "--template", "tiny")
    first = run("start", "web").stderr
    run("stop", "web")
    second = run("start", "web").stderr

    for said in (first, second):
        assert said.splitlines()[0] == 'starting "web"'
        assert "creat" not in said.lower()
        assert "templat" not in said.lower()


def test_start_opens_no_file_of_templates_or_images(run: Run, environment: dict[str, str], tmp_path: Path) -> None:
    """Neither `start` nor the hypervisor it runs opens a file of the template and image packages, or of the store."""
    run("create", "web", "--template", "tiny")
    trace = tmp_path / "trace"
    # strace runs as a daemon because it outlives `start`: it also follows the hypervisor, to its end.
    strace = ["strace", "--daemonize", "-f", "--quiet=all", "-e", "trace=open,openat,openat2", "-o", str(trace)]
    subprocess.run([*strace, PROGRAM, "start", "web"], env=environment, check=True, timeout=300, **UNHEARD)

    opened = trace.read_text()
    assert f"{environment['INTERLOCK_HOME']}/instances/web/spec.json" in opened
    for forbidden in (PACKAGE / "templates", PACKAGE / "images", Path(environment["INTERLOCK_HOME"], "images")):
        assert f'"{forbidden}/' not in opened


def test_start_loads_no_module_of_templates_or_images(run: Run, environment: dict[str, str]) -> None:
    """After `start`, no module of the packages that creation uses is loaded."""
    run("create", "web", "--template", "tiny")
    program = (
        "import sys, atexit; sys.argv = ['interlock', 'start', 'web']\n"
        "atexit.register(lambda: print(*sys.modules))\n"
        "from interlock.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300, check=True
    )

    loaded = done.stdout.split()
    assert "interlock.drivers.qemu" in loaded
    assert [name for name in loaded if name.startswith(("interlock.templates", "interlock.images"))] == []


def test_start_needs_no_template_no_image_and_no_network(environment: dict[str, str], tmp_path: Path) -> None:
    """Without templates, image store, the code for both, and a network, an instance still starts, answers and stops."""
    copy = tmp_path / "copy" / "interlock"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns(".*", "tests", "build", "*.egg-info"))
    environment = {**environment, "PYTHONPATH": str(copy.parent)}
    program = [sys.executable, "-m", "interlock"]

    def run(command: list[str]) -> str:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run([*program, "create", "web", "--template", "tiny"])
    shutil.rmtree(copy / "templates")
    shutil.rmtree(copy / "images")
    Path(environment["INTERLOCK_HOME"], "images").unlink()

    interlock = " ".join(program)
    life = f"{interlock} start web && {interlock} shell web hostname && {interlock} stop web"
    alone = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    try:
        assert run([*alone, "sh", "-c", f"ip link set lo up && {life} && {life}"]) == "web\nweb\n"
    finally:
        run([*program, "delete", "--force", "web"])


@pytest.mark.warm
@pytest.mark.parametrize(
    ("command", "reason"),
    [("poweroff -f", "guest shut down"), ("echo c > /proc/sysrq-trigger", "guest panicked")],
    ids=["poweroff", "panic"],
)
def test_guest_that_goes_down_by_itself_is_stopped_with_its_reason(run: Run, command: str, reason: str) -> None:
    """The next `list` says that it is stopped, and why; then `start` works."""
    run("create", "web", "--template", "tiny", "--user", "root")
    run("start", "web")
    run("shell", "web", "--", "sh", "-c", f"({command}) >/dev/null 2>&1 & sleep 9", code=255)

    assert wait_for_status(run, "stopped")["reason"] == reason
    run("start", "web")


@pytest.mark.warm
def test_hypervisor_that_is_killed_leaves_a_stopped_instance(run: Run) -> None:
    """After a SIGKILL of QEMU the next `list` says that it is stopped, and why; then `start` works."""
    run("create", "web", "--template", "tiny")
    run("start", "web")
    os.kill(int(str(listed(run)[0]["pid"])), signal.SIGKILL)

    assert wait_for_status(run, "stopped")["reason"] == "hypervisor was killed or crashed"
    run("start", "web")


def test_start_that_is_interrupted_leaves_nothing_alive(run: Run, environment: dict[str, str]) -> None:
    """Ctrl-C while the guest boots ends the guest, and the instance is in the state before the start."""
    run("create", "web", "--template", "tiny")
    starting = subprocess.Popen([PROGRAM, "start", "web"], env=environment, **UNHEARD)
    give_up = time.monotonic() + 60
    while (listed(run)[0]["operation"] or {}).get("step") != "hypervisor started":  # type: ignore[union-attr]
        assert time.monotonic() < give_up
        time.sleep(0.05)
    pid = int(str(listed(run)[0]["pid"]))
    starting.send_signal(signal.SIGINT)

    assert starting.wait(60) == 130
    assert listed(run)[0]["state"] == "created"
    assert started_ticks(pid) is None


@pytest.mark.warm
def test_renamed_guest_starts_with_its_disk_and_its_clone(run: Run) -> None:
    """It keeps its disk, ssh port and hostname; its clone does not depend on its name."""
    run("create", "web", "--template", "tiny")
    run("start", "web")
    run("run", "web", "--", "sh", "-c", "echo kept >~/note")
    port = next(status["ssh_port"] for status in listed(run))
    run("stop", "web")
    run("clone", "web", "copy")
    run("rename", "web", "site")
    assert {status["name"]: status["state"] for status in listed(run)} == {"copy": "created", "site": "stopped"}
    run("start", "site")
    assert run("run", "site", "--", "sh", "-c", "cat ~/note; hostname").stdout.split() == ["kept", "web"]
    assert next(status["ssh_port"] for status in listed(run) if status["name"] == "site") == port
    assert 'it was renamed to "site"' in run("shell", "web", "--", "true", code=4).stderr
    run("delete", "--force", "site")
    run("start", "copy")
    assert run("run", "copy", "--", "sh", "-c", "cat ~/note").stdout.split() == ["kept"]
