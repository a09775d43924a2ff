"""`--host`: the program on this host, and a real sshd with another Interlock on the other side."""

import json
import os
import signal
import subprocess
import sys

import pytest

from interlock import Interlock, Phase, State

HANGS = '{"start": {"hang": true}}'


@pytest.fixture
def afar(interlock, other):
    """Return a function that runs the program for the other host."""
    return lambda *arguments, **options: interlock("--host", other.url, *arguments, **options)


@pytest.fixture
def there(other, monkeypatch):
    """Return the API on the other host's home, to check the results."""
    with monkeypatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(other.run))
        return Interlock(other.home)


@pytest.fixture
def starting(begin, there, other, until):
    """Return a function that begins a start on the other host, which never ends by itself, and waits for its work."""
    there.create("web", "tiny", driver="simulated")
    other.order(HANGS)

    def start(*options, **streams):
        process = begin("--host", other.url, *options, "start", "web", **streams)
        until(lambda: (operation := there.status("web").operation) and "simulated" in operation.step)
        return process

    return start


def test_life_of_an_instance_is_lived_on_the_other_host(afar, there, home):
    """Lock, journal and disk are on the other host; here not even a folder for instances is created."""
    for words in (("create", "web", "--template", "tiny"), ("start", "web"), ("stop", "web")):
        assert afar(*words).returncode == 0
    assert there.status("web").state is State.stopped
    assert afar("delete", "web").returncode == 0
    assert there.status("web").state is State.absent
    assert not home.instances.exists()


