"""The pages can be followed: every link has a target, and the program accepts every command line."""

import os
import re
import shlex
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import check_parses

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    if path.name != "CHANGELOG.md"  # its commands are those of past versions
]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^()\s]+)\)")
OPEN = re.compile(r"[…\[\]]|\.\.\.|\b[A-Z]{2,}\b(?!=)")
CODE = re.compile(r"`([^`]+)`")


class Typed(NamedTuple):
    """A command line of ours that a page shows."""

    page: str
    words: tuple[str, ...]


def prose(page: Path) -> str:
    """Return `page` without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the names of the headings of `page`, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = [c for c in text if c in " -_" or unicodedata.category(c)[0] in "LN"]
        found.add("".join(kept).replace(" ", "-"))
    return found


@cache
def typed() -> list[Typed]:
    """Return the command lines that the pages show: in shell blocks, after a `$`, and in tables, but not in prose."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        lines = [line for language, block in FENCE.findall(text) if language == "sh" for line in block.splitlines()]
        lines += [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        rows = [line for line in prose(page).splitlines() if line.startswith("|")]
        lines += [code for row in rows for code in CODE.findall(row) if code.count(" ") > 1]
        found |= {Typed(str(page.relative_to(ROOT)), words): None for line in lines for words in commands(line)}
    return list(found)


def split(line: str) -> list[str]:
    """Return the words and operators of a line of shell; no words if a quoted text begins or ends in it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:
        return []


def commands(line: str) -> Iterator[tuple[str, ...]]:
    """Yield our commands in a line of shell, except those with placeholders or with options to choose from."""
    words: list[str] = []
    for word in [*split(line), ";"]:
        if not set(word) <= set("();<>|&"):
            words.append(word)
            continue
        if "interlock" in words[:-1] and not OPEN.search(" ".join(words)):
            yield tuple(words[words.index("interlock") :])
        words = []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    """A link leads to a file of the repository, and its anchor to a heading of that file."""
    broken = []
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", sorted({line.page for line in typed()}))
def test_command_lines_of_a_page_are_understood(page, tmp_path, monkeypatch):
    """The program accepts their options and arguments; nothing is run. The files that they name exist."""
    monkeypatch.chdir(tmp_path)
    for words in [line.words for line in typed() if line.page == page]:
        for word in words:
            if word.startswith("./") or word.endswith(".yaml"):
                Path(word).touch()
        check_parses([*words[1:]], f"{page}: {shlex.join(words)}")


def test_tests_that_hold_a_promise_exist():
    """A test file that is renamed has to be renamed in the table of faults, too."""
    there = {path.name for path in ROOT.glob("tests/**/*.py")}
    named = set(re.findall(r"\btest_\w+\.py\b", (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")))
    assert len(named) > 20
    assert named - there == set()


def test_enough_command_lines_are_found():
    """Command lines are found by their form; if the pages' form changes, this file must not run out of tests."""
    assert len(typed()) > 100


@pytest.mark.slow
def test_pages_build_as_a_site(tmp_path):
    """The site builds as by `make docs`, which fails on a broken link. Links to sources lead to those sources."""
    site = tmp_path / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", site]
    done = subprocess.run(
        build, check=False, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 'href="source/fsm/table.py.html"' in (site / "index.html").read_text()
    assert "on_crash" in (site / "source" / "fsm" / "table.py.html").read_text()
    assert (site / "source" / "diagrams" / "lifecycle.svg").exists()
