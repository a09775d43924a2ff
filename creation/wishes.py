"""What a caller asks for besides a template. A module of its own, so that importing it loads nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller asks for besides the template; None keeps the template's value, or the default."""

    arch: str | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    user: str | None = None
    start_timeout_s: float | None = None
    stop_timeout_s: float | None = None
    cluster: str | None = None
    """The home's cluster that runs the machine."""
    node: str | None = None
    """The cluster's node on which the machine is made, or else its group of nodes; by default the cluster chooses."""
    group: str | None = None
    edits: tuple[str, ...] = ()
    """Changes to the template before it is resolved, as KEY=VALUE: `mounts[0].writable=true`."""
    warm: bool = False
    """True: if no warm image fits, one is made first."""
    trust: bool = False
    """True: a template from a server gets the access to this host that it asks for (reach.py)."""
