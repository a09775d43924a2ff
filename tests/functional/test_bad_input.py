"""Invalid input is refused with a reference and an exit code: no traceback, and nothing changes on disk."""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock import Interlock, State, Wishes
from interlock import __main__ as program
from interlock.errors import BY_REFERENCE, HostError, UsageError

BOUNDED = settings(
    max_examples=60,
    deadline=None,  # the machine may be busy
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

CREATE = ("create", "-t", "tiny", "--driver", "simulated")
EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b2J\u202e\x00\r"
"""Characters that a terminal acts on: a title, a colour, a C1 control, a change of direction, a return."""


class Ended(NamedTuple):
    """The result of one run of the program."""

    code: int
    stdout: bytes
    stderr: str


def run(*arguments: str, stdin: bytes = b"", **environment: str) -> Ended:
    """Run the program on `arguments` in this process, and return how it ended."""
    stdout = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    stderr = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.multiple(
            sys, argv=["interlock", *arguments], stdin=io.TextIOWrapper(io.BytesIO(stdin)), stdout=stdout, stderr=stderr
        ),
        pytest.raises(SystemExit) as ended,
    ):
        sys.exit(program.run())
    return Ended(ended.value.code, stdout.buffer.getvalue(), stderr.buffer.getvalue().decode())


def check(ended: Ended) -> Ended:
    """Return `ended` if it ended as documented: done, or refused with a reference that matches the exit code."""
    assert "Traceback" not in ended.stderr
    if ended.code == 0:
        assert "error: " not in ended.stderr
    elif ended.stderr.startswith("{"):
        error = json.loads(ended.stderr.splitlines()[-1])
        assert ended.code == error["exit_code"] == BY_REFERENCE[error["reference"]].exit_code != 1
    else:
        reference = re.findall(r"(?:^error: |\breference=)([a-z-]+)", ended.stderr, re.MULTILINE)[-1]
        assert ended.code == BY_REFERENCE[reference].exit_code != 1
    return ended


def tree(folder: Path) -> dict[str, object]:
    """Return everything in `folder`: the target of each link, the content of each file."""
    return {
        str(path.relative_to(folder)): path.readlink()
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Fail if the block changes anything in `folder`."""
    before = tree(folder)
    yield
    assert tree(folder) == before


# Arguments.

WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NAMES = st.one_of(
    WORDS,
    st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,70}\Z"),
    st.sampled_from(["../x", "/etc", ".", "..", ".creating", ".deleting", "-rf", "w\u0435b", "a/b"]),
)
READING = ["list", "inspect", "history", "can", "diagram", "logs", "shell"]
TRUE_OF_ABSENT = ["can", "diagram", "delete"]
"""Commands that also answer about a name that nothing has."""
MOVING = ["stop", "kill", "restart", "reset", "delete", "protect", "unprotect", "repair"]


@BOUNDED
@given(
    command=st.sampled_from(READING + MOVING),
    name=NAMES.filter(lambda name: name != "web" and not name.isupper()),  # in a hint it would look like a placeholder
)
def test_name_of_anything_is_refused_or_not_there(bring, home, command, name):
    """A name reaches only its own instance, and nothing outside the instances' folder."""
    if not home.root.exists():
        bring(State.stopped)
    with unchanged(home.root.parent):
        ended = check(run(command, "--", name))
    assert ended.code in ((0, 2) if command in TRUE_OF_ABSENT else (2, 4))


@BOUNDED
@given(name=st.sampled_from(["../x", "/x", ".x", "-x", "x/y", "", "x\n", "x" * 64, "\u0435", "\udcff", "x\0"]))
def test_create_with_a_name_that_leads_elsewhere_makes_nothing(home, name):
    """A bad name is refused before any folder is made; an empty name is refused too, not taken for a missing one."""
    with unchanged(home.root.parent):
        assert check(run(*CREATE, "--", name)).code == 2


FLAGS = {
    "--memory": ["-1", "0", "1.5", "1EiB", "65TiB", "1" + "0" * 400, "9" * 5000, "9" * 5000 + "GiB", "nan", "inf", "²"],
    "--disk": ["-1", "0", "0.5", "1EiB", "9PiB", "1" + "0" * 400, "nan", "1e400", "\u0661GiB"],
    "--cpus": ["-1", "0", "1025", "1.5", "nan", "9" * 5000],
    "--user": ["", "a b", "a\nProxyCommand x", "-x", "../..", "x" * 33, "Root", "\udcff"],
    "--arch": ["vax", ""],
    "--format": ["xml"],
}


@pytest.mark.parametrize(("flag", "value"), [(flag, value) for flag, values in FLAGS.items() for value in values])
def test_flag_beyond_sense_is_usage(home, flag, value):
    """Impossible sizes are refused before anything is created."""
    with unchanged(home.root.parent):
        assert check(run(*CREATE, "web", f"{flag}={value}")).code == 2


@pytest.mark.parametrize("value", ["nan", "-1", "-inf", "x", "1" * 5000])
@pytest.mark.parametrize("command", ["start", "stop", "restart"])
def test_timeout_beyond_sense_is_usage_or_for_ever(bring, home, command, value):
    """Negative and non-numeric timeouts are refused; an enormous one never expires."""
    bring(State.created)
    with unchanged(home.instances) if value != "1" * 5000 else mock.MagicMock():
        assert check(run(command, "web", f"--timeout={value}")).code == (0 if value == "1" * 5000 else 2)


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(cpus=0),
        Wishes(memory_bytes=-1),
        Wishes(disk_bytes=10**400),
        Wishes(user="a\nb"),
        Wishes(start_timeout_s=-1),
    ],
    ids=str,
)
def test_wishes_of_a_program_are_held_to_the_same(home, wishes):
    """The API refuses what the command line refuses."""
    with unchanged(home.root.parent), pytest.raises(UsageError):
        Interlock().create("web", "tiny", wishes, driver="simulated")


