"""`interlock edit`: other processors, other memory, a larger disk."""

import json
import os
import pty
import re
import sys

import pytest

from interlock.fsm.states import AT_REST, State

SPEC = "spec.json"


@pytest.fixture
def spec(home):
    """Return a function that reads the spec of `web` from its file."""
    return lambda: json.loads((home.directory("web") / SPEC).read_text())


@pytest.mark.parametrize("source", AT_REST)
def test_edit_changes_what_is_asked_and_nothing_else(interlock, bring, history, spec, source):
    """Options and keys both work; the output says when the change takes effect, and the history records it."""
    bring(source)
    before = spec()
    done = interlock("edit", "web", "--cpus", "3", "--memory", "1GiB", "--set", f"disk={before['disk_bytes'] + 1024}")
    assert done.returncode == 0
    assert re.search(
        r'edited "web" in .*: cpus \d+ → 3, memory \w+ → 1GiB, disk \w+ → \w+; takes effect at the next start',
        done.stderr,
    )
    asked = {"cpus": 3, "memory_bytes": 1 << 30, "disk_bytes": before["disk_bytes"] + 1024}
    assert spec() == {**before, **asked}
    assert history()[-1] == ("edit", "done")
    assert interlock("start", "web").returncode == 0


def test_edit_keeps_what_a_newer_version_wrote(interlock, bring, home, spec):
    """A field that this version does not know stays in the file."""
    bring(State.created)
    (home.directory("web") / SPEC).write_text(json.dumps({**spec(), "of_tomorrow": [1]}))
    assert interlock("edit", "web", "--cpus", "3").returncode == 0
    assert (spec()["of_tomorrow"], spec()["cpus"]) == ([1], 3)


def test_edit_that_changes_nothing_writes_nothing(interlock, bring, home, history, spec):
    """The output says so."""
    bring(State.stopped)
    before, file = history(), (home.directory("web") / SPEC).stat()
    done = interlock("edit", "web", "--cpus", str(spec()["cpus"]), "--format", "json")
    assert (done.returncode, json.loads(done.stdout)["changed"]) == (0, False)
    assert '"web" already has these values: nothing to edit' in done.stderr
    assert (history(), (home.directory("web") / SPEC).stat().st_ino) == (before, file.st_ino)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ("disk=1MiB", "disk: a disk cannot shrink"),
        ("arch=aarch64", "arch: cannot be edited: the disk was made for it"),
        ("images=[{location: x}]", "images: cannot be edited: the disk was made from it"),
        ("param.x=1", "param: cannot be edited: its values were filled in when the instance was created"),
        ("env.X=1", "env: cannot be edited: the guest was set up with it at its first boot"),
        ("mounts=[{location: /no/such}]", "mounts[0].location: there is no folder /no/such"),
        (
            "mounts=[{location: /etc}]",
            "mounts[0].location: expected a folder that the guest's own system does not need",
        ),
        ("mounts=[{location: '{{.Home}}'}]", "mounts[0].location: expected a path without variables"),
        ("mounts=[{location: /etc, mountPoint: /x}, {location: /usr, mountPoint: /x}]", "/x is already mounted above"),
        ("message=x", "message: cannot be edited: only create uses it"),
        ("portForwards=[{guestPort: 80, hostSocket: web.sock}]", "hostSocket: expected an absolute path"),
        ("portForwards=[{guestSocket: '/{{.Name}}', hostPort: 1}]", "guestSocket: expected an absolute path"),
        ("portForwards=[{proto: udp}]", "portForwards[0]: not supported yet: a UDP forward of more than 1000 ports"),
        ("cpus=many", "cpus: expected a whole number"),
        ("cpu=1", "cpu: no such key; did you mean"),
    ],
)
def test_edit_that_cannot_be_is_refused_by_name(interlock, bring, history, spec, edit, words):
    """Nothing is begun."""
    bring(State.stopped)
    before = history(), spec()
    done = interlock("edit", "web", "--set", edit)
    assert done.returncode != 0
    assert words in done.stderr
    assert (history(), spec()) == before


def test_edit_of_a_running_instance_says_what_is_so_at_once_and_what_later(interlock, bring, spec):
    """The processors are fixed until the next start; ports can be opened at any time."""
    bring(State.running)
    done = interlock("edit", "web", "--cpus", "3", "--port-forward", "8080:80")
    assert done.returncode == 0
    assert re.search(
        r": 127.0.0.1:8080 → 80/tcp, 127.0.0.1:8080 → 80/udp, at once; at the next start cpus . → 3", done.stderr
    )
    assert (spec()["cpus"], len(spec()["forwards"])) == (3, 2)


