"""`list` and `info`: the facts that limactl prints about instances and about itself."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..commands.terminal import columns, styled
from ..errors import UsageError
from .facts import FIELDS, NIL, facts, record
from .home import ADDRESS, in_units
from .version import LIMA_VERSION

if TYPE_CHECKING:
    from ..fsm.records import Status
    from .flags import Call
    from .session import Session

_COLUMN = 8
"""The width that limactl assumes for each column when it decides which columns fit on a terminal."""


_TERMINAL = "_LIMA_OUTPUT_IS_TTY"
"""The variable with which limactl's tests pretend that stdout is a terminal with colours."""


def list_(session: "Session", call: "Call") -> int:
    """Print the named instances, or all; return 1 if one of the names is unknown."""
    flags = call.flags
    form = _form(flags)
    if flags.get("list-fields"):
        _print(f"{name}\n" for name in sorted(FIELDS))
        return 0
    render = _template(form) if "{{" in form else None
    statuses, missing = _found(session, call.arguments)
    if not statuses and not missing and not call.arguments:
        session.stderr.warning("No instance found. Run `limactl create` to create an instance.")
        return 0
    known = [facts(status, session.lima) for status in statuses]
    if flags.get("filter"):
        known = _filtered(known, flags["filter"])
    if flags.get("quiet"):
        _print(f"{it['name']}\n" for it in known)
        return 1 if missing else 0
    for it in known:
        if it["errors"]:
            session.stderr.say("warning", f"instance `{it['name']}` has errors", {"errors": str(it["errors"])})
    if render:
        _print(f"{render(it)}\n" for it in known)
    elif form == "table":
        _print(_table(known, all_fields=bool(flags.get("all-fields")), bare=not known))
    elif form in ("json", "yaml"):
        _print_records(map(record, known), form, flags.get("yq", []))
    else:
        _print(f"{form}\n" for _ in known)  # a template without a field
    return 1 if missing else 0


def info(session: "Session", call: "Call") -> int:
    """Print the version, the templates and the settings of this limactl as one JSON object."""
    from ..host.environment import KEPT_BACK

    templates = session.vms.templates
    lima = session.lima
    known = {
        "version": LIMA_VERSION,
        "interlockVersion": _version(),
        "templates": [{"name": name, "location": f"template:{name}"} for name in templates.list()],
        "limaHome": str(lima.root),
        "interlockHome": str(lima.home.root),
        "vmTypes": ["qemu"],
        "vmTypesEx": {"qemu": {"location": "internal"}},
        "guestAgents": {},
        "shellEnvBlock": list(KEPT_BACK),
        "plugins": {},
        "libexecPaths": [],
        "sharePaths": [],
        "hostOS": os.uname().sysname.lower(),
        "hostArch": os.uname().machine,
        "identityFile": str(lima.root / "_config" / "user"),
    }
    if expressions := call.flags.get("yq"):
        from .queries import query

        _print(query(known, expressions))
        return 0
    _print([json.dumps(known, indent=4) + "\n"])
    return 0


def shows_a_terminal() -> bool:
    """Return whether stdout is a terminal, for people to read."""
    return bool(os.environ.get(_TERMINAL)) or sys.stdout.isatty()


def _version() -> str:
    from ..version import __version__

    return __version__


def _form(flags: Mapping[str, Any]) -> str:
    """Return the requested format; raises UsageError for flags that exclude each other."""
    form = str(flags.get("format", "json" if flags.get("json") or "yq" in flags else "table"))
    wrong = None
    if flags.get("json") and "format" in flags:
        wrong = "option --json conflicts with option --format"
    elif flags.get("list-fields") and "format" in flags:
        wrong = "option --list-fields conflicts with option --format"
    elif flags.get("list-fields") and ("yq" in flags or "filter" in flags):
        wrong = f"option --list-fields conflicts with option --{'yq' if 'yq' in flags else 'filter'}"
    elif "yq" in flags and form not in ("json", "yaml"):
        wrong = "option --yq only works with --format json or yaml"
    elif flags.get("quiet") and form != "table":
        wrong = "option --quiet can only be used with '--format table'"
    if wrong:
        raise UsageError(wrong)
    return form


def _template(form: str) -> Callable[[Mapping[str, Any]], str]:
    """Return a function that renders an instance with the Go template `form`."""
    from ..commands.go_template import FUNCTIONS, Fields, compiled

    fields = Fields(
        {name.lower(): key for name, key in FIELDS.items()}, {key: f".{name}" for name, key in FIELDS.items()}
    )
    functions: dict[str, Callable[..., Any]] = {
        "json": lambda value: "null" if value is NIL else _json(_written(value)),
        "yaml": lambda value: f"---\n{_yaml(_written(value))}".rstrip(),
        "indent": lambda *given: FUNCTIONS["indent"](*(given if len(given) > 1 else (2, *given))),
        "missing": lambda *given: given[-1] or (given[0] if len(given) > 1 else "<missing>"),
    }
    try:
        render = compiled(form, fields, escapes=False, functions=functions)
    except ValueError as error:
        raise UsageError(f"invalid go template: {error}") from error

    def rendered(known: Mapping[str, Any]) -> str:
        try:
            return render(known)
        except ValueError as error:
            raise UsageError(f"template: {error}") from error

    return rendered


