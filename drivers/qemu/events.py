"""Why a machine went down, and what is wrong with one that is up: read from the events that QEMU logs.

QEMU gets a monitor on a `pipe` chardev. It reads commands from FILE.in, here a plain file with a single
`qmp_capabilities`, which switches events on. It writes to FILE.out while it runs, and `logs` keeps that. So every event
is on disk as it happens, without a process of ours that listens.

    {"timestamp": {"seconds": 1795426932, "microseconds": 397812}, "event": "SHUTDOWN",
     "data": {"guest": true, "reason": "guest-shutdown"}}

Source: QEMU, qapi/run-state.json and qapi/block-core.json.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...host.files import open_private, read_own, write_whole
from . import logs

CHANNEL = "events"
"""The chardev's path; QEMU itself appends `.in` and `.out`."""

_OLD_OUT = f"{CHANNEL}.out"
"""A plain file, to which a hypervisor started by version 0.1.0 writes."""

SHUTDOWN_REASONS = {
    "guest-shutdown": "guest shut down",
    "guest-reset": "guest rebooted",
    "guest-panic": "guest panicked",
    "host-qmp-quit": "quit through the monitor",
    "host-signal": "hypervisor was terminated by a signal",
    "host-error": "hypervisor gave up after an error",
}
"""QEMU's ShutdownCause → our words; any other cause is shown by QEMU's name."""

VANISHED = "hypervisor was killed or crashed"
HOST_DOWN = "host went down"

FAILURES = frozenset((SHUTDOWN_REASONS["guest-panic"], SHUTDOWN_REASONS["host-error"], VANISHED))
"""The reasons that count as failures. A signal to the hypervisor or a shutdown in the guest is somebody's intent."""

_TAIL_BYTES = 65536

Event = dict[str, Any]


def prepare(directory: Path) -> None:
    """Write the command by which a hypervisor that is about to start in `directory` logs its events."""
    write_whole(directory / f"{CHANNEL}.in", b'{"execute": "qmp_capabilities"}\n')


def read(directory: Path) -> list[Event]:
    """Return the events of the present or last run, oldest first; of a long run, the latest.

    Other lines (the greeting, a reply, one cut off by a power failure) are skipped.
    """
    for name in (logs.EVENTS.file, _OLD_OUT):
        with suppress(OSError):
            return parse(read_own(directory / name, _TAIL_BYTES, tail=True))
    return []


def parse(text: bytes) -> list[Event]:
    """Return the events in `text`, which ends at the first NUL."""
    events = []
    for line in text.partition(b"\0")[0].splitlines():
        with suppress(ValueError, RecursionError):
            message = json.loads(line)
            if isinstance(message, dict) and "event" in message and isinstance(message.get("data", {}), dict):
                events.append(message)
    return events


def uses_network(directory: Path) -> bool:
    """True once the guest has switched a network card on, so it will soon have an address."""
    return any(event["event"] == "NIC_RX_FILTER_CHANGED" for event in read(directory))


def greeted(directory: Path) -> bool:
    """True when the hypervisor has written its greeting: it accepted its arguments and opened its files."""
    for name in (logs.EVENTS.file, _OLD_OUT):
        with suppress(OSError), open_private(directory / name, "rb") as file:
            return file.read(1) not in (b"", b"\0")
    return False


def shutdown_reason(events: Sequence[Event]) -> str | None:
    """Return QEMU's own reason for going down; None if it logged none."""
    for event in reversed(events):
        if event["event"] == "SHUTDOWN":
            # QEMU names the cause since 2.12, by the names used here since 4.0.
            reason = str(event.get("data", {}).get("reason", "unknown"))
            return SHUTDOWN_REASONS.get(reason, f"hypervisor went down: {reason}")
    return None


def condition(events: Sequence[Event]) -> str | None:
    """Return what is wrong with the live machine that wrote `events`; None if it simply runs."""
    paused = None
    for event in events:
        match event["event"]:
            case "BLOCK_IO_ERROR" if event.get("data", {}).get("action") == "stop":
                data = event["data"]
                cause = "the host's disk is full" if data.get("nospace") else f"disk error: {data.get('reason')}"
                paused = f"paused: {cause}"
            case "GUEST_PANICKED":
                paused = "the guest panicked"
            case "STOP":
                paused = paused or "paused"
            case "RESUME":
                paused = None
    return paused
