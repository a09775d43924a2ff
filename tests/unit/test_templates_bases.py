"""A template's bases and files are read within common limits; an error names the place that refers to the bad one."""

import pytest

from interlock.errors import InvalidTemplateError, NotFoundError
from interlock.templates import bases
from interlock.templates.load import load
from interlock.templates.locate import Source, find

GOOD = "images:\n- location: build:tiny\n  arch: x86_64\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Change to a folder with a valid template."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


def chain(folder, length):
    """Write `length` templates, each with the next one as its base."""
    for number in range(length):
        base = f"{number + 1}.yaml" if number + 1 < length else "good.yaml"
        (folder / f"{number}.yaml").write_text(f"base: {base}\n")


def test_chain_of_bases_is_read_to_its_end(folder):
    """A base may have bases."""
    chain(folder, bases.MAX_DEPTH)
    assert load("0.yaml").sources == (*(f"{number}.yaml" for number in range(bases.MAX_DEPTH)), "good.yaml")


def test_chain_of_bases_that_is_too_long_is_refused_where_it_is(folder):
    """The error points to the line that names one base too many."""
    chain(folder, bases.MAX_DEPTH + 1)
    with pytest.raises(InvalidTemplateError) as caught:
        load("0.yaml")
    assert caught.value.message == "20.yaml:1:7: base: more than 20 bases of bases"


def test_too_many_files_are_refused(folder):
    """Scripts count as files, like bases."""
    (folder / "x.sh").write_text("true\n")
    (folder / "many.yaml").write_text(f"{GOOD}provision:\n" + "- file: x.sh\n" * bases.MAX_SOURCES)
    with pytest.raises(InvalidTemplateError, match=r"many\.yaml: more than 100 files or 4 MiB, bases included"):
        load("many.yaml")


def test_too_many_bytes_are_refused(folder):
    """Each file is within the limit for one file, but together they are too large."""
    (folder / "x.sh").write_text("#" * 1_000_000)
    (folder / "large.yaml").write_text(f"{GOOD}provision:\n" + "- file: x.sh\n" * 5)
    with pytest.raises(InvalidTemplateError, match=r"large\.yaml: more than 100 files or 4 MiB"):
        load("large.yaml")


def test_script_with_the_ending_of_an_image_is_a_script(folder):
    """An image can stand in only for a template; a `file` with an image's suffix is read as a file."""
    (folder / "x.raw").write_text("content\n")
    (folder / "t.yaml").write_text(f"{GOOD}provision: [{{mode: data, path: /x, file: x.raw}}]\n")
    assert load("t.yaml").template.provision[0].content == "content\n"


def test_image_as_a_base_gives_its_image(folder):
    """The locator of an image can be used as a base."""
    (folder / "t.yaml").write_text("base: https://example.org/x-arm64.qcow2\ncpus: 1\n")
    template = load("t.yaml").template
    assert [(image.location, image.arch) for image in template.images] == [
        ("https://example.org/x-arm64.qcow2", "aarch64")
    ]


def test_base_that_vanished_tells_who_named_it(folder):
    """The error points to the base that names it, not to the requested template."""
    (folder / "sub").mkdir()
    (folder / "sub" / "one.yaml").write_text("cpus: 1\nbase: two.yaml\n")
    (folder / "t.yaml").write_text("base: sub/one.yaml\n")
    with pytest.raises(NotFoundError) as caught:
        load("t.yaml")
    assert caught.value.message == "sub/one.yaml:2:7: base: there is no file sub/two.yaml"


def test_movable_text_differs_in_its_relative_locators_alone(folder):
    """Comments, blanks and anchors stay, and so do absolute locators."""
    (folder / "t.yaml").write_text(
        "# mine\nbase: &b sub/one.yaml   # note\nprobes:\n- {file: a.sh}\n- script: x\n  file: b.sh\n"
        "provision:\n- file: {url: 'p.sh', digest: sha256:00}\n- file: /p.sh\n- file: *b\nmemory:   1GiB\n"
    )
    assert bases.movable(find("t.yaml")) == (
        f'# mine\nbase: &b "{folder}/sub/one.yaml"   # note\nprobes:\n- {{file: "{folder}/a.sh"}}\n'
        f'- script: x\n  file: b.sh\nprovision:\n- file: {{url: "{folder}/p.sh", digest: sha256:00}}\n'
        "- file: /p.sh\n- file: *b\nmemory:   1GiB\n"
    )


def test_movable_text_means_the_same_elsewhere(folder, tmp_path_factory):
    """A copy in another folder finds the bases and files of the original."""
    (folder / "x.sh").write_text("#!/bin/sh\n")
    (folder / "t.yaml").write_text("base:\n- good.yaml\n- template:_images/debian\nprovision: [{file: x.sh}]\n")
    copy = tmp_path_factory.mktemp("other") / "copy.yaml"
    copy.write_text(bases.movable(find("t.yaml")))
    assert load(str(copy)).template == load("t.yaml").template


def test_movable_text_of_standard_input_has_no_neighbours():
    """A relative locator has no meaning there, and the error names its place."""
    with pytest.raises(InvalidTemplateError) as caught:
        bases.movable(Source("<standard input>", b"base: one.yaml\n"))
    assert caught.value.message.startswith("<standard input>:1:7: base: one.yaml: a template that is not a file")
