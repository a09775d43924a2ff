"""What the unit tests read: the reviewed files of tests/golden."""

import re
from pathlib import Path

import pytest

from interlock.fsm.states import State
from interlock.fsm.table import Trigger

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Return the folder of the reviewed files."""
    return GOLDEN


@pytest.fixture(scope="session")
def matrix() -> dict[tuple[Trigger, State], str]:
    """Return the reviewed matrix: what each trigger does in each state."""
    lines = (GOLDEN / "matrix.txt").read_text(encoding="utf-8").splitlines()
    head, *rows = (re.split(r"\s{2,}", line.strip()) for line in lines if line and not line.startswith("#"))
    return {
        (Trigger(trigger), State(state)): cell
        for trigger, *cells in rows
        for state, cell in zip(head, cells, strict=True)
    }
