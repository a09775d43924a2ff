"""`fleet apply` and `fleet status`: make several instances match one file, and show what differs."""

import json
import os
import re
import runpy
import shlex
import signal
from pathlib import Path

import pytest
import yaml

from interlock import State, UsageError

SHOP = """\
fleet: shop
instances:
- name: web
  count: 2
  template: tiny
  driver: simulated
  cpus: 1
- name: db
  template: tiny
  driver: simulated
  state: stopped
"""


PAGE = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text()
(PAGE_FILE,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def shop(tmp_path):
    """Return a function that writes a fleet's file, SHOP with changes, and returns its path."""

    def write(*changes, text=SHOP):
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "shop.yaml").write_text(text)
        return "shop.yaml"

    return write


@pytest.fixture
def states(vms):
    """Return a function that returns name → state of all instances."""
    return lambda: {status.name: str(status.state) for status in vms.instances()}


def records(done):
    """Return the printed records by name."""
    return {record["name"]: record for record in map(json.loads, done.stdout.splitlines())}


def test_apply_makes_what_the_file_says_and_a_second_one_does_nothing(interlock, shop, vms, states):
    """One command makes them all; the second one touches nothing, and says so."""
    first = interlock("fleet", "apply", shop(), "--format", "json")
    assert {name: record["done"] for name, record in records(first).items()} == dict.fromkeys(
        ("web-1", "web-2", "db"), True
    )
    assert states() == {"web-1": "running", "web-2": "running", "db": "created"}
    before = [list(vms.history(name)) for name in states()]
    second = interlock("fleet", "apply", "shop.yaml")
    assert (second.returncode, second.stdout) == (0, "")
    assert 'fleet "shop" is as its file says' in second.stderr
    assert [list(vms.history(name)) for name in states()] == before


def test_dry_run_shows_the_rows_and_does_nothing(interlock, shop, states):
    """The plan shows each instance, what differs, and the transitions in order."""
    done = interlock("fleet", "apply", shop(), "--dry-run")
    assert done.returncode == 0
    assert re.split(r"\s{2,}|\n", done.stdout.strip()) == [
        *("NAME", "STATE", "DIFFERS", "APPLY"),
        *("web-1", "absent", "missing", "create, start"),
        *("web-2", "absent", "missing", "create, start"),
        *("db", "absent", "missing", "create"),
    ]
    assert states() == {}


def test_drift_is_shown_with_what_apply_would_do_and_is_then_gone(interlock, shop, vms):
    """A different state, different processors and a missing instance all count as drift, and the exit code says so."""
    interlock("fleet", "apply", shop())
    vms.stop("web-1")
    vms.edit("web-2", "cpus=2")
    vms.delete("db")
    status = interlock("fleet", "status", "shop.yaml", "--format", "json")
    assert status.returncode == 3
    assert {
        name: ([(one["what"], one["found"], one["file"]) for one in record["differences"]], record["rows"])
        for name, record in records(status).items()
    } == {
        "web-1": ([("state", "stopped", "running")], ["start"]),
        "web-2": ([("cpus", "2", "1")], ["stop", "edit", "start"]),
        "db": ([("missing", None, "stopped")], ["create"]),
    }
    assert interlock("fleet", "apply", "shop.yaml", "--yes").returncode == 0
    assert (vms.status("web-2").spec.cpus, vms.status("web-2").state) == (1, State.running)
    assert interlock("fleet", "status", "shop.yaml").returncode == 0


def test_what_deletes_or_restarts_needs_consent_and_nothing_is_done_without(interlock, shop, states):
    """There is nobody to ask here, so the error says what would be deleted or restarted, and how to agree."""
    interlock("fleet", "apply", shop())
    changed = shop(("cpus: 1", "cpus: 2"), ("state: stopped", "state: absent"))
    refused = interlock("--log-format", "json", "fleet", "apply", changed)
    assert refused.returncode == 2
    error = next(it for it in map(json.loads, refused.stderr.splitlines()) if it["event"] == "error")
    assert error["details"] == ["restart web-1", "restart web-2", "delete db"]
    assert error["hint"] == "interlock fleet apply shop.yaml --yes"
    assert states() == {"web-1": "running", "web-2": "running", "db": "created"}
    assert interlock("fleet", "apply", changed, "--yes").returncode == 0
    assert states() == {"web-1": "running", "web-2": "running"}


