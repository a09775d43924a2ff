"""Explains why YAML cannot be read: where the slip is, what is wrong, and what to type instead.

PyYAML names what its scanner expected, often on a line below the slip. People make few kinds of slips: a tab, a lost
indentation, a colon without its space, text that needs quotes. The lines around are searched for these.
"""

import json
import re
from collections.abc import Callable, Iterator

import yaml

from .model import SECRET, known_keys

Slip = tuple[int, int, str]
"""Line and column, from 0, and words."""

_WORDS = {
    "character '\\t'": "a tab; YAML is indented with spaces",
    "found character": "put text that begins with this character in quotes",
    "undefined alias": "put text that begins with * in quotes; otherwise it is an alias, and this one is not defined",
    "expected alphabetic": "put text that begins with this character in quotes",
    "mapping values are not allowed": "one colon too many; put text that contains ': ' in quotes",
    "could not find expected ':'": "a key without a colon, or a line that is not indented like the text above",
    "'<stream end>'": "the text ends inside a list or mapping: ] or } is missing",
    "expected ',' or": "a comma is missing, or what was opened with { or [ is not closed",
    "unexpected end of stream": "a quote that is not closed",
    "unknown escape": "write a backslash twice in double quotes, or use single quotes",
    "expected <block end>": "the indentation matches no line above, or there is a list item among keys",
    "a comment or a line break": "the text after | or > begins in the next line, indented",
    "chomping or indentation": "put text that begins with this character in quotes",
    "single document": "a second document (---); a template is a single one",
}
"""A part of what PyYAML says → what the mistake is. Anything else is reported in PyYAML's words."""

_WRITE = "write `"

_KEYED = re.compile(r"(?P<lead>\s*(?:- +)*)(?P<key>[^\s:#'\"\[\]{},]+):(?:[ \t]+(?P<value>.*?))?\s*")
"""A line `KEY: VALUE`, in a list item or not."""

_NO_BLANK = re.compile(r"(?P<lead>\s*(?:- +)*)(?P<key>[A-Za-z]\w*):(?P<value>[^\s:/].*?)\s*")
_NO_COLON = re.compile(r"(?P<lead>\s*(?:- +)*)(?P<key>[A-Za-z]\w*)[ \t]+(?P<value>[^\s:](?:(?!: |:\Z).)*?)\s*")
_BLOCK = re.compile(r"(?P<lead>\s*(?:- +)*)(?:[^\s#]+:[ \t]+)?[|>][-+0-9]*[ \t]*(#.*)?")
"""A line below which a text of several lines begins."""


def words_of(error: yaml.MarkedYAMLError) -> str:
    """Return what `error` says, without looking at the text."""
    problem = str(error.problem)
    problem = f"{error.context}, {problem}" if problem.startswith("but ") else problem
    return next((words for part, words in _WORDS.items() if part in problem), problem)


