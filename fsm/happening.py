"""The names of the events of a transition. They never change."""

from enum import StrEnum


class Happening(StrEnum):
    """The names of events."""

    begun = "transition_begun"
    step = "transition_step"
    done = "transition_done"
    degraded = "transition_degraded"
    observed = "transition_observed"
    failed = "transition_failed"
    left = "transition_left"
    holds = "transition_holds"
    joined = "transition_joined"
    preempted = "transition_preempted"
    suspended = "transition_suspended"
    interrupted = "transition_interrupted"
    undone = "transition_undone"
