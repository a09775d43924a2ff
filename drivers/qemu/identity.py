"""Another identity for a guest that runs: by its agent where that answers, else over ssh."""

from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import DriverError
from ...guest import identity
from ...guest.agent import AgentError
from ...guest.session import Endpoint, Wait
from ..contract import Deadline, Site
from . import agent

if TYPE_CHECKING:
    from ...guest.identity import FirstBoot

_GIVING_S = 90.0
"""How long an agent may take to change everything: some seconds under emulation, ten times that on a busy host."""

_COPYING_S = 30.0
"""How long an agent may take to prepare a copying, which spares the copies some work."""


def copying(site: Site, endpoint: Endpoint, mark: str, deadline: Deadline, pidfd: int) -> str:
    """Have the kernel of the guest of `site` log `mark`, after which a copy finds what it logs of the copying.

    Return the id of its boot. Raises DriverError when it did not, DeadlineError, and GuestGoneError.
    """
    if agent.listens(site.directory):
        with suppress(AgentError):
            return agent.ask(site.runtime, "copying", mark, timeout_s=_COPYING_S)
    return identity.copying(endpoint, mark, Wait(deadline, pidfd))


def stand_by(site: Site, mark: str) -> str:
    """Have the guest of `site`, which is nobody's, prepare to be copied, as `copying` does: it is good for nothing else
    afterwards. Raises AgentError when it did not: only its agent knows how.
    """
    return agent.ask(site.runtime, "standby", mark, timeout_s=_GIVING_S)


def hand_over(site: Site, first_boot: "FirstBoot", deadline: Deadline) -> bool:
    """Have the guest of `site`, which was nobody's, become the one of `first_boot`; return whether it is ready then.

    Raises AgentError when it did not become that: only its agent knows how.
    """
    line, archive = first_boot
    timeout_s = min(_GIVING_S, deadline.remaining_s)
    return agent.is_ready(
        site, agent.ask(site.runtime, "become", f"{len(archive)} {line}", content=archive, timeout_s=timeout_s)
    )


def give(site: Site, endpoint: Endpoint, line: str, deadline: Deadline, pidfd: int) -> bool:
    """Have the guest of `site` take the identity of `line`, a `guest.identity.request`: by its agent, else over ssh.

    Return whether it is ready then, as far as that is known. `endpoint` leads to it as long as it shows its old host
    key. Raises DriverError when it did not.
    """
    failure: AgentError | None = None
    if agent.listens(site.directory):
        try:
            agent.ask(site.runtime, "ping", timeout_s=agent.AWAKE_S)
            said = agent.ask(site.runtime, "identity", line, timeout_s=min(_GIVING_S, deadline.remaining_s))
        except AgentError as error:
            failure = error
        else:
            return agent.is_ready(site, said)
    try:
        identity.give(endpoint, line, Wait(deadline, pidfd))
    except DriverError as error:
        if failure:
            error.details = (failure.message, *error.details)
        raise
    return False