def slip(text: str, error: yaml.MarkedYAMLError) -> Slip | None:
    """Return what is wrong with `text`, which PyYAML cannot read because of `error`; None if `error` has no place."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return None
    lines = [*_lines(text), ""]
    look = next((look for part, look in _LOOKS.items() if part in str(error.problem)), None)
    found = next(look(lines, error, mark), None) if look else None
    line, column, words = found or (mark.line, mark.column, words_of(error))
    return line, column, _discreet(lines, line, words)


def braces(node: yaml.Node) -> str | None:
    """Return the words for `node` if it is a mapping only because a variable lacks quotes; else None."""
    mark = node.start_mark
    lines = _lines((mark.buffer or "").rstrip("\0"))
    line = lines[mark.line] if mark.buffer else ""
    fixed = _in_quotes(line)
    if not fixed or "{{" not in line:
        return None
    return _discreet(lines, mark.line, f"text that begins with {{{{ needs quotes: {_write(fixed)}")


def comment(key: yaml.Node) -> str | None:
    """Return the words for `key` if YAML reads the script on its line as a comment: `script: #!/bin/sh`; else None."""
    mark = key.end_mark
    line = _lines(mark.buffer.rstrip("\0"))[mark.line] if mark.buffer else ""
    if not (found := re.match(r":\s+(#!.*)", line[mark.column :])):
        return None
    written = _write(f"{line[: mark.column].strip()}: |")
    return f"`{found[1].rstrip()}` is a comment here, and not read: {written}, and the script below"


def _discreet(lines: list[str], number: int, words: str) -> str:
    """Return `words` without the line to write if line `number` is in the value of a key whose values may be secret."""
    top = next((line for line in reversed(lines[: number + 1]) if line[:1].strip() and line[0] not in "#-}]"), "")
    return words.partition(f": {_WRITE}")[0] if top.partition(":")[0].strip("'\" ") in SECRET else words


def _lines(text: str) -> list[str]:
    """Return the lines of `text` as PyYAML counts them."""
    return re.split(r"\r\n|[\r\n\x85\u2028\u2029]", text)


def _tab(lines: list[str], _error: yaml.MarkedYAMLError, mark: yaml.Mark) -> Iterator[Slip]:
    line = lines[mark.line]
    fixed = line.replace("\t", " ")
    if "\t" in _indent(line):
        above = _above(lines, mark.line)
        deeper = above is not None and lines[above].rstrip().endswith((":", "|", ">"))
        fixed = " " * (_column(lines[above]) + 2 * deeper if above is not None else 0) + line.strip()
    yield mark.line, mark.column, f"a tab; YAML is indented with spaces: {_write(fixed)}"


def _no_key(lines: list[str], error: yaml.MarkedYAMLError, mark: yaml.Mark) -> Iterator[Slip]:
    number = (error.context_mark or mark).line
    yield from _text_without_bar(lines, number)
    if not re.match(rf"({'|'.join(known_keys(()))})[: ]", lines[number]):
        yield from _outside_its_text(lines, number)
    yield from _colon(lines, number)


def _colon_too_many(lines: list[str], _error: yaml.MarkedYAMLError, mark: yaml.Mark) -> Iterator[Slip]:
    line = lines[mark.line]
    first = re.search(r":(\s|\Z)", line)
    if first and mark.column > first.start():
        if fixed := _in_quotes(line):
            yield mark.line, mark.column, f"text with ': ' in it needs quotes: {_write(fixed)}"
        return
    above = _above(lines, mark.line)
    if above is None:
        return
    yield from _text_without_bar(lines, mark.line)
    yield from _colon(lines, above)
    keyed = _KEYED.fullmatch(lines[above])
    if keyed and len(_indent(line)) > len(keyed["lead"]):
        fixed = " " * len(keyed["lead"]) + line.strip()
        yield mark.line, len(_indent(line)), f"indented deeper than the line above: {_write(fixed)}"


def _block_end(lines: list[str], error: yaml.MarkedYAMLError, mark: yaml.Mark) -> Iterator[Slip]:
    line = lines[mark.line]
    if mark.column > len(_lead(line)):
        keyed = _KEYED.fullmatch(line)
        begin = (keyed["value"] or "")[:1] if keyed else ""
        if begin and begin in "'\"{[" and (fixed := _in_quotes(line)):
            words = f"text that begins with {begin} needs quotes around all of it"
            yield mark.line, mark.column, f"{words}: {_write(fixed)}"
        return
    yield from _text_without_bar(lines, mark.line)
    item = line.lstrip().startswith("-")
    of_kind = (at for at in range(mark.line - 1, -1, -1) if not item or lines[at].lstrip().startswith("-"))
    above = next((at for at in of_kind if _column(lines[at]) > mark.column), None)
    if above is not None and (error.context_mark is None or mark.column != error.context_mark.column):
        fixed = " " * (len(_indent(lines[above])) if item else _column(lines[above])) + line.strip()
        yield mark.line, mark.column, f"the indentation matches no line above: {_write(fixed)}"
    elif item:
        yield mark.line, mark.column, "a list item among keys: the key that it belongs to is missing above it"


def _takes_quotes(lines: list[str], _error: yaml.MarkedYAMLError, mark: yaml.Mark) -> Iterator[Slip]:
    keyed = _KEYED.fullmatch(lines[mark.line])
    value = (keyed["value"] if keyed else None) or ""
    fixed = _in_quotes(lines[mark.line])
    begin = len(lines[mark.line].rstrip()) - len(value)
    if fixed and value[0] not in "{[" and mark.column <= begin + 1:
        yield mark.line, mark.column, f"text that begins with {value[0]} needs quotes: {_write(fixed)}"


def _not_closed(lines: list[str], error: yaml.MarkedYAMLError, _mark: yaml.Mark) -> Iterator[Slip]:
    if error.context_mark is None:
        return
    begin = error.context_mark
    line = lines[begin.line]
    quote = line[begin.column : begin.column + 1]
    fixed = line[: begin.column] + _quoted(line[begin.column + 1 :].rstrip())
    yield begin.line, begin.column, f"the quote {quote} is not closed: {_write(fixed)}"


def _flow(lines: list[str], error: yaml.MarkedYAMLError, mark: yaml.Mark) -> Iterator[Slip]:
    begin = error.context_mark
    if begin is not None and not str(error.problem).endswith("'<stream end>'"):
        opened = lines[begin.line][begin.column : begin.column + 1]
        words = f"a comma is missing, or the {opened} in line {begin.line + 1} is not closed"
        yield mark.line, mark.column, words


_LOOKS: dict[str, Callable[[list[str], yaml.MarkedYAMLError, yaml.Mark], Iterator[Slip]]] = {
    "character '\\t'": _tab,
    "could not find expected ':'": _no_key,
    "mapping values are not allowed": _colon_too_many,
    "expected <block end>": _block_end,
    "found character": _takes_quotes,
    "undefined alias": _takes_quotes,
    "expected alphabetic": _takes_quotes,
    "chomping or indentation": _takes_quotes,
    "unexpected end of stream": _not_closed,
    "expected ',' or": _flow,
}
"""A part of what PyYAML says → where the slip may be."""


def _colon(lines: list[str], number: int) -> Iterator[Slip]:
    """Yield what is missing in line `number` if it is `KEY:VALUE` or `KEY VALUE`."""
    for pattern, words in ((_NO_BLANK, "a space is missing after the colon"), (_NO_COLON, "a colon is missing")):
        if found := pattern.fullmatch(lines[number]):
            fixed = f"{found['lead']}{found['key']}: {found['value']}"
            yield number, len(found["lead"]), f"{words}: {_write(fixed)}"


def _outside_its_text(lines: list[str], number: int) -> Iterator[Slip]:
    """Yield the first line, up to line `number`, that belongs to a text of several lines but is not in it."""
    column = len(_indent(lines[number]))
    above = number - 1
    while above >= 0 and not _BLOCK.fullmatch(lines[above]):
        bare = lines[above].strip()
        if bare and not bare.startswith("#") and len(_indent(lines[above])) <= column:
            return
        above -= 1
    header = _BLOCK.fullmatch(lines[above]) if above >= 0 else None
    if header is None:
        return
    key = len(header["lead"])
    text = [(at, lines[at]) for at in range(above + 1, number + 1) if lines[at].strip()]
    at, line = next(((at, line) for at, line in text if len(_indent(line)) <= max(key, column)), text[-1])
    first = len(_indent(text[0][1]))
    fixed = " " * (first if first > key else key + 2) + line.strip()
    words = f"this line belongs to the text that begins in line {above + 1}, but is indented less"
    yield at, len(_indent(line)), f"{words}: {_write(fixed)}"


def _text_without_bar(lines: list[str], number: int) -> Iterator[Slip]:
    """Yield the key, above line `number`, whose script begins on the line below it without a `|`."""
    for at in range(number, 0, -1):
        key = _KEYED.fullmatch(lines[at - 1])
        if lines[at].strip().startswith("#!") and key and not key["value"]:
            fixed = f"{lines[at - 1].rstrip()} |"
            yield at - 1, len(key["lead"]), f"text of several lines needs a | after its key: {_write(fixed)}"
            return


def _in_quotes(line: str) -> str | None:
    """Return `line` with its value in quotes; None if it is not `KEY: VALUE`."""
    keyed = _KEYED.fullmatch(line)
    return f"{keyed['lead']}{keyed['key']}: {_quoted(keyed['value'])}" if keyed and keyed["value"] else None


def _quoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    return json.dumps(value, ensure_ascii=False) if "'" in value else f"'{value}'"


def _above(lines: list[str], number: int) -> int | None:
    """Return the number of the nearest line above that is neither empty nor a comment; None if there is none."""
    return next((at for at in range(number - 1, -1, -1) if lines[at].strip() and lines[at].strip()[0] != "#"), None)


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _lead(line: str) -> str:
    """Return what stands before the key or text of `line`: spaces, and the dashes of list items."""
    found = re.match(r"\s*(?:- +)*", line)
    return found[0] if found else ""


def _column(line: str) -> int:
    """Return the column of the key in `line`; without a key, as in a script, the number of spaces before its text."""
    return len(_lead(line) if _KEYED.fullmatch(line) else _indent(line))


def _write(line: str) -> str:
    return f"{_WRITE}{line}`"
