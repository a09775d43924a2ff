"""Every mistake in a template is told at once, with its place; nothing in it is guessed or ignored."""

import io
import sys
from types import SimpleNamespace

import pytest

from interlock.fsm.errors import InvalidTemplateError, NotFoundError
from interlock.templates.load import Source, builtin_names, find, load, parse, summary
from interlock.templates.locate import MAX_BYTES
from interlock.templates.values import size_bytes

GOOD = "images:\n- location: build:tiny\n  arch: x86_64\n"


def mistakes(text):
    """Return the details of the error that `text` is refused with, without the name of the source."""
    with pytest.raises(InvalidTemplateError) as caught:
        parse(Source("t", text.encode()))
    return [detail.removeprefix("t:") for detail in caught.value.details] or [
        caught.value.message.removeprefix("t:").strip()
    ]


@pytest.mark.parametrize("name", builtin_names())
def test_builtin_template_is_valid_and_summed_up(name):
    """What comes with Interlock can be used, and its list says what it is."""
    assert load(name).template.images
    assert summary(find(name))


@pytest.mark.parametrize("locator", ["tiny", "template:tiny"])
def test_find_builtin_by_either_spelling(locator):
    """A bare name and limactl's spelling mean the same."""
    assert find(locator).name == "template:tiny"


def test_find_path_is_read(tmp_path):
    """A path is what has a slash or a YAML suffix."""
    (tmp_path / "t.yaml").write_text(GOOD)
    assert find(str(tmp_path / "t.yaml")).text == GOOD.encode()


def test_find_dash_is_standard_input(monkeypatch):
    """A template can come through a pipe."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(GOOD.encode())))
    assert find("-").text == GOOD.encode()


@pytest.mark.parametrize(
    ("locator", "words"),
    [
        ("debain", 'did you mean "debian"'),
        ("zzz", "there are: debian, debian-cloud, debian-firmware, tiny"),
        ("./no.yaml", "no template file no.yaml"),
    ],
)
def test_find_nothing_says_what_there_is(locator, words):
    """A slip is answered with what was probably meant, or with all there is."""
    with pytest.raises(NotFoundError, match=words) as caught:
        find(locator)
    assert caught.value.hint == "interlock template list"


def test_find_folder_is_an_invalid_template(tmp_path):
    """What cannot be read as a file is no template, and the reason is the system's."""
    with pytest.raises(InvalidTemplateError, match="Is a directory"):
        find(f"{tmp_path}/")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected a mapping of keys to values"),
        ("- a\n", "expected a mapping of keys to values"),
        ("cpus: [1\n", "2:1: expected ',' or ']', but got '<stream end>'"),
        (GOOD + "memroy: 1GiB\n", "4:1: memroy: no such key; did you mean memory?"),
        (GOOD + "zzz: 1\n", "4:1: zzz: no such key"),
        ("images: []\n", "1:9: images: expected at least one image, found []"),
        ("? [a]\n: b\n", "1: a key is a word, not a list or a mapping"),
        ("cpus: 1\n", "1:1: images: this key is required"),
        (GOOD + "cpus: 0\n", "4:7: cpus: input should be greater than or equal to 1, found 0"),
        (GOOD + "memory: much\n", "4:9: memory: expected a size such as 512MiB or 4GiB, found 'much'"),
        (GOOD + "cpus: 1\ncpus: 2\n", "5: cpus: already given in line 4"),
        ("images: &a\n- *a\n", "1: aliases of lists and mappings are not read"),
        (
            "images:\n- location: gopher\n  arch: x86_64\n",
            "2:13: images[0].location: expected build:NAME, a URL or a path, found 'gopher'",
        ),
    ],
)
def test_parse_mistake_is_told_with_its_place(text, expected):
    """Line and column are where the value stands, and the words say what was expected."""
    assert mistakes(text) == [expected]


def test_parse_many_mistakes_are_all_told_in_file_order():
    """Who mends a template mends it once."""
    told = mistakes("images:\n- location: build:tiny\n  arch: vax\ncpus: many\ndisk: -1\nzzz: 1\n")
    assert [detail.split(":")[0] for detail in told] == ["3", "4", "5", "6"]


@pytest.mark.parametrize("text", ["\x00", "a: !!python/object:os.system x\n", "? [a, b]\n: c\n", "1: 2\n", "~: 1\n"])
def test_parse_odd_yaml_is_an_invalid_template(text):
    """No text runs code, and none ends in another exception than ours."""
    assert mistakes(text)


def test_parse_bytes_that_are_no_text_are_an_invalid_template():
    """A file that is no text is refused as one."""
    with pytest.raises(InvalidTemplateError):
        parse(Source("t", b"\xff\xfe\xfa"))


def test_parse_larger_file_than_people_write_is_refused():
    """A disk image given by mistake is not read into a parser."""
    with pytest.raises(InvalidTemplateError, match="larger than 1 MiB"):
        parse(Source("t", b"#" * (MAX_BYTES + 1)))


def test_parse_deep_nesting_is_an_invalid_template():
    """A few kilobytes of brackets do not exhaust the stack."""
    assert mistakes("a: " + "[" * 5000)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (512, 512),
        ("512", 512),
        ("512B", 512),
        ("1K", 1024),
        ("512MiB", 512 << 20),
        ("4 GiB", 4 << 30),
        ("1.5G", 3 << 29),
        ("1gb", 1 << 30),
        ("2TiB", 2 << 40),
    ],
)
def test_size_bytes_of_any_spelling(given, expected):
    """Units are powers of 1024, whatever their spelling."""
    assert size_bytes(given) == expected


@pytest.mark.parametrize("given", ["", "GiB", "1 X", "-1G", "1e3", "0x10", "1,5G", True, None, 1.5, [1]])
def test_size_bytes_of_anything_else_is_a_value_error(given):
    """What is no size is refused, not guessed."""
    with pytest.raises(ValueError, match="expected a size"):
        size_bytes(given)
