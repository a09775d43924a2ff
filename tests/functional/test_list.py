"""`interlock list`: every instance, including damaged ones, and what is happening to each."""

import json
import re

import pytest

from interlock import Wishes
from interlock.fsm.states import State


def test_list_of_no_instances_prints_nothing(interlock, home):
    """A list of nothing is empty for programs, and creates nothing."""
    done = interlock("list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not home.root.exists()


def test_list_as_table_has_a_line_for_each(interlock, bring, vms):
    """The lines are sorted by name, and aligned under their titles."""
    bring(State.running)
    vms.create("db", "tiny", driver="simulated")
    lines = [re.split(r"\s{2,}", line) for line in interlock("list").stdout.splitlines()]
    assert [[line[0], line[-1]] for line in lines] == [["NAME", "STATUS"], ["db", "created"], ["web", "running"]]


def test_list_as_json_is_the_documented_record(interlock, bring, vms):
    """There is one object per line, with the documented keys."""
    bring(State.running)
    (line,) = interlock("list", "--format", "json").stdout.splitlines()
    assert json.loads(line) == json.loads(json.dumps(vms.status("web").to_json()))


@pytest.mark.parametrize("output_format", ["table", "json", "yaml"])
def test_list_of_names_tells_about_those_and_misses_the_others(interlock, bring, output_format):
    """Unknown names are reported, and the known ones are listed all the same."""
    bring(State.created)
    done = interlock("list", "nope", "web", "other", "--format", output_format)
    assert done.returncode == 4
    assert "web" in done.stdout
    assert "nope" not in done.stdout
    assert re.findall(r'there is no instance "(\w+)"', done.stderr) == ["nope", "other"]


def test_list_of_an_instance_on_its_way_in_is_no_error(interlock, begin, until, vms):
    """An instance that is being created can be listed by name too."""
    begin("create", "web", "--template", "tiny", "--driver", "simulated", orders={"create": {"delay_s": 60}})
    until(lambda: vms.status("web").operation)
    done = interlock("list", "web")
    assert done.returncode == 0
    assert "creating" in done.stdout


def test_list_with_a_damaged_instance_lists_the_others_too(interlock, bring, vms, home):
    """A damaged instance is shown as such, and the others are listed as usual."""
    bring(State.created)
    vms.create("db", "tiny", driver="simulated")
    (home.directory("db") / "spec.json").write_bytes(b"")
    done = interlock("list")
    assert done.returncode == 0
    statuses = [re.split(r"\s{2,}", line)[6] for line in done.stdout.splitlines()]
    assert [status.split()[0] for status in statuses] == ["STATUS", "damaged", "created"]


def test_list_while_another_process_works_shows_what_it_does(interlock, begin, bring, at_work):
    """`list` shows the step, the process and the deadline of work in flight, without waiting for it."""
    bring(State.created)
    process = begin("start", "web", "--timeout", "50", orders={"start": {"hang": True}})
    at_work()
    status = json.loads(interlock("list", "--format", "json").stdout)
    operation = status["operation"]
    assert (status["state"], operation["trigger"], operation["pid"]) == ("created", "start", process.pid)
    assert operation["step"] == "waiting for the simulated guest"
    assert operation["deadline"] > operation["since"]
    assert re.search(r"web .+ starting · waiting for the simulated guest · \d", interlock("list").stdout)


def test_list_of_guest_that_went_down_says_why(interlock, bring, home):
    """`list` records an exit that it observes, with the reason."""
    bring(State.running)
    record = home.directory("web") / "machine.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "alive": False, "exit_reason": "guest panicked"}))
    assert "stopped · guest panicked" in interlock("list").stdout


def test_list_prints_what_a_machine_uses_while_it_runs(interlock, bring, home):
    """The usage figures are keys, columns and sort keys; an instance that is down has no figures."""
    bring(State.running)
    record = home.directory("web") / "machine.json"
    used = {"cpu_s": 12.5, "resident_bytes": 3 << 20, "uptime_s": 60.0}
    record.write_text(json.dumps({**json.loads(record.read_text()), **used}))
    status = json.loads(interlock("list", "--json").stdout)
    assert {key: status[key] for key in used} == used
    assert "12.5" in interlock("list", "--sort", "-cpu_s", "--columns", "NAME,CPU_S").stdout
    interlock("kill", "web")
    status = json.loads(interlock("list", "--json").stdout)
    assert {key: status[key] for key in used} == dict.fromkeys(used)


@pytest.fixture
def three(vms):
    """Make three instances, of which `b` runs and is the largest."""
    for name, memory in (("a", 1 << 28), ("b", 1 << 30), ("c", 1 << 29)):
        vms.create(name, "tiny", Wishes(memory_bytes=memory), driver="simulated")
    vms.start("b")


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-q",), ["a", "b", "c"]),
        (("-q", "--filter", "state=created"), ["a", "c"]),
        (("-q", "--sort", "memory_bytes"), ["a", "c", "b"]),
        (("-q", "--sort", "-memory_bytes"), ["b", "c", "a"]),
        (("-q", "--sort", "accelerator", "c", "a"), ["c", "a"]),
        (("--format", "{{.Name}}={{.Status}}"), ["a=created", "b=running", "c=created"]),
        (("--columns", "name,status,driver", "a"), ["NAME  STATUS   DRIVER", "a     created  simulated"]),
    ],
)
def test_list_prints_what_is_asked_for(interlock, arguments, expected):
    """The arguments choose the instances, their order and their columns."""
    done = interlock("list", *arguments)
    assert (done.returncode, done.stdout.splitlines()) == (0, expected)


@pytest.mark.usefixtures("three")
def test_list_json_is_the_format_json(interlock):
    """`--json` is the short form for people who type."""
    assert interlock("list", "--json").stdout == interlock("list", "--format", "json").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "xml"), "expected table, json, yaml, or a Go template"),
        (("--format", "{{.Colour}}"), ".Colour is not one of the fields"),
        (("--columns", "name,colour"), "COLOUR: expected one of NAME, ARCH"),
        (("--sort", "colour"), "'colour': expected one of"),
    ],
)
def test_list_refuses_what_it_cannot_print(interlock, arguments, words):
    """The error names the part that is not understood."""
    done = interlock("list", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.replace("\n", " ")
