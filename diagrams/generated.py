"""All generated files and their content: the drawings and the reference pages."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from inspect import cleandoc, getdoc
from pathlib import Path

from .. import errors
from ..contract import KINDS_OF_RECORDS
from ..errors import IllegalTransitionError, InterlockError, NotFoundError
from ..fsm import refusals, words
from ..fsm.states import State
from ..fsm.table import RULE, TABLE, By, Decision, Row, Trigger, decide
from ..log import json_schema
from . import commands, coverage, manual, records, render
from .render import markdown_table, notice

EXAMPLE = "web"
"""The name of the instance in the examples."""


def lifecycle_page() -> str:
    """Return docs/reference/lifecycle.md."""
    return f"""\
# {render.TITLE}

{notice("fsm/table.py")}

![{render.prose()}](../../diagrams/lifecycle.svg)

The same for [Mermaid](../../diagrams/lifecycle.mmd), [Graphviz](../../diagrams/lifecycle.dot) and
[programs](../../diagrams/lifecycle.json). `interlock diagram` draws it in a terminal, and
`interlock diagram --format` also knows PlantUML, SCXML, XState and, with the engine's protocol, Promela.

## States

{render.states_table()}
## Transitions

{render.rows_table()}
{"".join(map(_transition, TABLE))}\
## Every trigger in every state

An arrow leads to a state. *Already so* succeeds, says so and does nothing. *Refused* is an error, and nothing moves.
What is observed cannot be asked for in any state, and happens only where there is an arrow.

{_matrix()}
## What is refused, and in which words

The hint is the shortest way to what was asked for; where there is nothing yet, the way in; where every way would remove
the instance first, the command that shows it.

{_refusals()}
## The same as data

`interlock diagram --format json` prints this; with the name of an instance, `current` is the state it is in.

```json
{render.json()}```
"""


def errors_page() -> str:
    """Return docs/reference/errors.md."""
    example = next(error for _, _, error in _refused() if isinstance(error, IllegalTransitionError))
    return f"""\
# Errors and exit codes

{notice("errors.py")}

An error is written to stderr: its reference, which is what a program should look at, one line that says what is wrong,
the words of another program where one failed, and a hint that is a command to type.

```
error: {example.reference}
{example.message}
hint: {example.hint}
```

## What can be done about it

```
{_tree()}
```

## References

{markdown_table(("reference", "exit code", "what it means"), [_error(kind) for kind in errors.BY_REFERENCE.values()])}
## Exit codes

{_exit_codes()}
`shell` ends with the exit code of the command in the guest, or with ssh's own, 255, when the connection failed.
"""


def json_page() -> str:
    """Return docs/reference/json.md."""
    return f"""\
# JSON

{notice("contract.py")}

