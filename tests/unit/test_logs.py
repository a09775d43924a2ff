"""`interlock logs --follow` ends with the instance whose log it shows."""

import shutil

import pytest

from interlock.commands import guest


@pytest.mark.parametrize("after", ["gone", "another of its name"])
def test_follow_ends_when_its_instance_is_deleted(tmp_path, monkeypatch, after):
    """Otherwise `logs -f` would wait for ever for output of a machine that no longer exists."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "serial.log").write_bytes(b"one\n")
    looks = []

    def pause(_):
        looks.append(1)
        assert len(looks) < 5, "it still follows"
        if len(looks) == 2:
            folder.rename(tmp_path / "deleted")
            if after != "gone":
                shutil.copytree(tmp_path / "deleted", folder)

    monkeypatch.setattr(guest.cancellation, "pause", pause)
    guest._show(folder / "serial.log", guest._print_piece, follow=True)
    assert len(looks) == 2
