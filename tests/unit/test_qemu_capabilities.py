"""What QEMU says of itself is heard to its end, however slowly it is read."""

import json
import tracemalloc

import pytest

from interlock.drivers.qemu import capabilities
from interlock.errors import HostError

FUSSY = """\
#!/bin/sh
[ -f /proc/self/fd/1 ] || exit 3
"""
"""A QEMU that fails unless it writes into a file. The real one throws away what a full pipe has not taken."""


def test_ask_lets_qemu_answer_into_a_file(tmp_path):
    """A file takes every answer at once, so none is lost; this QEMU gives none."""
    binary = tmp_path / "qemu-system-x86_64"
    binary.write_text(FUSSY)
    binary.chmod(0o700)
    with pytest.raises(HostError, match="not enough values"):
        capabilities._ask(str(binary), "x86_64", 60.0)


def test_answer_of_any_length_takes_little_memory(tmp_path):
    """What is in the place of QEMU may say anything, and is refused by its first words."""
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
    """What is remembered may lack what a newer Interlock asks for; QEMU itself says how many processors it can have."""
    found = capabilities.capabilities(tmp_path, "x86_64")
    assert found.machine in found.machines
    assert 64 <= found.max_cpus <= 1 << 16
    record = json.loads((tmp_path / "qemu-x86_64.json").read_text())
    del record["found"]["max_cpus"]
    record["key"].remove("max_cpus")
    (tmp_path / "qemu-x86_64.json").write_text(json.dumps(record))
    assert capabilities.capabilities(tmp_path, "x86_64") == found
