"""What leads from this machine into the guests of another: the program that stands in for ssh."""

import os

import pytest

from interlock.host import files
from interlock.remote import ways
from interlock.remote.address import Host
from interlock.remote.connection import Connection


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Return a function: the stand-in for guests of a home of one host."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return lambda home: ways.script(Connection(Host("build", "build", home=home)))


def test_stand_in_for_ssh_of_one_home_is_not_replaced_by_that_of_another(script):
    """Two copies that run at once read it when they begin a session, which is later."""
    one = script("/srv/one")
    text = one.read_text()
    other = script("/srv/other")
    assert (one.read_text(), one == other, script("/srv/one")) == (text, False, one)


def test_stand_in_for_ssh_can_be_run_as_soon_as_it_is_there(script, monkeypatch):
    """Another process may be about to."""
    published = []

    def publish(fresh, place):
        published.append(os.access(fresh, os.X_OK))
        fresh.replace(place)

    monkeypatch.setattr(files, "publish", publish)
    assert os.access(script("/srv/one"), os.X_OK)
    assert published == [True]
