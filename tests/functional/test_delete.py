"""`interlock delete`: removes everything an instance had; with --force, from any state."""

import subprocess
import sys

import pytest

from interlock.fsm.states import State
from interlock.fsm.table import TABLE


def files_of(home, name):
    """Return what is left of `name` anywhere in home and runtime."""
    return [path for root in (home.root, home.runtime) for path in root.rglob(f"*{name}*")]


@pytest.mark.parametrize("source", [State.created, State.stopped])
def test_delete_of_instance_that_is_down_leaves_nothing(interlock, bring, home, source):
    """Nothing is left, including the lock file."""
    bring(source)
    assert interlock("delete", "web").returncode == 0
    assert files_of(home, "web") == []


def test_delete_of_running_instance_is_refused_with_the_way(interlock, bring, state):
    """A running instance must be stopped first, and the hint says how."""
    bring(State.running)
    refused = interlock("delete", "web")
    assert (refused.returncode, refused.stderr.splitlines()) == (
        3,
        [
            "error: illegal-transition",
            'instance "web" is running; delete is legal from created and stopped',
            "hint: interlock stop web && interlock delete web",
        ],
    )
    assert state() == "running"


@pytest.mark.parametrize("source", State)
def test_delete_with_force_from_any_state_leaves_nothing(interlock, bring, home, source):
    """`delete --force` works from every state, and repeating it is not an error."""
    bring(source)
    assert interlock("delete", "web", "--force").returncode == 0
    assert files_of(home, "web") == []
    assert interlock("delete", "web", "--force").returncode == 0


@pytest.mark.parametrize("file", ["spec.json", "journal.jsonl", "machine.json"])
def test_delete_with_force_of_damaged_instance_leaves_nothing_and_says_so(interlock, bring, home, file):
    """A damaged instance can be deleted, and the output mentions no failure."""
    bring(State.running)
    (home.directory("web") / file).write_bytes(b"\0" * 100)
    done = interlock("--log-format", "human", "delete", "web", "--force")
    assert (done.returncode, "failed" in done.stderr, 'deleted "web"' in done.stderr) == (0, False, True)
    assert files_of(home, "web") == []


@pytest.mark.parametrize(
    ("trigger", "source"), [(row.trigger, row.sources[-1]) for row in TABLE if row.recorded and row.dest]
)
def test_delete_with_force_after_any_operation_was_killed_leaves_nothing(
    interlock, begin, bring, at_work, home, trigger, source
):
    """`delete --force` works whichever operation was cut short."""
    bring(source)
    given = ("-t", "tiny", "--driver", "simulated") if trigger == "create" else ()
    process = begin(trigger, "web", *given, orders={trigger: {"hang": True}})
    at_work()
    process.kill()
    process.wait()
    done = interlock("delete", "web", "--force")
    assert done.returncode == 0, done.stderr
    assert files_of(home, "web") == []


def test_delete_with_force_calls_off_a_creation_that_is_in_the_middle_of_a_step(interlock, begin, at_work, home):
    """A step such as a download may take minutes: it is cancelled at once, not at its end, and nothing is left."""
    process = begin("create", "web", "-t", "tiny", "--driver", "simulated", orders={"create": {"hang": True}})
    at_work()
    done = interlock("delete", "web", "--force")
    assert done.returncode == 0, done.stderr
    assert (process.wait(timeout=60), "cancelled by delete (pid " in process.stderr.read()) == (130, True)
    assert files_of(home, "web") == []


MOUNTED = """
"$@" create web --template tiny --driver simulated && cd "$0" || exit
mkdir instances/web/it && mount -t tmpfs none instances/web/it && touch instances/web/it/theirs
for trigger in "delete" "delete --force" "create --template tiny --driver simulated"; do
    "$@" $trigger web >&2
    echo $?
done
ls instances/.deleting/web/it
umount instances/.deleting/web/it
"$@" create web --template tiny --driver simulated
"""
"""Runs the program "$@": deletions and a creation while something is mounted in the instance, a creation after that."""


@pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "--map-root-user", "true"], check=False, capture_output=True).returncode != 0,
    reason="this host gives its users no mount namespaces",
)
def test_delete_of_instance_with_a_mount_in_it_names_the_way_out_until_it_is_taken(home):
    """A foreign mount is not ours to remove; once it is unmounted, the name is free without another command."""
    home.prepare()
    program = ["sh", "-c", MOUNTED, home.root, sys.executable, "-m", "interlock", "--log-format", "human"]
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", *program], check=False, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.splitlines()[:4]) == (0, ["6", "6", "6", "theirs"]), done.stderr
    left = f"{home.deleting('web')}/it"
    assert done.stderr.count(f"hint: umount {left}\n") == 3
    assert (
        done.stderr.count(f'remains of the former "web" are in the way: {left} could not be removed: a file system is ')
        == 2
    )