TEMPLATES = {
    "/dev/zero": 2,
    "/": 2,
    "./x\0": 2,
    "./" + "x" * 5000: 2,
    "~nobody-of-this-name/x.yaml": 4,
    "\udcff.yaml": 4,
    "template:../x": 4,
    "template:": 4,
    "\x1b[31m": 4,
}


@pytest.mark.parametrize(("template", "code"), TEMPLATES.items(), ids=lambda value: repr(value)[:20])
def test_invalid_template_leaves_nothing(template, code):
    """An invalid template creates nothing, and the message contains no control characters."""
    ended = check(run("create", "web", "-t", template, "--driver", "simulated"))
    assert (ended.code, "\x1b" in ended.stderr, list(Interlock().instances())) == (code, False, [])


@BOUNDED
@given(text=st.binary(max_size=200))
def test_template_of_any_bytes_through_standard_input_leaves_nothing(text):
    """Random bytes are an `invalid-template` error, and nothing is created."""
    ended = check(run("create", "web", "-t", "-", "--driver", "simulated", stdin=text))
    assert (ended.code, list(Interlock().instances())) == (2, [])


@pytest.mark.parametrize(
    "arguments",
    [
        (b"start", b"\xff"),
        (b"\xff",),
        (b"--log-format=\xff", b"list"),
        (*(word.encode() for word in CREATE[:1]), b"x", b"-t", b"\xff.yaml", b"--driver", b"simulated"),
        (b"list", b"--format", b"\xfe\xff"),
        (b"shell", b"web", b"--", b"\xff"),
    ],
)
def test_bytes_that_are_no_text_are_refused_by_the_real_process(tmp_path, arguments):
    """Arguments are bytes to the kernel; bytes that are not valid text are refused like any other bad argument."""
    done = subprocess.run(
        [sys.executable, "-m", "interlock", *arguments], cwd=tmp_path, capture_output=True, check=False, timeout=60
    )
    assert check(Ended(done.returncode, done.stdout, done.stderr.decode())).code in (2, 4)


# Environment variables.


