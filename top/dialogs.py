"""The questions that the view asks, and the pages of text that it shows."""

from collections.abc import Mapping
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input, Static

SCROLLING = frozenset({"up", "down", "pageup", "pagedown", "home", "end"})


class Question(ModalScreen[str | None]):
    """Asks for one key of `answers`, key → its meaning; the result is that key, or None after Escape."""

    def __init__(self, text: str, answers: Mapping[str, str]) -> None:
        super().__init__()
        self._text, self._answers = text, answers

    def compose(self) -> ComposeResult:
        lines = Text(f"{self._text}\n")
        for key, meaning in {**self._answers, "Esc": "back"}.items():
            lines.append("\n").append(f" {key} ", style="bold reverse").append(f" {meaning}")
        yield Static(lines, classes="dialog")

    def on_key(self, event: Key) -> None:
        event.stop()
        if event.character in self._answers:
            self.dismiss(event.character)
        elif event.key == "escape":
            self.dismiss(None)


class Words(ModalScreen[str | None]):
    """Asks for a line of text; the result is that line, or None if it is empty or after Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", show=False)]

    def __init__(self, text: str, before: str = "", *, example: str = "") -> None:
        super().__init__()
        self._text, self._before, self._example = text, before, example

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(Text(self._text))
            yield Input(self._before, placeholder=self._example, select_on_focus=False)
            yield Static(Text("Enter: do it   Esc: back"))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or None)

    def action_back(self) -> None:
        self.dismiss(None)


class Page(ModalScreen[None]):
    """Shows `text`, which can be scrolled, until another key is pressed."""

    def __init__(self, text: Text) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(self._text)

    def on_key(self, event: Key) -> None:
        if event.key not in SCROLLING:
            event.stop()
            self.dismiss(None)
