r"""The subset of Go templates that people use to format listings.

    {{.Name}}  {{.Config.CPUs}}  {{json .}}  {{.Name | printf "%-8s"}}  \t  \n
    {{if eq .Status "Running"}}up{{else}}down{{end}}  {{range .Errors}}{{.}} {{end}}

The fields are the keys of a record, written as in Go: `.ChangedAt` is `changed_at`; so are the fields of records inside
a record. Variables, nested templates and methods are not supported. Source: Go, text/template.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Dot = Any
"""The value of `.` in an expression: the record, or an item of a `range`."""

_Value = Callable[[Dot], Any]
_Text = Callable[[Dot], str]

_ACTION = re.compile(r"(\s*)\{\{(?:(-)\s)?(.*?)(?:\s(-))?\}\}(\s*)", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<field>(?:\.[A-Za-z_]\w*)+)|(?P<dot>\.)|(?P<text>"(?:[^"\\]|\\.)*"|`[^`]*`)"""
    r"""|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>[A-Za-z_]\w*)|(?P<sign>[|()]))"""
)
_VERB = re.compile(r"%(-?0?\d*(?:\.\d+)?)([vsdqt%])")
_ESCAPES = {r"\t": "\t", r"\n": "\n"}
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_CONSTANTS = {"true": True, "false": False, "nil": None}

ALIASES = {
    "names": "name",
    "dir": "directory",
    "memory": "memory_bytes",
    "disk": "disk_bytes",
    "sshlocalport": "ssh_port",
    "vmtype": "driver",
}
"""Name of a field in limactl or docker, in lower case → our key."""


class Fields(NamedTuple):
    """The fields of a record, by their names in lower case without underscores."""

    keys: Mapping[str, str]
    """Name → key."""
    shown: Mapping[str, str]
    """Key → the field as it is written."""

    @classmethod
    def of(cls, keys: frozenset[str]) -> "Fields":
        """Return the fields for `keys`, by the names that Go would give them and by their aliases."""
        known = {key.replace("_", ""): key for key in keys}
        aliases = {name: key for name, key in ALIASES.items() if key in keys and name not in known}
        return cls({**known, **aliases}, {key: _go_name(key) for key in keys})


