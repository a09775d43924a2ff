"""Registered entry points are found as importlib.metadata finds them, without its cost of import."""

from importlib.metadata import entry_points

import pytest

from interlock.drivers import GROUP
from interlock.host.installed import names


@pytest.mark.parametrize("group", [GROUP, "console_scripts", "pytest11", "no.such.group"])
def test_names_are_those_of_importlib(group):
    """The names agree in the environment of this test."""
    assert names(group) == sorted({entry.name for entry in entry_points(group=group)})


@pytest.mark.parametrize("kind", ["dist-info", "egg-info"])
def test_names_of_a_group_among_others(tmp_path, monkeypatch, kind):
    """Sections before and after are other groups; a file that is not text registers nothing."""
    text = "[a]\nx = y:z\n\n[interlock.drivers]\n# theirs\nmine = my.driver:Mine\n\nyours=your:Driver\n[b]\nc = d\n"
    for name, content in (("one-1.0", text.encode()), ("two-1.0", b"\xff\xff")):
        folder = tmp_path / f"{name}.{kind}"
        folder.mkdir()
        (folder / "entry_points.txt").write_bytes(content)
    monkeypatch.setattr("sys.path", [str(tmp_path), str(tmp_path / "none")])
    assert names(GROUP) == ["mine", "yours"]
