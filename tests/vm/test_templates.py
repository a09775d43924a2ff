"""What a template asks for is true in a real guest, at the first boot and at the next."""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path

import pytest

from interlock import DegradedError, Interlock, State, Wishes
from interlock.disks import Disks
from interlock.drivers.qemu.driver import QemuDriver
from interlock.guest.readiness import UNFINISHED

pytestmark = pytest.mark.vm

PROGRAM = str(Path(sys.executable).with_name("interlock"))

BASE = """
images:
- location: build:debian
memory: 512MiB
disk: 4GiB
param:
  who: nobody
provision:
- mode: boot
  script: |
    date >>/var/log/boots
    busybox httpd -p 127.0.0.1:8000 -h /srv
    busybox httpd -p 8001 -h /srv
- mode: dependency
  script: echo dependency >>/var/log/order
"""

TEMPLATE = """
base: base.yaml
param:
  who: world
env:
  COLOUR: blue green
timezone: Asia/Tokyo
hostResolver:
  hosts: {db.test: 192.0.2.7}
user:
  name: anna
  comment: Anna of the test
  uid: 1234
  home: /home/countess
caCerts:
  certs:
  - |
CERTIFICATE
additionalDisks: [data]
mounts:
- location: FOLDER/only read
  mountPoint: /mnt/only-read
- location: FOLDER/shared
  mountPoint: /mnt/with blank
  writable: true
provision:
- mode: data
  path: /srv/greeting
  content: "hello {{.Param.who}} from {{.Name}}\\n"
  owner: "{{.User}}"
  permissions: 644
- file: setup.sh
- mode: user
  script: |
    #!/bin/bash
    echo "user $PARAM_who $COLOUR $(id -un) $HOME" | sudo tee -a /var/log/order
- mode: system
  once: true
  script: echo once >>/var/log/order
portForwards:
- {guestPort: 8000, hostPort: PORT0}
- {guestIP: 0.0.0.0, guestPort: 8001, hostPort: PORT1}
- {guestPort: 8000, hostSocket: web.sock}
probes:
- description: the server answers
  script: |
    #!/bin/sh
    busybox wget -q -O - http://127.0.0.1:8000/greeting | grep world
  hint: see that httpd runs
copyToHost:
- {guest: /srv/greeting, host: "{{.Dir}}/greeting"}
"""

SETUP = """#!/bin/sh
echo "system $(cat /srv/greeting)" >>/var/log/order
"""

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBkDCCATWgAwIBAgIUDs4i9iibc37JRQZyvCEMiMOqvkYwCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRSW50ZXJsb2NrIHRlc3QgQ0EwIBcNMjYxMTI1MjI1NTMzWhgP
MjEyNjExMDEyMjU1MzNaMBwxGjAYBgNVBAMMEUludGVybG9jayB0ZXN0IENBMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEgXRLzSAGg2hPYla/JO4i1wJnFHFERnee
iPJn9K1w71OVSMJSATEXc3MwoC9iIaP4si4/PxUSnh+IPvaWXkyL0aNTMFEwHQYD
VR0OBBYEFMMKfakWOvuaYQ+9h5gpL7BsL9EfMB8GA1UdIwQYMBaAFMMKfakWOvua
YQ+9h5gpL7BsL9EfMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIh
AK+3M/2YgTnrctjMCcMwaREzTRlb4bmcPZy0ZIKaXPc9AiEA8iuVcI4rD8ekV4og
I3/qfiIly7UpMWdwuE+UZNnCBps=
-----END CERTIFICATE-----
"""
"""The certificate of an authority made for this test, whose key was thrown away."""


@pytest.fixture
def folder(tmp_path, free_port):
    """Return a folder with the template, the files that it names, and the folders that it mounts."""
    (tmp_path / "only read").mkdir()
    (tmp_path / "only read" / "note").write_text("from the host\n")
    (tmp_path / "shared").mkdir(mode=0o777)
    (tmp_path / "shared").chmod(0o777)  # the guest's user need not be ours
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "base.yaml").write_text(BASE)
    (templates / "setup.sh").write_text(SETUP)
    text = TEMPLATE.replace("FOLDER", str(tmp_path)).replace("CERTIFICATE", textwrap.indent(CERTIFICATE, "    "))
    for number in range(2):
        text = text.replace(f"PORT{number}", str(free_port()))
    (templates / "web.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def ask(vms):
    """Return a function that runs a script in the guest as its user and returns its output without the last newline.

    It also works while the instance is starting, because it asks the driver; `Interlock.shell` needs it running.
    """

    def run(script):
        line = QemuDriver().shell(vms.engine.site("web"), ["sh", "-c", script], terminal=False)
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.removesuffix("\n")

    return run


def over_http(port):
    """Return the answer of the guest's server behind a local port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/greeting", timeout=300) as answer:
        return answer.read()


