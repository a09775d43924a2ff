"""The API on another host's instances: each method is a command of the Interlock there, which answers in JSON.

Results are the same records that the API returns here, errors are raised as the same classes, and events arrive as they
happen. Each call is one round trip.
"""

import base64
import json
import queue
import shlex
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import DriverError, InterlockError, NotFoundError, UsageError
from ..fsm.engine import Outcome
from ..fsm.events import Announce, quiet
from ..fsm.journal import Entry, parsed
from ..fsm.records import Mending, Status, checked_name
from ..fsm.snapshots import Snapshot
from ..fsm.states import State
from ..fsm.status import Verdict
from ..fsm.table import BY_TRIGGER, Trigger
from ..guest.command import OUTPUT_BYTES, Completed
from ..host import cancellation
from ..host.home import Home
from ..host.run import Ended
from . import answers, ways
from .address import PROGRAM, find
from .connection import Connection
from .greeting import INSTANCES, RUN, WAY
from .vms import Interlock

if TYPE_CHECKING:
    from ..creation.wishes import Wishes
    from ..drivers.contract import Driver, Node
    from ..fleet.applying import Fleet
    from ..fsm.watch import Change
    from ..guest.copying import Ask
    from ..templates.load import Loaded

    Template = str | Mapping[str, Any] | Loaded

_INPUT_BYTES = 64 << 20
"""The most input that a command in a guest there can be given."""

_LOOK_S = 0.2
"""How often a watch checks whether it is to end."""


