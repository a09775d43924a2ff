"""All messages about transitions are composed in one module, with the verbs of the table."""

import ast
import re
import subprocess
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
"""A verb of the table next to a placeholder for an instance's name: `starting "{}`."""


def templates(source):
    """Yield the text of every string and f-string in `source`, with `{}` for each placeholder."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w+\}|%s", "{}", node.value)


def sentences(source):
    """Return the texts in `source` that are messages about a transition of an instance."""
    return [text for text in templates(source) if "\n" not in text and SENTENCE.search(text)]


def test_no_module_but_the_authors_composes_a_sentence_about_a_transition():
    """No message can name the wrong transition, because only these modules compose one."""
    others = [path for path in PRODUCT if str(path) not in AUTHORS]
    found = {str(path): sentences((ROOT / path).read_text(encoding="utf-8")) for path in others}
    assert {path: texts for path, texts in found.items() if texts} == {}


@pytest.mark.parametrize(
    "code", ["f'Creating \"{name}\"'", "f'{name} was started'", "'starting \"{name}\"'.format(name=name)"]
)
def test_sentence_about_a_transition_is_recognized(code):
    """The rule finds such sentences; limactl's `Creating an instance` during a start was one."""
    assert len(sentences(code)) >= 1


RETIRED = re.compile(
    r"\b(told|in vain|spoilt|go(es)? on (with|at|to)|for good|lest|anew|at it|that there is|whoever"
    r"|the reason is said|is one no more|belongs? into|(is|are|was|be) had|is none of|in whatever way)\b",
    re.IGNORECASE,
)
"""Words that read as translated; each has an everyday one."""

NOT_OURS = ("tests/templates/", "tests/releases/", "tests/unit/test_wording.py")
"""Templates of other projects and broken ones, files of released versions, and the list of these words."""

PROSE = {".py", ".md", ".sh", ".yaml", ".pml", ".html", ".txt", ".toml", ""}
"""Suffixes of files that people write and read; programs of the guests have no suffix."""


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout: git says which files are ours")
def test_prose_is_written_in_everyday_words():
    """Comments, docstrings, help, messages and pages read as a native maintainer would write them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ours = [
        name for name in listed.split("\0") if name and Path(name).suffix in PROSE and not name.startswith(NOT_OURS)
    ]
    found = {
        f"{name}: {word[0]}"
        for name in ours
        if (ROOT / name).is_file()
        for word in RETIRED.finditer((ROOT / name).read_text(encoding="utf-8"))
    }
    assert found == set()
