"""The variables of a template's texts: `{{.Home}}/data`, `{{if eq .Param.mode "dev"}}...{{else}}...{{end}}`.

The part of Go's text/template that templates use is supported: variables, texts in quotes, `if` with `else if`,
`else` and `end`, the functions `not`, `and`, `or`, `eq`, `ne`, parentheses, comments, and the dashes that trim spaces.
Everything else is refused, with its name and place. Source: https://pkg.go.dev/text/template.

    piece       = text | "{{" expression "}}" | "{{if" expression "}}" pieces ... "{{end}}"
    expression  = operand | function operand ...
    operand     = .Name | "text" | `text` | ( expression )
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

MAX_DEPTH = 50
"""How deeply conditions and parentheses may nest."""

FUNCTIONS = {"not": (1, 1), "and": (1, 99), "or": (1, 99), "eq": (2, 99), "ne": (2, 2)}
"""Function → the fewest and the most operands that it takes."""

ITSELF = "{{`{{`}} stands for {{ itself"
"""A hint for text of another program that uses such braces itself."""

_ACTION = re.compile(
    r"""\{\{ (?P<body> -?\s*/\*.*?\*/\s*-? | (?: "(?:\\.|[^"\\\n])*" | `[^`]*` | (?!\}\}) [^"`] )* ) \}\}""",
    re.VERBOSE | re.DOTALL,
)
_BLANKS = re.compile(r"\s*")
_TOKEN = re.compile(
    r"""\s*(?: (?P<variable>\.[A-Za-z_][A-Za-z0-9_.-]*) | (?P<word>[A-Za-z_]\w*) | (?P<quoted>"(?:\\.|[^"\\])*")
    | (?P<raw>`[^`]*`) | (?P<bracket>[()]) | (?P<odd>\S) )""",
    re.VERBOSE,
)

Value = str | bool


class VariableError(ValueError):
    """A text is not in the language above."""

    def __init__(self, offset: int, words: str) -> None:
        super().__init__(words)
        self.offset = offset
        """Of the wrong character in the text, from 0."""
        self.words = words


@dataclass(frozen=True, slots=True)
class _Variable:
    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class _Call:
    function: str
    operands: "tuple[_Expression, ...]"


_Expression = str | _Variable | _Call
"""A text stands for itself."""


@dataclass(frozen=True, slots=True)
class _Output:
    expression: _Expression


@dataclass(frozen=True, slots=True)
class _If:
    branches: "tuple[tuple[_Expression, tuple[_Piece, ...]], ...]"
    """(condition, what is used if it is the first that is true); an `else` has the condition "else"."""


_Piece = str | _Output | _If


def names(text: str) -> list[tuple[str, int]]:
    """Return each variable that `text` uses, in all branches: (name without its dot, offset). Raises VariableError."""
    return list(_names(_Parser(text).pieces))


def replaced(text: str, values: Mapping[str, Value]) -> str:
    """Return `text` with its variables replaced; the keys of `values` are names: `Home`, `Param.mode`.

    Raises VariableError, also for a variable that is not in `values`.
    """
    return "".join(_rendered(_Parser(text).pieces, values)) if "{{" in text else text


def unknown(name: str, known: Iterable[str]) -> str:
    """Return the words for a variable that is not among the `known` ones."""
    from difflib import get_close_matches

    known = sorted(known)
    meant = get_close_matches(name, known, n=1)
    suggestion = f"did you mean .{meant[0]}?" if meant else f"there are: {', '.join(f'.{one}' for one in known)}"
    return f"no such variable here: .{name}; {suggestion}"


class _Parser:
    """Turns one text into pieces."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        pieces, ended_by, offset, _ = self._until(("",), 0)
        if ended_by:
            raise VariableError(offset, f"{{{{{ended_by}}}}} without {{{{if}}}}")
        self.pieces = pieces

    def _until(self, ends: tuple[str, ...], depth: int) -> tuple[tuple[_Piece, ...], str, int, str]:
        """Return the pieces up to one of the words `ends` ("" is the text's end), that word, its offset, its rest."""
        pieces: list[_Piece] = []
        while (opened := self._text.find("{{", self._position)) >= 0:
            found = _ACTION.match(self._text, opened)
            if found is None:
                raise VariableError(opened, "{{ without }}")
            body, offset = found["body"], found.start("body")
            before, self._position = self._text[self._position : opened], found.end()
            if re.match(r"-\s", body):
                before, body, offset = before.rstrip(), body[1:], offset + 1
            if re.search(r"\s-\Z", body):
                body = body[:-1]
                self._position = _BLANKS.match(self._text, self._position).end()  # type: ignore[union-attr] # it matches anything
            pieces.append(before)
            word = re.match(r"\s*(if|else|end)\b", body)
            if body.lstrip().startswith("/*") and body.rstrip().endswith("*/"):
                continue
            if word is None:
                pieces.append(_Output(_expression(body, offset)))
            elif word[1] == "if":
                pieces.append(self._if(body[word.end() :], offset + word.end(), depth + 1))
            else:
                return tuple(pieces), word[1], offset + word.start(1), body[word.end() :]
        pieces.append(self._text[self._position :])
        if "" not in ends:
            raise VariableError(len(self._text), "{{if}} without {{end}}")
        return tuple(pieces), "", len(self._text), ""

    def _if(self, condition: str, offset: int, depth: int) -> _If:
        if depth > MAX_DEPTH:
            raise VariableError(offset, f"more than {MAX_DEPTH} nested conditions")
        branches: list[tuple[_Expression, tuple[_Piece, ...]]] = []
        test: _Expression = _expression(condition, offset)
        last = False
        while True:
            pieces, word, end, rest = self._until(("else", "end"), depth)
            branches.append((test, pieces))
            if word == "end":
                if rest.strip():
                    raise VariableError(end, f"{{{{end}}}} with {_quoted(rest.strip())}")
                return _If(tuple(branches))
            if last:
                raise VariableError(end, "{{else}} after {{else}}")
            other = re.fullmatch(r"\s+if\b(.*)", rest, re.DOTALL)
            if rest.strip() and other is None:
                raise VariableError(end, f"{{{{else}}}} with {_quoted(rest.strip())}")
            last = other is None
            test = "else" if other is None else _expression(other[1], end + len("else") + other.start(1))


def _expression(text: str, offset: int) -> _Expression:
    """Return `text`, which begins at `offset` of the whole text, parsed as one expression."""
    tokens = [(found.lastgroup or "", found[found.lastgroup or 0], offset + found.start(found.lastgroup or 0))
              for found in _TOKEN.finditer(text)]  # fmt: skip
    if not tokens:
        raise VariableError(offset, "{{}} with nothing in it")
    expression, rest = _parsed(tokens, offset, 0)
    if rest:
        raise VariableError(rest[0][2], f"{_quoted(rest[0][1])} is not understood here")
    return expression


_Tokens = list[tuple[str, str, int]]


def _parsed(tokens: _Tokens, end: int, depth: int) -> tuple[_Expression, _Tokens]:
    """Return the expression that `tokens` begin with, and the tokens after it."""
    kind, text, offset = tokens[0]
    if kind != "word":
        return _operand(tokens, end, depth)
    if text not in FUNCTIONS:
        there = ", ".join(("if", *FUNCTIONS))
        raise VariableError(offset, f"{text} is not supported; there are: {there}; {ITSELF}")
    operands: list[_Expression] = []
    rest = tokens[1:]
    while rest and rest[0][1] != ")":
        operand, rest = _operand(rest, end, depth)
        operands.append(operand)
    fewest, most = FUNCTIONS[text]
    if not fewest <= len(operands) <= most:
        needed = fewest if fewest == most else f"{fewest} or more"
        raise VariableError(offset, f"{text} takes {needed} operands, found {len(operands)}")
    return _Call(text, tuple(operands)), rest


def _operand(tokens: _Tokens, end: int, depth: int) -> tuple[_Expression, _Tokens]:
    kind, text, offset = tokens[0]
    match kind:
        case "variable":
            return _Variable(text[1:], offset), tokens[1:]
        case "quoted":
            try:
                return str(json.loads(text)), tokens[1:]
            except ValueError as error:
                raise VariableError(offset, f"{_quoted(text)} is not a text in quotes") from error
        case "raw":
            return text[1:-1], tokens[1:]
        case _ if text == "(" and len(tokens) > 1:
            if depth > MAX_DEPTH:
                raise VariableError(offset, f"more than {MAX_DEPTH} nested parentheses")
            expression, rest = _parsed(tokens[1:], end, depth + 1)
            if not rest or rest[0][1] != ")":
                raise VariableError(offset, "( without )")
            return expression, rest[1:]
    raise VariableError(offset, f"{_quoted(text)} is not understood here")


def _names(pieces: Iterable[_Piece]) -> Iterator[tuple[str, int]]:
    for piece in pieces:
        if isinstance(piece, _Output):
            yield from _used(piece.expression)
        elif isinstance(piece, _If):
            for condition, inner in piece.branches:
                yield from _used(condition)
                yield from _names(inner)


def _used(expression: _Expression) -> Iterator[tuple[str, int]]:
    if isinstance(expression, _Variable):
        yield expression.name, expression.offset
    elif isinstance(expression, _Call):
        for operand in expression.operands:
            yield from _used(operand)


def _rendered(pieces: Iterable[_Piece], values: Mapping[str, Value]) -> Iterator[str]:
    for piece in pieces:
        if isinstance(piece, str):
            yield piece
        elif isinstance(piece, _Output):
            value = _value(piece.expression, values)
            yield value if isinstance(value, str) else str(value).lower()
        else:
            for condition, inner in piece.branches:
                if _value(condition, values):
                    yield from _rendered(inner, values)
                    break


def _value(expression: _Expression, values: Mapping[str, Value]) -> Value:
    """Return the value of `expression`; a text is true if it is not empty."""
    if isinstance(expression, str):
        return expression
    if isinstance(expression, _Variable):
        if expression.name not in values:
            raise VariableError(expression.offset, unknown(expression.name, values))
        return values[expression.name]
    first, *others = [_value(operand, values) for operand in expression.operands]
    return _MEANING[expression.function](first, others)


_MEANING: dict[str, Callable[[Value, list[Value]], Value]] = {
    "not": lambda first, _: not first,
    "and": lambda first, others: next((one for one in (first, *others) if not one), (first, *others)[-1]),
    "or": lambda first, others: next((one for one in (first, *others) if one), (first, *others)[-1]),
    "eq": lambda first, others: first in others,
    "ne": lambda first, others: first not in others,
}
"""How each function computes its value. `and` and `or` return the operand that decides; `eq` is true if any operand
equals the first."""


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")  # noqa: PLR2004 - enough to find it by
