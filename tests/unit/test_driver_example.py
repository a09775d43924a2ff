"""The driver of docs/drivers.md passes the suite and can be installed; the suite names what a broken one does wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import venv
from contextlib import suppress
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "drivers.md"
FILES = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
DRIVER, SUITE = "web_driver.py", "test_web_driver.py"

pytestmark = pytest.mark.slow


def written(folder: Path) -> Path:
    """Write the files of the page into `folder`, as a reader would."""
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_text(content)
    return folder


def conformance(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the page's suite in `folder`."""
    alone = ["-p", "no:cacheprovider", "-p", "no:randomly", f"--basetemp={folder}/tmp"]
    command = [sys.executable, "-m", "pytest", "-q", *alone, *options, SUITE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    for process in Path("/proc").glob("[0-9]*"):  # what a broken `kill` left alive
        with suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                os.kill(int(process.name), signal.SIGKILL)
    return done


@pytest.fixture
def environment(tmp_path):
    """Return a virtual environment in which Interlock is installed and the driver is not."""
    place = tmp_path / "venv"
    venv.create(place, symlinks=True)
    site = next(place.glob("lib/python*/site-packages"))
    ours = sysconfig.get_path("purelib")
    (site / "interlock.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    return place


def test_page_shows_a_complete_driver_of_under_eighty_lines():
    """The driver is short enough for its author to keep all of it in mind."""
    assert FILES.keys() == {DRIVER, "pyproject.toml", SUITE}
    assert len(FILES[DRIVER].splitlines()) < 80


def test_page_is_linted(tmp_path):
    """The page follows the project's lint rules, because authors copy it."""
    folder = written(tmp_path / "example")
    settings = ["--config", PAGE.parents[1] / "pyproject.toml", "--ignore", "INP001,ARG002,PLR6301,I001"]
    for arguments in (["check", *settings, DRIVER], ["format", "--check", *settings[:2], DRIVER, SUITE]):
        command = [sys.executable, "-m", "ruff", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_example_passes_the_suite(tmp_path):
    """The driver on the page fulfils the contract."""
    done = conformance(written(tmp_path / "example"))
    assert done.returncode == 0, done.stdout


def test_example_is_installed_and_used_from_the_command_line(environment, home, tmp_path):
    """The driver is a package of its own, installed offline; its instance is created, started, stopped and deleted."""
    folder = written(tmp_path / "example")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        environment,
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*install, "--no-deps", "--no-index", "--no-build-isolation", folder], check=True, timeout=300)

    def interlock(*arguments):
        command = [environment / "bin" / "python", "-m", "interlock", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    interlock("create", "site", "--driver", "web", "--template", "tiny")
    (home.directory("site") / "www" / "index.html").write_text("hello")
    interlock("start", "site")
    (status,) = map(json.loads, interlock("list", "--format", "json").splitlines())
    assert (status["state"], status["driver"]) == ("running", "web")
    assert Path(f"/proc/{status['pid']}/cmdline").read_bytes().split(b"\0")[3] == b"http.server"
    assert "Serving HTTP on 127.0.0.1" in interlock("logs", "site")
    interlock("stop", "site")
    assert interlock("inspect", "site").count("stopped")
    interlock("delete", "site")
    assert not os.path.lexists(home.directory("site"))


BROKEN = {  # the test that catches it → the right code, the wrong code, and the message for the author
    "test_kill_ends_it_and_repeats_safely": (
        'self._end(site, Deadline(0), "killed")',
        "site.directory.exists()",
        "after kill, observe must say that nothing is alive",
    ),
    "test_start_without_time_raises_deadline_error": (
        "while not deadline.passed:",
        "while True:",
        "start with Deadline(0) must raise DeadlineError: ask deadline.passed before it returns",
    ),
    "test_start_without_boot_starts_nothing": (
        "if boot and lock",
        "if lock",
        "start(boot=False) of a machine that is down must raise DriverError, and start nothing",
    ),
    "test_start_reports_its_steps_and_is_alive": (
        'report("waiting for the server")',
        "pass",
        "start must say its steps: report('waiting for the guest')",
    ),
    "test_stop_ends_it_and_says_how": (
        '"stopped") or "was',
        '"stopped") and "was',
        "stop returned 'was not running', but the exit reason that observe gives is 'stopped'",
    ),
    "test_reset_leaves_a_machine_that_starts": (
        "(site.directory / REASON).unlink(missing_ok=True)",
        "pass",
        "reset must forget why the machine ended; observe says 'killed'",
    ),
    "test_copied_directory_holds_no_live_machine": (
        "        if not seen.alive:",
        "        if not _text(site.directory / REASON).startswith('killed or'):",
        "in a copy of a live machine's directory, observe must say that nothing is alive",
    ),
    "test_check_refuses_what_the_driver_does_not_honour": (
        "    def create(",
        "    def check(self, spec):\n        pass\n\n    def create(",
        "check accepts a spec with accelerator, which abilities.honours does not name: raise HostError",
    ),
    "test_abilities_name_fields_of_the_contract": (
        "shell=False)",
        'shell=False, honours=frozenset({"mount"}))',
        "abilities.honours names ['mount']; contract.DEMANDS has ['accelerator'",
    ),
}


@pytest.mark.parametrize("catcher", BROKEN)
def test_broken_example_is_caught_in_words_that_lead_its_author(tmp_path, catcher):
    """Each mistake fails a test that says what the contract asks for, not merely that something is False."""
    right, wrong, words = BROKEN[catcher]
    folder = written(tmp_path / "example")
    assert right in FILES[DRIVER]
    (folder / DRIVER).write_text(FILES[DRIVER].replace(right, wrong))
    done = conformance(folder, "-k", catcher)
    assert (done.returncode, words in done.stdout) == (1, True), done.stdout
