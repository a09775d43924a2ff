"""The serving end of a remote call, without a connection."""

import json
import os
import select
import subprocess
import sys
from types import SimpleNamespace

import pytest

from interlock.commands.called import part
from interlock.host import cancellation
from interlock.remote import serving
from interlock.remote.greeting import TUNNEL
from interlock.version import CONTRACT

CALL = {"contract": CONTRACT, "greet": False, "settings": {}}
SERVED = """\
import sys
from interlock.commands.program import become, serve
from interlock.host import cancellation
from interlock.remote import serving

serving.begin()
cancellation.listen()
serve(lambda: become(["sh", "-c", "echo $$; exec sleep 1000"]))
"""


@pytest.mark.parametrize("words", [(), ("list",), ("{}", "list"), ("[1]",)])
def test_invalid_call_is_refused(words):
    """A person or another program may run the internal command by mistake."""
    done = subprocess.run(
        [sys.executable, "-m", "interlock", "remote-call", *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: usage\n")


def test_tunnel_says_when_the_way_is_open_and_ends_silently(tmp_path, capfd):
    """ssh runs its LocalCommand once the tunnel is open; Ctrl-C of the caller ends the tunnel."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        "#!/bin/sh\nfor word; do case $word in LocalCommand=*) ${word#LocalCommand=};; esac; done\n"
        f"touch {tmp_path}/open\nexec sleep 1000\n"
    )
    ssh.chmod(0o755)
    vms = SimpleNamespace(tunnel=lambda *_: [str(ssh), "-N"])
    tunnel = part([TUNNEL, "web", "80", str(tmp_path / "socket")])
    with cancellation.calling_off(lambda: "Ctrl-C" if (tmp_path / "open").exists() else None):
        assert tunnel(SimpleNamespace(interlock=vms)) == 130
    assert capfd.readouterr() == ("open\n", "")


@pytest.mark.parametrize(
    ("hint", "typed"),
    [
        (
            "interlock stop web && interlock delete web",
            "interlock --host build stop web && interlock --host build delete web",
        ),
        ("interlock list | grep web", "ssh -t build.example.org 'interlock list | grep web'"),
        ("interlock --host lab list && interlock list", "interlock --host lab list && interlock --host build list"),
        (
            "interlock edit web --file /tmp/kept.yaml",
            "ssh -t build.example.org 'INTERLOCK_HOME=/srv/vms interlock edit web --file /tmp/kept.yaml'",
        ),
        ("export INTERLOCK_HOME=~/interlock", "ssh -t build.example.org"),
        ("env | grep -i proxy", "ssh -t build.example.org 'env | grep -i proxy'"),
    ],
)
def test_hint_is_typed_where_the_user_is(monkeypatch, hint, typed):
    """A hint about a file or a variable of the serving host has to be run there, through ssh."""
    caller = {"host": "build", "way": ["build.example.org"], "settings": {"INTERLOCK_HOME": "/srv/vms"}}
    monkeypatch.setattr(serving, "_caller", caller)
    assert serving.typed(hint) == typed


def test_program_that_a_call_becomes_ends_with_its_leash():
    """A copy between guests runs scp on the serving host, which ends when the caller is gone."""
    words = [sys.executable, "-c", SERVED, "remote-call", json.dumps({**CALL, "leash": True}), "copy"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        ended = os.pidfd_open(int(process.stdout.readline()))
        process.stdin.close()
        try:
            assert select.select([ended], [], [], 60)[0]
        finally:
            process.kill()
            os.close(ended)
