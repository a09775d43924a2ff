"""Whole templates, the right ones and the wrong ones, against reviewed files: what each becomes, or its errors."""

import re
from pathlib import Path

import pytest
import yaml

from interlock.errors import InterlockError
from interlock.templates.expand import Guest, Host
from interlock.templates.load import Source, dump, expand, load, parse

FOLDER = Path(__file__).parents[1] / "templates"
RIGHT = sorted(path.stem for path in (FOLDER / "corpus").glob("*.yaml"))
WRONG = sorted(path.stem for path in (FOLDER / "broken").glob("*.yaml"))

_, *PARTS = re.split(r"^== (.*)\n", (FOLDER / "broken.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
REVIEWED = {name: text.strip().splitlines() for name, text in zip(PARTS[::2], PARTS[1::2], strict=True)}

HOST = Host(name="web", dir="/data/web", home="/home/anna", uid=1000, user="anna", temp_dir="/var/tmp", arch="amd64")
GUEST = Guest(name="web", hostname="web-1", uid=1001, user="bert", home="/home/bert.guest")


@pytest.fixture
def corpus(monkeypatch):
    """Stand in the folder of the right templates, so that they are named as the reviewed files name them."""
    monkeypatch.chdir(FOLDER / "corpus")


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize("name", RIGHT)
def test_template_becomes_what_was_reviewed(agrees, name):
    """Bases, combination, variables and notes are those of the reviewed file, value for value."""
    loaded = load(f"./{name}.yaml")
    template = expand(loaded, HOST, GUEST)
    values = template.model_dump(by_alias=True, exclude_unset=True, mode="json")
    became = {"notes": list(loaded.notes), "mounts by": template.mount_kind, "template": values}
    text = yaml.safe_dump(became, sort_keys=False, allow_unicode=True, width=120)
    agrees(FOLDER / "resolved" / f"{name}.yaml", text, read=yaml.safe_load)


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize("name", RIGHT)
def test_template_dumped_loads_to_the_same(name):
    """The one text needs no other, wherever it comes from: from standard input, nothing lies beside it."""
    loaded = load(f"./{name}.yaml")
    again = parse(Source("<standard input>", dump(loaded).encode()))
    assert again.template == loaded.template
    assert len(again.notes) == len(loaded.notes)
    assert dump(again) == dump(loaded)


@pytest.mark.parametrize("name", WRONG)
def test_broken_template_is_told_what_was_reviewed(monkeypatch, agrees, name):
    """Every mistake is reported, with its place and in the reviewed words."""
    monkeypatch.chdir(FOLDER / "broken")
    with pytest.raises(InterlockError) as caught:
        load(f"./{name}.yaml")
    error = caught.value
    said = [f"error: {error.reference}", error.message, *(f"  | {detail}" for detail in error.details)]
    said += [f"hint: {error.hint}"] if error.hint else []
    agrees(FOLDER / "broken.txt", "\n".join(said), part=name)


def test_reviewed_files_are_of_templates_that_are_there():
    """Nothing is reviewed that is not checked."""
    assert set(REVIEWED) == set(WRONG)
    assert sorted(path.stem for path in (FOLDER / "resolved").iterdir()) == RIGHT
