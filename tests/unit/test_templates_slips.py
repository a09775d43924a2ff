"""Common YAML mistakes: each is named with its place and, where possible, with a corrected line that can be read."""

import re

import pytest

from interlock.errors import InvalidTemplateError
from interlock.templates.document import compose, compose_value
from interlock.templates.load import load

SCRIPT = "provision:\n- script: |\n    #!/bin/sh\n"
TAB = "a tab; YAML is indented with spaces"
LOST = "this line belongs to the text that begins in line {}, but is indented less"
QUOTES = "text that begins with {} needs quotes"
AROUND = "text that begins with {} needs quotes around all of it"
DEDENTED = "the indentation matches no line above"
INDENTED = "indented deeper than the line above"

SLIPS = {
    "tab": ("a:\n\tb: 1\n", "2:1", TAB, "  b: 1"),
    "tab-in-a-script": (f"{SCRIPT}\techo hi\n", "4:1", TAB, "    echo hi"),
    "tab-after-a-key": ("- a:\tb\n", "1:5", TAB, "- a: b"),
    "tab-below-a-value": ("a:\n  b: 1\n\tc: true\n", "3:1", TAB, "  c: true"),
    "script-at-the-left": ("- a: |\n#!/bin/sh\necho hi\n", "2:1", LOST.format(1), "    #!/bin/sh"),
    "script-dedented": (f"{SCRIPT}  echo hi\nmessage: x\n", "4:3", LOST.format(2), "    echo hi"),
    "here-document": (f"{SCRIPT}    cat <<EOF\nkey value\nEOF\n", "5:1", LOST.format(2), "    key value"),
    "script-without-bar": (
        "- a:\n    #!/bin/sh\n    b: c\n    foo\n",
        "1:3",
        "text of several lines needs a | after its key",
        "- a: |",
    ),
    "colon-in-a-text": ("a: b: c\n", "1:5", "text with ': ' in it needs quotes", "a: 'b: c'"),
    "colon-in-a-list": ("- a: it's: b\n", "1:10", "text with ': ' in it needs quotes", '- a: "it\'s: b"'),
    "no-colon": ("a: 1\ncpus 4\n", "2:1", "a colon is missing", "cpus: 4"),
    "no-colon-above": ("cpus 4\na: 1\n", "1:1", "a colon is missing", "cpus: 4"),
    "no-colon-after-a-script": (f"{SCRIPT}cpus 4\n", "4:1", "a colon is missing", "cpus: 4"),
    "no-blank": ("a: 1\ncpus:4\nb: 1\n", "2:1", "a space is missing after the colon", "cpus: 4"),
    "no-blank-above": ("cpus:4\na: 1\n", "1:1", "a space is missing after the colon", "cpus: 4"),
    "item-dedented": ("a:\n  - b: 1\n - c: 1\n", "3:2", DEDENTED, "  - c: 1"),
    "key-dedented": ("a:\n  b: 1\n c: 1\n", "3:2", DEDENTED, "  c: 1"),
    "key-of-an-item-dedented": ("- a: 1\n b: 1\n", "2:2", DEDENTED, "  b: 1"),
    "key-indented": ("a: 1\n  b: 1\n", "2:3", INDENTED, "b: 1"),
    "key-of-an-item-indented": ("- a: 1\n   b: 1\n", "2:4", INDENTED, "  b: 1"),
    "quote-not-closed": ('a: "hello\nb: 1\n', "1:4", 'the quote " is not closed', "a: 'hello'"),
    "quote-within": ("a: 'it's me'\n", "1:8", AROUND.format("'"), 'a: "it\'s me"'),
    "quote-around-a-part": ('a: "b" c\n', "1:8", AROUND.format('"'), "a: '\"b\" c'"),
    "percent": ("a: %x\n", "1:4", QUOTES.format("%"), "a: '%x'"),
    "at": ("- a: @x\n", "1:6", QUOTES.format("@"), "- a: '@x'"),
    "star": ("a: *\n", "1:5", QUOTES.format("*"), "a: '*'"),
    "alias": ("a: *x\n", "1:4", QUOTES.format("*"), "a: '*x'"),
    "greater": ("a: >hi\n", "1:5", QUOTES.format(">"), "a: '>hi'"),
    "variable": ("a: {{.Name}}\n", "1:5", QUOTES.format("{{"), "a: '{{.Name}}'"),
    "variable-and-more": ("- a: {{.Home}}/x\n", "1:15", AROUND.format("{"), "- a: '{{.Home}}/x'"),
}
"""Name → text, place, message, and the line to write instead."""

