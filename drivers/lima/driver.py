"""The driver that runs machines through an installed `limactl`, which keeps their files and a host agent for each.

    directory/           written by
    ├── lima.yaml        creation: the template; `create` hands it to limactl, nothing reads it later
    ├── lima.json        create: which Lima instance it is (`Kept`)
    ├── lima-ended.json  stop, kill: how its last run ended
    └── ssh.config       a session: limactl's, with the site's name in it

The machine is in LIMA_HOME/NAME (`folder`), where users may also start, stop and delete it with limactl. So we remember
nothing that can be observed: each call looks at the instance's files and at the processes. limactl does the work
(`program`); before it is called, pid files whose processes are gone are removed, because limactl takes any process with
that pid for its own.
"""

import json
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ...errors import DeadlineError, DriverError, HostError, OutOfReachError
from ...guest import ssh
from ...host import cancellation
from ...host import process as host
from ...host.files import read_own, remove_tree, write_whole
from ..contract import (
    CLUSTERED,
    DEMANDS,
    HIDDEN,
    TEMPLATE,
    Abilities,
    Check,
    Deadline,
    DegradedError,
    Driver,
    Found,
    Observation,
    Report,
    Site,
    Spec,
)
from .folder import LOG, Folder, Life, Said

KEPT, ENDED = "lima.json", "lima-ended.json"

QUOTES = '`"'

LOOK_S = 0.05
"""How often a wait looks at the instance's files."""

_DEATH_S = 30.0
"""How long a killed process may take to disappear."""

_SPARE_S = 60
"""How much longer limactl's own deadline is than ours, so that ours decides."""

_LAST_START_S = 365 * 86400


class Kept(NamedTuple):
    """Which Lima instance a site is: the content of lima.json."""

    home: str
    """LIMA_HOME, absolute, its links resolved."""
    name: str
    inode: int
    """Identifies the site's directory: a copy has another identity, and is not this machine."""
    mark: str = ""
    """While limactl creates it: the line in its lima.yaml that says who creates it. Empty once that is over."""
    adopted: bool = False
    """True if limactl had the machine before: then it is not deleted with the site."""
    schema: int = 1