def test_streams_and_exit_code_are_those_of_the_other_host(afar, there):
    """Results are on stdout and messages on stderr, as for this host; a hint works as typed here."""
    there.create("web", "tiny", driver="simulated")
    there.start("web")
    done = afar("delete", "web", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["reference"] == "illegal-transition"
    assert "hint: interlock --host ssh://other stop web && interlock --host ssh://other delete web\n" in done.stderr
    assert json.loads(afar("can", "web", "delete", "--json").stdout)["hint"].startswith("interlock --host ssh://other ")


def test_environment_names_the_host_as_well(interlock, other, there):
    """A hint then needs no option. `--host local` selects this host."""
    there.create("web", "tiny", driver="simulated")
    env = {**os.environ, "INTERLOCK_HOST": other.url}
    assert "web" in interlock("list", env=env).stdout
    assert "hint: interlock inspect web\n" in interlock("list", "wbe", env=env).stderr
    assert interlock("--host", "local", "list", env=env).stdout == ""


def test_hint_for_another_program_is_typed_by_way_of_ssh(afar, other):
    """`chmod` must run on the host that has the files."""
    other.home.mkdir(mode=0o777)
    other.home.chmod(0o777)
    assert f"hint: ssh -t other 'chmod 700 {other.home}'\n" in afar("list").stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_signal_reaches_the_process_there(starting, there, until, number, code):
    """The remote work is undone before this program ends; a SIGKILL here looks there like a closed terminal."""
    process = starting()
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == code
    until(lambda: there.status("web").operation is None)
    assert list(there.history("web"))[-1].phase is Phase.failed
    if number != signal.SIGKILL:
        assert f"interrupted by {number.name}" in said


def test_broken_connection_is_said_and_calls_the_work_off(starting, other, there, until):
    """The exit code is 6 here; there the work is cancelled as if its terminal had been closed."""
    process = starting()
    other.end()
    _, said = process.communicate()
    assert process.returncode == 6
    assert "error: unreachable\n" in said
    assert "hint: interlock --host ssh://other list\n" in said
    until(lambda: there.status("web").operation is None)


def test_calls_share_one_connection(afar, other):
    """There is only one handshake."""
    for _ in range(3):
        assert afar("list").returncode == 0
    assert len(other.sessions()) <= 2  # a process that serves a user other than root has a privileged parent


@pytest.mark.slow
def test_standard_input_is_left_to_the_script(other):
    """Otherwise ssh would consume the lines that a shell loop reads."""
    script = f"printf 'a\\nb\\n' | while read -r word; do '{sys.executable}' -m interlock list && echo $word; done"
    env = {**os.environ, "INTERLOCK_HOST": other.url}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "a\nb\n"


def test_template_in_a_file_is_sent_with_its_bases(afar, other, there, tmp_path):
    """The instance is named after the file; nothing that was sent is left behind."""
    (tmp_path / "base.yaml").write_text("cpus: 3\n")
    (tmp_path / "mine.yaml").write_text("base: [./base.yaml, template:tiny]\n")
    assert afar("create", "./mine.yaml").returncode == 0
    assert there.status("mine").spec.cpus == 3
    assert [path.name for path in (other.run / "interlock").glob("sent-*")] == []


@pytest.mark.parametrize(
    "words", [("-t", "-"), *(pytest.param(words, marks=pytest.mark.slow) for words in (("-t-",), ("--template=-",)))]
)
def test_template_of_standard_input_is_sent(afar, there, words):
    """This host reads it, so the remote command can be cancelled like any other."""
    done = afar("create", "web", *words, input="base: template:tiny\ncpus: 3\n")
    assert (done.returncode, done.stderr.count("error")) == (0, 0), done.stderr
    assert there.status("web").spec.cpus == 3


def test_dash_that_is_no_template_leaves_standard_input_alone(afar, tmp_path):
    """The `-` of `template copy` is its target."""
    (tmp_path / "lines").write_text("a\nb\n")
    with (tmp_path / "lines").open() as lines:
        assert afar("template", "copy", "tiny", "-", stdin=lines).returncode == 0
        assert os.lseek(lines.fileno(), 0, os.SEEK_CUR) == 0


def test_file_is_sent_however_its_option_is_typed(afar, there, tmp_path):
    """Attached to the letter, after `=`, or as a path that is not normalized; other words stay as they are."""
    (tmp_path / "mine.yaml").write_text("base: template:tiny\ncpus: 3\n")
    (tmp_path / "more.yaml").write_text("cpus: 5\n")
    done = afar("create", "web", "-t./mine.yaml", "--set", "message=./mine.yaml.bak")
    assert (done.returncode, done.stderr.count("error")) == (0, 0), done.stderr
    assert (there.status("web").spec.cpus, there.status("web").spec.message) == (3, "./mine.yaml.bak")
    for words in (("--file", "./more.yaml", "--json"), ("--json", "--file=./more.yaml")):
        done = afar("edit", "web", *words)
        assert (done.returncode, there.status("web").spec.cpus) == (0, 5), done.stderr
        assert afar("edit", "web", "--cpus", "3").returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "up"),
        *(pytest.param(words, marks=pytest.mark.slow) for words in (("up", "--json"), ("up", "--timeout", "600"))),
    ],
)
def test_template_of_this_folder_is_sent_whatever_else_is_asked(afar, there, tmp_path, words):
    """`up` without a name uses the current folder of this host, not one of the other host."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "interlock.yaml").write_text("base: template:tiny\n")
    assert afar(*words, cwd=tmp_path / "web").returncode == 0
    assert there.status("web").state is State.running


def test_template_with_a_mistake_is_refused_here_with_its_place(afar, tmp_path):
    """The file to fix is on this host."""
    (tmp_path / "mine.yaml").write_text("cpus: many\n")
    done = afar("create", "./mine.yaml")
    assert done.returncode == 2
    assert "mine.yaml:1" in done.stderr


@pytest.mark.parametrize("file", ["shop.yaml", "-"])
def test_fleet_is_applied_there_by_a_file_here(afar, other, there, tmp_path, file):
    """Its templates are read here, in the folder of the file; a hint names the file as it was typed."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "base.yaml").write_text("cpus: 3\n")
    (tmp_path / "parts" / "mine.yaml").write_text("base: [./base.yaml, template:tiny]\nmessage: |\n  one\n  two\n")
    template = "./mine.yaml" if file == "-" else "parts/mine.yaml"
    text = f"fleet: shop\ninstances:\n- {{name: web, count: 2, template: {template}, set: {{message: '1e3'}}}}\n"
    (tmp_path / "shop.yaml").write_text(f"{text}- {{name: db, template: tiny, state: stopped}}\n")
    given = {"cwd": tmp_path}
    if file == "-":
        given = {"cwd": tmp_path / "parts", "input": (tmp_path / "shop.yaml").read_text()}

    before = afar("fleet", "status", file, **given)
    assert before.returncode == 3
    assert before.stderr.endswith(f"hint: interlock --host ssh://other fleet apply {file}\n")
    done = afar("fleet", "apply", file, "--yes", **given)
    assert done.returncode == 0, done.stderr
    assert afar("fleet", "status", file, **given).returncode == 0

    states = {status.name: (status.state, status.spec.cpus) for status in there.instances()}
    assert states["web-1"] == states["web-2"] == (State.running, 3)
    assert states["db"][0] in (State.created, State.stopped)
    assert there.status("web-1").spec.message == "1e3"
    assert [path.name for path in (other.run / "interlock").glob("sent-*")] == []