def over_socket(path):
    """Return the answer of the guest's server behind a local socket, without its headers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        connection.sendall(b"GET /greeting HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    return answer.partition(b"\r\n\r\n")[2]


def test_template_comes_true(vms, folder, ask):
    """Base, params, each mode of script, files, mounts, a disk, forwards, a probe: at the first boot and the next.

    (The name is short because it is part of a socket's path, which can have 107 bytes.)
    """
    Disks(vms.home).create("data", 64 << 20)
    vms.create("web", str(folder / "templates" / "web.yaml"))
    spec = vms.status("web").spec
    shutil.rmtree(folder / "templates")
    vms.start("web")

    greeting = "hello world from web"
    assert ask("cat /var/log/order").splitlines() == [
        "dependency",
        f"system {greeting}",
        "once",
        "user world blue green anna /home/countess",
    ]
    who = "hostname; id -u; getent passwd anna | cut -d: -f5 | cut -d, -f1"
    assert ask(who).splitlines() == ["web", "1234", "Anna of the test"]
    machine = ask("cat /etc/machine-id")
    assert ask("stat -c '%U %a' /srv/greeting; cat /srv/greeting").splitlines() == ["anna 644", greeting]
    assert ask("date +%Z; echo $COLOUR; getent hosts db.test | cut -d' ' -f1") == "JST\nblue green\n192.0.2.7"
    assert CERTIFICATE in ask("cat /etc/ssl/certs/ca-certificates.crt") + "\n"
    assert ask("getent hosts host.lima.internal | cut -d' ' -f1") == "10.0.2.2"

    assert ask("cat /mnt/only-read/note; touch /mnt/only-read/x 2>&1 | grep -c 'Read-only'") == "from the host\n1"
    ask("echo from the guest >'/mnt/with blank/note'")
    assert (folder / "shared" / "note").read_text() == "from the guest\n"

    assert ask("findmnt -no FSTYPE,LABEL /mnt/lima-data; echo kept | sudo tee /mnt/lima-data/kept").split() == [
        *("ext4", "lima-data", "kept")
    ]

    served = f"{greeting}\n".encode()
    ports = [forward.host_port for forward in spec.forwards if forward.host_port and forward.proto == "tcp"]
    assert [over_http(port) for port in ports] == [served, served]
    assert over_socket(vms.home.directory("web") / "sock" / "web.sock") == served
    assert (vms.home.directory("web") / "greeting").read_bytes() == served

    vms.stop("web")
    vms.start("web")
    assert ask("wc -l </var/log/boots; wc -l </var/log/order; cat /etc/machine-id") == f"2\n7\n{machine}"
    assert ask("cat /mnt/lima-data/kept '/mnt/with blank/note' /mnt/only-read/note").splitlines() == [
        *("kept", "from the guest", "from the host")
    ]
    assert [over_http(port) for port in ports] == [served, served]


FAILING = """
images:
- location: build:tiny
provision:
- mode: system
  script: |
    #!/bin/sh
    echo looking for the key
    [ -e /root/key ] || { echo there is no key >&2; exit 3; }
- mode: system
  script: echo done >/root/second
- once: true
  script: "[ -e /root/key ]"
probes:
- description: the key is there
  script: |
    #!/bin/sh
    sudo cat /root/key
"""


def test_script_that_fails_is_reported_and_mended_while_the_guest_runs(vms, tmp_path, ask):
    """The error has exit code 6, the script, its status and its output; the guest runs degraded until `provision`."""
    (tmp_path / "web.yaml").write_text(FAILING)
    vms.create("web", str(tmp_path / "web.yaml"))
    with pytest.raises(DegradedError) as caught:
        vms.start("web")
    assert caught.value.exit_code == 6
    assert "script 000 (system) failed in the guest with status 3" in caught.value.message
    assert 'script 002 (system), probe "the key is there"' in caught.value.message
    assert caught.value.details[1:3] == ("  looking for the key", "  there is no key")
    status = vms.status("web")
    assert (status.state, status.observation.condition) == (State.running, f"degraded: {caught.value.message}")
    assert ask("sudo cat /root/second") == "done"

    environment = {**os.environ, "INTERLOCK_HOME": str(vms.home.root)}
    listed = subprocess.run([PROGRAM, "list"], env=environment, capture_output=True, text=True, check=True).stdout
    assert "running · degraded: script 000 (system)" in listed
    for again in (vms.provision, vms.start):
        with pytest.raises(DegradedError):
            again("web")

    ask("sudo touch /root/key; sync")
    # In this boot the first script and the probe succeed; the third script runs only once, so it stays failed.
    with pytest.raises(DegradedError) as caught:
        vms.restart("web")
    assert caught.value.message == "script 002 (system) failed in the guest with status 1"
    vms.provision("web")
    assert vms.status("web").observation.condition is None
    vms.restart("web")
    assert vms.status("web").observation.condition is None
    assert [json.loads(json.dumps(line.to_json()))["phase"] for line in vms.history("web")][-1] == "done"


HANGING = """
images: [{location: 'build:tiny'}]
provision:
- script: echo there is no key >&2; exit 3
- script: "until [ -e /tmp/go ]; do sleep 0.2; done; exit 4"
probes:
- description: the key is there
  script: |
    #!/bin/sh
    cat /key
"""


def test_script_that_fails_is_reported_while_another_runs_and_the_guest_is_kept(vms, tmp_path, ask):
    """The failure is reported while another script runs; at the deadline the guest is kept."""
    (tmp_path / "web.yaml").write_text(HANGING)
    vms.create("web", str(tmp_path / "web.yaml"), Wishes(start_timeout_s=40.0))
    failed = "script 000 (system) failed in the guest with status 3"
    with pytest.raises(DegradedError) as caught:
        vms.start("web")
    assert caught.value.message == f'{failed}, and 2 more: {UNFINISHED}, probe "the key is there"'
    assert "  there is no key" in caught.value.details
    assert vms.status("web").state is State.running
    assert failed in [line.step for line in vms.history("web")]

    vms.stop("web")
    heard = []

    def announce(event):
        heard.append(event.step)
        if event.step == failed:
            ask("sudo touch /tmp/go /key")  # the other script ends only now

    with pytest.raises(DegradedError) as caught:
        Interlock(on_event=announce).start("web", timeout_s=300)
    assert caught.value.message == f"{failed}, and 1 more: script 001 (system)"
    assert "probing: the key is there" in heard


def test_probe_that_never_succeeds_ends_the_start_with_its_hint(vms, tmp_path):
    """At the deadline the error has the probe's name, its output and its author's hint; the guest was ended."""
    (tmp_path / "web.yaml").write_text(
        "images: [{location: 'build:tiny'}]\n"
        "probes:\n- description: a server listens\n  script: |\n    #!/bin/sh\n    echo nobody listens; exit 1\n"
        "  hint: start one\n"
    )
    vms.create("web", str(tmp_path / "web.yaml"), Wishes(start_timeout_s=25.0))
    with pytest.raises(Exception, match="a server listens") as caught:
        vms.start("web")
    assert (caught.value.reference, vms.status("web").state) == ("deadline-passed", State.created)
    assert {"nobody listens", "start one"} <= set(caught.value.details)