`--format json`, or `--json`, prints one object a line; `--format yaml` the same as YAML documents. With `--json` an
error is an object on stdout, too ([what went wrong](#what-went-wrong)). Commands that pass streams through, such as
`run` and `logs`, have neither. Sizes are in bytes, durations in seconds, times in UTC as ISO 8601 (tables for people
show local time, with its offset). A key without a value is null, unless its type says that it may be missing. What is
promised of the keys stands in [the contract](../contract.md).

Each kind of record has a JSON Schema, and they are installed with the package:

```python
import json
from importlib.resources import files

schema = json.loads((files("interlock") / "schemas" / "status.schema.json").read_text())
```

What is said on stderr stands in [messages](messages.md).

{records.sections()}"""


def log_schema() -> str:
    """Return schemas/log.schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"


def coverage_picture() -> str:
    """Return docs/coverage.svg for the last complete run of the tests."""
    counted = Path(__file__).parents[1] / "tests" / "transitions.jsonl"
    return coverage.svg(coverage.loads(counted.read_text().splitlines()))


FILES: dict[str, Callable[[], str]] = {
    "diagrams/lifecycle.mmd": render.mermaid,
    "diagrams/lifecycle.dot": render.dot,
    "diagrams/lifecycle.svg": render.svg,
    "diagrams/lifecycle.md": render.markdown,
    "diagrams/lifecycle.json": render.json,
    "docs/reference/lifecycle.md": lifecycle_page,
    "docs/reference/errors.md": errors_page,
    "docs/reference/commands.md": commands.page,
    "commands/completion.json": commands.completion,
    "docs/reference/json.md": json_page,
    "schemas/log.schema.json": log_schema,
    **{f"schemas/{name}.schema.json": partial(records.schema, name) for name in KINDS_OF_RECORDS},
    "docs/coverage.svg": coverage_picture,
    **{f"docs/man/{name}": partial(manual.page, name) for name in manual.NAMES},
}
"""Path in the checkout → the function that returns the content of the file."""


def _transition(row: Row) -> str:
    """Return the section of one row, with the details that have no room in the table above."""
    said = [WORK[row.by]]
    if row.doing:
        said.append(f"- While it runs, messages say *{row.doing}*; once it is done, *{row.done}*.")
    if row.on_crash:
        said.append(f"- Cut short by a crash: **{row.on_crash}**. {RULE[row.on_crash]}")
    if row.holds:
        said.append(f"- Asked for where it is already so ({_any_of(row.holds)}), it succeeds and does nothing.")
    if row.holds_unless:
        seen = f"the driver sees nothing {row.holds_unless}"
        said.append(f"- Asked for where {seen}, it succeeds and does nothing.")
    if row.guarded:
        said.append("- Refused while the instance is protected.")
    if row.unsaved:
        said.append("- Refused while the instance's memory is saved.")
    if row.yields_to:
        said.append(f"- While it runs, {_any_of(row.yields_to)} calls it off: it fails as cancelled and is undone.")
    if row.timeout:
        said.append(f"- It may take `timeout_s`, by default the spec's `{row.timeout}`.")
    if row.on_damage:
        said.append(f"- Of an instance whose files cannot be understood: {row.on_damage}")
    sources = _any_of(row.sources) or "damage"
    return f"### {row.trigger}: {sources} → {row.dest or 'the same'}\n\n{row.why}\n\n" + "\n".join(said) + "\n\n"


WORK = {
    By.driver: "- The driver does the work.",
    By.engine: "- The engine does the work, in its own files.",
    By.caller: "- The work is the caller's: the engine allows it, takes no lock and writes nothing to the journal.",
    By.nobody: "- It is observed, never asked for: it is recorded after the fact and takes no time.",
}
"""Who does the work of a row, in the words of its section."""


def _any_of(names: Sequence[str]) -> str:
    return " or ".join(names)


def _matrix() -> str:
    rows = [(f"`{row.trigger}`", *(_cell(row, state) for state in State)) for row in TABLE]
    return markdown_table(("trigger", *State), rows)


def _cell(row: Row, state: State) -> str:
    match decide(row, state):
        case Decision.legal:
            return f"→ **{row.leads_to(state)}**"
        case Decision.holds:
            return "already so"
        case _:
            return "" if row.observed else "refused"


def _refused() -> Iterator[tuple[State, Trigger, InterlockError]]:
    """Yield every request that is refused, with the error that it raises."""
    for state in State:
        for row in TABLE:
            decision = decide(row, state)
            if row.observed or decision in (Decision.legal, Decision.holds):
                continue
            if state is State.absent:
                hint = words.way(EXAMPLE, state, row.trigger)
                yield state, row.trigger, NotFoundError(words.missing(EXAMPLE), hint=hint)
            else:
                yield state, row.trigger, refusals.refused(decision, EXAMPLE, state, row.trigger)


def _refusals() -> str:
    return markdown_table(
        ("state", "trigger", "error", "message", "hint"),
        [
            (state, f"`{trigger}`", f"`{error.reference}`", error.message, f"`{error.hint}`")
            for state, trigger, error in _refused()
        ],
    )


def _tree() -> str:
    """Return the tree in the docstring of the module `errors`; a test compares it with the classes."""
    drawn = [line for line in (errors.__doc__ or "").splitlines() if line.startswith("    ")]
    return cleandoc("\n".join(drawn))


def _error(kind: type[InterlockError]) -> tuple[str, ...]:
    meaning = (getdoc(kind) or "").splitlines()[0]
    return f"`{kind.reference}`", str(kind.exit_code), meaning


def _exit_codes() -> str:
    kinds = errors.BY_REFERENCE.values()
    meanings = {
        code: ", ".join(f"`{kind.reference}`" for kind in kinds if kind.exit_code == code)
        for code in sorted({kind.exit_code for kind in kinds})
    }
    others = {0: "it was done, or was already so", 141: "nobody reads stdout any more; what was asked for was done"}
    rows = [(str(code), meaning) for code, meaning in sorted({**others, **meanings}.items())]
    return markdown_table(("exit code", "references"), rows)
