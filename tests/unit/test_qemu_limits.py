"""A machine that QEMU could never run on this host is refused with a clear message before anything is created."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from interlock.drivers.qemu import limits, tpm
from interlock.drivers.qemu.driver import QemuDriver
from interlock.errors import HostError

GIB = 1 << 30


@pytest.fixture
def proc(tmp_path):
    """Return a function that makes a /proc with 16 GiB of RAM, 4 GiB of swap and a commit limit of 10 GiB."""

    def make(overcommit: int):
        (tmp_path / "sys/vm").mkdir(parents=True)
        (tmp_path / "sys/vm/overcommit_memory").write_text(f"{overcommit}\n")
        rows = {"MemTotal": 16, "SwapTotal": 4, "CommitLimit": 10}
        (tmp_path / "meminfo").write_text("".join(f"{key}: {value << 20:>12} kB\n" for key, value in rows.items()))
        return tmp_path

    return make


@pytest.mark.parametrize(("overcommit", "most_gib"), [(0, 20), (2, 10)])
def test_memory_beyond_what_the_kernel_gives_is_refused_with_both_figures(proc, overcommit, most_gib):
    """A guest may have more memory than the host's RAM, because there is swap, but not more than the kernel commits."""
    host = proc(overcommit)
    limits.check_memory(most_gib * GIB, host)
    with pytest.raises(HostError, match=rf"^500 GiB of memory .+ \({most_gib} GiB: ") as refused:
        limits.check_memory(500 * GIB, host)
    assert refused.value.exit_code == 6


def test_memory_where_the_kernel_refuses_nothing_is_not_refused(proc):
    """With overcommit_memory=1, the kernel grants any amount."""
    limits.check_memory(500 * GIB, proc(1))


@pytest.mark.parametrize(
    ("host", "internet", "possible"), [(True, True, 1), (False, False, 1), (False, True, 0), (True, False, 0)]
)
def test_network_refuses_what_the_user_network_cannot_close(spec, host, internet, possible):
    """QEMU can only close both or neither; one alone is refused, because the guest would reach what it should not."""
    asked = spec._replace(network_host=host, network_internet=internet)
    with nullcontext() if possible else pytest.raises(HostError, match="both, or neither"):
        limits.check_network(asked)


def test_create_of_too_much_memory_is_refused_before_an_image_is_brought(home, monkeypatch):
    """No image is built for minutes for a machine that could not start."""
    from interlock import Interlock, Wishes

    def check(_driver, spec):
        raise HostError(f"{spec.memory_bytes} bytes")

    monkeypatch.setattr(QemuDriver, "check", check)
    with pytest.raises(HostError, match=str(500 * GIB)):
        Interlock().create("web", "tiny", Wishes(memory_bytes=500 * GIB))
    assert not home.images.exists()


@pytest.mark.parametrize("closed", ["host", "internet"])
def test_create_with_a_half_closed_network_is_refused_before_an_image_is_obtained(home, tmp_path, closed):
    """It gives the same error as `template validate`, at once, and creates nothing."""
    from interlock import Interlock

    template = tmp_path / "web.yaml"
    template.write_text(f"base: template:tiny\nnetwork: {{{closed}: false}}\n")
    with pytest.raises(HostError, match="both, or neither"):
        Interlock().create("web", str(template))
    assert not home.images.exists()
    assert not home.directory("web").exists()


@pytest.mark.parametrize(("cpus", "possible"), [(255, True), (288, True), (289, False), (1024, False)])
def test_more_processors_than_the_machine_can_have_are_refused(monkeypatch, spec, cpus, possible):
    """QEMU's machine type has a limit, and every start would fail there; the host may have fewer processors."""
    able = SimpleNamespace(machine="pc-q35-7.2", max_cpus=288)
    monkeypatch.setattr(limits.capabilities, "ask", lambda _: able)
    refused = pytest.raises(HostError, match=rf"^{cpus} cpus are more than QEMU's pc-q35-7\.2 can have \(288\)$")
    with nullcontext() if possible else refused:
        QemuDriver().check(spec._replace(cpus=cpus))


@pytest.mark.parametrize(
    ("said", "arch", "accelerator", "words"),
    [
        ({"kvm_intel": "Y"}, "x86_64", "kvm", None),
        ({"kvm_amd": "1"}, "x86_64", "kvm", None),
        ({"kvm_intel": "N"}, "x86_64", "kvm", "kvm_intel does not let guests"),
        ({}, "x86_64", "tcg", None),
        ({}, "aarch64", "tcg", None),
        ({}, "aarch64", "kvm", "KVM does not let guests of aarch64"),
    ],
)
def test_machines_in_a_guest_are_refused_where_kvm_forbids_them(tmp_path, said, arch, accelerator, words):
    """Emulation always supports nested machines; KVM has a module parameter for them, and the hint sets it."""
    for module, value in said.items():
        (tmp_path / "module" / module / "parameters").mkdir(parents=True)
        (tmp_path / "module" / module / "parameters" / "nested").write_text(f"{value}\n")
    with pytest.raises(HostError, match=words) if words else nullcontext():
        limits.check_nested(SimpleNamespace(nested=True, arch=arch), accelerator, tmp_path)


def test_tpm_without_its_program_is_refused_with_the_package(monkeypatch):
    """The error names the missing program, and the hint installs it."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostError, match="swtpm is not installed") as caught:
        tpm.check(SimpleNamespace(tpm=True))
    assert caught.value.hint == "apt install swtpm"
