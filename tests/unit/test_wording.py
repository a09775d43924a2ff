"""What is said about a transition is composed in one module, from the table's row: nobody else chooses a verb."""

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


def test_no_module_but_the_authors_composes_a_sentence_about_a_transition():
    """No message can claim another transition than the one that runs, because no other module words one."""
    others = [path for path in PRODUCT if str(path) not in AUTHORS]
    found = {str(path): sentences((ROOT / path).read_text(encoding="utf-8")) for path in others}
    assert {path: texts for path, texts in found.items() if texts} == {}


@pytest.mark.parametrize(
    "code", ["f'Creating \"{name}\"'", "f'{name} was started'", "'starting \"{name}\"'.format(name=name)"]
)
def test_sentence_about_a_transition_is_recognized(code):
    """The rule finds what it is there to find: limactl's `Creating an instance` by a start began like that."""
    assert len(sentences(code)) >= 1


RETIRED = re.compile(
    r"\b(told|in vain|spoilt|go(es)? on (with|at|to)|for good|lest|anew|at it|that there is|whoever"
    r"|the reason is said|is one no more|belongs? into|(is|are|was|be) had|is none of|in whatever way)\b",
    re.IGNORECASE,
)
"""Words that read as translated; each has an everyday one."""

NOT_OURS = ("tests/templates/", "tests/releases/", "tests/unit/test_wording.py")
"""Templates of others and broken ones, what released versions wrote, and the list of these words."""

PROSE = {".py", ".md", ".sh", ".yaml", ".pml", ".html", ".txt", ".toml", ""}
"""Suffixes of what people write and read; programs of the guests have none."""


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