class RemoteInterlock(Interlock):
    """The API on another host's instances.

    Transitions, reading, watching, `run`, `shell`, `copy` and `tunnel` work as on this host. Calls that deal with files
    of one host (`images`, `disks`, `templates`, `logs`, `prune`, ...) raise UsageError. In a dry run, each call is
    rehearsed by itself: it does not see the effects of earlier ones.
    """

    def __init__(
        self,
        home: Path | Home | None = None,
        *,
        host: str | None = None,
        driver: "str | Driver | None" = None,
        on_event: Announce = quiet,
        dry_run: bool = False,
        wait_s: float = 0.0,
    ) -> None:
        found = find(host or "")
        if found is None or home is not None:
            raise UsageError("another host has its own home: name it in the path of the address")
        if driver is not None and not isinstance(driver, str):
            raise UsageError("a driver object cannot be used on another host: give the name of a driver there")
        self.host = found
        if wait_s:
            self._refuse("wait_s")
        self.dry_run = dry_run
        self._name_of_driver, self._on_event = driver, on_event

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        self._refuse(name)

    def _refuse(self, what: str, *words: str) -> NoReturn:
        hint = ["interlock", "--host", self.host.label, *(words or ("list",))]
        raise UsageError(f'{what} is not available on another host, "{self.host.label}"', hint=shlex.join(hint))

    # -- asking ----------------------------------------------------------------------------------------------------

    def _ask(
        self,
        words: Sequence[str],
        *,
        on_event: Announce | None = None,
        connection: Connection | None = None,
        stdout: Callable[[bytes], object] | None = None,
    ) -> Ended:
        """Return how `words`, which print JSON, ended there; raise the error that they print."""
        connection = connection or Connection(self.host)
        ended, ear = self.call(connection, words, on_event=on_event, stdout=stdout)
        if ended.status:
            raise self.failure(connection, ended, ear)
        return ended._replace(stderr="\n".join(ear.reports).encode())

    def call(
        self,
        connection: Connection,
        words: Sequence[str],
        *,
        on_event: Announce | None = None,
        stdout: Callable[[bytes], object] | None = None,
    ) -> tuple[Ended, answers.Events]:
        """Return how `words`, which print JSON, ended there, and what they logged, whatever their exit code."""
        ear = answers.Events(self._on_event, on_event)
        kept = bytearray()

        def keep(piece: bytes) -> None:
            if len(kept) + len(piece) > 4 * OUTPUT_BYTES:
                raise DriverError(f'host "{self.host.label}" sent more than {4 * OUTPUT_BYTES >> 20} MiB')
            kept.extend(piece)

        settings = {"INTERLOCK_LOG_FORMAT": "json"}
        ended = connection.call(words, stdout=stdout or keep, stderr=ear.hear, settings=settings)
        return ended._replace(stdout=bytes(kept)), ear

    def failure(self, connection: Connection, ended: Ended, ear: answers.Events) -> InterlockError:
        """Return the error with which a call ended."""
        error = ear.error or answers.failure(ended)
        if error is None and ended.status != 255:  # noqa: PLR2004 - ssh's own
            error = InterlockError(f'host "{self.host.label}" ended with exit code {ended.status} and no message')
        return error or connection.broken()

    def _records(self, words: Sequence[str], **options: Any) -> list[dict[str, Any]]:
        return list(answers.objects(self._ask(words, **options).stdout))

    def _outcome(self, words: Sequence[str], **options: Any) -> Outcome:
        dry_run = ["--dry-run"] if self.dry_run else []
        ended = self._ask([*words, *dry_run, "--json"], **options)
        *_, last = answers.objects(ended.stdout)
        return answers.outcome(last)._replace(message=ended.stderr.decode())

    # -- rows ------------------------------------------------------------------------------------------------------

    def fire(self, name: str, trigger: Trigger, *, on_event: Announce | None = None, **arguments: Any) -> Outcome:
        """Carry out `trigger` on `name` there."""
        row = BY_TRIGGER[trigger]
        command = "cluster failover" if arguments.pop("failover", False) else row.command or trigger
        words = [*str(command).split(), checked_name(name)]
        if trigger is Trigger.fork:  # the command would start the copies; the row does not
            words.append("--no-start")
        for key, value in arguments.items():
            if value is None or value is False or (trigger, key) == (Trigger.kill, "force"):
                continue
            match key:
                case "new" | "tag":
                    words += [value] if isinstance(value, str) else list(value)
                case "timeout_s":
                    words += ["--timeout", f"{value:g}"]
                case "keep_on_failure":
                    words += ["--on-failure", "keep"]
                case "cold" | "full" | "force":
                    words += [f"--{key}"]
                case "node":
                    words += ["--node", value]
                case _:
                    self._refuse(f"{trigger} with {key}")
        return self._outcome(words, on_event=on_event)

    def create(
        self,
        name: str,
        template: "Template",
        wishes: "Wishes | None" = None,
        *,
        driver: str | None = None,
        on_event: Announce | None = None,
    ) -> Outcome:
        """Create `name` there; a template that is a file or in memory is read here and sent."""
        connection = Connection(self.host)
        words = ["create", checked_name(name), *self._made_from(connection, template, wishes, driver)]
        return self._outcome(words, on_event=on_event, connection=connection)

    def up(
        self,
        name: str,
        template: "Template | None",
        wishes: "Wishes | None" = None,
        *,
        driver: str | None = None,
        timeout_s: float | None = None,
        keep_on_failure: bool = False,
        on_event: Announce | None = None,
    ) -> Outcome:
        """Create `name` there if it is absent, then start it."""
        connection = Connection(self.host)
        words = ["up", checked_name(name)]
        if template is not None and self.status(name).state is State.absent:
            words += self._made_from(connection, template, wishes, driver)
        words += ["--timeout", f"{timeout_s:g}"] if timeout_s is not None else []
        words += ["--on-failure", "keep"] if keep_on_failure else []
        return self._outcome(words, on_event=on_event, connection=connection)

    def _made_from(
        self, connection: Connection, template: "Template", wishes: "Wishes | None", driver: str | None
    ) -> list[str]:
        """Return the options with which `create` and `up` there make an instance of `template`."""
        words = ["--template", ways.sent_template(connection, template)]
        driver = driver or self._name_of_driver
        words += ["--driver", driver] if driver else []
        for field in fields(wishes) if wishes else ():
            value = getattr(wishes, field.name)
            match field.name:
                case _ if value in (None, False, ()):
                    pass
                case "edits":
                    words += [word for edit in value for word in ("--set", edit)]
                case "memory_bytes" | "disk_bytes":
                    words += [f"--{field.name.removesuffix('_bytes')}", f"{value}"]
                case "warm" | "trust":
                    words += [f"--{field.name}"]
                case "arch" | "cpus" | "user":
                    words += [f"--{field.name}", str(value)]
                case _:
                    self._refuse(f"Wishes.{field.name}")
        return words

    def delete(self, name: str, *, force: bool = False) -> Outcome:
        """Remove `name` there."""
        return self._outcome(["delete", checked_name(name), *(["--force"] if force else [])])

    def edit(
        self,
        name: str,
        *edits: str,
        file: Path | None = None,
        shown: str | None = None,
        on_event: Announce | None = None,
    ) -> Outcome:
        """Change `name` there as `edits` and `file`, which is on this host, say."""
        if shown is not None:  # `editable`, which returns it, is refused too
            self._refuse("edit with shown", "edit", name)
        connection = Connection(self.host)
        words = ["edit", checked_name(name), *(word for edit in edits for word in ("--set", edit))]
        if file is not None:
            words += ["--file", connection.keep("edit.yaml", file.read_bytes())]
        return self._outcome(words, on_event=on_event, connection=connection)

    def repair(self, name: str) -> Mending:
        """Repair what is damaged in the files of `name` there."""
        (found,) = self._records(["repair", checked_name(name), "--json"])
        return Mending(found["name"], State(found["state"]), tuple(found["mended"]))

    def restore(
        self,
        name: str,
        tag: str,
        *,
        cold: bool = False,
        timeout_s: float | None = None,
        on_event: Announce | None = None,
    ) -> Outcome:
        """Give `name` there the disk of its snapshot `tag`, and its memory if it has any."""
        return self.fire(name, Trigger.restore, tag=tag, cold=cold, timeout_s=timeout_s, on_event=on_event)

    def snapshots(self, name: str) -> list[Snapshot]:
        """Return the snapshots of `name` there, the oldest first."""
        found = self._records(["snapshot", "list", checked_name(name), "--json"])
        made = [Snapshot(**{key: record[key] for key in Snapshot._fields}) for record in found]
        return sorted(made, key=lambda snapshot: snapshot.created_at)

    # -- reading ---------------------------------------------------------------------------------------------------

    def nodes(self, cluster: str) -> "list[Node]":
        """Return the nodes of `cluster`, of which the home there has a record."""
        from ..drivers.contract import Node

        found = self._records(["cluster", "nodes", "--json", "--", cluster])
        return [Node(**{key: record[key] for key in Node._fields}) for record in found]

    def instances(self) -> Iterator[Status]:
        """Yield the status of every instance there, by name."""
        yield from map(answers.status, self._records([INSTANCES]))

    def status(self, name: str) -> Status:
        """Return everything known about `name`; an unknown name is `absent`."""
        try:
            (found,) = self._records(["inspect", checked_name(name), "--json"])
        except NotFoundError:
            return Status(name, State.absent, Path())
        return answers.status(found)

    def history(self, name: str) -> Iterator[Entry]:
        """Yield what happened to `name`, oldest first."""
        for line in self._ask(["history", checked_name(name), "--json"]).stdout.splitlines():
            yield parsed(line)

    def can(self, name: str) -> list[Verdict]:
        """Return what the table there allows for `name` now, and why it does not allow the rest."""
        return [answers.verdict(record) for record in self._records(["can", checked_name(name), "--json"])]

    def wait_for(self, name: str, condition: str = "ready", *, timeout_s: float | None = None) -> Status:
        """Return the status of `name` once it meets the condition, no matter which process brings that about."""
        words = ["wait", checked_name(name), "--for", condition, "--json"]
        words += ["--timeout", f"{timeout_s:g}"] if timeout_s is not None else []
        (found,) = self._records(words)
        return answers.status(found)._replace(spec=self.status(name).spec)

    def watch(
        self, names: Collection[str] = (), *, since: str | int | None = None, until: Callable[[], bool] = lambda: False
    ) -> "Iterator[Change]":
        """Yield what happens to the instances `names` there, or to all: from now on, or from `since`."""
        connection = Connection(self.host)
        moment = since if since is not None else connection.clock()
        words = ["watch", *map(checked_name, names), "--since", str(moment), "--json"]
        return self._changes(words, connection, until)

    def _changes(self, words: list[str], connection: Connection, until: Callable[[], bool]) -> "Iterator[Change]":
        found: queue.Queue[Change | Exception] = queue.Queue()
        over = threading.Event()

        def hear(line: bytes) -> None:
            for record in answers.objects(line):
                if "error" not in record or "event" in record:  # an error is raised at the end
                    found.put(answers.change(record))

        lines = answers.Lines(hear)

        def work() -> None:
            try:
                with cancellation.calling_off(lambda: "the watch is over" if over.is_set() else None):
                    self._ask(words, connection=connection, stdout=lines.hear)
                found.put(connection.broken())
            except Exception as error:  # noqa: BLE001 - raised where the next change is requested
                found.put(error)

        thread = threading.Thread(target=work, name="interlock watch", daemon=True)
        thread.start()
        try:
            while not until():
                cancellation.check()
                try:
                    change = found.get(timeout=_LOOK_S)
                except queue.Empty:
                    continue
                if isinstance(change, Exception):
                    raise change
                yield change
        finally:
            over.set()
            thread.join()

    # -- the guest -------------------------------------------------------------------------------------------------

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        input: bytes | str | int = b"",  # noqa: A002 - as subprocess.run calls it
        timeout_s: float | None = None,
        workdir: str | None = None,
        shell: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run `argv` in the guest of `name` there, and return how it ended and its output."""
        if isinstance(argv, str | bytes) or not argv:
            raise UsageError(f"expected a program and its arguments, as a list of texts, found {argv!r}")
        connection = Connection(self.host)
        asked: dict[str, Any] = {"timeout_s": timeout_s, "workdir": workdir, "shell": shell, "environment": environment}
        stdin = _content(input)
        if stdin:
            asked["stdin"] = connection.keep("stdin", stdin)
        (found,) = self._records([RUN, json.dumps(asked), checked_name(name), *argv], connection=connection)
        return Completed(found["status"], base64.b64decode(found["stdout"]), base64.b64decode(found["stderr"]))

    def shell(
        self,
        name: str,
        command: Sequence[str] = (),
        *,
        terminal: bool = False,
        workdir: str | None = None,
        shell: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Sequence[str]:
        """Return this host's command line that runs `command`, or a login shell, in the guest of `name` there."""
        from ..guest.ssh import within

        connection = Connection(self.host)
        connection.meet()
        line = within(command, workdir=workdir, shell=shell, environment=environment)
        words = ["shell", checked_name(name), *(["--", *line] if line else [])]
        return connection.line(words, terminal=terminal, greet=False)

    def tunnel(self, name: str, port: int | None, local_port: int | str) -> Sequence[str]:
        """Return this host's command line that forwards TCP `local_port` of 127.0.0.1 to `port` in the guest `name`."""
        ports = ["--socks", str(local_port)] if port is None else [f"{local_port}:{port}"]
        return [sys.executable, "-m", PROGRAM, "--host", self.host.label, "tunnel", checked_name(name), *ports]

    def _into(self, guests: Sequence[str]) -> "tuple[list[str], Ask]":
        connection = Connection(self.host)
        ways.checked(connection, [WAY, "copy", *guests])

        def ask(guest: str, command: Sequence[str], timeout_s: float) -> Completed:
            return self.run(guest, command, timeout_s=timeout_s)

        return [str(ways.script(connection))], ask

    # -- fleets ----------------------------------------------------------------------------------------------------

    def fleet(self, file: str | Path | Mapping[str, Any]) -> "Fleet":
        """Return the fleet that `file` describes; it is read here, with the templates that it names by their paths."""
        from .fleets import RemoteFleet

        return RemoteFleet(self, file)

    def fleets(self) -> dict[str, list[Status]]:
        """Return the instances there that were created by `apply` of a fleet, by the name of the fleet."""
        seen = {status.name: status for status in self.instances()}
        found: dict[str, list[Status]] = {}
        for record in self._records(["fleet", "status", "--json"]):
            if record["name"] in seen:
                found.setdefault(record["fleet"], []).append(seen[record["name"]])
        return found

    # -- calls that deal with files of one host ----------------------------------------------------------------------

    def ssh_config(self, name: str) -> Path:
        """Refuse: the file would name keys and ports of that host."""
        self._refuse("ssh_config", "shell", name)

    def logs(self, name: str) -> dict[str, Path]:
        """Refuse: logs are files of that host; the command `logs` prints them."""
        self._refuse("logs", "logs", name)

    def editable(self, name: str) -> str:
        """Refuse: `edit` takes the changes as arguments."""
        self._refuse("editable", "edit", name)

    def autostart(self, name: str, *, enabled: bool = True) -> bool:
        """Refuse: the command `autostart` does it."""
        self._refuse("autostart", "autostart", "enable" if enabled else "disable", name)

    def clusters(self) -> NoReturn:
        """Refuse: the command `cluster nodes` prints their nodes."""
        self._refuse("clusters", "cluster", "nodes")

    def checks(self) -> NoReturn:
        """Refuse: the command `doctor` prints them."""
        self._refuse("checks", "doctor")

    @property
    def images(self) -> NoReturn:
        """Refuse: `image` prints and changes them."""
        self._refuse("images", "image", "list")

    @property
    def disks(self) -> NoReturn:
        """Refuse: `disk` prints and changes them."""
        self._refuse("disks", "disk", "list")

    @property
    def templates(self) -> NoReturn:
        """Refuse: `template` prints them."""
        self._refuse("templates", "template", "list")


def _content(given: bytes | str | int) -> bytes:
    """Return `given` itself, or everything that can be read from it if it is a descriptor."""
    if isinstance(given, int):
        with open(given, "rb", closefd=False) as file:
            given = file.read(_INPUT_BYTES + 1)
    content = given.encode() if isinstance(given, str) else given
    if len(content) > _INPUT_BYTES:
        raise UsageError(f"a command on another host takes {_INPUT_BYTES >> 20} MiB of input: copy a file instead")
    return content
