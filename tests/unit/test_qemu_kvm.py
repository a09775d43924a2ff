"""The verdict on KVM on every kind of host, with a fake in place of the program that runs guest code."""

import json
import os
import platform

import pytest

from interlock.drivers.qemu import capabilities, kvm
from interlock.host.process import boot_id

NATIVE = platform.machine()
FOREIGN = "aarch64" if NATIVE == "x86_64" else "x86_64"


@pytest.fixture
def probing(tmp_path, monkeypatch):
    """Return a function that replaces the program in the child, on a host whose /dev/kvm opens."""
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(kvm, "DEVICE", device)
    monkeypatch.setattr(kvm, "_DEADLINE_S", 300.0)  # Python alone takes seconds to begin on a busy machine

    def replace(program: str) -> None:
        (tmp_path / "child.py").write_text(program)
        monkeypatch.setattr(kvm, "__file__", str(tmp_path / "child.py"))

    return replace


def test_kvm_that_runs_code_fast_is_usable(probing):
    """A nanosecond for an instruction is the processor's native speed."""
    probing("print(1.5)")
    assert kvm.judge() == kvm.Verdict(usable=True, reason="it runs guest code")


def test_kvm_that_is_slower_than_emulation_is_not(probing):
    """If an outer host emulates each instruction, QEMU's own emulation is faster."""
    probing("print(743.2)")
    usable, reason, lasting, _ = kvm.judge()
    assert (usable, lasting) == (False, True)
    assert reason.endswith("takes 743 ns for an instruction, slower than emulation")


def test_kvm_that_never_returns_is_given_up(probing, monkeypatch):
    """A guest that does not run cannot hold the start up: the child is killed and the answer is no."""
    monkeypatch.setattr(kvm, "_DEADLINE_S", 0.2)
    probing("import time; time.sleep(3600)")
    assert kvm.judge().reason.endswith("opens but does not run guest code within 0.2 s")


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit('Operation not permitted')",
        "print('Operation not permitted', file=__import__('sys').stderr); raise SystemExit(3)",
    ],
)
def test_kvm_that_fails_is_quoted(probing, program):
    """The kernel's own words are the reason."""
    probing(program)
    assert kvm.judge().reason.endswith("opens but does not run guest code: Operation not permitted")


def test_kvm_that_is_missing_is_asked_again(monkeypatch, tmp_path):
    """A module loaded, or a group joined, counts at the next start: such a verdict is not kept."""
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "none")
    assert capabilities.acceleration(tmp_path, NATIVE)[:2] == ("tcg", f"{tmp_path}/none does not exist")
    assert not (tmp_path / "acceleration.json").exists()


def test_acceleration_is_found_once_for_each_boot(probing, tmp_path):
    """The verdict is kept, and holds for the boot and the kernel it was found on."""
    probing("print(1)")
    assert capabilities.acceleration(tmp_path, NATIVE)[:2] == ("kvm", "it runs guest code")
    probing("raise SystemExit('asked again')")
    assert capabilities.acceleration(tmp_path, NATIVE).name == "kvm"
    kept = tmp_path / "acceleration.json"
    kept.write_text(json.dumps(json.loads(kept.read_bytes()) | {"key": ["another boot", "6.1"]}))
    assert capabilities.acceleration(tmp_path, NATIVE).name == "tcg"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"key": 1}'])
def test_acceleration_with_damaged_file_asks_again(probing, tmp_path, content):
    """The file only saves time: if it is damaged, KVM is tested again."""
    probing("print(1)")
    (tmp_path / "acceleration.json").write_text(content)
    assert capabilities.acceleration(tmp_path, NATIVE).name == "kvm"


def test_acceleration_found_by_another_version_of_us_is_asked_again(probing, tmp_path):
    """Versions that run side by side may record other facts: neither is misled by what the other wrote."""
    key = [boot_id(), os.uname().release]
    kept = tmp_path / "acceleration.json"
    kept.write_text(
        json.dumps({"key": key, "found": {"usable": False, "reason": "", "lasting": True, "colour": "red"}})
    )
    probing("print(1)")
    assert capabilities.acceleration(tmp_path, NATIVE).name == "kvm"
    assert json.loads(kept.read_bytes())["key"] != key


def test_acceleration_of_foreign_guests_is_emulation(tmp_path):
    """A processor runs no other architecture's code, whatever /dev/kvm does."""
    assert capabilities.acceleration(tmp_path, FOREIGN)[:2] == ("tcg", f"KVM runs no {FOREIGN} guest on {NATIVE}")


@pytest.mark.parametrize(
    ("flags", "mend"), [("fpu vmx sse", "sudo modprobe kvm_intel"), ("fpu svm", "sudo modprobe kvm_amd"), ("fpu", None)]
)
def test_kvm_without_a_device_is_mended_by_the_processors_module(tmp_path, monkeypatch, flags, mend):
    """The command is the one for this processor; without virtualization there is no command."""
    (tmp_path / "cpuinfo").write_text(f"model name\t: any\nflags\t\t: {flags}\n")
    monkeypatch.setattr(kvm, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "kvm")
    assert kvm.judge().mend == mend


def test_kvm_that_may_not_be_opened_is_mended_by_its_group(tmp_path, monkeypatch):
    """Members of the device's group may open it."""
    device = tmp_path / "kvm"
    device.touch()
    os.chown(device, -1, 1)
    monkeypatch.setattr(kvm, "DEVICE", device)

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    verdict = kvm.judge()
    assert (verdict.usable, verdict.mend) == (False, "sudo usermod --append --groups daemon $USER && newgrp daemon")