def test_prune_deletes_what_the_file_no_longer_names_and_nothing_else(interlock, shop, vms, states):
    """An instance outside the fleet, a protected one, a renamed one and a copy all stay."""
    interlock("fleet", "apply", shop(("count: 2", "count: 4")))
    vms.create("mine", "tiny", driver="simulated")
    vms.protect("web-4")
    vms.clone("db", "copy")
    vms.rename("db", "database")
    kept = interlock("fleet", "apply", shop(("count: 2", "count: 1")))
    assert (kept.returncode, "web-3" in states()) == (0, True)
    done = interlock("fleet", "apply", "shop.yaml", "--prune", "--yes")
    assert done.returncode == 0
    assert "interlock unprotect web-4" in done.stderr
    assert {*states()} == {"web-1", "web-4", "mine", "copy", "database", "db"}


def test_instance_of_somebody_else_is_left_alone(interlock, shop, vms):
    """The name is taken: the error says how to resolve it, and the rest is applied."""
    vms.create("db", "tiny", driver="simulated")
    vms.start("db")
    done = interlock("--log-format", "json", "fleet", "apply", shop(), "--yes")
    error = next(it for it in map(json.loads, done.stderr.splitlines()) if it["event"] == "error")
    assert (done.returncode, error["reference"], error["hint"]) == (3, "drift", "interlock rename db db-other")
    assert (vms.status("db").state, vms.status("web-2").state) == (State.running, State.running)


def test_template_is_not_changed_in_place(interlock, shop, tmp_path, vms):
    """A template file is compared by its content; an instance is recreated only by the command that the error names."""
    template = tmp_path / "mine.yaml"
    template.write_text("base: template:tiny\n")
    file = shop(("name: db\n  template: tiny", "name: db\n  template: ./mine.yaml"))
    assert interlock("fleet", "apply", file).returncode == 0
    template.write_text("base: template:tiny\nmessage: hello\n")
    done = interlock("--log-format", "json", "fleet", "apply", file, "--yes", "--prune")
    error = json.loads(done.stderr.splitlines()[-1])
    way = "interlock delete db && interlock fleet apply shop.yaml"
    assert (done.returncode, error["hint"]) == (3, way)
    assert error["details"] == [f"db: template changed: {way}"]
    vms.delete("db")
    assert interlock("fleet", "apply", file).returncode == 0


def test_failure_of_one_stops_no_other(interlock, shop, states):
    """The error names the instance and gives the exit code; applying again finishes."""
    failing = {"start": {"error": "no power"}}
    done = interlock("--log-format", "json", "fleet", "apply", shop(), orders=failing)
    errors = [it for it in map(json.loads, done.stderr.splitlines()) if it["event"] == "error"]
    assert {it["reference"] for it in errors} == {"driver-failed"}
    assert [it["instance"] for it in errors] == ["web-1", "web-2"]
    assert (done.returncode, len(states())) == (6, 3)
    assert interlock("fleet", "apply", "shop.yaml").returncode == 0
    assert states() == {"web-1": "running", "web-2": "running", "db": "created"}


@pytest.mark.parametrize("cut", ["create", "start"])
def test_apply_that_was_killed_is_finished_by_applying_again(begin, interlock, shop, vms, until, states, cut):
    """No plan is stored: what is left to do is what still differs."""
    process = begin("fleet", "apply", shop(), orders={cut: {"hang": True}})
    until(lambda: any((op := vms.status(name).operation) and "simulated" in op.step for name in ("web-1", "web-2")))
    process.kill()
    process.wait()
    assert interlock("fleet", "apply", "shop.yaml").returncode == 0
    assert states() == {"web-1": "running", "web-2": "running", "db": "created"}
    assert interlock("fleet", "status", "shop.yaml").returncode == 0


