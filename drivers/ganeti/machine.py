"""One instance of a cluster: what it looks like, and jobs that act on it.

Ganeti does everything in jobs. Before a job is submitted, the record says that one will be; then it holds the job's
number, until the end of the job was seen. So a job that a dead process left is found again: by its number or, if the
number was not recorded, by the instance's name among the cluster's unfinished jobs. `settle` waits for such a job, or
cancels it if it has not begun. A running job cannot be cancelled, and it holds its instance's locks until it ends.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from ...errors import DeadlineError, DriverError, HostError, NotFoundError, OutOfReachError
from ...fsm import looks, words
from ...fsm.port import Deadline
from ...host import cancellation
from ...host.bounds import clipped
from ...host.home import root_of
from ...host.progress import Report, unheard
from ..contract import Site
from . import cluster as clusters
from . import record as records
from .rapi import FailedError, Query, Rapi, UnansweredError, failure
from .record import ASKED, Record
from .seen import Seen

_POLL_S = 0.3
"""How often to look at a job. RAPI has no stream of events, and its waiting call occupies one of its few threads."""

_SILENCE_S = 60.0
"""How long the cluster may fail to answer during a wait for a job: another node may be taking over as its master."""

_UNDO_S = 30.0
"""How long an undo waits for a job: an undo cannot be cancelled. The next command finds a job that is still running."""

_STEP_CHARACTERS = 120

_QUEUED = ("queued", "waiting")
_UNFINISHED = (*_QUEUED, "canceling", "running")


class Machine:
    """The instance of `site`, or the one to be made for it, and a connection that closes at the end of the block."""

    def __init__(self, site: Site, cluster: str) -> None:
        self.site = site
        self.root = root_of(site.directory)
        self.cluster = clusters.read(self.root, cluster)
        self.rapi = Rapi(self.cluster, self.root)
        self._seen: Seen | None = None
        """The instance as last seen since the record was written; None if it was not looked at since then."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rapi.__exit__(kind, error, trace)

    @property
    def record(self) -> Record:
        """The site's record, with the name and address that the instance had when it was last seen."""
        found = records.read(self.site)
        if found is None:
            raise DriverError(
                f'no cluster has a machine for "{self.site.name}"', hint=f"interlock delete {self.site.name}"
            )
        if self._seen:
            address = found.address or (self._seen.address if found.made else "")
            found = found._replace(instance=self._seen.name, address=address)
        return found

    def note(self, **changes: Any) -> Record:
        """Change the record, and return it."""
        changed = self.record._replace(**changes)
        records.write(self.site, changed)
        self._seen = None
        return changed

    # -- looking -------------------------------------------------------------------------------------------------

    def look(self) -> Seen | None:
        """Return the instance as the cluster describes it; None if no instance there has its tag.

        Its name may differ from the recorded one: somebody renamed it there, or our own `rename` was cut short. The
        next `note` records the new name.
        """
        record, seen = self.record, None
        with suppress(NotFoundError):
            seen = self.rapi.instance(record.instance) if record.instance else None
        if seen is None or not seen.belongs_to(record.instance_id):
            seen = next((one for one in self.rapi.instances() if one.belongs_to(record.instance_id)), None)
        self._seen = seen
        return seen

    def reached(self) -> Seen:
        """Return what `look` does; raise DriverError if it is gone, OutOfReachError if nobody knows whether it runs."""
        return self.refuse_unreachable(self.found())

    def found(self) -> Seen:
        """Return what `look` does, whether or not its node answers; raise DriverError if it is gone."""
        seen = self.look()
        if seen is None:
            raise DriverError(
                f'cluster "{self.cluster.name}" has no instance for "{self.site.name}" any more',
                hint=f"interlock delete {self.site.name}",
            )
        return seen

    def refuse_unreachable(self, seen: Seen) -> Seen:
        """Return `seen`; raise OutOfReachError if it is unknown whether the instance runs."""
        if seen.alive is None:
            raise self.unreachable(seen)
        return seen

    def unreachable(self, seen: Seen) -> OutOfReachError:
        """Return the error for a machine that may or may not be running: its node, or its status, does not tell."""
        name = self.site.name
        return OutOfReachError(f'"{name}" is unreachable: {seen.unknown}', hint=words.failover(name))

    def owned(self, seen: Seen) -> Seen:
        """Return `seen`; raise HostError if the instance does not belong to this home any more."""
        if not self.owns(seen):
            name = self.site.name
            raise HostError(
                f'"{name}" does not belong to this home any more; only the home that it belongs to may act on it',
                hint=f"interlock delete {name}",
            )
        return seen

    def owns(self, seen: Seen) -> bool:
        """Return whether the instance belongs to this home."""
        return clusters.owns(self.root, seen)

    # -- acting --------------------------------------------------------------------------------------------------

    def act(
        self,
        method: str,
        what: str,
        body: Mapping[str, Any] | None = None,
        report: Report = unheard,
        deadline: Deadline | None = None,
        *,
        query: Query | None = None,
    ) -> Mapping[str, Any]:
        """Run a job of the cluster on the instance and return the job once it has succeeded; its steps are reported.

        `what` is the resource below the instance, such as `startup`; empty: the instance itself. Raises FailedError if
        the job fails, DeadlineError at the deadline: the job continues, and the record says so.
        """
        path = f"/2/instances/{self.record.instance}"
        return self.submit(method, f"{path}/{what}" if what else path, body, report, deadline, query=query)

    def submit(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | str | None = None,
        report: Report = unheard,
        deadline: Deadline | None = None,
        *,
        query: Query | None = None,
    ) -> Mapping[str, Any]:
        """Run a job on the instance as `act` does, by a request for any resource."""
        self.note(job=ASKED)
        try:
            number = self.rapi.submit(method, path, body, query)
        except (FailedError, HostError, NotFoundError):  # after any other error, the cluster may have the request
            self.note(job=0)
            raise
        self.note(job=number)
        return self._await(number, report, deadline)

    def settle(self, report: Report = unheard, *, at_once: bool = False, deadline: Deadline | None = None) -> None:
        """Return once no job of an earlier call is left; the caller must look at the outcome itself.

        With `at_once`, a job that has not begun is cancelled. Raises DeadlineError if a job is left at the deadline; a
        listing does not wait at all, and an undo waits only briefly.
        """
        if looks.in_a_hurry():
            deadline = Deadline(0.0)
        record = records.read(self.site)
        if record is None or record.job == 0:
            return
        if not record.instance:
            self.look()
            record = self.record
        number = record.job if record.job != ASKED else self._unfinished(record.instance)
        if number:
            if at_once and self._job(number).get("status") in _QUEUED:
                report(f"cancelling job {number}")
                self.rapi.ask("DELETE", f"/2/jobs/{number}")
            report(f"waiting for job {number}, which was submitted earlier")
            try:
                self._await(number, report, deadline)
            except DriverError as error:
                if isinstance(error, UnansweredError):
                    raise
        self.note(job=0)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _unfinished(self, instance: str) -> int:
        """Return the number of the cluster's first unfinished job on `instance`; 0 if there is no such job."""
        for job in self.rapi.get("/2/jobs", bulk=1) or ():
            ops = job.get("ops") or ()
            about = {str(op.get("instance_name")) for op in ops}
            about |= {str(op.get("name")) for op in ops if op.get("kind") == "instance"}  # jobs on its tags
            if job.get("status") in _UNFINISHED and instance in about:
                return int(job["id"])
        return 0

    def _job(self, number: int) -> Mapping[str, Any]:
        """Return the cluster's record of the job; empty if the cluster no longer keeps it."""
        try:
            job: Mapping[str, Any] = self.rapi.get(f"/2/jobs/{number}") or {}
        except NotFoundError:
            return {}
        return job if job.get("status") else {}

    def _await(self, number: int, report: Report, deadline: Deadline | None) -> Mapping[str, Any]:
        """Return the job once it has succeeded, reporting its steps; raises what `act` raises."""
        if deadline is None:
            deadline = Deadline(_UNDO_S if cancellation.is_shielded() else math.inf)
        steps = Steps(report, number)
        silence: Deadline | None = None
        while True:
            try:
                job = self._job(number)
                silence = None
            except UnansweredError:
                silence = silence or Deadline(_SILENCE_S)
                if silence.passed or deadline.passed:
                    raise
                report("waiting for the cluster to answer")
                cancellation.pause(_POLL_S)
                continue
            steps.hear(job)
            status = job.get("status")
            if status not in _UNFINISHED:
                self.note(job=0)
                if status == "success":
                    return job
                raise self._failure(number, job)
            if deadline.passed:
                raise DeadlineError(f"job {number} of the cluster did not end within {deadline.seconds:g} s")
            cancellation.pause(_POLL_S)

    def _failure(self, number: int, job: Mapping[str, Any]) -> DriverError:
        if not job:
            return DriverError(f'cluster "{self.cluster.name}" does not know job {number} any more')
        if job.get("status") == "canceled":
            return DriverError(f'cluster "{self.cluster.name}": job {number} was called off')
        results = zip(job.get("opstatus") or (), job.get("opresult") or (), strict=False)
        return failure(self.cluster, next((result for status, result in results if status == "error"), None))


class Steps:
    """Reports each step of a job once: first that it is queued, then each line of its log."""

    def __init__(self, report: Report, number: int) -> None:
        self._report = report
        self._number = number
        self._said: set[str] = set()

    def hear(self, job: Mapping[str, Any]) -> None:
        """Report what is new in `job`, the cluster's current record of the job."""
        if job.get("status") in _QUEUED:
            self._say(f"job {self._number} waits for its turn")
        for log in job.get("oplog") or ():
            for *_, said in log or ():
                self._say(_words(said))

    def _say(self, words: str) -> None:
        if words and words not in self._said:
            self._said.add(words)
            self._report(words)


def _words(said: object) -> str:
    """Return a line of a job's log as a step."""
    text = str(said[-1] if isinstance(said, list) and said else said)
    return clipped(
        " ".join(text.split()).removeprefix("* ").removeprefix("- ").removeprefix("INFO: ").rstrip("."),
        _STEP_CHARACTERS,
    )
