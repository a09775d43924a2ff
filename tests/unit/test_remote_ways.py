"""The program that stands in for ssh, to reach the guests of another host from this one."""

import os

import pytest

from interlock.host import files
from interlock.remote import ways
from interlock.remote.address import Host
from interlock.remote.connection import Connection


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Return a function that makes the stand-in for the guests of the given home on one host."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return lambda home: ways.script(Connection(Host("build", "build", home=home)))


def test_stand_in_for_ssh_of_one_home_is_not_replaced_by_that_of_another(script):
    """Two concurrent copies read their stand-in later, when they begin a session."""
    one = script("/srv/one")
    text = one.read_text()
    other = script("/srv/other")
    assert (one.read_text(), one == other, script("/srv/one")) == (text, False, one)


def test_stand_in_for_ssh_can_be_run_as_soon_as_it_is_there(script, monkeypatch):
    """Another process may run it at that moment."""
    published = []

    def publish(fresh, place):
        published.append(os.access(fresh, os.X_OK))
        fresh.replace(place)

    monkeypatch.setattr(files, "publish", publish)
    assert os.access(script("/srv/one"), os.X_OK)
    assert published == [True]
