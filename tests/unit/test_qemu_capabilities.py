"""QEMU's answers about itself are read completely, however slowly."""

import json
import tracemalloc

import pytest

from interlock.drivers.qemu import capabilities
from interlock.errors import HostError

FUSSY = """\
#!/bin/sh
[ -f /proc/self/fd/1 ] || exit 3
"""
"""A QEMU that fails unless its stdout is a file. The real one drops output that a full pipe does not take."""


def test_ask_lets_qemu_answer_into_a_file(tmp_path):
    """A file takes every answer at once, so no answer is lost; this QEMU prints nothing."""
    binary = tmp_path / "qemu-system-x86_64"
    binary.write_text(FUSSY)
    binary.chmod(0o700)
    with pytest.raises(HostError, match="not enough values"):
        capabilities._ask(str(binary), "x86_64", 60.0)


def test_answer_of_any_length_takes_little_memory(tmp_path):
    """A program in the place of QEMU may print anything; its first words are enough to refuse it."""
    binary = tmp_path / "qemu-system-x86_64"
    binary.write_text("#!/bin/sh\nhead -c 50000000 /dev/zero\n")
    binary.chmod(0o700)
    tracemalloc.start()
    with pytest.raises(HostError, match="does not understand"):
        capabilities._ask(str(binary), "x86_64", 60.0)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 20_000_000


def test_capabilities_are_of_qemus_newest_machine_and_asked_again_by_another_version_of_us(tmp_path):
    """A cached record that lacks a fact of this version is not used; QEMU itself reports its maximum of processors."""
    found = capabilities.capabilities(tmp_path, "x86_64")
    assert found.machine in found.machines
    assert 64 <= found.max_cpus <= 1 << 16
    record = json.loads((tmp_path / "qemu-x86_64.json").read_text())
    del record["found"]["max_cpus"]
    record["key"].remove("max_cpus")
    (tmp_path / "qemu-x86_64.json").write_text(json.dumps(record))
    assert capabilities.capabilities(tmp_path, "x86_64") == found
