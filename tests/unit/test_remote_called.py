"""What another host asks of this one besides commands."""

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from interlock.commands.called import part
from interlock.host.files import make_private_directory
from interlock.remote.greeting import KEEP


def test_file_that_was_sent_for_nothing_is_removed_by_the_next_one(tmp_path, monkeypatch, capsys):
    """The caller was interrupted between its two calls; a file that another caller has just sent stays."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    left, sent = [tmp_path / "interlock" / f"sent-{number}" for number in (1, 2)]
    for folder in (left, sent):
        make_private_directory(folder)
        (folder / "web.yaml").touch()
    os.utime(left, (0, 0))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"cpus: 1")))
    assert part([KEEP, "more.yaml"])(SimpleNamespace()) == 0
    assert Path(capsys.readouterr().out.strip()).read_bytes() == b"cpus: 1"
    assert (left.exists(), sent.exists()) == (False, True)
