"""What is said about a transition is composed in one module, from the table's row: nobody else chooses a verb."""

import ast
import re
from pathlib import Path

import pytest

from interlock.fsm.table import TABLE

ROOT = Path(__file__).parents[2]
AUTHORS = ("fsm/words.py", "fsm/table.py")
PRODUCT = [
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py")]
    if path.relative_to(ROOT).parts[0] not in ("tests", "benchmarks", "tools", "build")
]

VERBS = "|".join(word for row in TABLE for word in (row.doing, row.done) if word)
SENTENCE = re.compile(rf'\b({VERBS}) "?{{}}|^"?{{}}"? (was )?({VERBS})\b', re.IGNORECASE)
"""A verb of the table beside something filled in, where the name of an instance stands: `starting "{}`."""


def templates(source):
    """Yield the text of every f-string, and of every text that is formatted, with `{}` for what is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w+\}|%s", "{}", node.value)


def sentences(source):
    """Return the texts in `source` that say something about a transition of an instance."""
    return [text for text in templates(source) if "\n" not in text and SENTENCE.search(text)]


@pytest.mark.parametrize("path", [path for path in PRODUCT if str(path) not in AUTHORS], ids=str)
def test_module_composes_no_sentence_about_a_transition(path):
    """No message can claim another transition than the one that runs, because no other module words one."""
    assert sentences((ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "code", ["f'Creating \"{name}\"'", "f'{name} was started'", "'starting \"{name}\"'.format(name=name)"]
)
def test_sentence_about_a_transition_is_recognized(code):
    """The rule finds what it is there to find: limactl's `Creating an instance` by a start began like that."""
    assert len(sentences(code)) >= 1


RETIRED = re.compile(
    r"\b(told|in vain|spoilt|go(es)? on (with|at|to)|for good|lest|anew|at it|that there is|whoever)\b", re.IGNORECASE
)
"""Words that read as translated; each has an everyday one."""

PLAIN = [
    *("api.py", "checks.py", "cli.py", "disks.py", "errors.py", "log.py", "pruning.py", "pytest_plugin.py"),
    *("commands", "creation", "diagrams", "drivers", "fsm", "guest", "host", "images", "templates"),
    *(
        "docs/architecture.md",
        "docs/development.md",
        "docs/drivers.md",
        "docs/embedding.md",
        "docs/guarantees.md",
        "docs/guide.md",
    ),
    *("docs/templates.md", "CONTRIBUTING.md", "README.md"),
]
"""The product and its pages."""


@pytest.mark.parametrize("place", PLAIN)
def test_room_is_written_in_everyday_words(place):
    """Comments, docstrings, help and messages read as a native maintainer would write them."""
    root = ROOT / place
    texts = [path for path in root.rglob("*") if path.suffix in (".py", ".md")] if root.is_dir() else [root]
    found = {
        f"{path.relative_to(ROOT)}: {word[0]}"
        for path in texts
        for word in RETIRED.finditer(path.read_text(encoding="utf-8"))
    }
    assert found == set()
