"""The formats in which the table can be printed, by name."""

from collections.abc import Callable

from ..fsm.states import State
from .exports import plantuml, scxml, xstate
from .promela import promela
from .render import dot, json, markdown, mermaid, svg, text

FORMATS: dict[str, tuple[Callable[[State | None], str], str]] = {
    "text": (text, ".txt"),
    "svg": (svg, ".svg"),
    "mermaid": (mermaid, ".mmd"),
    "dot": (dot, ".dot"),
    "markdown": (markdown, ".md"),
    "json": (json, ".json"),
    "plantuml": (plantuml, ".puml"),
    "scxml": (scxml, ".scxml"),
    "xstate": (xstate, ".xstate.json"),
    "promela": (promela, ".pml"),
}
"""Name of the format → its function, and the suffix of its files. The first format is for people at a terminal."""
