"""Fixtures for the tests of the drop-in: a separate LIMA_HOME, with simulated machines."""

import pytest

TEMPLATE = "images: [{location: build:tiny}]\ncpus: 1\nmemory: 512MiB\ndisk: 1GiB\n"


@pytest.fixture
def lima(tmp_path, monkeypatch):
    """Return a LIMA_HOME for simulated machines; the working folder has a template web.yaml."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "web.yaml").write_text(TEMPLATE)
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.chdir(here)
    monkeypatch.delenv("INTERLOCK_HOME", raising=False)
    monkeypatch.delenv("INTERLOCK_SIMULATED", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LIMA_HOME", str(tmp_path / "lima"))
    monkeypatch.setenv("INTERLOCK_DRIVER", "simulated")
    return tmp_path / "lima"
