"""A file that a machine writes may have any size; only a bounded part of it is read (of a log, the end)."""

import tracemalloc

import pytest

from interlock.drivers.qemu import copies, events, hypervisor, logs, serial

MIB = 1 << 20

LINE = b'{"event": "WORD", "data": {}} and more\n'

TAIL = b'word\n{"event": "LAST"}\n'


@pytest.fixture
def peak():
    """Return a function that calls another and returns its result and its peak memory in bytes."""

    def measure(function, *arguments):
        tracemalloc.start()
        try:
            return function(*arguments), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measure


@pytest.mark.parametrize(
    ("file", "read", "expected"),
    [
        (hypervisor.RECORD, hypervisor.last, None),
        (logs.QEMU.file, hypervisor.words, [LINE.decode().rstrip()] * 8 + TAIL.decode().splitlines()),
        (logs.EVENTS.file, events.read, [{"event": "LAST"}]),
        ("events.out", events.read, [{"event": "LAST"}]),
        (logs.SERIAL.file, serial.tail, [LINE.decode().rstrip()] * 13 + TAIL.decode().splitlines()),
        (copies.RECORD, copies._recorded, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_large_file_of_a_machine_takes_little_memory(tmp_path, peak, file, read, expected):
    """Logs are read from their end; a record of that size is ignored."""
    (tmp_path / file).write_bytes(LINE * (16 * MIB // len(LINE)) + TAIL)
    found, taken = peak(read, tmp_path)
    assert found == expected
    assert taken < 2 * MIB
