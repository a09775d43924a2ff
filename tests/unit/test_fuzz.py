"""Whatever bytes an instance's files hold, reading them gives a value or an InterlockError."""

import json
import os
import socketserver
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from interlock.drivers.qemu import events, hypervisor, monitor, ssh_port
from interlock.drivers.qemu.command import RECORD, Board
from interlock.drivers.simulated import FILE, UNLIMITED, SimulatedDriver
from interlock.errors import DamagedError, InterlockError, InvalidNameError, InvalidTemplateError, UsageError
from interlock.fsm import words
from interlock.fsm.journal import NO_LINE, Line
from interlock.fsm.port import Site
from interlock.fsm.records import checked_name
from interlock.fsm.spec import SPEC_FILE, Disk, Mount, Spec
from interlock.host.home import Home
from interlock.host.process import boot_id
from interlock.host.sizes import size_bytes
from interlock.templates.load import Source, parse

BOUNDED = settings(
    max_examples=150,
    deadline=None,  # the machine may be busy
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

NUMBERS = st.one_of(
    st.integers(), st.sampled_from([10**400, -(10**400), 1 << 63]), st.floats(allow_nan=True, allow_infinity=True)
)
TEXT = st.text(st.characters(), max_size=30)  # with lone surrogates, as in file names that are not UTF-8
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
BYTES = st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode()), st.just(b"[" * 100_000))

SPEC = {
    "driver": "simulated",
    "arch": "x86_64",
    "cpus": 1,
    "memory_bytes": 1 << 28,
    "disk_bytes": 1 << 30,
    "user": "user",
    "hostname": "web",
    "instance_id": "i-1",
    "boot": "kernel",
    "start_timeout_s": 30.0,
    "stop_timeout_s": 10.0,
    "kernel_arguments": "",
    "accelerator": "auto",
    "origin": "",
    "created_at": "2026-01-01T00:00:00.000000Z",
    "schema": 1,
}
LINE = {
    "seq": 1,
    "time": "2026-01-01T00:00:00.000000Z",
    "trigger": "start",
    "source": "created",
    "dest": "running",
    "phase": "failed",
    "elapsed_s": 1.0,
    "step": "waiting",
    "deadline": None,
    "detail": "words",
    "error": {"reference": "driver-failed", "message": "no", "hint": None, "details": []},
    "actor": {"pid": 1, "started_ticks": 1, "boot_id": "b", "command": "c"},
}


MOUNT = {"location": "/a", "mount_point": "/b", "writable": True, "type": "9p", "security_model": "none"}
DISK = {"name": "data", "format": "raw"}


def nested(field, content):
    """Return a spec, as bytes, whose list `field` holds `content`."""
    return json.dumps(SPEC).encode()[:-1] + b', "%s": [%s]}' % (field.encode(), content)


def changed(record):
    """Return a strategy: `record` with one field replaced by any value, or bytes of any kind."""
    fields = st.sampled_from(sorted(record))
    one = st.builds(lambda key, value: json.dumps({**record, key: value}).encode(), fields, JSON)
    return one | BYTES


