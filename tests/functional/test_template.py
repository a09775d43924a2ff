"""`interlock template`: lists and shows what instances can be made from."""

import json
from pathlib import Path

import pytest

BUILTIN = Path(__file__).parents[2] / "templates" / "builtin"


def test_template_list_names_every_builtin(interlock):
    """Each with the sentence it begins with."""
    listed = [json.loads(line) for line in interlock("template", "list", "--format", "json").stdout.splitlines()]
    assert [entry["name"] for entry in listed] == sorted(path.stem for path in BUILTIN.iterdir())
    assert all(entry["summary"] for entry in listed)


@pytest.mark.parametrize("name", sorted(path.stem for path in BUILTIN.iterdir()))
def test_template_show_prints_the_text_itself(interlock, name):
    """What is shown can be saved, changed and used."""
    assert interlock("template", "show", name).stdout == (BUILTIN / f"{name}.yaml").read_text()


def test_template_show_of_mistakes_prints_none_of_it(interlock, tmp_path):
    """A template is checked before it is shown."""
    (tmp_path / "bad.yaml").write_text("cpus: 0\n")
    done = interlock("template", "show", "./bad.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "bad.yaml:1:7: cpus" in done.stderr


def test_template_show_of_unknown_name_is_not_found(interlock):
    """A slip is answered with what there is."""
    assert interlock("template", "show", "no-such").returncode == 4
