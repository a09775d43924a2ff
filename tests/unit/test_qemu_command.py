"""The hypervisor's command line, compared with reviewed text, and the records that it is built from."""

import shlex
from pathlib import Path

import pytest

from interlock.drivers.contract import Site
from interlock.drivers.qemu import lan
from interlock.drivers.qemu.capabilities import DEVICES, Capabilities
from interlock.drivers.qemu.command import Board, build
from interlock.errors import DamagedError, HostError
from interlock.fsm.spec import Disk, Forward, Mount, Spec

MACHINES = {"x86_64": "pc-q35-7.2", "aarch64": "virt-7.2"}
CASES = [
    (arch, boot, accelerator) for arch in MACHINES for boot in ("kernel", "firmware") for accelerator in ("kvm", "tcg")
]


def forward(proto, guest_ip, guest_port, host_ip, host_port) -> Forward:
    return Forward(proto, guest_ip, guest_port, "", host_ip, host_port, "", reverse=False)


ALL = {
    "cpu_model": "Haswell",
    "mounts": (
        Mount("/srv/two words, one comma", "/mnt", writable=False, type="9p", security_model="none"),
        Mount("/srv/out", "/out", writable=True, type="9p", security_model="mapped-xattr"),
        Mount("/srv/fast", "/fast", writable=True, type="virtiofs", security_model="none"),
    ),
    "forwards": (
        forward("tcp", "0.0.0.0", 80, "127.0.0.1", 8080),
        forward("udp", "0.0.0.0", 53, "0.0.0.0", 5353),
        forward("tcp", "127.0.0.1", 81, "127.0.0.1", 8081),
        forward("tcp", "0.0.0.0", 82, "::1", 8082),
    ),
    "disks": (Disk("data", "qcow2"), Disk("Raw.1", "raw")),
    "lan": "lima0",
    "nested": True,
    "tpm": True,
    "vnc": "127.0.0.1:3,to=9",
}
"""All that a machine can have; forwards over ssh are not in QEMU's command line."""


def capable(arch: str, **changes) -> Capabilities:
    facts = {
        "binary": f"/usr/bin/qemu-system-{arch}",
        "version": "7.2.22",
        "machine": MACHINES[arch],
        "machines": list(MACHINES.values()),
        "accelerators": ["kvm", "tcg"],
        "devices": sorted(DEVICES),
        "sandbox": True,
        "max_cpus": 288,
        "memfd": True,
    }
    return Capabilities(**(facts | changes))


def site(
    directory: Path, arch="x86_64", boot="kernel", runtime=Path("/run/user/1000/interlock/0123456789ab"), **more
) -> Site:
    spec = Spec(
        driver="qemu",
        arch=arch,
        cpus=2,
        memory_bytes=1 << 30,
        disk_bytes=10 << 30,
        user="ada",
        hostname="web",
        instance_id="i-1",
        boot=boot,
        kernel_arguments="console=ttyS0 quiet" if boot == "kernel" else "",
        start_timeout_s=300.0,
        stop_timeout_s=60.0,
        created_at="2026-01-01T00:00:00.000000Z",
        **more,
    )
    return Site("web", directory, runtime, spec)


def text(command: list[str]) -> str:
    """Return the command as a person reads it: an option and its value on one line."""
    lines: list[str] = []
    for word in command:
        if word.startswith("-") or not lines:
            lines.append(shlex.quote(word))
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return "\n".join(f"  {line}" for line in lines) + "\n"


def test_command_line_is_as_reviewed(golden, agrees, tmp_path, monkeypatch):
    """A machine's parts change only by decision: a diff of the golden file changes everyone's machine."""
    monkeypatch.setattr(lan, "neighbours", lambda runtime_root, _: runtime_root / "net-0123456789ab")
    (tmp_path / "firmware").mkdir()
    (tmp_path / "firmware" / "seed.iso").touch()
    (tmp_path / "all").mkdir()
    for name in ("cd.iso", "seed.iso"):
        (tmp_path / "all" / name).touch()
    (tmp_path / "kernel").mkdir()
    found = ""
    for arch, boot, accelerator in CASES:
        able = capable(arch)
        command = build(site(tmp_path / boot, arch, boot), Board.newest(able), able, accelerator, 22022)
        found += f"{arch}, boot by {boot}, {accelerator}\n{text(command)}"
    able = capable("x86_64")
    command = build(site(tmp_path / "all", boot="bios", **ALL), Board.newest(able), able, "tcg", 22022)
    found += f"x86_64, boot by bios, tcg, with all that it can have\n{text(command)}"
    able = capable("aarch64")
    (tmp_path / "cd").mkdir()
    (tmp_path / "cd" / "cd.iso").touch()
    asked = {"vnc": "127.0.0.1:0", "tpm": True, "nested": True}
    command = build(site(tmp_path / "cd", "aarch64", "firmware", **asked), Board.newest(able), able, "tcg", 22022)
    found += f"aarch64, boot by firmware from a CD, tcg, with screen, TPM and nested virtualization\n{text(command)}"
    agrees(golden / "qemu-command.txt", found)


