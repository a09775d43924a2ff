"""The Python API: a method for each row, composites without state of their own, and a forced delete from anywhere."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import interlock
from interlock import Interlock, NotFoundError, State, Trigger, Wishes
from interlock.api import checks
from interlock.errors import DriverError, HostError, InvalidNameError, InvalidTemplateError, UsageError
from interlock.fsm.happening import Happening
from interlock.fsm.journal import FILE
from interlock.fsm.spec import SPEC_FILE, Spec
from interlock.fsm.table import TABLE

WAYS = {State.absent: [], State.created: ["create"], State.running: ["up"], State.stopped: ["up", "stop"]}


@pytest.fixture
def vms(heard):
    """Return the API on the home of the environment."""
    return Interlock(on_event=heard.append)


@pytest.fixture
def bring(vms):
    """Return a function that brings a simulated instance into a state, by the API alone."""

    def bring_to(state, name="web"):
        for way in WAYS[state]:
            given = {} if way == "stop" else {"template": "tiny", "driver": "simulated"}
            getattr(vms, way)(name, **given)

    return bring_to


def test_package_exports_what_it_lists():
    """Every name in `__all__` resolves, including those that are loaded on first use."""
    assert [name for name in interlock.__all__ if not hasattr(interlock, name)] == []


def test_api_has_a_method_for_every_row_that_can_be_asked_for():
    """Every trigger that a caller can ask for has a method of the same name."""
    assert [row.trigger for row in TABLE if not row.observed and not hasattr(Interlock, row.trigger)] == []


def test_create_wishes_overrule_the_template(vms):
    """Wishes beside the template override it in the instance's spec."""
    vms.create("web", "tiny", Wishes(cpus=3, memory_bytes=1 << 30), driver="simulated")
    spec = vms.status("web").spec
    assert (spec.cpus, spec.memory_bytes, spec.disk_bytes) == (3, 1 << 30, 1 << 30)


@pytest.mark.parametrize(
    ("arguments", "kind"), [(("../web", "tiny"), InvalidNameError), (("web", "no-such-template"), NotFoundError)]
)
def test_create_that_cannot_be_leaves_no_instance(vms, home, arguments, kind):
    """A mistake in the name or the template leaves nothing behind."""
    with pytest.raises(kind):
        vms.create(*arguments, driver="simulated")
    assert list(vms.instances()) == []
    assert not home.directory("web").exists()


def test_create_with_unknown_driver_names_the_installed(vms, home):
    """The error for an unknown driver names the installed ones, and nothing is created."""
    with pytest.raises(HostError, match="installed: ganeti, lima, qemu, simulated"):
        vms.create("web", "tiny", driver="nothing")
    assert not home.root.exists()


@pytest.mark.parametrize("state", State)
def test_up_from_any_state_ends_running(vms, bring, state):
    """`up` ends in `running` from every state."""
    bring(state)
    assert vms.up("web", "tiny", driver="simulated").state is State.running
    assert vms.status("web").state is State.running


def test_up_of_existing_instance_reads_no_template(vms, bring):
    """An existing instance is started as it is; its template may be gone."""
    bring(State.stopped)
    assert vms.up("web", "no-such-template").state is State.running


def test_up_of_absent_instance_without_template_is_not_found(vms):
    """Without a template nothing is created, and the hint shows the missing option."""
    with pytest.raises(NotFoundError) as caught:
        vms.up("web", None)
    assert caught.value.hint == "interlock create web --template debian"


def test_up_announces_two_transitions(bring, heard):
    """A composite is a sequence of transitions, and each is reported as done."""
    bring(State.running)
    assert [event.trigger for event in heard if event.happening is Happening.done] == [Trigger.create, Trigger.start]


@pytest.mark.parametrize("state", [State.created, State.running, State.stopped])
def test_restart_from_any_existing_state_ends_running(vms, bring, state):
    """An instance that is not running is started without a stop first."""
    bring(state)
    assert vms.restart("web").state is State.running


def test_restart_of_running_guest_boots_it_again(vms, bring):
    """A restart is a stop and a start, and the history has both."""
    bring(State.running)
    vms.restart("web")
    triggers = [line.trigger for line in vms.history("web") if line.phase == "done"]
    assert triggers == [Trigger.create, Trigger.start, Trigger.stop, Trigger.start]


