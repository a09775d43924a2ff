"""What is asked for beside a template. A module of its own: a program that names it loads nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for beside the template; None leaves the template's value, or the default."""

    arch: str | None = None
    cpus: int | None = None
    memory_bytes: int | None = None
    disk_bytes: int | None = None
    user: str | None = None
    start_timeout_s: float | None = None
    stop_timeout_s: float | None = None
    cluster: str | None = None
    """Which of the home's clusters runs it."""
    node: str | None = None
    """The node of the cluster on which it is made, or else the group of nodes; by default the cluster chooses."""
    group: str | None = None
    edits: tuple[str, ...] = ()
    """Changes to the template before it is resolved, as KEY=VALUE: `mounts[0].writable=true`."""
    warm: bool = False
    """True: a warm image is made first, if there is none that fits."""
    trust: bool = False
    """True: a template from a server may reach of this host what it asks for (reach.py)."""