class LimaDriver(Driver):
    """Runs machines through limactl."""

    name = "lima"
    abilities = Abilities(  # noqa: S604 - no shell
        arches=("x86_64", "aarch64"),
        images=False,
        shell=True,
        honours=frozenset(DEMANDS)
        - CLUSTERED
        - {"accelerator", "disks", "network_host", "network_internet", "restart"},
        kept_by="limactl",
    )

    def check(self, spec: "Spec") -> None:
        from . import program

        super().check(spec)
        program.find()

    def create(self, site: Site, report: Report) -> None:
        from . import program

        kept, inode = _recorded(site), site.directory.stat().st_ino
        if kept and kept.adopted:
            report(f"adopting the machine in {Path(kept.home, kept.name)}")
            _keep(site, kept._replace(inode=inode))
            return
        if _folder(site):
            return
        folder = Folder(program.home(), site.name)
        if folder.exists:
            raise DriverError(f'limactl has an instance "{site.name}" already, in {folder.path}; choose another name')
        text = read_own(site.directory / TEMPLATE).decode()
        mark = f"# created by Interlock: {site.spec.instance_id}"
        _keep(site, Kept(str(folder.home), folder.name, inode, mark))
        report("asking limactl for the machine")
        words = ["create", "--name", folder.name, "--tty=false", "-"]
        program.call(folder, words, report, stdin=f"{mark}\n{text}".encode())
        _keep(site, Kept(str(folder.home), folder.name, inode))

    def start(self, site: Site, report: Report, deadline: Deadline, *, boot: bool = True) -> DegradedError | None:  # type: ignore[override] # it saves no memory, so it is never asked for a cold start
        folder = _found(site)
        life = _reached(site, folder)
        if not (life.alive or boot):
            raise DriverError(f"the machine is down: {_reason(site, folder) or 'it never ran'}")
        if life.broken and not _starting(folder.said(), life):
            raise DriverError(f'"{site.name}" is broken: {life.broken}', hint=f"interlock kill {site.name}")
        try:
            if not life.alive:
                _tidy(life, report)
                remove_tree(site.directory / ENDED)
                limit_s = round(min(deadline.remaining_s, _LAST_START_S)) + _SPARE_S
                words = ["start", "--tty=false", f"--timeout={limit_s}s", folder.name]
                _call(site, folder, words, report, deadline)
            self._wait_until_ready(site, folder, report, deadline)
        except DeadlineError as error:
            words_said = error.details
            raise DeadlineError(f"the guest did not answer within {deadline.seconds:g} s", details=words_said) from None
        return _degraded(folder.said())

    def stop(self, site: Site, report: Report, deadline: Deadline) -> str:
        folder = _folder(site)
        life = _reached(site, folder)
        if folder is None or not life.alive:
            return _reason(site, folder) or "was not running"
        how = f"ended by force: {life.broken}" if life.broken else ""
        if not how:
            try:
                report("asking the guest to shut down")
                _tidy(life, report)
                _call(site, folder, ["stop", folder.name], report, deadline)
                how = _how_it_stopped(folder)
            except DeadlineError:
                how = f"ended by force: the guest did not shut down in {deadline.seconds:g} s"
            except DriverError as error:
                how = f"ended by force: {error.message}"
        self._end(site, folder, report, how)
        return how

    def kill(self, site: Site, report: Report) -> None:
        folder = _folder(site)
        life = _reached(site, folder)
        if folder and (life.alive or life.stale):
            self._end(site, folder, report, "killed" if life.alive else _reason(site, folder) or "")

    def reset(self, site: Site, report: Report) -> None:
        from . import program

        folder = _found(site)
        life = _refuse_alive(site, folder)
        _tidy(life, report)
        report("asking limactl for a fresh disk")
        program.call(folder, ["factory-reset", folder.name], report)
        remove_tree(site.directory / ENDED)

    def delete(self, site: Site, report: Report) -> None:
        from . import program

        folder, kept = _folder(site), _kept(site)
        if kept and kept.adopted:
            report(f"handing the machine back to limactl; `limactl delete {kept.name}` removes it")
        elif folder and folder.exists and _is_ours(site, folder):
            _tidy(_refuse_alive(site, folder), report)
            report("asking limactl to delete the machine")
            program.call(folder, ["delete", "--force", folder.name], report)
        remove_tree(site.runtime)

    def provision(self, site: Site, report: Report, deadline: Deadline) -> DegradedError | None:  # noqa: ARG002 - it refuses
        raise HostError(
            f'driver "{self.name}" cannot re-run scripts in a running guest; Lima runs them at every boot',
            hint=f"interlock restart {site.name}",
        )

    def observe(self, site: Site) -> Observation:
        folder = _folder(site)
        if folder is None:
            return Observation(alive=False)
        life = folder.look()
        if not life.alive:
            gone = None if folder.exists else f"`interlock delete {site.name}` removes what is left of it here"
            return Observation(alive=False, condition=gone, exit_reason=_reason(site, folder))
        if life.hidden:
            return Observation(alive=True, hidden=True, condition=HIDDEN)
        said = folder.said()
        failed = _degraded(said)
        condition = f"degraded: {failed.message}" if failed else None
        if life.broken and not _starting(said, life):
            condition = f"broken: {life.broken}; `interlock kill {site.name}` ends the rest"
        elif not said.ready:
            condition = "the guest has not answered yet"
        elif said.exiting:
            condition = "limactl is shutting it down"
        process = life.driver or life.host_agent
        return Observation(
            alive=True,
            pid=process.pid if process else None,
            ssh_port=said.ssh_port,
            condition=condition,
            degraded=failed,
        )

    def shell(self, site: Site, command: Sequence[str], *, terminal: bool) -> list[str]:
        return ssh.command_line(self.ssh_config(site), site.name, command, terminal=terminal)

    def ssh_config(self, site: Site) -> Path:
        folder, path = _found(site), site.directory / ssh.CONFIG
        try:
            wanted = folder.ssh_config(site.name).encode()
        except FileNotFoundError as error:
            raise DriverError(f'limactl has not said yet how to log in to "{site.name}"') from error
        if not path.exists() or read_own(path) != wanted:
            write_whole(path, wanted)
        return path

    def logs(self, site: Site) -> dict[str, Path]:
        folder = _folder(site)
        if folder is None:
            return {}
        return {
            "serial": folder.path / "serial.log",
            "qemu": folder.path / LOG,
            "serial.virtio": folder.path / "serialv.log",
        }

    def found(self, root: Path, sites: Iterable[Site], cluster: str = "") -> list[Found]:  # noqa: ARG002 - LIMA_HOME has them
        from . import adoption

        known = [folder for site in sites if (folder := _folder(site))]
        return adoption.found(self.name, self.abilities.kept_by, known, _adopted, KEPT)

    def checks(self, runtime: Path) -> list[Check]:  # noqa: ARG002 - nothing is worth a cache
        from . import program

        try:
            found = f"{program.find()}, {program.version()}"
        except DriverError as error:
            return [Check("limactl", ok=False, finding=error.message, essential=False)]
        return [Check("limactl", ok=True, finding=found, essential=False)]

    def _wait_until_ready(self, site: Site, folder: Folder, report: Report, deadline: Deadline) -> None:
        """Return once the guest has answered: limactl itself does not wait for a machine that it finds started."""
        waits = False
        while not folder.said().ready or deadline.passed:
            if deadline.passed:
                raise DeadlineError("")
            if not folder.look().alive:
                raise DriverError(f"the machine is down: {_reason(site, folder)}", hint=f"interlock logs {site.name}")
            if not waits:
                waits = True
                report("waiting for the guest")
            cancellation.pause(LOOK_S)

    def _end(self, site: Site, folder: Folder, report: Report, how: str) -> None:
        """End what still runs, remove what it left, and record `how` it ended."""
        from . import program

        life = folder.look()
        if life.alive:
            report("ending the machine by force")
        _tidy(life, report)
        if life.alive or life.stale:
            with suppress(HostError):  # without limactl we end it ourselves
                program.call(folder, ["stop", "--force", folder.name])
        # limactl removes the pid files at once, so from here on these processes are known by what was seen before.
        ending, until = life.processes, time.monotonic() + _DEATH_S
        while (life := folder.look()).alive or any(host.alive(one) for one in ending):
            ending |= life.processes
            for one in ending:
                host.send(one, signal.SIGKILL)
            if life.hidden or time.monotonic() > until:
                raise OutOfReachError(f'the machine of "{site.name}" does not end, or cannot be seen from here')
            cancellation.pause(LOOK_S)
        _tidy(life, report)
        record = {"how": how, "run": folder.run(), "schema": 1}
        write_whole(site.directory / ENDED, json.dumps(record).encode())