def test_fleet_with_a_mistake_is_refused_here_with_its_place(afar, there, tmp_path):
    """Nothing is done there; the place is in the file as it is here."""
    (tmp_path / "shop.yaml").write_text("fleet: shop\ninstances:\n- name: web\n  template: ./none.yaml\n")
    done = afar("fleet", "apply", "shop.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "shop.yaml:4:13: instances[0].template: " in done.stderr
    assert list(there.instances()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ssh-config", "web"), "ssh-config does not work on another host"),
        (("create", "web", "-t", "tiny", "--mount", "src"), "--mount src: the folder is on host ssh://other"),
        (("template", "copy", "tiny", "mine.yaml"), "would write the file on that host"),
    ],
)
def test_what_makes_no_sense_from_afar_is_refused_by_name(afar, words, said):
    """Nothing is asked of the other host."""
    done = afar(*words)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_host_without_interlock_says_so(afar, other):
    """The hint is the command that logs in to that host, to install it there."""
    (other.bin / "interlock").unlink()
    other.program("interlock-of-the-path", "exit 1")
    path = f"PATH={other.bin}:/usr/bin:/bin"
    config = other.folder / "sshd_config"
    config.write_text(config.read_text().replace(f"PATH={other.bin}:{os.environ['PATH'].partition(':')[2]}", path))
    other.end()
    other.begin()
    done = afar("list")
    assert (done.returncode, "error: no-interlock\n" in done.stderr) == (6, True), done.stderr
    assert "hint: ssh other\n" in done.stderr


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("echo 'Error: No such command' >&2; exit 2", "is not an Interlock that can be called from another host"),
        (
            """echo 'interlock-remote-call {"contract": 0, "version": "0.0.9"}' >&2; exit 6""",
            "has Interlock 0.0.9, which is not compatible with",
        ),
        ("""echo 'interlock-remote-call {"contract": 99, "version": "9.0"}' >&2; exit 6""", "upgrade the one here"),
    ],
    ids=["before hosts", "older", "newer"],
)
def test_version_that_does_not_fit_is_said(afar, other, program, said):
    """The error says what does not fit, and its hint upgrades the older one."""
    other.program("interlock", program)
    done = afar("list", "--json")
    assert done.returncode == 6
    assert json.loads(done.stdout)["error"]["reference"] == "version-mismatch"
    assert said in done.stderr


