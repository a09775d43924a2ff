"""Finds a template and reads it: every mistake in it at once, each with its place."""

import os
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..fsm.errors import InvalidTemplateError, NotFoundError
from .model import Template

MAX_BYTES = 1 << 20
"""A template is written by people; a larger file is some other file."""


_NO_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)
"""What PyYAML raises for a text that is none, or for a value that its tag does not fit: `!!bool maybe`."""

_FOUND_CHARACTERS = 60
"""As much of a wrong value as helps to find it: the rest may be a megabyte, or a secret."""


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a template and what it is called in messages."""

    name: str
    text: bytes


def builtin_names() -> list[str]:
    """Return the names of the built-in templates, sorted."""
    folder = files(__package__) / "builtin"
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def find(locator: str) -> Source:
    """Return the template that `locator` means: `debian`, `template:debian`, a path, or `-` for standard input."""
    if locator == "-":
        return Source("<standard input>", sys.stdin.buffer.read(MAX_BYTES + 1))
    name = locator.removeprefix("template:")
    if name == locator and ("/" in locator or locator.endswith((".yaml", ".yml"))):
        return _read_file(locator)
    if name not in builtin_names():
        raise _no_builtin(name)
    return Source(f"template:{name}", (files(__package__) / "builtin" / f"{name}.yaml").read_bytes())


def summary(source: Source) -> str:
    """Return the first sentence of the comment that `source` begins with."""
    lines = []
    for line in source.text.decode(errors="replace").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines).split(". ")[0].rstrip(".")


def load(locator: str) -> Template:
    """Return the template that `locator` means; raises NotFoundError, or InvalidTemplateError with all mistakes."""
    return parse(find(locator))


def parse(source: Source) -> Template:
    """Return the template in `source`; raises InvalidTemplateError with a line for each mistake, in file order."""
    if len(source.text) > MAX_BYTES:
        raise InvalidTemplateError(f"{source.name}: larger than 1 MiB: this is no template")
    try:
        loader = yaml.SafeLoader(source.text)
        node = loader.get_single_node()
        _refuse_odd_nodes(node, source.name)
        data = loader.construct_document(node) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InvalidTemplateError(f"{source.name}{place}: {error.problem}") from error
    except _NO_YAML as error:
        raise InvalidTemplateError(f"{source.name}: {error}") from error
    if not isinstance(data, dict):
        raise InvalidTemplateError(f"{source.name}: expected a mapping of keys to values")
    try:
        return Template.model_validate(data)
    except ValidationError as error:
        mistakes = sorted(_mistake(node, problem) for problem in error.errors())
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise InvalidTemplateError(
            f"{source.name}: {count}",
            details=[f"{source.name}:{line}:{column}: {text}" for line, column, text in mistakes],
        ) from error


def _read_file(locator: str) -> Source:
    path = Path(os.path.expanduser(locator))  # noqa: PTH111 - Path's own raises where there is no such user
    try:
        with path.open("rb") as file:
            return Source(str(path), file.read(MAX_BYTES + 1))
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no template file {path}", hint="interlock template list") from error
    except OSError as error:
        raise InvalidTemplateError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidTemplateError(f"{str(path)!r}: {error}") from error


def _no_builtin(name: str) -> NotFoundError:
    from difflib import get_close_matches

    meant = get_close_matches(name, builtin_names(), n=1)
    suggestion = f'; did you mean "{meant[0]}"?' if meant else f"; there are: {', '.join(builtin_names())}"
    return NotFoundError(f'there is no built-in template "{name}"{suggestion}', hint="interlock template list")


def _refuse_odd_nodes(node: Any, name: str) -> None:
    """Refuse a key given twice, of which YAML would keep the last, and aliases, of which a few lines make gigabytes."""
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.CollectionNode) and id(node) in seen:
            raise InvalidTemplateError(f"{name}:{node.start_mark.line + 1}: aliases of lists and mappings are not read")
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise InvalidTemplateError(f"{name}:{line}: a key is a word, not a list or a mapping")
                if key.value in keys:
                    raise InvalidTemplateError(f"{name}:{line}: {key.value}: already given in line {keys[key.value]}")
                keys[str(key.value)] = line
                waiting.append(value)
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)


def _mistake(root: Any, problem: Any) -> tuple[int, int, str]:
    """Return (line, column, words) of one of pydantic's `problem`s: where the value stands, or would have to."""
    where = [part for part in problem["loc"] if isinstance(part, int | str)]
    mark = root.start_mark
    node = root
    for part in where:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == part:
                    mark, node = (key if problem["type"] == "extra_forbidden" else value).start_mark, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            mark = node.start_mark
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    return mark.line + 1, mark.column + 1, f"{field}: {words(problem)}"


def words(problem: Any) -> str:
    """Return what one of pydantic's `problem`s is, and what was found instead."""
    from difflib import get_close_matches

    match problem["type"]:
        case "extra_forbidden":
            known = [str(name) for name in Template.model_fields]
            meant = get_close_matches(str(problem["loc"][-1]), known, n=1)
            return f"no such key; did you mean {meant[0]}?" if meant else "no such key"
        case "missing":
            return "this key is required"
        case "value_error":
            return f"{problem['msg'].removeprefix('Value error, ')}, found {_found(problem['input'])}"
        case _:
            return f"{problem['msg'][0].lower()}{problem['msg'][1:]}, found {_found(problem['input'])}"


def _found(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _FOUND_CHARACTERS else f"{text[:_FOUND_CHARACTERS]}..."
