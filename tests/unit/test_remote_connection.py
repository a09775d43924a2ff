"""The connection to another host, with a script instead of ssh."""

import json
import os
from types import SimpleNamespace

import pytest

from interlock.commands import all_hosts
from interlock.errors import DriverError, UnreachableError
from interlock.remote import ways
from interlock.remote.address import Host
from interlock.remote.connection import Connection
from interlock.remote.greeting import GREETING
from interlock.version import CONTRACT

BUILD = Host("build", "build.example.org")


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Return a function that replaces ssh with a shell script."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def be(text):
        (tmp_path / "ssh").write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "ssh").chmod(0o755)

    return be


def test_host_that_does_not_answer_in_time_is_unreachable(ssh):
    """The error names the host, because `list --all-hosts` asks several."""
    ssh("exec sleep 1000")
    with pytest.raises(UnreachableError, match=r'host "build" did not answer within 0\.05 s') as refused:
        Connection(BUILD).call(["list"], timeout_s=0.05)
    assert refused.value.hint == "ssh -v build.example.org true"


def test_home_here_that_cannot_be_read_hides_no_other_host():
    """The error is one answer among those of all hosts."""

    def unfit():
        raise DriverError("the home is unfit")

    answer = all_hosts._ask(SimpleNamespace(interlock=SimpleNamespace(instances=unfit)), None)
    assert (answer.host, str(answer.error.message)) == ("local", "the home is unfit")


@pytest.mark.parametrize(("words", "times"), [("false", 0), ("echo open", 1)])
def test_tunnel_is_open_when_the_host_says_so(ssh, words, times):
    """An answer of the host is not enough, because the connection from there to the guest may still fail."""
    greeting = GREETING.decode() + json.dumps({"contract": CONTRACT, "version": "1"})
    ssh(f"echo '{greeting}' >&2; case $* in *:way*) echo /run/socket;; *) {words};; esac")
    opened = []
    ways.tunnel(Connection(BUILD), "web", 8080, 80, report=lambda _: None, opened=lambda: opened.append(1))
    assert len(opened) == times
