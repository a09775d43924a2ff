"""`autostart`, and its predecessor before Lima 2.2, `start-at-login`: which instances start when their user logs in."""

from typing import TYPE_CHECKING

from ..errors import UsageError
from .session import DEFAULT

if TYPE_CHECKING:
    from .flags import Call
    from .session import Session


def enable(session: "Session", call: "Call") -> int:
    """Let the instance start at login; with lingering, systemd does that when the host boots."""
    condition = call.flags.get("condition", "login")
    if condition != "login":
        raise UsageError(
            f"`--condition={condition}` is not supported here: with `loginctl enable-linger`, what starts at login "
            "starts when the host boots"
        )
    return _set(session, call.arguments[0], enabled=True)


def disable(session: "Session", call: "Call") -> int:
    """Let the instance no longer start at login."""
    return _set(session, call.arguments[0], enabled=False)


def at_login(session: "Session", call: "Call") -> int:
    """Do what `enable` does, or with `--enabled=false` what `disable` does."""
    session.stderr.warning("`limactl start-at-login` is deprecated. Instead, use `limactl autostart`.")
    return _set(session, (call.arguments or (DEFAULT,))[0], enabled=call.flags.get("enabled", True))


def _set(session: "Session", name: str, *, enabled: bool) -> int:
    session.existing(name)
    if not session.vms.autostart(name, enabled=enabled):
        said = "is already registered" if enabled else "is not registered"
        session.stderr.info(f"Instance `{name}` {said} for automatic startup")
        return 0
    session.stderr.info(f"Instance `{name}` {'registered to' if enabled else 'unregistered from'} start at login")
    return 0