@pytest.mark.parametrize("value", ["/dev/null", "/dev/null/x", "/proc/x", "/" + "x" * 300, "/x" * 3000])
@pytest.mark.parametrize("command", [("list",), ("inspect", "web"), ("image", "list"), (*CREATE, "web"), ("doctor",)])
def test_home_that_cannot_be_is_the_hosts_fault(value, command):
    """A home that cannot be a folder is an error of the host; a command that only looks may find nothing instead."""
    ended = check(run(*command, INTERLOCK_HOME=value))
    assert ended.code in (0, 4, 6)


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "XDG_DATA_HOME"])
@pytest.mark.parametrize("value", ["relative", ".", "~/x", ""])
def test_relative_xdg_directory_counts_as_not_set(tmp_path, monkeypatch, variable, value):
    """Nothing is created in the current directory: a later call from another directory would not find it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("INTERLOCK_HOME", "")
    with unchanged(tmp_path):
        assert check(run("list", **{variable: value})).code == 0
    assert check(run(*CREATE, "web", **{variable: value})).code == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"run", "user"}
    assert check(run("delete", "web", **{variable: value})).code == 0


def test_home_whose_name_is_no_text_can_be_used(tmp_path):
    """A folder's name is bytes: every command works in a home whose name is not UTF-8, and JSON stays valid."""
    home = f"{tmp_path}/h\udcff"
    for command in ((*CREATE, "web"), ("start", "web"), ("list",), ("history", "web"), ("inspect", "web")):
        assert check(run(*command, INTERLOCK_HOME=home)).code == 0
    listed = check(run("list", "--format", "json", INTERLOCK_HOME=home)).stdout
    assert json.loads(listed)["directory"] == f"{home}/instances/web"
    assert check(run("list", "--format", "yaml", INTERLOCK_HOME=home)).code == 0


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("INTERLOCK_LOG_FORMAT", "xml", 2),
        ("INTERLOCK_LOG_FORMAT", "\udcff", 2),
        ("INTERLOCK_LOG_FORMAT", "", 0),
        ("INTERLOCK_DEBUG", "perhaps", 2),
        ("INTERLOCK_DEBUG", "", 0),
        ("INTERLOCK_SIMULATED", "{", 2),
        ("INTERLOCK_SIMULATED", '{"start": {"error": 3}}', 6),
        ("INTERLOCK_SIMULATED", '{"start": {"error": {"a": "\\u001b[31m"}}}', 6),
    ],
)
def test_variable_of_anything_is_refused_or_counts_as_not_set(bring, variable, value, code):
    """An invalid variable is a usage error; an empty one counts as unset."""
    bring(State.created)
    ended = check(run("start", "web", **{variable: value}))
    assert (ended.code, "\x1b" in ended.stderr) == (code, False)


# Files in the home.


@pytest.mark.parametrize("command", [("list",), ("list", "--format", "json"), ("inspect", "web"), ("history", "web")])
def test_list_shows_what_a_hostile_journal_says_without_its_controls(bring, home, command):
    """Text that a guest got into the journal neither controls the terminal nor cuts the listing short."""
    bring(State.stopped)
    journal = home.directory("web") / "journal.jsonl"
    line = json.loads(journal.read_bytes().splitlines()[-1])
    error = {"reference": EVIL, "message": EVIL, "hint": EVIL, "details": [EVIL]}
    hostile = {**line, "seq": line["seq"] + 1, "phase": "failed", "dest": "running", "detail": EVIL + "\ud800"}
    journal.write_bytes(
        journal.read_bytes() + json.dumps({**hostile, "trigger": "start", "error": error}).encode() + b"\n"
    )
    shown = check(run(*command)).stdout.decode()
    assert (set(shown) & set("\x1b\x07\x9b\u202e\x00\r"), "web" in shown or "start" in shown) == (set(), True)


@pytest.mark.parametrize("log_format", ["human", "logfmt", "json"])
def test_error_of_a_hostile_driver_is_printed_without_its_controls(bring, log_format):
    """Messages of other programs are stripped of control characters in every format."""
    bring(State.created)
    orders = json.dumps({"start": {"error": EVIL}})
    ended = check(run("--log-format", log_format, "start", "web", INTERLOCK_SIMULATED=orders))
    assert (ended.code, set(ended.stderr) & set("\x1b\x07\x9b\u202e\x00\r")) == (6, set())


@pytest.mark.parametrize("kept", [1, 2])
def test_journal_that_lost_the_end_of_create_is_damage_and_costs_nothing(bring, home, kept):
    """A named instance is past its creation: a journal that ends in `create` is damaged, not unfinished."""
    bring(State.stopped)
    journal = home.directory("web") / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:kept]))
    with unchanged(home.instances):
        assert b"damaged" in check(run("list")).stdout
        assert check(run("start", "web")).code == 8
        assert check(run("delete", "web")).code == 8
    assert check(run("delete", "--force", "web")).code == 0


