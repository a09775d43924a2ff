"""Give a running guest another identity: by its agent if that answers, else over ssh."""

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
"""How long an agent may take to prepare the guest for copying, which saves the copies some work."""


def copying(site: Site, endpoint: Endpoint, mark: str, deadline: Deadline, pidfd: int) -> str:
    """Have the guest kernel of `site` log `mark`: a copy finds the messages about its copying after that mark.

    Return the id of the guest's boot. Raises DriverError if that failed, DeadlineError, and GuestGoneError.
    """
    if agent.listens(site.directory):
        with suppress(AgentError):
            return agent.ask(site.runtime, "copying", mark, timeout_s=_COPYING_S)
    return identity.copying(endpoint, mark, Wait(deadline, pidfd))


def stand_by(site: Site, mark: str) -> str:
    """Have the guest of `site`, which belongs to no instance, prepare to be copied, as `copying` does; it can be used
    for nothing else afterwards. Raises AgentError if that failed: only the guest's agent can do this.
    """
    return agent.ask(site.runtime, "standby", mark, timeout_s=_GIVING_S)


def hand_over(site: Site, first_boot: "FirstBoot", deadline: Deadline) -> bool:
    """Have the guest of `site`, which belonged to no instance, take the seed of `first_boot`; return whether it is
    ready then.

    Raises AgentError if that failed: only the guest's agent can do this.
    """
    line, archive = first_boot
    timeout_s = min(_GIVING_S, deadline.remaining_s)
    return agent.is_ready(
        site, agent.ask(site.runtime, "become", f"{len(archive)} {line}", content=archive, timeout_s=timeout_s)
    )


def give(site: Site, endpoint: Endpoint, line: str, deadline: Deadline, pidfd: int) -> bool:
    """Have the guest of `site` take the identity of `line`, a `guest.identity.request`: by its agent, else over ssh.

    Return whether the guest is then known to be ready. `endpoint` reaches it as long as it shows its old host key.
    Raises DriverError if the guest did not take the identity.
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