def test_edit_of_the_disk_of_a_running_instance_takes_effect_at_once(interlock, bring, spec):
    """The guest sees the larger disk while it runs."""
    bring(State.running)
    larger = spec()["disk_bytes"] + (1 << 30)
    done = interlock("edit", "web", "--disk", str(larger), "--cpus", "3")
    assert re.search(r": disk \S+ → \S+, at once; at the next start cpus . → 3\n", done.stderr)
    assert spec()["disk_bytes"] == larger


def test_edit_of_mounts_says_which_come_and_go_and_keeps_what_is_not_said_of_the_others(
    interlock, bring, spec, tmp_path
):
    """Options and text both work; a mount that stays keeps its own settings, which the text does not show."""
    bring(State.running)
    one, two = (tmp_path / name for name in ("one", "two"))
    one.mkdir(), two.mkdir()
    rule = f"mounts=[{{location: {one}, mountPoint: /one, 9p: {{securityModel: mapped-file, msize: 64KiB}}}}]"
    assert interlock("edit", "web", "--set", rule).returncode == 0
    (first,) = spec()["mounts"]
    assert (first["security_model"], "msize=65536" in first["options"]) == ("mapped-file", True)
    done = interlock("edit", "web", "--mount", f"{two}:w")
    assert f": mounts {two} (writable); takes effect at the next start" in done.stderr
    assert spec()["mounts"][1:] == [first]
    done = interlock("edit", "web", "--mount-only", str(two))
    assert f"no longer mounts {one} → /one (read-only), {two} (writable), mounts {two} (read-only)" in done.stderr
    assert interlock("edit", "web", "--mount-none").returncode == 0
    assert spec()["mounts"] == []


def test_edit_says_what_becomes_of_ports_that_open(interlock, bring):
    """Changes of port rules are described in words; a rule that only repeats an existing forward is not reported."""
    bring(State.running)
    wide = interlock("edit", "web", "--set", "portForwards=[{guestPortRange: [1, 65535], hostIP: 0.0.0.0}]")
    assert "other rules for ports that open in the guest, at once" in wide.stderr
    one = interlock("edit", "web", "--set", "portForwards=[{guestPort: 80, hostPort: 8080}]", "--cpus", "3")
    assert ": no longer" not in one.stderr
    both = interlock("edit", "web", "--set", "portForwards=[{guestPort: 81, hostPort: 8080}]", "--cpus", "2")
    assert "PortRule" not in wide.stderr + one.stderr + both.stderr
    assert "no longer 127.0.0.1:8080 → 80/tcp" in both.stderr
    assert both.stderr.rstrip().endswith("at once; at the next start cpus 3 → 2")


def test_edit_of_a_running_instance_whose_ports_do_not_open_leaves_the_spec(interlock, bring, history, spec):
    """The spec never lists a port that could not be opened."""
    bring(State.running)
    before = spec()
    done = interlock("edit", "web", "--port-forward", "8080:80", orders={"forward": {"error": "taken"}})
    assert (done.returncode, history()[-1], spec()) == (6, ("edit", "failed"), before)


def test_edit_without_options_and_terminal_says_what_to_type(interlock, bring):
    """It does not wait for an editor that nobody can see."""
    bring(State.stopped)
    done = interlock("edit", "web")
    assert (done.returncode, "hint: interlock edit web --cpus 2" in done.stderr) == (2, True)


def test_edit_whose_disk_does_not_grow_leaves_the_spec(interlock, bring, history, spec):
    """The spec never gives a size that the disk does not have."""
    bring(State.stopped)
    before = spec()
    done = interlock("edit", "web", "--set", "disk=900GiB", "--cpus", "3", orders={"grow": {"error": "no room"}})
    assert (done.returncode, history()[-1], spec()) == (6, ("edit", "failed"), before)


@pytest.fixture
def in_an_editor(begin, tmp_path, monkeypatch):
    """Return a function that edits `web` with shell lines as editor; it returns exit code, stderr and kept file."""
    editor = tmp_path / "editor"
    monkeypatch.setenv("VISUAL", str(editor))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def edit(lines, **options):
        editor.write_text(f"#!/bin/sh\n{lines}\n")
        editor.chmod(0o700)
        leader, follower = pty.openpty()
        process = begin("edit", "web", stdin=follower, stdout=follower, **options)
        os.close(follower)
        _, said = process.communicate(timeout=300)
        os.close(leader)
        kept = next(tmp_path.glob("interlock-edit-web-*.yaml"), None)
        return process.returncode, said, kept

    return edit


