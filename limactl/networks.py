"""`network` and `sudoers`: the one network that guests can share here, for which nobody has to be root."""

import json
import sys
from typing import TYPE_CHECKING

from ..commands.stdout import write
from ..errors import UsageError
from .listing import aligned

if TYPE_CHECKING:
    from .flags import Call
    from .session import Session

USER_V2 = "user-v2"
NETWORKS = {USER_V2: {"name": USER_V2, "mode": USER_V2, "netmask": "255.254.0.0"}}
"""Name → the object of `network list --json`. It has no gateway: each guest reaches the world by a card of its own."""

_JOIN = f"`limactl create --network=lima:{USER_V2} template:default`"


def list_(session: "Session", call: "Call") -> int:
    """Print the networks that are named, or all; a name that stands for nothing is only worth a warning."""
    for name in call.arguments:
        if name not in NETWORKS:
            session.stderr.warning(f"No network matching {name} found.")
    chosen = [NETWORKS[name] for name in call.arguments or NETWORKS if name in NETWORKS]
    if call.flags.get("json"):
        write("".join(json.dumps(it, separators=(",", ":")) + "\n" for it in chosen))
        return 0
    rows = [[it["name"], it["mode"], it.get("gateway", "-"), it.get("interface", "-")] for it in chosen]
    write(aligned([["NAME", "MODE", "GATEWAY", "INTERFACE"], *rows]))
    return 0


def create(_session: "Session", call: "Call") -> int:
    """Refuse it, with how to join the one that exists."""
    name = call.arguments[0]
    if name in NETWORKS:
        raise UsageError(f'network "{name}" already exists')
    raise UsageError(
        f"cannot create network `{name}`: all instances share one network here, and no other can be made; "
        f"an instance joins it by {_JOIN}"
    )


def delete(session: "Session", call: "Call") -> int:
    """Delete nothing: what has no network is only worth a warning, and the one that exists stays."""
    if not call.flags.get("force"):
        raise UsageError("`limactl network delete` currently always requires `--force`")
    for name in call.arguments:
        if name in NETWORKS:
            raise UsageError(f"cannot delete network `{name}`: it is there whenever an instance is on it")
        session.stderr.warning(f"Ignoring non-existent network `{name}`")
    return 0


def sudoers(_session: "Session", _call: "Call") -> int:
    """Refuse it: on Linux in limactl's words, elsewhere because no network here needs root."""
    if sys.platform != "darwin":
        raise UsageError("sudoers command is only supported on macOS right now")
    raise UsageError("nothing here needs root, so there are no rules for sudo, and no file of rules to check")
