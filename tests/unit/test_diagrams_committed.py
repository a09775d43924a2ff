"""The committed generated files are what the generator writes, and their statements are true."""

import re

import pytest
from asking import needs, words

from interlock import errors
from interlock.diagrams.__main__ import ROOT
from interlock.diagrams.generated import EXAMPLE, FILES, lifecycle_page
from interlock.diagrams.layout import INITIAL
from interlock.diagrams.render import COMMAND
from interlock.errors import BY_REFERENCE, IllegalTransitionError, InterlockError, NotFoundError
from interlock.fsm.engine import Engine
from interlock.fsm.port import Plan
from interlock.fsm.states import State
from interlock.fsm.table import BY_PAIR, BY_TRIGGER, TABLE, By, Trigger, path


@pytest.mark.parametrize("name", FILES)
def test_generated_file_is_up_to_date(name: str) -> None:
    """The committed file equals, byte for byte, what today's table and classes generate."""
    expected = FILES[name]()
    actual = (ROOT / name).read_bytes().decode()

    assert expected == actual, f"{name} is out of date: run `{COMMAND}`, and read what changed"


def test_generated_files_nothing_else_lies_beside_the_drawings() -> None:
    """The generator writes every drawing in the folder; no file of a removed format is left over."""
    drawings = {f"diagrams/{path.name}" for path in (ROOT / "diagrams").glob("lifecycle.*")}

    assert {name for name in FILES if name.startswith("diagrams/")} == drawings


def asked(engine: Engine, plan: Plan, trigger: Trigger) -> None:
    """Ask for `trigger` on the example instance."""
    if trigger is Trigger.create:
        engine.create(EXAMPLE, plan)
    elif BY_TRIGGER[trigger].by is By.caller:
        engine.admit(EXAMPLE, trigger)
    else:
        engine.fire(EXAMPLE, trigger, **needs(trigger))


def moved_to(state: State, engine: Engine, plan: Plan) -> None:
    """Bring the example instance into `state` by the shortest way."""
    if state is INITIAL:
        return
    entering = next(row for row in TABLE if row.dest is state and not row.observed)
    for trigger in path(INITIAL, entering.trigger) or ():
        asked(engine, plan, trigger)


@pytest.mark.parametrize("state", State)
def test_lifecycle_page_shows_the_errors_that_the_engine_raises(state: State, engine: Engine, plan: Plan) -> None:
    """Each refusal on the page has the reference, message and hint of the error that the engine raises."""
    moved_to(state, engine, plan)
    page = lifecycle_page()
    for row in TABLE:
        if row.observed or state in row.holds or (row.trigger, state) in BY_PAIR:
            continue
        with pytest.raises((IllegalTransitionError, NotFoundError)) as caught:
            asked(engine, plan, row.trigger)
        said = re.search(rf"^\| {state} +\| `{row.trigger}` .*$", page, re.MULTILINE)

        hint = caught.value.hint or ""
        given = " ".join([EXAMPLE, *words(row.trigger)])
        if words(row.trigger) and hint.endswith(given):  # the page has the row's example in its place
            hint = hint.removesuffix(given) + row.example.replace("NAME", EXAMPLE)
        assert said
        assert [caught.value.reference, caught.value.message, hint] == [
            cell.strip(" `") for cell in said[0].strip("| ").split("|")[2:]
        ]


def test_errors_tree_of_the_docstring_agrees_with_the_classes() -> None:
    """The hand-drawn tree names every class under its parent, with its exit code and reference."""
    drawn = []
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)(\w+Error) +(\d+) +([a-z-]+)", line):
            depth = len(found[1]) // 4
            parents[depth - 1 :] = [found[2]]
            drawn.append((found[2], parents[depth - 2] if depth > 1 else "InterlockError", int(found[3]), found[4]))
    kinds = [kind for kind in BY_REFERENCE.values() if kind is not InterlockError]

    assert [(kind.__name__, kind.__bases__[0].__name__, kind.exit_code, kind.reference) for kind in kinds] == drawn
