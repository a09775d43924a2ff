"""The states of an instance, what each one promises, and named groups of states.

A state is a promise about the world that holds between operations. Temporary facts (an operation in flight) and
observed facts (a process is alive) are separate: see `records.Operation` and `records.Observation`. There are four
states because each allows different requests; a fifth would have to allow requests that none of these does.
"""

from enum import StrEnum


class State(StrEnum):
    """The state of an instance. Name and value are equal, because `transitions` keys states by name."""

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
"""The instance exists, and no hypervisor has its files open: it may be booted, changed or removed."""

EXISTING = (State.created, State.running, State.stopped)
"""The instance has a directory, with a spec and a journal, and a line in `list`."""
