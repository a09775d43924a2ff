"""What `doctor` says about a host that lacks something for QEMU: each finding has the command that fixes it."""

import platform

import pytest

from interlock.drivers.qemu import capabilities, checks, firmware, mounts
from interlock.errors import HostError


@pytest.fixture
def finding(tmp_path, monkeypatch):
    """Return a function that returns the finding about a subject on a host with a QEMU and no firmware."""
    able = type("Able", (), {"version": "7.2", "machine": "pc-q35-7.2", "threads": "multi"})
    monkeypatch.setattr(capabilities, "capabilities", lambda _runtime, _arch: able)
    monkeypatch.setattr(firmware, "find", lambda *_: raised(HostError("no firmware", hint="apt install ovmf")))

    def find(subject):
        return next(it for it in checks.checks(tmp_path, [platform.machine()]) if it.subject == subject)

    return find


def raised(error):
    raise error


def test_missing_virtiofsd_comes_with_the_package_that_has_it(finding, monkeypatch, hints):
    """virtiofsd has a package of its own since QEMU 8; without virtiofsd, mounts of type 9p still work."""
    monkeypatch.setattr(mounts, "find", lambda: raised(HostError("virtiofsd is not installed")))
    found = finding("virtiofsd")
    assert (found.ok, found.essential) == (False, False)
    assert found.mend == "apt install virtiofsd || apt install qemu-system-common"
    hints.add(found.mend)


def test_unusable_kvm_comes_with_the_command_that_makes_it_usable(finding, monkeypatch):
    """The finding has the reason and the command from the verdict on KVM."""
    slow = capabilities.Acceleration("tcg", "/dev/kvm does not exist", "sudo modprobe kvm_intel")
    monkeypatch.setattr(capabilities, "acceleration", lambda _runtime, _arch: slow)
    found = finding("kvm")
    assert (found.ok, found.finding, found.mend) == (False, slow.reason, slow.mend)


def test_missing_firmware_comes_with_its_package(finding):
    """The hint of the error is the command to type."""
    assert finding(f"firmware {platform.machine()}").mend == "apt install ovmf"
