"""`network` and `sudoers`: the only network that guests can share here, which needs no root."""

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
"""Name → the object of `network list --json`. It has no gateway: each guest has another card to reach the internet."""

_JOIN = f"`limactl create --network=lima:{USER_V2} template:default`"


def list_(session: "Session", call: "Call") -> int:
    """Print the named networks, or all; for an unknown name, only print a warning."""
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
    """Refuse, and explain how to join the existing network."""
    name = call.arguments[0]
    if name in NETWORKS:
        raise UsageError(f'network "{name}" already exists')
    raise UsageError(
        f"cannot create network `{name}`: all instances share one network here, and no other can be made; "
        f"an instance joins it by {_JOIN}"
    )


def delete(session: "Session", call: "Call") -> int:
    """Delete nothing: print a warning for an unknown name, and refuse to delete the existing network."""
    if not call.flags.get("force"):
        raise UsageError("`limactl network delete` currently always requires `--force`")
    for name in call.arguments:
        if name in NETWORKS:
            raise UsageError(f"cannot delete network `{name}`: it exists whenever an instance uses it")
        session.stderr.warning(f"Ignoring non-existent network `{name}`")
    return 0


def sudoers(_session: "Session", _call: "Call") -> int:
    """Refuse: on Linux in limactl's words, on macOS because no network here needs root."""
    if sys.platform != "darwin":
        raise UsageError("sudoers command is only supported on macOS right now")
    raise UsageError("nothing here needs root, so there are no rules for sudo, and no file of rules to check")
