"""Another identity for a guest that runs: by its agent where that answers, else over ssh."""

from contextlib import suppress

from ...errors import DriverError
from ...guest import identity
from ...guest.agent import AgentError
from ...guest.session import Endpoint, Wait
from ..contract import Deadline, Site
from . import agent

_GIVING_S = 90.0
"""How long an agent may take to change everything: some seconds under emulation, ten times that on a busy host."""


def copying(site: Site, endpoint: Endpoint, mark: str, deadline: Deadline, pidfd: int) -> str:
    """Have the kernel of the guest of `site` log `mark`, after which a copy finds what it logs of the copying.

    Return the id of its boot. Raises DriverError when it did not, DeadlineError, and GuestGoneError.
    """
    if agent.listens(site.directory):
        with suppress(AgentError):
            return agent.ask(site.runtime, "copying", mark)
    return identity.copying(endpoint, mark, Wait(deadline, pidfd))


def hand_over(site: Site, archive: bytes, deadline: Deadline) -> None:
    """Have the guest of `site`, which was nobody's, become the one of `archive` (`guest.identity.first_boot`).

    Raises AgentError when it did not: only its agent knows how.
    """
    timeout_s = min(_GIVING_S, deadline.remaining_s)
    agent.ask(site.runtime, "become", str(len(archive)), content=archive, timeout_s=timeout_s)


def give(site: Site, endpoint: Endpoint, line: str, deadline: Deadline, pidfd: int) -> None:
    """Have the guest of `site` take the identity of `line`, a `guest.identity.request`: by its agent, else over ssh.

    `endpoint` leads to it as long as it shows its old host key. Raises DriverError when it did not.
    """
    failure: AgentError | None = None
    if agent.listens(site.directory):
        try:
            agent.ask(site.runtime, "ping")
            agent.ask(site.runtime, "identity", line, timeout_s=min(_GIVING_S, deadline.remaining_s))
        except AgentError as error:
            failure = error
        else:
            return
    try:
        identity.give(endpoint, line, Wait(deadline, pidfd))
    except DriverError as error:
        if failure:
            error.details = (failure.message, *error.details)
        raise