def compiled(
    text: str,
    fields: frozenset[str] | Fields,
    *,
    escapes: bool = True,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> Callable[[Mapping[str, Any]], str]:
    r"""Return the function that renders a record with `fields`; raises ValueError, which names the invalid part.

    With `escapes`, `\t` and `\n` in the text are a tab and a new line. `functions` can be called besides those of Go.
    """
    known = fields if isinstance(fields, Fields) else Fields.of(fields)
    reader = _Reader(known, {**FUNCTIONS, **(functions or {})}, escapes=escapes)
    return reader.template(text)


class _Reader:
    """Turns the text of a template into functions, one for each part."""

    def __init__(self, fields: Fields, functions: Mapping[str, Callable[..., Any]], *, escapes: bool) -> None:
        self.fields = fields
        self.functions = functions
        self.escapes = escapes
        self.inside = 0
        """How many `range` and `with` blocks surround the action; inside of one, `.` is not the record."""

    def template(self, text: str) -> _Text:
        parts = self._parts(text)
        whole, end = self._block(parts)
        if end is not None:
            raise ValueError(f"{{{{{end}}}}}: there is nothing to {end.split()[0]}")
        return whole

    def _parts(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield the literals and actions of `text`: ("text", ...) and ("action", ...)."""
        end, trimmed = 0, False
        for action in _ACTION.finditer(text):
            before = text[end : action.start()] + (action[1] if not action[2] else "")
            yield "text", before.lstrip() if trimmed else before
            if not _COMMENT.fullmatch(action[3]):
                yield "action", action[3].strip()
            trimmed, end = bool(action[4]), action.end() - (0 if action[4] else len(action[5]))
        rest = text[end:]
        if "{{" in rest:
            raise ValueError("a {{ has no }}")
        yield "text", rest.lstrip() if trimmed else rest

    def _block(self, parts: Iterator[tuple[str, str]]) -> tuple[_Text, str | None]:
        """Return the function that renders `parts` up to the action that ends the block, and that action."""
        rendered: list[_Text] = []
        for kind, text in parts:
            if kind == "text":
                rendered.append(self._literal(text))
                continue
            word, _, rest = text.partition(" ")
            if word in ("end", "else"):
                return _joined(rendered), text
            if word in ("if", "range", "with"):
                rendered.append(self._branch(word, rest, parts))
            elif text:
                value = self._pipeline(text)
                rendered.append(lambda dot, value=value: shown(value(dot)))  # type: ignore[misc]
            else:
                raise ValueError("{{}}: expected a field such as .Name")
        return _joined(rendered), None

    def _branch(self, word: str, condition: str, parts: Iterator[tuple[str, str]]) -> _Text:
        value = self._pipeline(condition)
        self.inside += word != "if"
        body, end = self._block(parts)
        self.inside -= word != "if"
        other: _Text = _joined([])
        if end is not None and end.startswith("else "):
            nested, _, more = end.removeprefix("else ").partition(" ")
            other, end = self._branch(nested, more, parts), "end"
        elif end == "else":
            other, end = self._block(parts)
        if end != "end":
            raise ValueError(f"{{{{{word} {condition}}}}}: there is no {{{{end}}}}")
        if word == "range":
            return lambda dot: "".join(map(body, _items(found))) if (found := value(dot)) else other(dot)
        if word == "with":
            return lambda dot: body(found) if _true(found := value(dot)) else other(dot)
        return lambda dot: body(dot) if _true(value(dot)) else other(dot)

    def _literal(self, text: str) -> _Text:
        for escape, character in _ESCAPES.items() if self.escapes else ():
            text = text.replace(escape, character)
        return lambda _: text

    def _pipeline(self, text: str) -> _Value:
        tokens = _tokens(text)
        value = self._piped(tokens, text)
        if tokens:
            raise ValueError(f"{{{{{text}}}}}: unexpected {tokens[0][1]}")
        return value

    def _piped(self, tokens: list[tuple[str, str]], text: str) -> _Value:
        value = self._command(tokens, text, None)
        while tokens and tokens[0][1] == "|":
            del tokens[0]
            value = self._command(tokens, text, value)
        return value

    def _command(self, tokens: list[tuple[str, str]], text: str, last: _Value | None) -> _Value:
        function = None
        if tokens and tokens[0][0] == "word" and tokens[0][1] not in _CONSTANTS:
            name = tokens.pop(0)[1]
            function = self.functions.get(name)
            if function is None:
                raise ValueError(
                    f'{{{{{text}}}}}: function "{name}" not defined; there are {", ".join(self.functions)}'
                )
        values = []
        while tokens and tokens[0][1] not in ("|", ")"):
            values.append(self._operand(tokens, text))
        if last is not None:
            values.append(last)
        if function is None:
            if len(values) != 1:
                raise ValueError(f"{{{{{text}}}}}: expected a field such as .Name, or a function and its arguments")
            return values[0]
        called = function
        return lambda dot: _call(called, [value(dot) for value in values], text)

    def _operand(self, tokens: list[tuple[str, str]], text: str) -> _Value:
        kind, token = tokens.pop(0)
        if (kind, token) == ("sign", "("):
            value = self._piped(tokens, text)
            if not tokens or tokens.pop(0)[1] != ")":
                raise ValueError(f"{{{{{text}}}}}: a ( has no )")
            return value
        if kind == "field":
            return self._field(token[1:].split("."))
        if kind == "dot":
            return lambda dot: dot
        if kind == "text":
            constant: Any = _unquoted(token, text)
        elif kind == "number":
            constant = float(token) if "." in token else int(token)
        elif kind == "word" and token in _CONSTANTS:
            constant = _CONSTANTS[token]
        else:
            raise ValueError(f"{{{{{text}}}}}: unexpected {token}")
        return lambda _: constant

    def _field(self, names: list[str]) -> _Value:
        if self.inside:
            return lambda dot: _within(dot, names)
        first, *rest = names
        key = self.fields.keys.get(_plain(first))
        if key is None:
            known = ", ".join(sorted(self.fields.shown.values()))
            raise ValueError(f".{first} is not one of the fields {known}")
        return lambda dot: _within(dot[key], rest)


def _joined(parts: list[_Text]) -> _Text:
    return lambda dot: "".join(part(dot) for part in parts)


def _tokens(text: str) -> list[tuple[str, str]]:
    found, position = [], 0
    text = text.rstrip()
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise ValueError(f"{{{{{text}}}}}: expected a field such as .Name, or json and a field")
        found.append((str(token.lastgroup), token[str(token.lastgroup)]))
        position = token.end()
    return found


def _unquoted(token: str, text: str) -> str:
    if token.startswith("`"):
        return token[1:-1]
    try:
        return str(json.loads(token))
    except ValueError as error:
        raise ValueError(f"{{{{{text}}}}}: {token} is not a string") from error


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def _go_name(key: str) -> str:
    return "." + "".join(word.capitalize() for word in key.split("_"))


def _within(value: Any, names: list[str]) -> Any:
    """Return the value that `names` lead to in `value`; raises ValueError for a name that does not exist."""
    for name in names:
        found = [it for key, it in value.items() if _plain(key) == _plain(name)] if isinstance(value, Mapping) else []
        if not found:
            raise ValueError(f".{name}: there is no such field")
        value = found[0]
    return value


def _call(function: Callable[..., Any], values: list[Any], text: str) -> Any:
    try:
        return function(*values)
    except (TypeError, IndexError, KeyError) as error:
        raise ValueError(f"{{{{{text}}}}}: {error}") from error


def _true(value: Any) -> bool:
    return bool(value)


def _items(value: Any) -> list[Any]:
    return [value[key] for key in sorted(value)] if isinstance(value, Mapping) else list(value)


def shown(value: Any) -> str:
    """Return `value` as Go prints it; an empty text for an unknown value."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Mapping():
            return f"map[{' '.join(f'{key}:{shown(value[key])}' for key in sorted(value))}]"
        case list() | tuple():
            return f"[{' '.join(map(shown, value))}]"
        case _:
            return str(value)


def _printf(form: str, *values: Any) -> str:
    left = list(values)

    def verb(found: re.Match[str]) -> str:
        flags, kind = found[1], found[2]
        if kind == "%":
            return "%"
        value = left.pop(0)
        if kind == "d":
            return str(f"%{flags}d" % value)
        return str(f"%{flags}s" % (json.dumps(shown(value)) if kind == "q" else shown(value)))

    return _VERB.sub(verb, form)


def _indent(width: int, value: Any) -> str:
    return "\n".join(" " * width + line for line in shown(value).split("\n"))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": json.dumps,
    "indent": _indent,
    "printf": _printf,
    "print": lambda *values: " ".join(map(shown, values)),
    "println": lambda *values: " ".join(map(shown, values)) + "\n",
    "len": len,
    "index": lambda value, *keys: _index(value, keys),
    "eq": lambda first, *others: any(first == other for other in others),
    "ne": lambda one, other: one != other,
    "lt": lambda one, other: one < other,
    "le": lambda one, other: one <= other,
    "gt": lambda one, other: one > other,
    "ge": lambda one, other: one >= other,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "not": lambda value: not value,
}
"""The functions. Source: Go, text/template, "Functions"; `json` and `indent` are from limactl and docker."""


def _index(value: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        value = value[key]
    return value
