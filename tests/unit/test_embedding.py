"""What a program that embeds Interlock can rely on: its home, drivers, templates, guests, types, and its process."""

import inspect
import shutil
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest

import interlock
from interlock import (
    Completed,
    DeadlineError,
    DriverError,
    IllegalTransitionError,
    Interlock,
    InterlockError,
    InvalidTemplateError,
    SimulatedDriver,
    State,
    Trigger,
    UsageError,
    Wishes,
)

TEXT = "images: [{location: 'build:tiny'}]\ncpus: 3\n"


@pytest.fixture
def driver():
    """Return a simulated driver whose machines are in memory, and which answers two commands."""
    return SimulatedDriver(orders={}, memory={}, answers={"uname -r": "6.1.0\n", "false": Completed(1, b"", b"no\n")})


@pytest.fixture
def vms(driver):
    """Return the API with that driver."""
    return Interlock(driver=driver)


def test_home_is_given_by_its_path(tmp_path):
    """A program has a home of its own, whatever the environment says."""
    vms = Interlock(tmp_path / "mine", driver="simulated")
    vms.create("web", "tiny")
    assert (tmp_path / "mine" / "instances" / "web").is_dir()
    assert list(Interlock().instances()) == []


@pytest.mark.parametrize(
    ("variable", "given", "asked", "expected"),
    [
        (None, None, "simulated", "simulated"),
        ("simulated", None, None, "simulated"),
        ("nothing", "simulated", None, "simulated"),
        ("nothing", "nothing", "simulated", "simulated"),
    ],
)
def test_driver_is_that_of_the_call_else_of_the_object_else_of_the_environment(
    monkeypatch, variable, given, asked, expected
):
    """An embedder's tests set one variable, and no call of the program builds an image by mistake."""
    if variable:
        monkeypatch.setenv("INTERLOCK_DRIVER", variable)
    vms = Interlock(driver=given)
    vms.create("web", "tiny", driver=asked)
    assert vms.status("web").spec.driver == expected


def test_driver_that_is_an_object_stands_in_for_the_installed_one(vms, driver):
    """Instances created with the object are run by it: its memory has the machines."""
    vms.up("web", "tiny")
    assert driver.memory["web"].alive
    driver.orders["stop"] = {"error": "the disk is on fire"}
    with pytest.raises(DriverError, match="the disk is on fire"):
        vms.stop("web")


@pytest.mark.parametrize(
    "template", [TEXT, {"images": [{"location": "build:tiny"}], "cpus": 3}], ids=["text", "mapping"]
)
def test_template_from_memory_is_one(vms, template):
    """A program need not ship a template file."""
    vms.create("web", template)
    assert vms.status("web").spec.cpus == 3
    assert vms.templates.resolve(template, ["cpus=4"]).template.cpus == 4
    assert vms.templates.validate(template) == ()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"cpus": "none"}, "cpus"),
        ({"cpus": object()}, "a template cannot hold a value of type object"),
        ("cpus: none\n", "cpus"),
        ({"base": "./other.yaml"}, "no folder"),
    ],
)
def test_mistake_in_a_template_from_memory_is_named(vms, template, words):
    """The error says what is wrong, as it does for a file."""
    with pytest.raises(InvalidTemplateError) as caught:
        vms.create("web", template)
    assert words in "\n".join((caught.value.message, *caught.value.details))
    assert list(vms.instances()) == []


def test_text_in_a_mapping_stays_text(vms):
    """A string that looks like a number, a boolean or nothing is a string."""
    scripts = ["on", "1e3", "null", "\u2028é😀\n\t: #"]
    provision = [{"mode": "system", "script": script} for script in scripts]
    loaded = vms.templates.resolve({"provision": provision, "images": [{"location": "build:tiny"}]})
    assert [one.script for one in loaded.template.provision] == scripts


def test_run_returns_what_the_guest_said(vms, driver):
    """Status and both streams come back, whatever the status; the test sees what was run."""
    vms.up("web", "tiny")
    assert vms.run("web", ["uname", "-r"]).text == "6.1.0"
    assert vms.run("web", ["false"], input="in") == Completed(1, b"", b"no\n")
    assert vms.run("web", ["false"]).words == ("no",)
    assert driver.ran[1] == ("web", ("false",), b"in")


