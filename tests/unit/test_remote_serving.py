"""The other end of a call, without a connection."""

import json
import os
import select
import subprocess
import sys

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


def test_program_that_a_call_becomes_ends_with_its_leash():
    """A copy from guest to guest is an scp there; it ends when the caller is gone."""
    words = [sys.executable, "-c", SERVED, "remote-call", json.dumps({**CALL, "leash": True}), "copy"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        ended = os.pidfd_open(int(process.stdout.readline()))
        process.stdin.close()
        try:
            assert select.select([ended], [], [], 60)[0]
        finally:
            process.kill()
            os.close(ended)