@pytest.fixture(scope="module")
def folder():
    """Return a folder that is never emptied: each example overwrites the files of the one before."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def site(folder: Path) -> Site:
    """Return a site whose directory and runtime directory are `folder`."""
    return Site("web", folder, folder, Spec(**SPEC))


@BOUNDED
@given(TEXT | st.from_regex(r"[./-].*"))
def test_checked_name_of_anything_stays_in_its_folder(name):
    """An accepted name is one plain ASCII path component and no option; any other is an InvalidNameError."""
    try:
        accepted = checked_name(name)
    except InvalidNameError:
        return
    assert Home(Path("/h"), Path("/r")).directory(accepted) == Path("/h/instances", name)
    assert (accepted.isascii(), accepted.isprintable(), accepted[0] in "-.", "/" in accepted) == (
        True,
        True,
        False,
        False,
    )


@BOUNDED
@given(
    content=changed(SPEC)
    | st.builds(nested, st.just("mounts"), changed(MOUNT))
    | st.builds(nested, st.just("disks"), changed(DISK))
)
@example(content=json.dumps({**SPEC, "memory_bytes": 10**400}).encode())
@example(content=json.dumps({**SPEC, "start_timeout_s": float("nan")}).encode())
def test_spec_of_anything_is_a_spec_that_can_be_shown_or_damage(folder, content):
    """An accepted spec has numbers that fit a column and a clock; anything else is a DamagedError."""
    (folder / SPEC_FILE).write_bytes(content)
    try:
        spec = Spec.read(folder)
    except DamagedError:
        return
    assert all(0 <= value < 1 << 63 for value in spec.to_json().values() if isinstance(value, int | float))
    assert all(isinstance(record, Mount | Disk) for record in (*spec.mounts, *spec.disks))


@BOUNDED
@given(content=changed(LINE))
@example(content=json.dumps({**LINE, "time": "0005-01-01T00:00:00Z"}).encode())
@example(content=json.dumps({**LINE, "error": {"reference": [], "message": 5, "details": 5}}).encode())
def test_line_of_any_bytes_is_parsed_or_dropped(content):
    """An accepted line can be shown and counted from, and its error raised again; anything else is a NO_LINE."""
    try:
        line = Line.parse(content)
    except NO_LINE:
        return
    words.seconds_since(line.since)
    json.dumps(line.to_json())
    if line.error:
        assert InterlockError.from_record(line.error).message == line.error["message"]


@BOUNDED
@given(changed({"ssh_port": 23118}))
def test_recorded_port_of_anything_is_a_port_or_none(folder, content):
    """No number outside the range of ports reaches the kernel or QEMU."""
    (folder / ssh_port.RECORD).write_bytes(content)
    port = ssh_port.recorded(folder)
    assert port is None or 0 < port < 65536


@BOUNDED
@given(changed({"machine": "pc-q35-7.2", "panic_device": True, "schema": 1}))
def test_board_of_anything_is_a_board_or_damage(folder, content):
    """An unreadable board is a DamagedError, never another board."""
    (folder / RECORD).write_bytes(content)
    with suppress(DamagedError):
        assert Board.read(folder).schema == 1


@BOUNDED
@given(BYTES, st.integers(), st.text(max_size=300))
def test_hypervisor_of_any_record_is_found_only_when_proved(folder, content, number, tail):
    """Whatever hypervisor.id says, no other process is taken for the hypervisor, and nothing is raised."""
    fields = " ".join(["S", *["1"] * 18, "2"])
    ours = (f"{pid} (sh) {fields}\n{boot_id()}\n".encode() for pid in (number, 10**4200, 1 << 23, 0, -1))
    for record in (content, f"{number} (sh) {tail}\n{tail}\n".encode(errors="replace"), *ours):
        (folder / hypervisor.RECORD).write_bytes(record)
        assert hypervisor.find(folder) is None


@BOUNDED
@given(st.lists(changed({"event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}}), max_size=3))
def test_events_of_anything_tell_words_or_nothing(lines):
    """Reason and condition are text or None, whatever the file holds: `list` reads it for every running instance."""
    read = events.parse(b"\n".join(lines))
    assert isinstance(events.shutdown_reason(read), str | None)
    assert isinstance(events.condition(read), str | None)


@BOUNDED
@given(changed({"alive": True, "boot_id": "b", "boots": 1, "exit_reason": None, "condition": None}))
def test_simulated_machine_of_anything_can_be_observed(folder, content):
    """An unreadable record is shown as a machine that is down, with the reason; no call raises for it."""
    (folder / FILE).write_bytes(content)
    seen = SimulatedDriver(orders={}).observe(site(folder))
    assert isinstance(seen.condition, str | None)
    assert isinstance(seen.exit_reason, str | None)


TEMPLATE = b"images: [{location: 'build:tiny', arch: x86_64}]\n"


@BOUNDED
@given(
    st.one_of(
        st.binary(max_size=200),
        JSON.map(lambda value: json.dumps(value).encode()),
        st.text(st.sampled_from("{}[]:&*!?|>-%@`'\",# \n\tab01._~<="), max_size=40).map(str.encode),
        st.builds(
            lambda key, tag, value: TEMPLATE + f"{key}: {tag} {value}".encode(errors="replace"),
            st.sampled_from(["cpus", "memory", "disk", "message", "user", "provision", "<<"]),
            st.sampled_from(["", "!!int", "!!bool", "!!float", "!!timestamp", "!!binary", "!!set", "!!omap"]),
            JSON.map(json.dumps) | TEXT,
        ),
    )
)
def test_template_of_any_text_is_a_template_or_its_mistakes(text):
    """Every text is a template that names an image, or an InvalidTemplateError."""
    with suppress(InvalidTemplateError):
        assert parse(Source("x.yaml", text)).template.images


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",  # a few more lines would expand to gigabytes
        "[" * 20_000,
        "{a: " * 20_000,
        "cpus: " + "9" * 5000,
        "memory: " + "9" * 5000 + "GiB",
        "message: 2026-99-99",
        "message: !!bool maybe",
        "x" * ((1 << 20) + 1),
        "message: '\x1b[31m'",
        "1: 2",
    ],
    ids=lambda text: text[:16],
)
def test_template_that_explodes_is_refused(text):
    """Aliases, depth, length and values that fit no tag are ordinary mistakes, and take no memory."""
    with pytest.raises(InvalidTemplateError) as caught:
        parse(Source("x.yaml", text.encode()))
    assert all(len(line) < 400 for line in (caught.value.message, *caught.value.details))


@BOUNDED
@example("9" * 400 + "GiB")
@example("²")
@given(TEXT | st.from_regex(r"\A\d{1,30}(\.\d{1,30})?\s*([KMGT]i?B?)?\Z") | NUMBERS)
def test_size_of_anything_is_a_number_of_bytes_or_a_mistake(value):
    """No text gives a number too large to store; anything else is a ValueError."""
    try:
        number = size_bytes(value)
    except ValueError:
        return
    assert number == value if isinstance(value, int) else 0 <= number < 10**18 * 1024**4


@pytest.mark.parametrize(
    "orders", ["{", "[]", "1", '{"start": 1}', '{"start": {"delay_s": "x"}}', '{"start": {"oops": 1}}', "[" * 100_000]
)
def test_simulated_orders_that_are_none_are_a_usage_error(folder, monkeypatch, orders):
    """A mistake in INTERLOCK_SIMULATED is a usage error with the variable's name."""
    monkeypatch.setenv("INTERLOCK_SIMULATED", orders)
    with pytest.raises(UsageError, match="INTERLOCK_SIMULATED"):
        SimulatedDriver().start(site(folder), lambda _: None, UNLIMITED)


