"""A hint is a command that works as typed. tests/conftest.py runs the hints that tests provoke."""

import ast
import shlex
from pathlib import Path

import pytest
from asking import COPY, name_after, needs, prepare

from interlock import Interlock, cli
from interlock.commands.instead import DESTROYS, INSTEAD, INSTEAD_IN_GROUP, REMARKS, SAME, SAME_IN_GROUP, meaning
from interlock.errors import UsageError
from interlock.fsm.states import State
from interlock.fsm.table import TABLE, Trigger

ROOT = Path(__file__).parents[2]
PRODUCT = [path for path in [*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/**/*.py")] if "tests" not in path.parts]
PROGRAMS = (
    "export ",
    "interlock ",
    "apt ",
    "dmesg",
    "env ",
    "fuser ",
    "limactl ",
    "mkdir ",
    "modprobe ",
    "mv ",
    "chmod ",
    "pip ",
    "sysctl ",
    "timedatectl ",
)


def written_hints():
    """Yield (place, text) of each hint written where its error is made, with `{}` for each filled-in value."""
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                place = f"{path.relative_to(ROOT)}:{node.value.lineno}"
                if isinstance(node.value, ast.Constant) and node.value.value is not None:
                    yield place, node.value.value
                elif isinstance(node.value, ast.JoinedStr):
                    parts = node.value.values
                    yield place, "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)


def test_hint_is_a_command_and_no_advice():
    """Advice belongs in the message: people and programs type what stands after `hint:`."""
    assert [hint for hint in written_hints() if not hint[1].startswith((*PROGRAMS, "{} --help", "{} edit "))] == []


def refused(arguments):
    """Return the program's error for a command that it does not know."""
    with pytest.raises(UsageError) as caught:
        cli.cli.main(arguments, prog_name="interlock", standalone_mode=False, obj=cli.Session())
    return caught.value


@pytest.mark.parametrize("word", INSTEAD)
def test_word_of_another_program_gets_what_to_type_here(word):
    """A user of another program gets a hint in one line; a fixture of all tests types it."""
    for rest in ([], ["web"], ["-n", "web"], ["--no-such-option"]):
        hint = refused([word, *rest]).hint
        assert hint is not None
        assert hint.startswith(f"interlock {INSTEAD[word]}")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("set local.web.memory=2G", "edit web --memory 2G"),
        ("set client.gui.autostart=false", "edit --help"),
        ("destroy -f web", "delete --force web"),
        ("transfer a web:", "copy a web:"),
        ("system prune", "prune --help"),
        ("snapshot save web before", "snapshot create web before"),
        ("snapshot apply web before", "snapshot restore web before"),
    ],
)
def test_hint_has_what_was_typed_as_it_is_typed_here(typed, hint):
    """Arguments that mean the same are kept, in the order of this program."""
    assert refused(shlex.split(typed)).hint == f"interlock {hint}"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ls", "list"),
        ("ls -la", "list"),
        ("ls -q web", "list -q web"),
        ("ls --json", "list --json"),
        ("ps", "list --filter state=running"),
        ("ps -a", "list"),
        ("ps -aq", "list -q"),
        ("status web", "list web"),
        ("info web", "inspect web"),
        ("rm -f web db", "delete -f web db"),
        ("down web", "stop web"),
        ("exec web ls -it", "run web ls -it"),
        ("exec -i web -- sort", "run web -- sort"),
        ("exec -it web bash", "shell web bash"),
        ("exec -i -t --workdir /x web bash", "shell --workdir /x web bash"),
        ("ssh", "shell"),
        ("ssh web", "shell web"),
        ("ssh -t web", "shell web"),
        ("ssh web -- ls -l", "shell web -- sh -c 'ls -l'"),
        ("ssh web 'cd /tmp && ls'", "shell web -- sh -c 'cd /tmp && ls'"),
        ("cp -r web:/x .", "copy -r web:/x ."),
        ("images", "image list"),
        ("templates --format json", "template list --format json"),
        ("version", "--version"),
        ("list", None),
        ("start web", None),
        ("lsx", None),
    ],
)
def test_name_of_another_program_means_the_same_command_here(typed, meant):
    """Usual flags are translated to the command's own, or left out where they change nothing."""
    assert meaning(shlex.split(typed)) == (None if meant is None else shlex.split(meant))