@pytest.mark.parametrize("target", ["elsewhere", "nowhere", "web"])
@pytest.mark.parametrize("name", ["web", ".creating/web", ".deleting/web"])
def test_link_out_of_the_home_is_removed_and_not_followed(bring, home, tmp_path, name, target):
    """`delete --force` removes a link but never its target; every other command leaves both alone."""
    bring(State.stopped)
    elsewhere = tmp_path / "elsewhere"
    home.directory("web").rename(elsewhere)
    (home.instances / name).symlink_to(tmp_path / target if target != "web" else target)
    with unchanged(elsewhere):
        for command in (("list",), ("inspect", "web"), ("reset", "web"), ("delete", "--force", "web")):
            check(run(*command))
        assert tree(home.instances) == {".creating": None, ".deleting": None}
    assert check(run(*CREATE, "web")).code == 0


@pytest.mark.parametrize("folder", ["instances", "locks"])
def test_folder_of_the_home_may_be_a_link_of_its_owners(bring, home, tmp_path, folder):
    """Owners may keep instances on a larger disk: the link stays, and an instance's whole life works behind it."""
    bring(State.absent)
    home.prepare()
    (home.root / folder).rename(tmp_path / "larger")
    (home.root / folder).symlink_to(tmp_path / "larger")
    for command in ((*CREATE, "web"), ("start", "web"), ("delete", "--force", "web")):
        assert check(run(*command)).code == 0
    assert (home.root / folder).is_symlink()


@pytest.mark.parametrize("place", ["root", "runtime"])
@pytest.mark.parametrize("command", [("list",), ("start", "web"), ("shell", "web"), ("logs", "web"), ("delete", "web")])
def test_place_that_others_can_write_to_is_refused_by_every_command(bring, home, place, command):
    """A home or runtime folder that others can write to is refused by every command; the hint fixes it."""
    bring(State.stopped)
    path = getattr(home, place)
    path.chmod(0o770)
    with unchanged(home.root):
        ended = check(run(*command))
    assert (ended.code, ended.stderr.splitlines()[-1]) == (6, f"hint: chmod 700 {path}")
    subprocess.run(["sh", "-c", ended.stderr.splitlines()[-1].removeprefix("hint: ")], check=True)
    assert check(run("list")).code == 0


def test_link_of_somebody_else_in_place_of_the_runtime_is_refused(home, monkeypatch):
    """A link in /tmp that belongs to another user is refused, even if it leads to our folder."""
    home.prepare()
    home.runtime.rmdir()
    home.runtime.symlink_to(home.root)
    seen = os.stat_result([0o120777, 0, 0, 1, 12345, 0, 0, 0, 0, 0])
    monkeypatch.setattr(Path, "lstat", lambda path: seen if path == home.runtime else os.lstat(path))
    with pytest.raises(HostError, match="belongs to uid 12345"):
        home.check()


def test_secrets_stand_in_no_output_and_no_log(home):
    """A template's script appears nowhere: not in create's output, not in an error about it, not in any record."""
    secret = "hunter2" * 20
    good = f"images: [{{location: 'build:tiny', arch: x86_64}}]\nprovision: [{{script: 'x {secret}'}}]\n".encode()
    bad = good.replace(b"{script: 'x ", b"{script: [").replace(b"'}]", b"]}]")
    said = []
    for text in (good, bad):
        ended = check(run("--log-format=json", "create", "web", "-t", "-", "--driver", "simulated", stdin=text))
        said += [ended.stdout.decode(), ended.stderr]
    said += [
        check(run(*command, "--format", "json")).stdout.decode() for command in (("inspect", "web"), ("history", "web"))
    ]
    kept = [path.read_text() for path in home.root.rglob("*") if path.is_file()]
    assert [text for text in said + kept if secret in text] == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_everything_is_private_whatever_the_umask(home, umask):
    """After a whole life with failures, only the owner can access any file or folder; the umask is unchanged."""
    before = os.umask(umask)
    try:
        for command in ((*CREATE, "web"), ("start", "web"), ("protect", "web"), (*CREATE, "db"), ("stop", "web")):
            check(run(*command))
        after = os.umask(umask)
    finally:
        os.umask(before)
    everything = [path for root in (home.root, home.runtime) for path in (root, *root.rglob("*"))]
    assert after == umask
    assert {path.lstat().st_mode & 0o777 for path in everything} == {0o600, 0o700}
    assert [path for path in everything if path.lstat().st_mode & 0o077] == []


def test_nothing_is_left_in_the_folder_for_temporary_files(bring):
    """No temporary file is left in /tmp."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(tempfile, "tempdir", folder):
        bring(State.running)
        check(run("delete", "--force", "web"))
        assert list(Path(folder).iterdir()) == []