@pytest.mark.parametrize("cut", ["stop", "start"])
def test_restart_that_was_killed_is_finished_by_applying_again(begin, interlock, shop, vms, until, cut):
    """The guest does not keep its old processors."""
    interlock("fleet", "apply", shop(("count: 2", "count: 1")))
    file = shop(("count: 2", "count: 1"), ("cpus: 1", "cpus: 2"))
    process = begin("fleet", "apply", file, "--yes", orders={cut: {"hang": True}})
    until(lambda: (op := vms.status("web-1").operation) and op.trigger == cut and "simulated" in op.step)
    process.kill()
    process.wait()
    assert interlock("fleet", "apply", file, "--yes").returncode == 0
    last = [str(line.trigger) for line in vms.history("web-1") if line.phase == "done"]
    assert last.index("edit") < len(last) - 1 - last[::-1].index("start")
    assert (vms.status("web-1").spec.cpus, vms.status("web-1").state) == (2, State.running)


def test_two_applies_at_once_do_the_work_once(begin, shop, vms, states):
    """The second waits for the first, and finds everything as the file says."""
    file = shop()
    both = [begin("fleet", "apply", file) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert states() == {"web-1": "running", "web-2": "running", "db": "created"}
    for name, triggers in (("web-1", ["create", "start"]), ("db", ["create"])):
        assert [str(line.trigger) for line in vms.history(name) if line.phase == "done"] == triggers


def test_interrupt_calls_all_of_it_off_once(begin, shop, vms, until):
    """One signal cancels everything, as for a command with several names."""
    process = begin("fleet", "apply", shop(), orders={"start": {"hang": True}})
    until(lambda: any((op := vms.status(name).operation) and "simulated" in op.step for name in ("web-1", "web-2")))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert said.count("error: ") == 1


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("fleet: shop\n", ["shop.yaml:1:1: instances: this key is required"]),
        ("instances: []\n", ["shop.yaml:1:1: fleet: this key is required"]),
        (
            SHOP.replace("count: 2", "conut: 2").replace("cpus: 1", "cpus: many"),
            [
                "shop.yaml:4:3: instances[0].conut: no such key; did you mean count?",
                "shop.yaml:7:9: instances[0].cpus: expected a whole number, found 'many'",
            ],
        ),
        (
            SHOP.replace("name: db", "name: web-2"),
            ["shop.yaml:8:9: instances[1].name: web-2 is already an instance above"],
        ),
        (
            SHOP.replace("count: 2", "count: 2000"),
            ["shop.yaml:4:10: instances[0].count: expected at most 1000, found 2000"],
        ),
        (
            SHOP.replace("name: db", "name: d{n}"),
            ["shop.yaml:8:9: instances[1].name: {n} stands for a number, which needs a count"],
        ),
        (
            SHOP.replace("cpus: 1", "template: x"),
            ["shop.yaml:7:3: template: already given in line 5"],
        ),
        (
            SHOP.replace("cpus: 1", "set: {cpu: 1}").replace("tiny\n  driver: simulated\n  state", "tiney\n  state"),
            [
                "shop.yaml:7:8: instances[0].set: --set cpu=1: cpu: no such key; did you mean cpus?",
                'shop.yaml:9:13: instances[1].template: there is no built-in template "tiney"; did you mean "tiny"?',
            ],
        ),
        ("[", ["shop.yaml"]),
    ],
)  # fmt: skip
def test_mistakes_in_the_file_are_named_with_their_places_and_nothing_is_done(
    interlock, shop, states, text, complaints
):
    """All mistakes are reported at once, before anything is created."""
    done = interlock("--log-format", "human", "fleet", "apply", shop(text=text))
    assert done.returncode == 2
    for complaint in complaints:
        assert complaint in done.stderr
    assert states() == {}


def test_creation_that_would_be_refused_stops_all_of_it(interlock, shop, states):
    """Nothing of the plan is begun when, for example, a driver does not exist."""
    done = interlock("fleet", "apply", shop(("simulated\n  state", "vmware\n  state")))
    assert (done.returncode, "vmware" in done.stderr) == (6, True)
    assert states() == {}