def _call(site: Site, folder: Folder, words: list[str], report: Report, deadline: Deadline) -> None:
    """Have limactl do `words`, which wait for the guest; a guest that is merely degraded is a success."""
    from . import program

    try:
        program.call(folder, words, report, timeout_s=deadline.remaining_s)
    except DriverError as error:
        if not _degraded(folder.said()):
            error.hint = error.hint or f"interlock logs {site.name}"
            raise


def _keep(site: Site, kept: Kept) -> None:
    write_whole(site.directory / KEPT, _written(kept))


def _written(kept: Kept) -> bytes:
    return json.dumps(kept._asdict()).encode()


def _adopted(folder: Folder) -> bytes:
    """Return the record for adopting the machine in `folder`; `create` adds the inode of the site's directory."""
    return _written(Kept(str(folder.home), folder.name, inode=0, adopted=True))


def _kept(site: Site) -> Kept | None:
    """Return which Lima instance `site` is; None where that was never recorded, or for another directory."""
    kept = _recorded(site)
    return kept if kept and kept.inode == site.directory.stat().st_ino else None


def _recorded(site: Site) -> Kept | None:
    """Return what is recorded of the Lima instance of `site`, for this directory or another."""
    try:
        data = json.loads(read_own(site.directory / KEPT))
        return Kept(**{key: value for key, value in data.items() if key in Kept._fields})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise DriverError(f"{site.directory / KEPT}: {error}") from error


