"""What is wrong with a template, in words, and where."""

from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from .document import Path, Place, at, is_null, place, written
from .model import SECRET, Template, known_keys

_FOUND_CHARACTERS = 60
"""How much of a wrong value a message quotes: the whole may be a megabyte."""

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_long": "at most {max_length} items",
}
"""Kind of problem in pydantic → what was expected instead. Other problems keep pydantic's words."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One message about one value."""

    place: Place
    field: str
    """As people write it: `mounts[0].location`."""
    words: str

    def __str__(self) -> str:
        return f"{self.place}: {self.field}: {self.words}"

    @property
    def note(self) -> str:
        """The message without the column, for a note."""
        return f"{self.place.of_line}: {self.field}: {self.words}"


def mistake(tree: yaml.Node, path: Path, words: str, *, at_key: bool = False) -> Mistake:
    """Return what to say about the value at `path`, whether it is there or missing."""
    node, key = at(tree, path)
    return Mistake(place(key if at_key or is_null(node) else node), shortened(written(path)), words)


def mistakes(tree: yaml.Node, error: ValidationError, model: type[BaseModel] = Template) -> list[Mistake]:
    """Return the mistakes that pydantic found in the plain form of `tree`, which should be a `model`."""
    wrong = []
    for problem in error.errors():
        path = tuple(part for part in problem["loc"] if part != "[key]")
        if problem["type"] == "disagreement":
            wrong += [mistake(tree, (*path, *inner), words) for inner, words in problem["ctx"]["found"]]
        else:
            at_key = problem["type"] == "extra_forbidden" or problem["loc"][-1:] == ("[key]",)
            words = words_of(problem, show=path[:1] not in [(key,) for key in SECRET], model=model)
            wrong.append(mistake(tree, path, words, at_key=at_key))
    return wrong


def words_of(problem: Any, *, show: bool = True, model: type[BaseModel] = Template) -> str:
    """Return the words for one of pydantic's problems in a `model`; with `show`, they quote what was found."""
    from difflib import get_close_matches

    instead = f", found {found(problem['input'])}" if show else ""
    match problem["type"]:
        case kind if kind in _EXPECTED:
            if kind == "model_type" and show and (line := _without_blank(problem, model)):
                return f"a space is missing after the colon: write `{line}`"
            return f"expected {_EXPECTED[kind].format_map(problem.get('ctx', {}))}{instead}"
        case "extra_forbidden":
            *inside, key = problem["loc"]
            meant = get_close_matches(str(key), known_keys(tuple(inside), model), n=1)
            if str(key).startswith("-"):
                meant = [f"- {str(key)[1:]}, with a space after the dash"]
            return f"no such key; did you mean {meant[0]}?" if meant else "no such key"
        case "missing":
            return "this key is required"
        case "value_error":
            return f"{problem['msg'].removeprefix('Value error, ')}{instead}"
        case _:
            return f"{problem['msg'][0].lower()}{problem['msg'][1:]}{instead}"


def _without_blank(problem: Any, model: type[BaseModel]) -> str | None:
    """Return how to write what was found if it is `KEY:VALUE`, which YAML reads as one word; else None."""
    key, colon, value = str(problem["input"]).partition(":")
    return f"{key}: {value}" if colon and value and key in known_keys(tuple(problem["loc"]), model) else None


def found(value: object) -> str:
    """Return `value` as a message shows it, shortened."""
    return shortened(str(value).lower() if isinstance(value, bool) else repr(value))


def shortened(text: str) -> str:
    """Return as much of `text` as a message has room for."""
    return text if len(text) <= _FOUND_CHARACTERS else f"{text[:_FOUND_CHARACTERS]}..."