def _written(value: Any) -> Any:
    """Return `value` as it appears in JSON and YAML: a whole instance becomes its object of `list --json`."""
    return record(value) if isinstance(value, dict) and value.keys() >= set(FIELDS.values()) else value


def _found(session: "Session", names: Sequence[str]) -> "tuple[list[Status], bool]":
    """Return the statuses of the instances `names`, or of all, and whether one of the names is unknown.

    The files for embedders in LIMA_HOME are brought up to date.
    """
    lima, vms = session.lima, session.vms
    if not names:
        statuses = list(vms.instances())
        for foreign in lima.foreign():
            session.stderr.warning(f"Ignoring `{foreign}`, an instance of Lima's own in {lima.directory(foreign)}")
        lima.sweep({status.name for status in statuses})
    else:
        statuses = []
        for name in names:
            found = [status] if _is_name(name) and (status := vms.status(name)).exists else []
            if not found:
                session.stderr.warning(f"No instance matching {name} found.")
            statuses += found
    for status in statuses:
        lima.refresh(status, vms)
    return statuses, len(statuses) < len(names)


def _is_name(name: str) -> bool:
    from ..host.home import NAME

    return bool(NAME.fullmatch(name))


def _filtered(known: list[dict[str, Any]], expressions: Sequence[str]) -> list[dict[str, Any]]:
    from .queries import query

    select = [f"select({expression})" for expression in expressions]
    return [it for it in known if query(record(it), select).strip()]


def _print_records(records: Iterable[dict[str, Any]], form: str, expressions: Sequence[str]) -> None:
    if expressions:
        from .queries import query

        _print(query(it, expressions, form) for it in records)
    elif form == "yaml":
        _print(_painted(f"---\n{_yaml(it)}", form) for it in records)
    elif shows_a_terminal():
        _print(_painted(json.dumps(it, indent=4) + "\n", form) for it in records)
    else:
        _print(_json(it) + "\n" for it in records)


def _painted(text: str, form: str) -> str:
    """Return `text`, with colours if stdout shows them."""
    if not (os.environ.get(_TERMINAL) or styled(sys.stdout)):
        return text
    from .colours import painted

    return painted(text, form)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def _print(pieces: Iterable[str]) -> None:
    from ..commands.stdout import write

    for piece in pieces:
        write(piece)


def _table(known: Sequence[Mapping[str, Any]], *, all_fields: bool, bare: bool) -> Iterator[str]:
    """Yield the table. VMTYPE and ARCH may be left out if they are the same for all instances."""
    width = columns(sys.stdout) if sys.stdout.isatty() else 0
    arch = os.uname().machine

    def narrow(more: int) -> bool:
        return not width or (not all_fields and more * _COLUMN > width)

    shown: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("NAME", lambda it: it["name"]),
        ("STATUS", lambda it: it["status"]),
        ("SSH", lambda it: f"{ADDRESS}:{it['sshLocalPort']}"),
    ]
    if bare or not (narrow(10) and len({it["vmType"] for it in known}) == 1):
        shown.append(("VMTYPE", lambda it: it["vmType"]))
    if bare or not (narrow(len(shown) + 6) and {it["arch"] for it in known} == {arch}):
        shown.append(("ARCH", lambda it: it["arch"]))
    shown += [
        ("CPUS", lambda it: str(it["cpus"])),
        ("MEMORY", lambda it: in_units(it["memory"])),
        ("DISK", lambda it: in_units(it["disk"])),
    ]
    if not (width and narrow(len(shown) + 2)):
        shown.append(("DIR", lambda it: _short(it["dir"])))
    rows = [[title for title, _ in shown], *([cell(it) for _, cell in shown] for it in known)]
    yield aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return `rows` as limactl aligns them: four spaces between columns, no padding after the last one."""
    widths = [max(len(cell) for cell in column) + 4 for column in zip(*rows, strict=True)]
    lines = (
        "".join(f"{cell:<{width}}" for cell, width in zip(row[:-1], widths, strict=False)) + row[-1] for row in rows
    )
    return "".join(f"{line}\n" for line in lines)


def _short(path: str) -> str:
    """Return `path` with the user's home as `~`."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path's own raises where there is no such user
    return "~" + path.removeprefix(home) if path.startswith(home + os.sep) else path
