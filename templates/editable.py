"""The keys of a template that can be edited in an instance: read, changed and validated as in a template."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from pydantic import ValidationError

from .document import compose, plain
from .edit import apply
from .load import Source, invalid
from .mistakes import Mistake, mistake, mistakes
from .model import Editable, known_keys

if TYPE_CHECKING:
    import yaml

FIXED = {
    "images": "the disk was made from it",
    "arch": "the disk was made for it",
    "param": "its values were filled in when the instance was created",
    **dict.fromkeys(("env", "provision"), "the guest was set up with it at its first boot"),
}
"""Key → why it cannot be edited, unless the reason is just that only `create` uses it."""


class Text:
    """What the YAML text in `source` asks for, with `edits` (`cpus=4`) applied; keys that it lacks do not change.

    Raises InvalidTemplateError with every mistake and its place.
    """

    def __init__(self, source: Source, edits: Sequence[str] = ()) -> None:
        self._name = source.name
        self._tree: yaml.MappingNode = compose(source.name, source.text)
        for edit in edits:
            apply(self._tree, edit)
        data = plain(self._tree)
        editable = {field.alias for field in Editable.model_fields.values()}
        fixed = [key for key in data if key not in editable and key in known_keys(())]
        wrong = [self._fixed(key) for key in fixed]
        try:
            self.asked = Editable.model_validate({key: value for key, value in data.items() if key not in fixed})
        except ValidationError as error:
            wrong += mistakes(self._tree, error)
        if wrong:
            raise invalid(self._name, [self._name], wrong)

    def refuse(self, words: str, *path: str | int) -> NoReturn:
        """Raise the error that says `words` about the value at `path`, with its place."""
        raise invalid(self._name, [self._name], [mistake(self._tree, path, words)])

    def _fixed(self, key: str) -> Mistake:
        why = FIXED.get(key, "only create uses it")
        return mistake(self._tree, (key,), f"cannot be edited: {why}", at_key=True)