OTHERS = {
    "brace": ("a: {b: c\nd: 2\n", "2:2", "a comma is missing, or the { in line 1 is not closed"),
    "bracket": ("a: [b\nd: 2\n", "2:2", "a comma is missing, or the [ in line 1 is not closed"),
    "item-among-keys": (
        "a: 2\n- b: x\n",
        "2:1",
        "a list item among keys: the key that it belongs to is missing above it",
    ),
    "text-behind-a-bar": ("- a: | echo hi\n", "1:8", "the text after | or > begins in the next line, indented"),
    "alias": (
        "a: {b: *x}\n",
        "1:8",
        "put text that begins with * in quotes; otherwise it is an alias, and this one is not defined",
    ),
    "open-to-the-end": ("a: {b: 1", "1:9", "the text ends inside a list or mapping: ] or } is missing"),
    "second-document": ("a: 1\n---\nb: 1", "2:1", "a second document (---); a template is a single one"),
    "word-alone": ("a: 1\nb\n", "3:1", "a key without a colon, or a line that is not indented like the text above"),
    "backslash": ('a: "\\d"\n', "1:6", "write a backslash twice in double quotes, or use single quotes"),
}


def said_of(text):
    """Return the error for `text`; None if it can be read."""
    try:
        compose("t", text.encode())
    except InvalidTemplateError as error:
        return error.message
    return None


@pytest.mark.parametrize("name", SLIPS)
def test_slip_is_named_with_its_place_and_what_to_type(name):
    """The message is about what was typed, not about what the scanner expected."""
    text, place, words, line = SLIPS[name]
    assert said_of(text) == f"t:{place}: {words}: write `{line}`"


@pytest.mark.parametrize("name", SLIPS)
def test_slip_in_a_text_from_windows_is_the_same(name):
    """CR LF ends a line just as LF does."""
    text = f"#\n#\n{SLIPS[name][0]}"
    said = said_of(text)
    assert said is not None
    assert said_of(text.replace("\n", "\r\n")) == said


@pytest.mark.parametrize("name", OTHERS)
def test_slip_that_could_be_meant_otherwise_is_named(name):
    """If only the author knows what was meant, no line is proposed."""
    text, place, words = OTHERS[name]
    assert said_of(text) == f"t:{place}: {words}"


@pytest.mark.parametrize("name", SLIPS)
def test_line_that_a_message_says_to_write_can_be_read(name):
    """Replacing one line after the other with the proposed one makes the text valid YAML."""
    lines = [line if line.startswith("\t") else f"  {line}" for line in SLIPS[name][0].splitlines()]
    for _ in (*lines, "once more, to read it"):
        said = said_of("\n".join(("root:", *lines)))
        if said is None:
            break
        found = re.fullmatch(r"t:(\d+):.*: write `(.*)`", said)
        lines[int(found[1]) - 2] = found[2]
    assert said is None


def test_script_in_the_line_of_its_key_is_named_as_the_comment_that_it_is():
    """YAML silently drops such a script; below a `|`, the same line is text and is allowed."""
    text = "images: [{location: /x}]\nprovision:\n- script: #!/bin/sh\n    echo\n- script: |\n    a: #!/bin/sh\n"
    notes = load(text).notes
    words = "`#!/bin/sh` is a comment here, and not read: write `- script: |`, and the script below"
    assert [note for note in notes if "#!" in note] == [f"<memory>:3: provision[0].script: {words}"]


@pytest.mark.parametrize("text", ["[1", "a: b: c", "\t", '"'])
def test_slip_in_an_edit_is_named_without_a_line(text):
    """An edit has no lines, and a proposed line would confuse its quotes with the shell's."""
    with pytest.raises(InvalidTemplateError) as caught:
        compose_value("--set cpus", text)
    assert "`" not in caught.value.message


@pytest.mark.parametrize("key", ["env", "param", "'env'"])
@pytest.mark.parametrize(
    "value", ["{TOKEN: pass: s3cret}", "\n  TOKEN: pass: s3cret", "\n  # one\n  TOKEN: @s3cret\n  B: 1"]
)
def test_slip_in_a_secret_is_named_without_the_line(key, value):
    """The values of env and param may be secret: the message says what is wrong and where, but not what to write."""
    said = said_of(f"cpus: 1\n{key}: {value}\nmemory: 1GiB\n")
    assert said is not None
    assert "s3cret" not in said
    assert "quotes" in said or "," in said


def test_slip_after_a_secret_is_named_with_the_line():
    """Only the lines of the secret itself are withheld."""
    assert "write `memory: " in str(said_of("env:\n  A: b\nmemory: @1GiB\n"))