def _folder(site: Site) -> Folder | None:
    """Return where limactl keeps the machine of `site`; None where it has no machine."""
    kept = _kept(site)
    return Folder(Path(kept.home), kept.name) if kept else None


def _found(site: Site) -> Folder:
    """Return where limactl keeps the machine of `site`; raises DriverError if limactl no longer has the instance."""
    folder = _folder(site)
    if folder is None or not folder.exists:
        where = f" in {folder.home}" if folder else ""
        raise DriverError(
            f'limactl has no instance for "{site.name}"{where}: it was deleted outside Interlock',
            hint=f"interlock delete {site.name}",
        )
    return folder


def _is_ours(site: Site, folder: Folder) -> bool:
    """False if the creation was cancelled and limactl's instance of that name was not made for `site`."""
    kept = _kept(site)
    with suppress(FileNotFoundError):
        return kept is not None and kept.mark.encode() in read_own(folder.path / "lima.yaml")
    return False


def _reached(site: Site, folder: Folder | None) -> Life:
    """Return what is alive of the machine; raise OutOfReachError if that is not visible from here."""
    life = folder.look() if folder else Life(None, None)
    if life.hidden:
        raise OutOfReachError(f'the machine of "{site.name}" runs, but {HIDDEN}')
    return life


def _refuse_alive(site: Site, folder: Folder) -> Life:
    life = _reached(site, folder)
    if life.alive:
        raise DriverError(f'the machine of "{site.name}" is running; nothing was touched')
    return life


def _tidy(life: Life, report: Report) -> None:
    """Remove the pid files whose processes are gone: limactl would signal whatever has the pid now."""
    for file in life.stale:
        report(f"removing {file.name}, whose process is gone")
        file.unlink(missing_ok=True)


def _starting(said: Said, life: Life) -> bool:
    """True while the host agent has not yet started the hypervisor."""
    return life.host_agent is not None and not (said.ready or said.exiting)


def _degraded(said: Said) -> DegradedError | None:
    """Return what failed in the guest that runs, or None."""
    if not said.degraded:
        return None
    first = said.errors[0].splitlines()[0] if said.errors else "limactl does not say what"
    return DegradedError(f"something failed in the guest: {first}", details=said.errors)


def _reason(site: Site, folder: Folder | None) -> str | None:
    """Return why the machine is down; None if it never ran."""
    if folder is None:
        return None
    if not folder.exists:
        return "limactl has deleted it"
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        record = json.loads(read_own(site.directory / ENDED))
        if record["run"] == folder.run():
            return str(record["how"]) or None
    if not folder.run():
        return None
    return _how_it_stopped(folder) if folder.said().exiting else "its host agent was killed, or the host went down"


def _how_it_stopped(folder: Folder) -> str:
    """Return how the machine ended, by the log of a host agent that exited by itself."""
    how = "guest shut down"
    for line in folder.log():
        text = str(line.get("msg", ""))
        if text.startswith("Driver stopped due to error"):
            how = f"hypervisor ended: {text.partition(': ')[2].strip(QUOTES)}"
        elif "forcibly killing" in text:
            how = f"ended by force: {text}"
    return how
