"""How work says how far it has come."""

from collections.abc import Callable

Report = Callable[[str], None]
"""Says which step the work has reached, in words for people (`waiting for ssh`). May raise, to call the work off."""


def unheard(_: str) -> None:
    """The report of work that nobody listens to."""