def test_names_of_other_programs_are_no_commands_here_and_what_they_mean_is():
    """One table has names that work here, the other what to type instead; no name is in both."""
    ours = {name for section in cli.COMMANDS.values() for name in section}
    assert not (SAME.keys() | INSTEAD.keys()) & ours
    assert not SAME.keys() & INSTEAD.keys()
    assert not SAME_IN_GROUP.keys() & INSTEAD_IN_GROUP.keys()
    assert {command.split()[0] for command in (*SAME.values(), *INSTEAD.values())} <= ours | {"--version"}
    assert REMARKS.keys() <= SAME.keys()


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("launch debian web", "interlock up web --template debian"),
        ("launch debian --name web", "interlock up web --template debian"),
        ("launch -n web debian", "interlock up web --template debian"),
        ("launch debian", "interlock up --template debian"),
        ("launch 24.04 --name web", "interlock up web --template ubuntu-24.04"),
        ("launch --mem 4G", "interlock up --help"),
    ],
)
def test_launch_proposes_up_with_the_name_and_the_template(typed, hint):
    """incus and multipass take the image first."""
    assert refused(typed.split()).hint == hint


@pytest.mark.parametrize("group", ["image", "disk", "template"])
@pytest.mark.parametrize("word", [*INSTEAD_IN_GROUP, "frobnicate", "delet", "prun"])
def test_word_of_another_program_in_a_group_gets_what_to_type_here(group, word):
    """In the groups image, disk and template: a command that does the same, or the group's help."""
    known = cli.cli.get_command(None, group).commands
    if word not in known:
        hint = refused([group, word, "x"]).hint
        assert hint is not None
        assert hint.startswith(f"interlock {group} ")
        assert word in INSTEAD_IN_GROUP or not DESTROYS & set(hint.split())


@pytest.mark.parametrize("word", ["tops", "strat", "stat", "sto", "rest", "delet", "kil", "ups", "craete"])
def test_similar_letters_never_propose_a_transition(word):
    """A command that changes a machine is not proposed for a similar word: another one may be meant."""
    hint = refused([word, "web"]).hint
    assert hint is not None
    assert hint.split()[1] not in cli.COMMANDS["Lifecycle"]


@pytest.mark.parametrize(("word", "hint"), [("lst", "interlock list"), ("histroy", "interlock history --help")])
def test_similar_letters_propose_what_only_looks(word, hint):
    """A typo of a harmless command is corrected, with the arguments that were typed."""
    assert refused([word]).hint == hint
    assert refused(["purge", "-f", "a b"]).hint == "interlock delete -f 'a b'"


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("state", State)
def test_way_that_can_proposes_leads_where_it_says(engine, home, bring, plan, state, protected):
    """The hint for each refused trigger, when typed, ends with that trigger done or already satisfied."""
    for number, row in enumerate(row for row in TABLE if not row.observed and row.trigger is not Trigger.create):
        name = f"vm{number}"
        bring(name, state)
        if protected and state is not State.absent:
            engine.fire(name, Trigger.protect)
        verdict = next(verdict for verdict in engine.verdicts(name) if verdict.trigger is row.trigger)
        for command in (verdict.hint or "").split(" && "):
            _, trigger, *_ = command.split() or ("", "list")
            trigger = next((it.trigger for it in TABLE if it.command and f" {it.command} " in command), trigger)
            if trigger == "create":
                engine.create(name, plan)
            elif trigger in ("shell", "copy"):
                engine.admit(name, Trigger(trigger))
            elif trigger in list(Trigger):
                prepare(engine, Trigger(trigger), name)
                engine.fire(name, Trigger(trigger), **needs(Trigger(trigger)))
                name = name_after(Trigger(trigger), name)
        if state is not State.absent and row.dest is not None and not verdict.holds:
            assert engine.status(name).state is row.dest
        if engine.status(COPY).protected:
            engine.fire(COPY, Trigger.unprotect)
        Interlock(home).delete(COPY)


@pytest.mark.parametrize(
    ("typed", "trigger", "hint"),
    [
        ("wbe", Trigger.stop, "interlock stop web"),
        ("wbe", Trigger.start, "interlock inspect web"),
        ("wbe", Trigger.reset, "interlock inspect web"),
        ("wbe", None, "interlock inspect web"),
        ("something-else", Trigger.start, "interlock list"),
    ],
)
def test_mistyped_name_gets_the_near_name_or_the_list(engine, bring, typed, trigger, hint):
    """A typo creates nothing, and a name with similar letters is not proposed for a destructive command."""
    bring("web", State.running)
    assert engine.not_found(typed, trigger).hint == hint


def test_name_where_there_is_no_instance_gets_how_to_make_one(engine):
    """There is no instance to list."""
    assert engine.not_found("web").hint == "interlock create web --template debian"