GREETING = b'{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}\r\n'


@pytest.mark.parametrize(
    "replies",
    [
        (b"",),
        (b"\xff\xfe\n",),
        (b"null\n",),
        (b"[" * 100_000 + b"\n",),
        (b'{"QMP": 5}\n',),
        (b"x" * (1 << 20),),
        (GREETING, b"\n"),
        (GREETING, b'{"return": {}, "id": 5}\r\n'),
        (GREETING, b'{"error": 5}\r\n'),
        (GREETING, b'{"error": {"class": "GenericError", "desc": "\\u001b[31m"}}\r\n'),
        (GREETING, b'{"event": []}\r\n'),
    ],
    ids=lambda replies: repr(replies[-1][:24]),
)
def test_monitor_that_answers_anything_is_a_monitor_error(replies):
    """Whatever answers in the monitor's place, `execute` ends in time, with an error of ours."""

    class Hypervisor(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                for reply in replies:
                    self.request.sendall(reply)
                self.request.recv(1)

    with (
        tempfile.TemporaryDirectory() as folder,
        socketserver.UnixStreamServer(str(Path(folder, monitor.SOCKET)), Hypervisor) as server,
    ):
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(monitor.MonitorError):
            monitor.execute(Path(folder), "query-status", 0.5)
        server.shutdown()


def test_monitor_that_talks_without_end_is_given_up():
    """Its output is not collected until the deadline."""

    class Flood(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while True:
                    self.request.sendall(b"x" * 65536)

    with (
        tempfile.TemporaryDirectory() as folder,
        socketserver.UnixStreamServer(str(Path(folder, monitor.SOCKET)), Flood) as server,
    ):
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(monitor.MonitorError, match="its output does not end"):
            monitor.execute(Path(folder), "query-status", 60)
        server.shutdown()
