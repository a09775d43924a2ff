"""The states an instance can be in, what each promises, and the groups of them that have a name.

A state is a promise about the world, kept between operations. What is true only for a while (an operation in
flight) and what is merely seen (a process is alive) are separate facts: see `records.Operation` and
`records.Observation`. There are four words because four different things can be asked next; a fifth would need
a question that none of these answers.
"""

from enum import StrEnum


class State(StrEnum):
    """One word about an instance. Name and value agree, because `transitions` keys states by name."""

    absent = "absent"
    created = "created"
    running = "running"
    stopped = "stopped"


PROMISE = {
    State.absent: "Nothing of this name exists: no directory, no disk, no process.",
    State.created: "A spec and a disk exist. The guest has never answered: its first boot lies ahead.",
    State.running: "Exactly one hypervisor process runs it, and its guest has answered since that process began.",
    State.stopped: "A spec and a disk exist, no process runs them, and the guest has answered before.",
}
"""What is true of the world in each state."""

AT_REST = (State.created, State.stopped)
"""Exists and no hypervisor has its files open: what may be booted, changed or removed."""

EXISTING = (State.created, State.running, State.stopped)
"""Has a directory, hence a spec, a journal and a line in `list`."""