@pytest.mark.parametrize("state", State)
def test_delete_with_force_from_any_state_ends_absent(vms, bring, home, state):
    """A forced delete works from every state."""
    bring(state)
    assert vms.delete("web", force=True).state is State.absent
    assert not home.directory("web").exists()


SPEC_DAMAGES = [b"", b"{", b"[]", b'{"schema": 99}']
JOURNAL_DAMAGES = [b"", b"\0\0\0\0", b"{}\n"]


@pytest.mark.parametrize("state", [State.created, State.running, State.stopped])
@pytest.mark.parametrize(
    ("file", "content"),
    [*((SPEC_FILE, content) for content in SPEC_DAMAGES), *((FILE, content) for content in JOURNAL_DAMAGES)],
)
def test_delete_with_force_of_damage_ends_absent(vms, bring, home, state, file, content):
    """A forced delete removes a damaged instance in any state; the driver is asked to end what still runs."""
    bring(state)
    (home.directory("web") / file).write_bytes(content)
    outcome = vms.delete("web", force=True)
    assert (outcome.state, outcome.changed, outcome.detail) == (State.absent, True, "it was damaged")
    assert list(vms.instances()) == []


@pytest.mark.parametrize("state", [State.created, State.running, State.stopped])
def test_delete_with_force_of_instance_without_its_driver_ends_absent(vms, bring, home, state):
    """An instance whose driver is not installed any more can still be removed."""
    bring(state)
    path = home.directory("web") / SPEC_FILE
    path.write_text(path.read_text().replace('"simulated"', '"uninstalled"'))
    assert vms.delete("web", force=True).state is State.absent
    assert list(vms.instances()) == []


def test_delete_with_force_while_a_dead_start_cannot_be_finished_ends_absent(vms, bring, monkeypatch):
    """A failed start whose machine was kept alive does not block the deletion."""
    bring(State.created)
    monkeypatch.setenv("INTERLOCK_SIMULATED", '{"start": {"hang": true}}')
    with pytest.raises(interlock.DeadlineError):
        vms.start("web", timeout_s=0.05, keep_on_failure=True)
    assert vms.delete("web", force=True).state is State.absent


def test_shell_of_driver_without_guests_is_refused(vms, bring):
    """If the driver has no guest to log in to, `shell` raises a UsageError that says so."""
    bring(State.running)
    with pytest.raises(UsageError, match='driver "simulated" has no shell'):
        vms.shell("web")


def test_can_of_running_instance_is_what_the_table_allows(vms, bring):
    """`can` lists every trigger that can be asked for; one whose outcome already holds is not legal."""
    bring(State.running)
    verdicts = vms.can("web")
    assert [verdict.trigger for verdict in verdicts] == [row.trigger for row in TABLE if not row.observed]
    assert [verdict.trigger for verdict in verdicts if verdict.legal] == [
        Trigger.stop,
        Trigger.kill,
        Trigger.suspend,
        Trigger.provision,
        Trigger.migrate,
        Trigger.protect,
        Trigger.unprotect,
        Trigger.fork,
        Trigger.edit,
        Trigger.snapshot,
        Trigger.shell,
        Trigger.copy,
    ]


def test_call_with_a_listener_of_its_own_waits_as_long_as_any_other():
    """A listener for one call does not shorten the time that the call waits for a busy instance."""
    assert Interlock(wait_s=47.0)._heard_by(print)._wait_s == 47.0


def test_listener_that_raises_calls_the_work_off(bring, vms):
    """An exception in a listener undoes the transition, as documented, so an embedder can stop one."""
    bring(State.created)

    def refuse(event):
        if event.happening is Happening.step:
            raise RuntimeError("enough")

    with pytest.raises(DriverError, match="RuntimeError: enough"):
        Interlock(on_event=refuse).start("web")
    assert vms.status("web").state is State.created


def examples():
    """Yield the programs that the pages show; test_pytest_plugin.py runs the test that one of them shows."""
    for page in ("guide.md", "embedding.md"):
        text = (Path(interlock.__file__).parent / "docs" / page).read_text(encoding="utf-8")
        programs = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        for number, program in enumerate(it for it in programs if "def test_" not in it):
            yield pytest.param(program, id=f"{page} {number}")