def test_run_of_what_has_no_answer_is_127(vms):
    """127 is what a shell returns for an unknown command; stderr names the missing answer."""
    vms.up("web", "tiny")
    done = vms.run("web", ["cat", "a b"])
    assert (done.status, done.words) == (127, ("the simulated guest has no answer to: cat 'a b'",))


def test_answer_may_depend_on_the_input(vms, driver):
    """A function is given the input and returns the answer."""
    driver.answers["rev"] = lambda stdin: stdin[::-1].decode()
    vms.up("web", "tiny")
    assert vms.run("web", ["rev"], input=b"abc").stdout == b"cba"


def test_run_in_a_guest_that_does_not_run_is_refused(vms):
    """The row `shell` decides, as it does for the command."""
    vms.create("web", "tiny")
    with pytest.raises(IllegalTransitionError):
        vms.run("web", ["uname", "-r"])


def test_run_that_does_not_end_raises_at_its_deadline(vms, driver):
    """The deadline is the caller's `timeout_s`."""
    vms.up("web", "tiny")
    driver.orders["run"] = {"hang": True}
    with pytest.raises(DeadlineError):
        vms.run("web", ["uname", "-r"], timeout_s=0.05)


WRONG = {
    "run of nothing": lambda vms: vms.run("web", []),
    "run of a text": lambda vms: vms.run("web", "uname -r"),
    "run of NUL": lambda vms: vms.run("web", ["a\0"]),
    "run for no time": lambda vms: vms.run("web", ["a"], timeout_s=float("nan")),
    "start for less than no time": lambda vms: vms.start("web", timeout_s=-1),
    "fire of what is no trigger": lambda vms: vms.fire("web", "explode"),
    "fire of what is observed": lambda vms: vms.fire("web", Trigger.exited),
    "fire with what the row does not take": lambda vms: vms.fire("web", Trigger.kill, colour="red"),
    "name": lambda vms: vms.status("../web"),
    "name that is a number": lambda vms: vms.start(5),
    "condition": lambda vms: vms.wait_for("web", "happy"),
    "time to wait": lambda vms: vms.wait_for("web", timeout_s=-1),
    "moment": lambda vms: vms.watch(since="yesterday"),
    "line of which instance": lambda vms: vms.watch(since=3),
    "port": lambda vms: vms.tunnel("web", 0, 80),
    "local port": lambda vms: vms.tunnel("web", 80, 65536),
    "copy from nowhere": lambda vms: vms.copy("web:a"),
    "processors": lambda vms: vms.create("db", "tiny", Wishes(cpus=0)),
    "disk": lambda vms: vms.disks.create("data", -1),
    "disk's name": lambda vms: vms.disks.create("../data", 1 << 30),
}


@pytest.mark.parametrize("ask", WRONG.values(), ids=WRONG)
def test_argument_that_makes_no_sense_is_a_usage_error(vms, ask):
    """The caller gets a UsageError, not a KeyError or TypeError of ours, and nothing is changed."""
    vms.up("web", "tiny")
    with pytest.raises(UsageError):
        ask(vms)
    assert [(status.name, status.state) for status in vms.instances()] == [("web", State.running)]


def test_listener_of_one_call_hears_that_call_beside_the_listener_of_all():
    """`on_event` of a call hears that call; `on_event` of the object hears all calls."""
    all_heard, heard = [], []
    vms = Interlock(driver="simulated", on_event=all_heard.append)
    vms.create("web", "tiny", on_event=heard.append)
    vms.start("web", on_event=heard.append)
    vms.stop("web")
    assert [event for event in all_heard if event.trigger is not Trigger.stop] == heard
    assert {event.trigger for event in all_heard} == {Trigger.create, Trigger.start, Trigger.stop}


@pytest.mark.parametrize("error", [None, RuntimeError("mine"), KeyboardInterrupt()])
def test_throwaway_is_gone_whatever_happens_in_its_block(vms, driver, error):
    """The block has a running instance; afterwards it is gone, and the block's own error reaches the caller."""
    raised = None
    try:
        with vms.throwaway("tiny", Wishes(cpus=2)) as vm:
            assert (vms.status(vm).state, vms.run(vm, ["uname", "-r"]).text) == (State.running, "6.1.0")
            if error:
                raise error
    except (RuntimeError, KeyboardInterrupt) as caught:
        raised = caught
    assert (raised, list(vms.instances()), driver.memory) == (error, [], {})


