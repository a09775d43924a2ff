"""Whole templates, valid and broken ones, are compared with reviewed files that hold their results or errors."""

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
    """Change to the folder of the valid templates, so that their names match those in the reviewed files."""
    monkeypatch.chdir(FOLDER / "corpus")


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize("name", RIGHT)
def test_template_becomes_what_was_reviewed(agrees, name):
    """The template, with bases merged and variables replaced, and its notes equal the reviewed file."""
    loaded = load(f"./{name}.yaml")
    template = expand(loaded, HOST, GUEST)
    values = template.model_dump(by_alias=True, exclude_unset=True, mode="json")
    became = {"notes": list(loaded.notes), "mounts by": template.mount_kind, "template": values}
    text = yaml.safe_dump(became, sort_keys=False, allow_unicode=True, width=120)
    agrees(FOLDER / "resolved" / f"{name}.yaml", text, read=yaml.safe_load)


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize("name", RIGHT)
def test_template_dumped_loads_to_the_same(name):
    """The dumped text needs no other files: it loads to the same from standard input."""
    loaded = load(f"./{name}.yaml")
    again = parse(Source("<standard input>", dump(loaded).encode()))
    assert again.template == loaded.template
    assert len(again.notes) == len(loaded.notes)
    assert dump(again) == dump(loaded)


@pytest.mark.parametrize("name", WRONG)
def test_broken_template_gets_the_reviewed_mistakes(monkeypatch, agrees, name):
    """Every mistake is reported with its place, in the reviewed words."""
    monkeypatch.chdir(FOLDER / "broken")
    with pytest.raises(InterlockError) as caught:
        load(f"./{name}.yaml")
    error = caught.value
    said = [f"error: {error.reference}", error.message, *(f"  | {detail}" for detail in error.details)]
    said += [f"hint: {error.hint}"] if error.hint else []
    agrees(FOLDER / "broken.txt", "\n".join(said), part=name)


def test_reviewed_files_are_of_templates_that_are_there():
    """Each reviewed file has a template that is checked against it."""
    assert set(REVIEWED) == set(WRONG)
    assert sorted(path.stem for path in (FOLDER / "resolved").iterdir()) == RIGHT
