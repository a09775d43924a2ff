"""What QEMU's own log of events says, read from logs that QEMU 7.2 wrote (tests/golden/events)."""

import pytest

from interlock.drivers.qemu import ended, events, hypervisor, logs
from interlock.host.process import boot_id

SIGNED = "4194305 (sh) S " + "0 " * 18 + "1"
"""A process that cannot exist: its pid is above the largest that Linux uses. Source: proc(5), pid_max."""


@pytest.fixture
def logged(golden):
    return lambda name: events.parse((golden / "events" / f"{name}.jsonl").read_bytes())


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("shutdown", "guest shut down"),
        ("panic", "guest panicked"),
        ("terminated", "hypervisor was terminated by a signal"),
        ("quit", "quit through the monitor"),
        ("killed", None),
        ("paused", None),
    ],
)
def test_shutdown_reason_of_real_log_is_read(logged, log, reason):
    """Each kind of shutdown leaves its own last line; a process that was killed leaves no such line."""
    assert events.shutdown_reason(logged(log)) == reason


@pytest.mark.parametrize(
    ("log", "condition"),
    [("paused", "paused"), ("nospace", "paused: the host's disk is full"), ("killed", None), ("shutdown", None)],
)
def test_condition_of_real_log_is_read(logged, log, condition):
    """A machine that is alive but paused says why."""
    assert events.condition(logged(log)) == condition


def test_condition_after_resume_is_none(logged):
    """A machine that was paused and continues has no condition."""
    assert events.condition([*logged("nospace"), {"event": "RESUME"}]) is None


def test_network_is_used_once_qemu_says_so(tmp_path):
    """The guest's driver sets the card's filter when it enables the card; this is QEMU 7.2's event for that."""
    events.prepare(tmp_path)
    assert not events.uses_network(tmp_path)
    (tmp_path / logs.EVENTS.file).write_text(
        '{"timestamp": {"seconds": 1795639163, "microseconds": 52071}, "event": "NIC_RX_FILTER_CHANGED", '
        '"data": {"path": "/machine/peripheral-anon/device[0]/virtio-backend"}}\n'
    )
    assert events.uses_network(tmp_path)


def test_reason_that_qemu_invents_later_is_passed_on():
    """A cause that we do not know is given in QEMU's words."""
    said = events.shutdown_reason([{"event": "SHUTDOWN", "data": {"reason": "snapshot-load"}}])
    assert said == "hypervisor went down: snapshot-load"


def test_parse_of_damaged_log_keeps_what_is_whole():
    """NULs of preallocated space, a torn line and foreign text are skipped."""
    text = b'{"QMP": {}}\n{"event": "STOP"}\n[1]\nnoise\n{"event": "RES\0\0\0'
    assert events.parse(text) == [{"event": "STOP"}]


def test_read_without_log_is_empty(tmp_path):
    """A directory in which nothing ever ran has no events."""
    assert events.read(tmp_path) == []


@pytest.mark.parametrize(
    ("record", "log", "words", "reason"),
    [
        (None, None, "", None),
        (f"{SIGNED}\n{boot_id()}\n", "killed", "", "hypervisor was killed or crashed"),
        (f"{SIGNED}\nanother-boot\n", "killed", "", "host went down"),
        (f"{SIGNED}\nanother-boot\n", "shutdown", "", "guest shut down"),
        (f"{SIGNED}\n{boot_id()}\n", None, "qemu-system-x86_64: no\n", "hypervisor did not start: no"),
        (f"{SIGNED}\n{boot_id()}\n", "killed", "qemu-system-x86_64: warning\n", "hypervisor was killed or crashed"),
    ],
)
def test_exit_reason_weighs_all_traces(golden, tmp_path, record, log, words, reason):
    """QEMU's own event comes first; without one, the boot id tells a host that went down from a process that died."""
    if record is not None:
        (tmp_path / hypervisor.RECORD).write_text(record)
    if log is not None:
        (tmp_path / logs.EVENTS.file).write_bytes((golden / "events" / f"{log}.jsonl").read_bytes())
    (tmp_path / logs.QEMU.file).write_text(words)
    assert ended.reason(tmp_path) == reason
