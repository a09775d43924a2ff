"""How the host reads the failures that a guest's program reports."""

import pytest

from interlock.guest.report import Failure, Steps, lines, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", ()),
        (b"\n0e1c-boot-id\nrunning script 000 (boot)\n", ()),
        (b"failed 3 script 003 (system)\n one\n two\n", (Failure("script 003 (system)", 3, ("one", "two")),)),
        (
            b"id\nfailed 1 disk at /mnt/a b\nfailed 127 script 004 (user)\n  indented\n",
            (Failure("disk at /mnt/a b", 1, ()), Failure("script 004 (user)", 127, (" indented",))),
        ),
        (b" no failure has begun\nfailed x script\n", ()),
    ],
)
def test_parse_returns_each_failure_with_its_words(text, expected):
    """Lines that do not belong to a report, such as a banner or a message of ssh, are skipped."""
    assert parse(text) == expected


def test_parse_keeps_the_last_of_long_output():
    """Whatever a guest sends, a failure has at most a screenful of output."""
    text = b"failed 1 x\n" + b"".join(b" %d\n" % number for number in range(100))
    assert parse(text)[0].output == tuple(str(number) for number in range(80, 100))


def test_lines_obey_no_escape_sequence():
    """The output of a script is shown on a terminal, and must not control it."""
    assert lines(b"\x1b[31mred\x1b[0m\r\n\a\x1b]0;title\x07\xff\n") == ["red", "0;title\ufffd"]


def test_parse_keeps_a_hundred_failures():
    """A guest may report any number of failures; those after the hundredth are left out."""
    text = b"".join(b"failed 1 script %d\n words of %d\n" % (number, number) for number in range(1000))
    failures = parse(text)
    assert [failure.name for failure in failures] == [f"script {number}" for number in range(100)]


def test_lines_are_clipped():
    """No line is longer than a few rows of a terminal."""
    assert lines(b"x" * 10_000) == ["x" * 499 + "…"]


def test_steps_of_a_guest_are_bounded_in_number_and_length():
    """Steps are limited because each is written to the journal."""
    said = []
    steps = Steps(said.append)
    for number in range(1000):
        steps.hear(b"running %d %s\n" % (number, b"x" * 10_000))
    assert len(said) == 200
    assert max(map(len, said)) <= 200


def test_steps_of_a_line_without_end_keep_its_beginning():
    """The line comes in pieces, and is reported when it ends."""
    said = []
    steps = Steps(said.append)
    for piece in (b"running a", b"x" * 1_000_000, b"x" * 1_000_000, b"\n"):
        steps.hear(piece)
    assert said == ["running a" + "x" * 191]
    assert len(steps._rest) == 0
    steps.hear(b"x" * 1_000_000)
    assert len(steps._rest) <= 200
