"""Names that people know from other programs, and command lines that leave something out."""

import pytest

from interlock.fsm.states import State

SIMULATED = ("--driver", "simulated")
TEMPLATE = "images: [{location: 'build:tiny', arch: x86_64}]\narch: x86_64\n"


def test_rm_deletes_and_speaks_of_delete(interlock, bring, state):
    """`rm` is the row `delete`, in its messages and its refusal."""
    bring(State.running)
    refused = interlock("rm", "web")
    assert (refused.returncode, "hint: interlock stop web && interlock delete web" in refused.stderr) == (3, True)
    done = interlock("rm", "-f", "web")
    assert (done.returncode, 'deleted "web"' in done.stderr, " rm " in done.stderr) == (0, True, False)
    assert state() == "absent"


def test_down_stops_and_ps_shows_what_runs(interlock, bring, state):
    """`ps` leaves out instances that do not run; `ps -a` lists all."""
    bring(State.running)
    assert interlock("ps", "-q").stdout == "web\n"
    assert interlock("down", "web").returncode == 0
    assert state() == "stopped"
    assert interlock("ps", "-q").stdout == ""
    assert interlock("ps", "-aq").stdout == "web\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("rm", "-r", "web"), "No such option '-r'"),
        (("exec", "web"), "Missing argument 'COMMAND...'"),
        (("images", "-q"), "No such option '-q'"),
        (("image", "rm"), "Missing argument 'NAME'"),
    ],
)
def test_flag_that_does_not_exist_here_gets_one_line_and_the_real_help(interlock, words, error):
    """The hint uses the command's own name."""
    done = interlock(*words)
    first, message, hint = done.stderr.splitlines()
    assert (done.returncode, first) == (2, "error: usage")
    assert message.replace("No such option: ", "No such option ").replace(" -", " '-").rstrip("'") == error.rstrip("'")
    assert hint in {f"hint: interlock {it} --help" for it in ("delete", "run", "image list", "image delete")}


@pytest.mark.parametrize(
    ("word", "name"), [("tiny", "tiny"), ("template:tiny", "tiny"), ("./web.yaml", "web"), ("web.yaml", "web")]
)
def test_create_of_a_template_alone_is_called_after_it_which_is_said(interlock, vms, tmp_path, word, name):
    """The argument is a built-in's name or a locator; --template is not needed."""
    (tmp_path / "web.yaml").write_text(TEMPLATE)
    done = interlock("create", word, *SIMULATED)
    assert (done.returncode, f'the instance is called "{name}"' in done.stderr) == (0, True)
    assert vms.status(name).state == "created"


@pytest.mark.parametrize(
    ("words", "files", "shown"),
    [
        ((), [], ["hint: interlock create web --template debian"]),
        (("web",), [], ["hint: interlock create web --template debian"]),
        (("web",), ["web.yaml"], ["  | interlock create ./web.yaml", "  | interlock create web --template debian"]),
        (("tiny",), ["tiny.yml"], ["  | interlock create template:tiny", "  | interlock create ./tiny.yml"]),
        (("tiny", "web"), [], ["hint: interlock create web --template tiny"]),
        (("web", "./a b.yaml"), [], ["hint: interlock create web --template './a b.yaml'"]),
        (("tiny", "debian"), [], ["hint: interlock create --help"]),
        (("a", "-t", "tiny", "b"), [], ["hint: interlock create --help"]),
    ],
)
def test_create_of_what_could_mean_two_things_is_refused_with_what_to_type(
    interlock, vms, tmp_path, words, files, shown, hints
):
    """Nothing is created, and each suggested command can be typed."""
    for name in files:
        (tmp_path / name).write_text(TEMPLATE)
    done = interlock("create", *words, *SIMULATED)
    assert done.returncode == 2
    assert done.stderr.splitlines()[2:] == shown
    hints |= {line[4:] for line in shown if line.startswith("  | ")}
    assert list(vms.instances()) == []


def test_create_of_a_mistyped_template_says_which_there_is(interlock):
    """The answer to a typing mistake is the nearest name."""
    assert 'did you mean "debian"?' in interlock("create", "debain", *SIMULATED).stderr


@pytest.mark.parametrize("template", ["interlock.yaml", "lima.yaml"])
def test_up_in_a_folder_with_a_template_uses_it_and_the_folders_name(interlock, vms, tmp_path, template):
    """Both transitions run, as with --template; the second time the instance starts without reading the template."""
    folder = tmp_path / "My App"
    folder.mkdir()
    (folder / template).write_text(TEMPLATE)
    done = interlock("up", *SIMULATED, cwd=folder)
    assert (done.returncode, 'the instance is called "my-app"' in done.stderr) == (0, True), done.stderr
    assert vms.status("my-app").state == "running"
    (folder / template).write_text("nonsense")
    assert interlock("up", *SIMULATED, cwd=folder).returncode == 0


def test_up_never_looks_above_the_folder_and_never_guesses_between_two(interlock, vms, tmp_path, hints):
    """Without a template the hint is what to type; with two templates, both commands are shown."""
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "lima.yaml").write_text(TEMPLATE)
    refused = interlock("up", cwd=below)
    assert (refused.returncode, "hint: interlock up web --template debian" in refused.stderr) == (2, True)
    for name in ("lima.yaml", "interlock.yaml"):
        (below / name).write_text(TEMPLATE)
    calls = [line[4:] for line in interlock("up", cwd=below).stderr.splitlines() if line.startswith("  | ")]
    assert calls == [f"interlock up below --template ./{name}" for name in ("interlock.yaml", "lima.yaml")]
    hints |= set(calls)
    assert list(vms.instances()) == []


def test_up_of_a_path_is_called_after_it_and_a_bare_word_is_always_a_name(interlock, vms, tmp_path):
    """`up tiny` creates nothing: it could be a mistyped name of an instance."""
    (tmp_path / "web.yaml").write_text(TEMPLATE)
    assert interlock("up", "./web.yaml", *SIMULATED).returncode == 0
    assert interlock("up", "-t", "tiny", *SIMULATED).returncode == 0
    assert [(it.name, it.state) for it in vms.instances()] == [("tiny", "running"), ("web", "running")]
    interlock("rm", "-f", "tiny")
    assert interlock("up", "tiny", *SIMULATED).returncode == 4


def test_start_and_shell_without_a_name_mean_the_only_instance_at_a_terminal(on_terminal, bring, state, vms):
    """The output names the instance; with a second instance the name is required."""
    assert "interlock create web --template debian" in on_terminal("start")[1]
    bring(State.created)
    code, said = on_terminal("start")
    assert (code, 'start "web", the only instance' in said, state()) == (0, True, "running")
    code, said = on_terminal("shell")
    assert 'shell "web", the only instance' in said
    assert 'driver "simulated" has no shell' in said
    vms.create("db", "tiny", driver="simulated")
    code, said = on_terminal("start")
    assert (code, "there are 2" in said, "interlock list" in said) == (2, True, True)


@pytest.mark.parametrize("command", ["start", "shell", "ssh"])
def test_name_is_never_left_out_in_a_script(interlock, bring, state, command):
    """The meaning of a script must not depend on which instances exist."""
    bring(State.created)
    refused = interlock(command)
    assert (refused.returncode, "a name can be left out only at a terminal" in refused.stderr) == (2, True)
    assert state() == "created"