def test_edit_in_an_editor_keeps_a_text_with_mistakes(in_an_editor, interlock, bring, spec):
    """The message has file and line, and the hint reads the file again once it is corrected."""
    bring(State.stopped)
    before = spec()
    code, said, kept = in_an_editor("sed -i 's/^cpus:.*/cpus: many/' \"$1\"")
    assert code != 0
    assert f"{kept.name}:2:7: cpus: expected a whole number" in said
    assert f"hint: interlock edit web --file {kept}" in said
    assert spec() == before
    kept.write_text(kept.read_text().replace("many", "3"))
    assert interlock("edit", "web", "--file", str(kept)).returncode == 0


def test_edit_in_an_editor_undoes_nothing_that_others_edited_meanwhile(in_an_editor, bring, spec):
    """The text describes the instance as it was when the editor opened: it is refused, and kept as saved."""
    bring(State.stopped)
    meanwhile = f"{sys.executable} -m interlock edit web --memory 3GiB </dev/null >/dev/null"
    code, said, kept = in_an_editor(f"{meanwhile}\nsed -i 's/^cpus:.*/cpus: 7/' \"$1\"")
    assert (code, spec()["memory_bytes"], spec()["cpus"] == 7) == (5, 3 << 30, False)
    assert '"web" was edited by others while its text was open in the editor; nothing was changed' in said
    assert f"what you saved is kept in {kept}" in said
    assert "hint: interlock edit web\n" in said
    assert "cpus: 7" in kept.read_text()


def test_edit_in_an_editor_keeps_the_text_where_the_driver_fails(in_an_editor, bring):
    """Whatever goes wrong, nobody has to type the text again."""
    bring(State.stopped)
    code, said, kept = in_an_editor("sed -i 's/^disk:.*/disk: 900GiB/' \"$1\"", orders={"grow": {"error": "no room"}})
    assert (code, "no room" in said) == (6, True)
    assert f"what you saved is kept in {kept}" in said
    assert f"hint: interlock edit web --file {kept}" in said


def test_edit_of_forwards_takes_the_place_of_a_rule_for_the_same_port(interlock, bring, spec):
    """As in a template, the first of several rules for a port wins; removed and added forwards are named."""
    bring(State.stopped)
    assert interlock("edit", "web", "--port-forward", "8080:80").returncode == 0
    done = interlock("edit", "web", "--port-forward", "9090:80", "--port-forward", "8443:443")
    assert "no longer 127.0.0.1:8080 → 80/tcp, 127.0.0.1:8080 → 80/udp, 127.0.0.1:8443 → 443/tcp" in done.stderr
    found = {(it["proto"], it["host_port"], it["guest_port"]) for it in spec()["forwards"]}
    assert found == {(proto, *ports) for proto in ("tcp", "udp") for ports in ((9090, 80), (8443, 443))}
    assert interlock("edit", "web", "--set", "portForwards=[]").returncode == 0
    assert spec()["forwards"] == []


FORWARDS = """\
- {guestPort: 80, hostPort: 8080}
- {guestPortRange: [7000, 7002], hostPortRange: [8000, 8002], proto: udp, hostIP: 0.0.0.0}
- {guestPort: 22000, guestIP: 0.0.0.0, proto: tcp, hostIP: "::1"}
- {guestSocket: /run/a b.sock, hostSocket: /tmp/b.sock}
- {guestSocket: "/run/c:d.sock", hostPort: 9000, hostIP: 127.0.0.2}
- {guestPort: 5000, hostSocket: /tmp/e.sock}
- {guestSocket: /run/f.sock, hostSocket: /tmp/g.sock, reverse: true}
"""


def test_editable_text_means_what_the_instance_is(bring, vms, spec, tmp_path):
    """Read back unchanged, it changes nothing, for mounts and for forwards of every kind."""
    bring(State.stopped)
    text = tmp_path / "web.yaml"
    text.write_text(
        f"mounts:\n- {{location: '{tmp_path}', mountPoint: '/a: b', writable: true}}\nportForwards:\n{FORWARDS}"
    )
    assert vms.edit("web", file=text).changed
    assert len(spec()["forwards"]) == 2 + 3 + 1 + 4
    text.write_text(vms.editable("web"))
    assert not vms.edit("web", file=text).changed