@pytest.mark.parametrize("program", list(examples()))
def test_program_on_a_page_runs(program, qcow2, tmp_path, monkeypatch, capsys):
    """The programs on the pages for embedders work, here with simulated machines."""
    monkeypatch.setenv("INTERLOCK_DRIVER", "simulated")
    monkeypatch.setattr(interlock.drivers.find("simulated"), "answers", {"uname -r": "6.1.0"})
    (tmp_path / "disk.qcow2").write_bytes(qcow2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(program)
    runpy.run_path(str(tmp_path / "program.py"))
    assert capsys.readouterr().out


def test_images_of_a_home_are_listed_found_used_and_deleted(vms, qcow2, tmp_path):
    """`vms.images` is the whole store: an imported image is found by name, a missing one is a NotFoundError."""
    (tmp_path / "disk").write_bytes(qcow2)
    image = vms.images.import_(tmp_path / "disk", name="mine")
    assert vms.images.list() == (image,) == (vms.images.get("mine"),)
    assert vms.images.users() == {("mine", image.arch): ()}
    assert vms.images.obtain(interlock.Source("build:mine", image.arch)) == image
    assert [(it.kind, it.name, it.arch) for it in vms.unneeded()] == [("image", "mine", image.arch)]
    vms.images.delete("mine")
    for ask in (vms.images.get, vms.images.delete):
        with pytest.raises(NotFoundError, match='no image "mine"'):
            ask("mine")


def test_templates_are_read_and_make_nothing(vms, tmp_path):
    """`vms.templates` reads and checks templates as `create` does, and creates nothing."""
    (tmp_path / "web.yaml").write_text("images: [{location: 'build:tiny'}]\nmounts: [{location: /srv}]\ncpus: 2\n")
    (tmp_path / "bad.yaml").write_text("cpus: none\n")
    assert vms.templates.list()["tiny"]
    assert vms.templates.instance_name(str(tmp_path / "web.yaml")) == "web"
    assert vms.templates.validate(str(tmp_path / "web.yaml")) == ("mounts[0]: the guest reads /srv",)
    loaded = vms.templates.resolve(str(tmp_path / "web.yaml"), ["cpus=4"])
    assert loaded.template.cpus == 4
    assert "cpus: 4" in vms.templates.dump(loaded)
    assert vms.templates.schema()["properties"]["cpus"]
    with pytest.raises(InvalidTemplateError, match="mistake"):
        vms.templates.validate(str(tmp_path / "bad.yaml"))
    assert not vms.home.root.exists() or list(vms.instances()) == []


def test_checks_of_a_home_that_cannot_be_used_are_findings(home):
    """`checks` answers even if the home is unusable and nothing else works."""
    home.root.mkdir(mode=0o777)
    home.root.chmod(0o777)
    with pytest.raises(HostError):
        Interlock()
    found = {check.subject: check for check in checks()}
    assert (found["home"].ok, found["image build"].essential) == (False, False)


@pytest.mark.parametrize("calls", ["vms.instances()", "vms.status('web')", "vms.can('web')"])
def test_reading_instances_loads_nothing_of_what_they_are_made_of(calls):
    """Only calls that use images, templates or checks import their modules."""
    program = (
        f"import sys, interlock\nvms = interlock.Interlock()\nlist([{calls}])\ninterlock.Wishes\n"
        "print(*sorted(name for name in sys.modules if name.startswith(('interlock.images', 'interlock.templates', "
        "'interlock.creation.p', 'interlock.checks', 'interlock.disks', 'pydantic', 'yaml', 'httpx'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "\n"


def test_calls_of_one_command_read_the_spec_once(bring, monkeypatch):
    """A spec is replaced, never changed, so it is read once, however many calls a command makes."""
    bring(State.running)
    read = []
    original = Spec.read
    monkeypatch.setattr(Spec, "read", lambda directory: read.append(directory) or original(directory))
    vms = Interlock()
    vms.status("web")
    vms.can("web")
    vms.logs("web")
    vms.start("web")
    vms.stop("web")
    assert len(read) == 1
