"""How a hint from another host is typed on this one; it imports only `re`."""

import re
import shlex

_OURS = re.compile(r"(?:^|(?<=&& )|(?<=\| ))interlock (?![^&|]*--host[ =])")
"""The beginning of each Interlock command in a hint that does not yet name a host."""


def for_host(hint: str, host: str | None) -> str:
    """Return `hint` with its Interlock commands as they are typed for `host`; None if INTERLOCK_HOST names it."""
    there = f"interlock --host {shlex.quote(host)} " if host else "interlock "
    return _OURS.sub(lambda _: there, hint)