def test_throwaway_that_does_not_start_leaves_nothing(vms, driver):
    """The cause is raised, and nothing has to be removed by hand."""
    driver.orders["start"] = {"error": "no room"}
    with pytest.raises(DriverError, match="no room"), vms.throwaway("tiny"):
        pytest.fail("the block is not entered")
    assert list(vms.instances()) == []


def ours(annotation):
    """Yield the classes of Interlock that `annotation` names, however deep."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if annotation.__module__.startswith("interlock."):
            yield annotation
        return
    for inner in typing.get_args(annotation):
        yield from (it for deep in (inner if isinstance(inner, list) else [inner]) for it in ours(deep))


def test_every_type_of_the_api_is_exported():
    """The types of arguments, results and the fields of results can all be imported from `interlock`."""
    names = {name: getattr(interlock, name) for name in interlock.__all__}
    kinds = [interlock.Interlock, interlock.Images, interlock.Disks, interlock.Templates]
    results = [kind for kind in names.values() if isinstance(kind, type) and hasattr(kind, "to_json")]
    named = set()
    for kind in (*kinds, *results):
        scope = vars(sys.modules[kind.__module__]) | names | {"Mapping": typing.Mapping}
        members = [value for name, value in vars(kind).items() if not name.startswith("_")]
        asked = [*(it for it in members if inspect.isfunction(it)), *(it.fget for it in members if hasattr(it, "fget"))]
        for annotated in [*asked, *([kind] if kind in results else [])]:
            named |= {it for hint in typing.get_type_hints(annotated, scope).values() for it in ours(hint)}
    assert sorted(kind.__name__ for kind in named if kind.__name__ not in names) == []


PROGRAM = """
import logging, os, signal, sys, threading, warnings

def seen():
    signals = [signal.getsignal(number) for number in signal.valid_signals()]
    return signals, list(logging.root.handlers), sys.excepthook, threading.excepthook, os.getcwd(), dict(os.environ)

before = seen()
from interlock import Interlock, Wishes
vms = Interlock(driver="simulated")
with vms.throwaway({"images": [{"location": "build:tiny"}]}, Wishes(cpus=2)) as vm:
    vms.run(vm, ["true"])
    list(vms.instances()), vms.can(vm), list(vms.history(vm)), vms.images.list(), vms.templates.list()
assert seen() == before
assert threading.enumerate() == [threading.main_thread()]
"""


def test_program_is_left_alone(home):
    """Nothing is printed, no handler is set, no thread stays, no warning is caused."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert home.root.is_dir()


PYRIGHT = Path(sys.prefix) / "pyright" / "index.js"
"""Where `make test` installs it."""

CHECKERS = {
    "mypy": [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir=cache"],
    "pyright": ["node", PYRIGHT, f"--pythonpath={sys.executable}"],
}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_program_is_type_checked_from_outside(tmp_path, monkeypatch, checker):
    """In strict mode, from outside the package: the programs of tests/embed have no error, and a mistake is found."""
    if checker == "pyright" and not PYRIGHT.exists():
        pytest.skip("`make test` fetches pyright")
    (tmp_path / "interlock").symlink_to(Path(interlock.__file__).parent)
    (tmp_path / "bad.py").write_text("import interlock\ninterlock.Interlock().start('web', timeout='soon')\n")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    programs = sorted((Path(__file__).parents[1] / "embed").glob("*.py"))
    for program in programs:
        shutil.copy(program, tmp_path)
    monkeypatch.setenv("MYPYPATH", str(tmp_path))

    def check(*files):
        command = [*CHECKERS[checker], *files]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)

    done = check(*(program.name for program in programs))
    assert done.returncode == 0, done.stdout
    done = check("bad.py")
    assert (done.returncode, '"timeout"' in done.stdout) == (1, True), done.stdout


def test_errors_say_what_their_class_says():
    """Each exported error has a docstring and derives from InterlockError."""
    kinds = [getattr(interlock, name) for name in interlock.__all__ if name.endswith("Error")]
    assert all(issubclass(kind, InterlockError) and kind.__doc__ for kind in kinds)
