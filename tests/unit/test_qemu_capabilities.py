"""What QEMU says of itself is heard to its end, however slowly it is read."""

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
