"""Which home an instance of a cluster belongs to, and how another home takes it over.

Tags of the instance name its home (`seen.Claim`). If there are several, the one with the lowest turn counts, and among
those the first mark, so exactly one home owns the instance at any moment. A home takes it over with two jobs:

    1. It adds a tag with the next turn. That changes nothing: the former home's tag has a lower turn.
    2. It removes all tags of homes that it saw, in one job. Ganeti refuses that job if one of them is gone, and runs
       the jobs on one instance one after the other. So of homes that try this at once, one succeeds; the others remove
       their own tags again.

Between the two, and after a crash at any point, the instance has a home. Only if somebody removed its tags by hand does
it have none: then the first step is all, and of several homes the first in order gets it.
"""

from ...errors import HostError
from ...host.progress import Report
from . import cluster as clusters
from .machine import Machine
from .rapi import UNKNOWN, FailedError
from .seen import Claim


def take_over(machine: Machine, former: str, report: Report) -> None:
    """Make the home of `machine` own the instance, which belonged to the home with the mark `former` when listed.

    Raises HostError if it belongs to another home meanwhile, or another home is faster. It may be repeated.
    """
    own, seen = clusters.home_mark(machine.root), machine.found()
    if seen.home == own:
        return
    if seen.home != former:
        raise _changed_hands(machine)
    report("taking the machine over from its former home" if former else "taking the machine over")
    claim = seen.next_claim(own)
    machine.act("PUT", "tags", query={"tag": [claim.tag]})
    if not seen.claims:
        if machine.found().home != own:
            raise _changed_hands(machine)
        return
    if not _remove(machine, *seen.claims):
        raise _changed_hands(machine)
    for loser in machine.found().claims:  # it removes its tag itself, unless it died
        if loser < claim:
            _remove(machine, loser)


def give_back(machine: Machine, former: str, report: Report) -> None:
    """Undo what `take_over` did, wherever it was cut short: the home of `machine` no longer claims the instance.

    If it had become the owner, the home with the mark `former` owns the instance again.
    """
    own, seen = clusters.home_mark(machine.root), machine.look()
    claims = seen.claims if seen else []
    mine = [claim for claim in claims if claim.mark == own]
    if seen is None or not mine or former == own:
        return
    report("giving the machine back")
    heir = seen.next_claim(former) if former and mine == claims else None
    if heir:
        machine.act("PUT", "tags", query={"tag": [heir.tag]})
    removed = [_remove(machine, claim) for claim in mine]
    if heir and not any(removed):  # another home has taken it over from this one
        _remove(machine, heir)


def _remove(machine: Machine, *claims: Claim) -> bool:
    """Remove all of `claims`, or none of them: return False if one of them is gone."""
    try:
        machine.act("DELETE", "tags", query={"tag": [claim.tag for claim in claims]})
    except FailedError as error:
        if error.code == UNKNOWN:
            return False
        raise
    return True


def _changed_hands(machine: Machine) -> HostError:
    return HostError(
        f'"{machine.site.name}" changed hands while it was to be adopted: it belongs to another home than before',
        hint=f"interlock adopt --cluster {machine.cluster.name} {machine.site.name}",
    )
