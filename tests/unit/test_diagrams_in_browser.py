"""How Mermaid, XState and SCION (an interpreter of SCXML) treat the diagrams: all three run in Chromium.

The page `diagrams.html` runs them. `tools/drawing.sh` installs the browser and fetches the three.
"""

import html
import json
import re
import shutil
import subprocess
import sys
from itertools import combinations, product
from pathlib import Path

import pytest

from interlock.diagrams.exports import scxml, xstate
from interlock.diagrams.layout import edges
from interlock.diagrams.render import asides, mermaid
from interlock.fsm.states import State
from interlock.fsm.table import BY_PAIR, Trigger

LIBRARIES = Path(sys.prefix) / "drawing"
"""Where `make test` installs the libraries."""

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None or not LIBRARIES.exists(), reason="`make test` installs Chromium and Mermaid"),
]

Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def answer(tmp_path_factory) -> dict:
    """Return the page's answers about every diagram; the browser is started once."""
    folder = tmp_path_factory.mktemp("browser")
    shutil.copytree(LIBRARIES, folder, dirs_exist_ok=True)
    documents = {state: scxml(state) for state in State}
    diagrams = {
        "mermaids": [mermaid(), *map(mermaid, State)],
        "xstate": json.loads(xstate()),
        "scxmls": documents,
        "protectedScxmls": {state: text.replace('expr="false"', 'expr="true"') for state, text in documents.items()},
        "events": list(Trigger),
    }
    page = Path(__file__).with_name("diagrams.html").read_text()
    filled = page.replace("/*diagrams*/null", json.dumps(diagrams).replace("</", r"<\/"))
    (folder / "diagrams.html").write_text(filled)

    # --no-sandbox: root needs it, and the page is ours. The budget is the page's own clock, which jumps ahead.
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command = [BROWSER, *options, "--virtual-time-budget=60000", "--dump-dom", (folder / "diagrams.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    said = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
    assert said, done.stderr
    assert said[1].startswith("{"), said[1]
    return json.loads(html.unescape(said[1]))


def test_mermaid_draws_every_word(answer) -> None:
    """Mermaid draws a node for each state, the initial point and the note, and a labelled edge for each of ours."""
    labels = sorted(edge.label for edge in edges())
    for drawing in answer["drawings"]:
        assert sorted(it["text"] for it in drawing["nodes"]) == sorted(["", *State, "".join(asides())])
        assert sorted(it["text"] for it in drawing["labels"]) == labels


def test_mermaid_hides_no_word_behind_another(answer) -> None:
    """No label of an edge overlaps another label or a node."""
    for drawing in answer["drawings"]:
        pairs = [*combinations(drawing["labels"], 2), *product(drawing["labels"], drawing["nodes"])]
        hidden = [(one["text"], other["text"]) for one, other in pairs if is_over(one["box"], other["box"])]
        assert hidden == []


@pytest.mark.parametrize("language", ["xstate", "scxml"])
def test_machine_moves_as_the_table_says(answer, language: str) -> None:
    """In each state the exported machine accepts the triggers that the table has, and moves where the row leads."""
    assert answer[language] == moves()


@pytest.mark.parametrize("language", ["protectedXstate", "protectedScxml"])
def test_machine_of_a_protected_instance_refuses_what_is_guarded(answer, language: str) -> None:
    """With the condition for protection set, guarded triggers are accepted nowhere; all others work as before."""
    assert answer[language] == moves(guarded=False)


def moves(*, guarded: bool = True) -> dict[str, dict[str, str]]:
    """Return the table as state → trigger → state afterwards, with or without the rows that protection guards."""
    return {
        state: {
            row.trigger: row.leads_to(state)
            for (_, source), row in BY_PAIR.items()
            if source is state and (guarded or not row.guarded)
        }
        for state in State
    }


def is_over(one: Box, other: Box) -> bool:
    """Return whether two boxes (left, top, right, bottom; pixels) share some of their area."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
