"""A guest that prints without end, wherever the host listens, takes a bounded part of memory and disk."""

import re
import subprocess
import sys
from subprocess import PIPE, STDOUT

import pytest

from interlock.errors import DegradedError

pytestmark = pytest.mark.vm

FLOOD_BYTES = 16 << 20

PEAK_KIB = 40 << 10
"""Of resident memory: starting a silent guest takes 26 MiB; keeping a single flood would take 60 or more."""

KEPT = ("journal.jsonl", "degraded.txt", "serial.log", "qemu.log", "events.log")
PRINTED = 200_000
"""The limit in bytes for a command's output and for each of these files: 200 steps, and 100 lines of what failed."""

TEMPLATE = f"""\
base: template:tiny
provision:
- script: |
    cat >/bin/flood <<'END'
    #!/bin/sh
    for each in 'running step' 'now failed 1 script' 'failed 1 script'; do
        seq 5000 | sed "s/^/$each /"
        head -c {FLOOD_BYTES // 4} /dev/zero | tr '\\0' x
        yes " words of a failure" | head -c {FLOOD_BYTES // 12}
    done
    seq 5000 | sed 's/^/failed 1 script /'
    END
    cat >/bin/noisy <<'END'
    #!/bin/sh
    flood >&2
    exec /bin/sh "$@"
    END
    cat >/bin/cat.new <<'END'
    #!/bin/sh
    case "$*" in */report) exec flood ;; *) exec busybox cat "$@" ;; esac
    END
    echo flood >/var/lib/interlock/seed/new
    mv /var/lib/interlock/seed/new /var/lib/interlock/seed/interlock
    chmod +x /bin/flood /bin/noisy /bin/cat.new
    mv /bin/cat.new /bin/cat
    echo /bin/noisy >>/etc/shells
    sed -i '/^root/!s|:/bin/sh$|:/bin/noisy|' /etc/passwd
probes:
- script: |
    #!/bin/sh
    exec yes
"""
"""In this guest each login, the report of the first boot, the probe and `provision` print 16 MiB, or without end."""


MEASURED = """
from pathlib import Path
from interlock.__main__ import main
try:
    main()
finally:
    Path("{}/status").write_text(Path("/proc/self/status").read_text())
"""
"""Runs the program, then saves what the kernel knows about its memory. Source: proc(5), VmHWM."""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs the program and returns its exit code, its output, and its peak of memory in KiB."""

    def run(*arguments):
        command = [sys.executable, "-c", MEASURED.format(tmp_path), *arguments]
        done = subprocess.run(command, check=False, stdout=PIPE, stderr=STDOUT, text=True, timeout=1500)
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", (tmp_path / "status").read_text())
        return done.returncode, done.stdout, int(peak)

    return run


@pytest.mark.slow
def test_flooding_guest_takes_bounded_memory_and_disk_of_its_host(vms, tmp_path, run, injected):
    """The start ends although the probe never does, and what is kept of the output is within the limits."""
    (tmp_path / "web.yaml").write_text(TEMPLATE)
    vms.create("web", str(tmp_path / "web.yaml"))
    for command in ("start", "provision"):
        code, printed, peak_kib = run(command, "web", "--timeout", "1200")
        assert (code, "error: degraded" in printed) == (DegradedError.exit_code, True), printed
        assert peak_kib < PEAK_KIB
        assert len(printed) < PRINTED
        written = [file.stat().st_size for file in vms.home.directory("web").iterdir() if file.name in KEPT]
        assert len(written) == len(KEPT)
        assert max(written) < PRINTED
        injected("a guest that talks without end over ssh")
