"""What a user types here for a command of another host; it costs no import but that of `re`."""

import re
import shlex

_OURS = re.compile(r"(?:^|(?<=&& )|(?<=\| ))interlock (?![^&|]*--host[ =])")
"""The beginning of each command of ours in a hint that does not say already which host is meant."""


def for_host(hint: str, host: str | None) -> str:
    """Return `hint` with the commands of ours as they are typed for `host`; None where INTERLOCK_HOST names it."""
    there = f"interlock --host {shlex.quote(host)} " if host else "interlock "
    return _OURS.sub(lambda _: there, hint)
