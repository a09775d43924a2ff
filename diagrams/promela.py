"""The table and the engine's protocol as a model in Promela, for the model checker Spin.

`protocol.pml` is the protocol, written by hand to match the engine; this module fills in the rows. In a test, Spin
searches every interleaving of two managers, an adversary that kills them, and a last `delete --force`:

    interlock diagram --format promela >protocol.pml
    spin -run -safety protocol.pml      errors: 0
    spin -T -t protocol.pml             the trace of a violation, in words

Source: spin(1), "Promela Language Reference".
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..fsm import table
from ..fsm.states import AT_REST, State
from ..fsm.table import Recovery, Row, Trigger
from .layout import INITIAL

PROTOCOL = Path(__file__).with_name("protocol.pml")
PLACE = "/* TABLE */"
"""The text in `protocol.pml` that the rows replace."""

FORCED = (Trigger.kill, Trigger.delete)
"""The requests that `delete --force` makes, one after the other."""


def promela(current: State | None = None, rows: Sequence[Row] | None = None) -> str:
    """Return the model of the protocol for an instance that begins in `current`, by default absent.

    `rows` replaces the table: a test breaks one of them and expects that Spin notices.
    """
    definitions = _definitions(table.TABLE if rows is None else rows, current or INITIAL)
    return PROTOCOL.read_text(encoding="utf-8").replace(PLACE, "\n".join(definitions))


def _definitions(rows: Sequence[Row], begin: State) -> list[str]:
    rows = [row for row in rows if row.recorded or row.observed]
    asked = [row for row in rows if row.recorded]
    pairs = [(row, source) for row in rows for source in row.sources]
    exits = [row for row in rows if row.observed and row.dest in AT_REST]
    return [
        f"mtype:state = {{ {', '.join(State)} }};",
        f"mtype:trigger = {{ {', '.join(row.trigger for row in rows)} }};",
        f"mtype:rule = {{ {', '.join(map(_name, Recovery))}, no_rule }};",
        "",
        _either("AT_REST(s)", (f"s == {state}" for state in AT_REST)),
        _either("LEGAL(t, s)", (_both(row, source) for row, source in pairs)),
        _either("HOLDS(t, s)", (_both(row, state) for row in rows for state in row.holds)),
        _either("YIELDS(t, other)", (f"(t == {row.trigger} && other == {it})" for row in rows for it in row.yields_to)),
        _either("GUARDED(t)", (f"t == {row.trigger}" for row in rows if row.guarded)),
        _choice("DEST(t, s)", {row: row.dest for row in rows if row.dest is not None}, "s"),
        _choice("RULE(t)", {row: _name(row.on_crash) for row in rows if row.on_crash}, "no_rule"),
        "",
        "/* What a row does to the world, by where it leads. */",
        _which("BOOTS(t)", asked, lambda row: row.dest is State.running and any(it in AT_REST for it in row.sources)),
        _which("ENDS(t)", asked, lambda row: State.running in row.sources and row.dest in AT_REST),
        _which("SAVES(t)", asked, lambda row: row.on_crash is Recovery.let_run and row.dest is not None),
        _which("APPEARS(t)", asked, lambda row: State.absent in row.sources),
        _which("VANISHES(t)", asked, lambda row: row.dest is State.absent),
        f"#define CREATE {next(row.trigger for row in asked if State.absent in row.sources)}",
        *(f"#define EXIT {row.trigger}" for row in exits[:1]),
        f"#define BEGIN {begin}",
        "",
        *_inline("CHOOSE(t)", [f":: t = {row.trigger}" for row in _unlike(asked)]),
        *_inline("name_of(t)", [f':: t == {row.trigger} -> printf("{row.trigger}\\n")' for row in rows]),
        *_inline("begun(t)", [_saying(row, str(row.doing)) for row in asked]),
        *_inline("done(t)", [_saying(row, row.done) for row in asked]),
        *_inline("force()", [], [f"ask_for({trigger})" for trigger in FORCED]),
    ]


def _unlike(rows: Iterable[Row]) -> Iterable[Row]:
    """Return one of each group of rows that are the same in the model, because they behave in the same way there."""
    return {
        (frozenset(row.sources), row.dest, row.on_crash, row.holds, row.yields_to, row.guarded): row for row in rows
    }.values()


def _name(word: str | None) -> str:
    return str(word).replace(" ", "_")


def _both(row: Row, state: State) -> str:
    return f"(t == {row.trigger} && s == {state})"


def _either(name: str, conditions: Iterable[str]) -> str:
    """Return the definition of `name`, which is true if one of `conditions` is."""
    return f"#define {name} ({' || '.join(conditions) or 'false'})"


def _which(name: str, rows: Sequence[Row], chosen: Callable[[Row], bool]) -> str:
    return _either(name, [f"t == {row.trigger}" for row in rows if chosen(row)])


def _choice(name: str, values: dict[Row, object], otherwise: str) -> str:
    """Return the definition of `name`, which is the value of the row whose trigger is `t`."""
    chosen = "".join(f"(t == {row.trigger} -> {value} : " for row, value in values.items())
    return f"#define {name} ({chosen}{otherwise}{')' * len(values)})"


def _saying(row: Row, words: str) -> str:
    return f':: t == {row.trigger} -> printf("process %d: {words}\\n", me)'


def _inline(name: str, options: Sequence[str], statements: Sequence[str] = ()) -> list[str]:
    body = ["if", *options, "fi"] if options else [";\n    ".join(statements)]
    return [f"inline {name} {{", *(f"    {line}" for line in body), "}"]