def test_command_line_without_optional_abilities_leaves_them_out(tmp_path):
    """A QEMU without seccomp, or without the panic device, still runs machines."""
    able = capable("x86_64", sandbox=False, devices=[], memfd=False)
    command = build(site(tmp_path), Board.newest(able), able, "tcg", 22022)
    assert "-sandbox" not in command
    assert "-object" not in command
    assert "vmgenid,guid=auto" not in command
    assert "pvpanic-pci" not in command
    assert not any(word.startswith("virtserialport") for word in command)


@pytest.mark.parametrize(
    ("version", "threads"), [("7.2.22", "single"), ("8.0.5", "single"), ("8.1.0", "multi"), ("10.0.0", "multi")]
)
def test_processors_are_emulated_side_by_side_only_where_that_does_not_hang(version, threads, tmp_path):
    """QEMU before 8.1 loses what one processor writes over code that another is about to run."""
    able = capable("x86_64", version=version)
    command = build(site(tmp_path), Board.newest(able), able, "tcg", 22022)
    assert command[command.index("-accel") + 1].split(",")[1] == f"thread={threads}"


def test_command_line_of_a_closed_guest_keeps_the_ways_in(tmp_path):
    """The network is closed to the guest only: the host still reaches it by ssh and by each forward."""
    able = capable("x86_64")
    closed = site(tmp_path, network_host=False, network_internet=False, forwards=ALL["forwards"][:1])
    command = build(closed, Board.newest(able), able, "tcg", 22022)
    assert (
        command[command.index("-netdev") + 1]
        == "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:22022-:22,hostfwd=tcp:127.0.0.1:8080-:80"
    )


def test_command_line_with_too_long_socket_is_refused(tmp_path):
    """A path that the kernel would refuse gets an error that states the limit."""
    able = capable("x86_64")
    with pytest.raises(HostError, match="longer than the 107 bytes"):
        build(site(tmp_path, runtime=Path("/run/" + "x" * 100)), Board.newest(able), able, "tcg", 22022)


def test_board_is_kept_when_qemu_is_upgraded(tmp_path):
    """The machine type that create chose is used for every later start."""
    old, new = capable("x86_64"), capable("x86_64", machine="pc-q35-9.2", machines=["pc-q35-7.2", "pc-q35-9.2"])
    Board.newest(old).write(tmp_path)
    board = Board.read(tmp_path)
    board.check(new)
    command = build(site(tmp_path), board, new, "tcg", 22022)
    assert command[command.index("-machine") + 1].split(",")[0] == "pc-q35-7.2"


def test_board_of_an_older_version_keeps_its_devices(tmp_path):
    """A machine that was created without a device never gets it: its guest would see it."""
    (tmp_path / "qemu.json").write_text('{"machine": "pc-q35-7.2", "panic_device": true, "schema": 1}')
    command = build(site(tmp_path), Board.read(tmp_path), capable("x86_64"), "tcg", 22022)
    assert "vmgenid,guid=auto" not in command
    assert not any(word.startswith("virtserialport") for word in command)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"machine": "x", "panic_device": true, "schema": 99}', '{"x": 1}']
)
def test_board_that_is_damaged_names_its_file(tmp_path, content):
    """A record that cannot be understood is damage, reported with the file's name."""
    (tmp_path / "qemu.json").write_text(content)
    with pytest.raises(DamagedError, match=r"qemu\.json"):
        Board.read(tmp_path)


def test_network_of_instances_takes_a_qemu_that_has_it(tmp_path):
    """An older QEMU would only say that it does not know the option."""
    able = capable("x86_64", version="7.1.0")
    with pytest.raises(HostError, match=r"networks between instances need QEMU 7\.2; this is 7\.1\.0"):
        build(site(tmp_path, lan="lima0"), Board.newest(able), able, "tcg", 22022)