def test_newer_caller_is_refused_before_anything_is_done():
    """The called Interlock checks the contract too."""
    call = json.dumps({"contract": 99, "version": "9.0", "greet": True})
    done = subprocess.run(
        [sys.executable, "-m", "interlock", "remote-call", call, "list"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("interlock-remote-call {")


def test_words_of_a_login_script_do_not_disturb(afar, other):
    """The script's output comes before the greeting, and is dropped."""
    other.program("interlock", f'echo welcome >&2; exec {sys.executable} -m interlock "$@"')
    done = afar("list")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [
        (lambda other: other.end(), "ssh -v other true"),
        (lambda other: (other.folder / "authorized_keys").write_text(""), "ssh-copy-id other"),
        (lambda other: (other.client / "known_hosts").write_text(""), "ssh other true"),
    ],
    ids=["no answer", "no key", "unknown host"],
)
def test_way_that_does_not_lead_there_is_said_with_what_mends_it(afar, other, spoil, hint):
    """ssh asks no questions: whatever needs an answer fails."""
    spoil(other)
    done = afar("list", "--json")
    assert done.returncode == 6
    error = json.loads(done.stdout)["error"]
    assert (error["reference"], error["hint"]) == ("unreachable", hint)


def test_all_hosts_are_listed_and_one_that_does_not_answer_is_marked(interlock, there, vms, tmp_path):
    """The other hosts are shown; the exit code says that one is missing."""
    vms.create("mine", "tiny", driver="simulated")
    there.create("web", "tiny", driver="simulated")
    (tmp_path / "config" / "interlock").mkdir(parents=True)
    (tmp_path / "config" / "interlock" / "hosts.yaml").write_text("gone: ssh://127.0.0.1:1\nlab: ssh://other\n")
    done = interlock("list", "--all-hosts")
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    assert (done.returncode, rows) == (6, [["HOST", "NAME"], ["local", "mine"], ["gone", "-"], ["lab", "web"]])
    records = list(map(json.loads, interlock("list", "--all-hosts", "--json").stdout.splitlines()))
    assert [(record["host"], record["name"]) for record in records] == [
        ("local", "mine"),
        ("gone", None),
        ("lab", "web"),
    ]
    assert records[1]["error"]["reference"] == "unreachable"


@pytest.mark.slow
def test_named_host_has_a_home_and_a_program_of_its_own(interlock, other, tmp_path):
    """hosts.yaml gives its home in the URL, and its program."""
    home = tmp_path / "another home"
    other.program("elsewhere", f'INTERLOCK_DRIVER=simulated exec {sys.executable} -m interlock "$@"')
    (tmp_path / "config" / "interlock").mkdir(parents=True)
    (tmp_path / "config" / "interlock" / "hosts.yaml").write_text(
        f"lab:\n  url: 'ssh://other{str(home).replace(' ', '%20')}'\n  program: {other.bin}/elsewhere\n"
    )
    assert interlock("--host", "lab", "create", "web", "-t", "tiny").returncode == 0
    assert Interlock(home).status("web").state is State.created


def test_terminal_there_is_like_the_one_here(other, there, on_terminal):
    """Colours and exit code are the same, and ssh adds no message."""
    there.create("web", "tiny", driver="simulated")
    there.start("web")
    code, text = on_terminal("--host", other.url, "list")
    assert (code, "\x1b[32mrunning" in text) == (0, True)
    code, text = on_terminal("--host", other.url, "delete", "web")
    assert (code, "error: illegal-transition" in text, "onnection" in text) == (3, True, False)


def test_host_that_names_itself_is_no_circle(afar, other):
    """The caller has already chosen this host; INTERLOCK_HOST in its environment is ignored."""
    other.program("interlock", f'INTERLOCK_HOST={other.url} exec {sys.executable} -m interlock "$@"')
    done = afar("list")
    assert (done.returncode, done.stderr) == (0, "")


def test_shell_is_offered_names_of_the_other_host(interlock, afar, there, vms):
    """While a connection is open, the other host's names are offered, and never this host's."""
    there.create("far", "tiny", driver="simulated")
    vms.create("near", "tiny", driver="simulated")

    def offered(line: str, **more: str) -> str:
        place = str(len(line.split(" ")) - 1)
        asked = {"_INTERLOCK_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": place, **more}
        return interlock(env={**os.environ, **asked}).stdout

    assert offered("interlock --host ssh://other start ") == ""
    assert afar("list").returncode == 0
    assert offered("interlock --host ssh://other start ") == "plain,far\n"
    assert offered("interlock --host=ssh://other start ") == "plain,far\n"
    assert offered("interlock start ", INTERLOCK_HOST="ssh://other") == "plain,far\n"
    assert offered("interlock --host local start ", INTERLOCK_HOST="ssh://other") == "plain,near\n"
    assert offered("interlock --host ssh://other sta") == "plain,start\n"
