"""At a terminal, `list` prints the same content with colours, and indents JSON."""

import json
import re

import pytest

from interlock.limactl.__main__ import run
from interlock.limactl.colours import painted

KEY, TEXT, WORD, END = "\x1b[36m", "\x1b[32m", "\x1b[35m", "\x1b[0m"


def test_json_has_a_colour_for_keys_texts_and_words():
    """Quotes, brackets and commas inside a string are part of it."""
    text = json.dumps({"a": 'x: "1", [', "b": [-2.5, None, {}]})
    assert painted(text, "json") == (
        f'{{{KEY}"a"{END}: {TEXT}"x: \\"1\\", ["{END}, {KEY}"b"{END}: [{WORD}-2.5{END}, {WORD}null{END}, {{}}]}}'
    )


def test_yaml_has_a_colour_for_keys_texts_and_words():
    """A string with a colon is not a key, and markers of documents and items have no colour."""
    assert painted("---\na: 1\nb:\n- c: 'd: e'\n- true\n- f g\n", "yaml") == (
        f"---\n{KEY}a{END}: {WORD}1{END}\n{KEY}b{END}:\n"
        f"- {KEY}c{END}: {TEXT}'d: e'{END}\n- {WORD}true{END}\n- {TEXT}f g{END}\n"
    )


@pytest.mark.usefixtures("lima")
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_list_at_a_terminal_says_the_same(form, monkeypatch, capfd):
    """_LIMA_OUTPUT_IS_TTY, which Lima's tests set, stands for a terminal; without colours, the content is the same."""
    run(["create", "web.yaml"])
    capfd.readouterr()
    run(["list", "--format", form])
    plain = capfd.readouterr().out
    monkeypatch.setenv("_LIMA_OUTPUT_IS_TTY", "1")
    run(["list", "--format", form])
    shown = capfd.readouterr().out
    bare = re.sub(r"\x1b\[\d+m", "", shown)
    assert (KEY in shown, TEXT in shown, WORD in shown) == (True, True, True)
    assert bare == (plain if form == "yaml" else json.dumps(json.loads(plain), indent=4) + "\n")