def test_status_without_a_file_lists_all_fleets(interlock, shop, vms):
    """Instances that are in no fleet are not listed."""
    vms.create("mine", "tiny", driver="simulated")
    assert "no instance was created by `fleet apply`" in interlock("fleet", "status").stderr
    interlock("fleet", "apply", shop())
    listed = interlock("fleet", "status", "--json")
    assert {name: (record["fleet"], record["state"]) for name, record in records(listed).items()} == {
        "web-1": ("shop", "running"), "web-2": ("shop", "running"), "db": ("shop", "created"),
    }  # fmt: skip


def test_terminal_asks_before_it_deletes(shop, interlock, on_terminal, states, tmp_path):
    """Answering no keeps everything; the question names what would be deleted."""
    interlock("fleet", "apply", shop())
    file = str(tmp_path / shop(("state: stopped", "state: absent")))
    status, said = on_terminal("fleet", "apply", file, typed=b"n\n")
    assert (status, "delete db: go on?" in said, "db" in states()) == (130, True, True)


def test_api_of_a_program_refuses_to_delete_without_consent(vms):
    """`agree` is shown the plan; without agreement nothing is deleted. A mapping can replace the file."""
    one = {"name": "db", "template": "tiny", "driver": "simulated", "state": "stopped"}
    assert [result.done for result in vms.fleet({"fleet": "shop", "instances": [one]}).apply()] == [True]
    gone = vms.fleet({"fleet": "shop", "instances": []})
    assert [(step.name, step.extra, step.rows) for step in gone.status()] == [("db", True, ())]
    with pytest.raises(UsageError, match="deletes or restarts db"):
        gone.apply(prune=True)
    assert gone.apply(prune=True, agree=lambda steps: not steps) == []
    assert [result.done for result in gone.apply(prune=True, agree=bool)] == [True]
    assert vms.fleets() == {}


def test_page_about_fleets_shows_what_happens(interlock, tmp_path, vms):
    """The page's file and commands, run one after the other, print what the page shows."""
    (tmp_path / "shop.yaml").write_text(PAGE_FILE.replace("template: debian", "template: tiny"))
    sessions = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    for number, session in enumerate(sessions):
        for typed, printed in re.findall(r"^\$ interlock ([^\n]*)\n((?:[^$\n][^\n]*\n)*)", session, re.MULTILINE):
            done = interlock(*shlex.split(typed), env={**os.environ, "INTERLOCK_DRIVER": "simulated"})
            shown = [line for line in printed.splitlines() if not line.startswith(("started", "created"))]
            said = [*done.stdout.splitlines(), *done.stderr.splitlines()]
            assert [line for line in shown if line not in said] == [], (typed, said)
        if number == 1:  # the page continues from here
            vms.stop("web-2")
            vms.edit("db", "cpus=1")


def test_page_about_fleets_shows_a_program_that_works(vms, tmp_path, monkeypatch, capsys):
    """The page's program reports what differs, and applies the fleet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERLOCK_DRIVER", "simulated")
    (tmp_path / "shop.yaml").write_text(PAGE_FILE.replace("template: debian", "template: tiny"))
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "program.py").write_text(program)
    runpy.run_path("program.py")
    assert capsys.readouterr().out.splitlines() == [
        "web-1 missing create start",
        "web-2 missing create start",
        "db missing create",
    ]
    assert vms.status("web-2").state is State.running


def test_schema_accepts_the_file_of_the_page_and_refuses_what_reading_it_does(interlock, shop):
    """An editor marks a key that is unknown or holds something else; it need not know about templates."""
    jsonschema = pytest.importorskip("jsonschema", reason="the package jsonschema checks it: pip install '.[dev]'")
    checker = jsonschema.Draft202012Validator(json.loads(interlock("fleet", "schema").stdout))
    assert list(checker.iter_errors(yaml.safe_load(PAGE_FILE))) == []
    for old, new, key in (
        ("count: 2", "count: two", ["instances", 0, "count"]),
        ("count: 2", "many: 2", ["instances", 0]),
        ("state: stopped", "state: halted", ["instances", 1, "state"]),
        ("fleet: shop\n", "", []),
    ):
        (mistake,) = checker.iter_errors(yaml.safe_load(SHOP.replace(old, new)))
        assert list(mistake.absolute_path) == key
        assert interlock("fleet", "status", shop((old, new))).returncode == 2
