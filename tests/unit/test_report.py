"""What a guest's program says of failures, as the host reads it."""

import pytest

from interlock.guest.report import Failure, lines, parse


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
    """What is no line of a report (a message of ssh's, a banner) is passed over."""
    assert parse(text) == expected


def test_parse_keeps_the_last_of_long_output():
    """Whatever a guest sends, a failure is a screenful at most."""
    text = b"failed 1 x\n" + b"".join(b" %d\n" % number for number in range(100))
    assert parse(text)[0].output == tuple(str(number) for number in range(80, 100))


def test_lines_obey_no_escape_sequence():
    """What a script prints is shown on a terminal, and does nothing to it."""
    assert lines(b"\x1b[31mred\x1b[0m\r\n\a\x1b]0;title\x07\xff\n") == ["red", "0;title\ufffd"]
