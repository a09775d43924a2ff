"""`interlock create`: turns a template into an instance, and starts nothing."""

import json

import pytest

CREATE = ("create", "web", "--template", "tiny", "--driver", "simulated")


def test_create_from_builtin_is_created_and_not_started(interlock, state, history):
    """One transition, and the guest has never run."""
    done = interlock(*CREATE)
    assert (done.returncode, done.stdout) == (0, "")
    assert state() == "created"
    assert history() == [("create", "done")]


def test_create_as_json_prints_the_outcome(interlock):
    """A program reads what came of it on stdout."""
    outcome = json.loads(interlock(*CREATE, "--format", "json").stdout)
    assert outcome.pop("elapsed_s") >= 0
    assert outcome == {"name": "web", "trigger": "create", "state": "created", "changed": True, "detail": None}


def test_create_options_overrule_the_template(interlock, vms):
    """What was asked for is what the instance has."""
    interlock(*CREATE, "--cpus", "3", "--memory", "2GiB", "--disk", "5G", "--user", "anna", "--arch", "aarch64")
    spec = vms.status("web").spec
    assert (spec.cpus, spec.memory_bytes, spec.disk_bytes) == (3, 2 << 30, 5 << 30)
    assert (spec.user, spec.arch) == ("anna", "aarch64")


@pytest.mark.parametrize(
    ("template", "name"), [("tiny", "tiny"), ("template:tiny", "tiny"), ("./my-own.yaml", "my-own")]
)
def test_create_without_name_is_named_after_its_template(interlock, vms, tmp_path, template, name):
    """A built-in gives its name, a file its name without the suffix."""
    (tmp_path / "my-own.yaml").write_text("images: [{location: 'build:tiny', arch: x86_64}]\narch: x86_64\n")
    assert interlock("create", "-t", template, "--driver", "simulated").returncode == 0
    assert vms.status(name).state == "created"


def test_create_from_standard_input_needs_a_name(interlock):
    """What comes through a pipe has no name to give; with one, it is as good as a file."""
    text = "images: [{location: 'build:tiny', arch: x86_64}]\n"
    refused = interlock("create", "-t", "-", "--driver", "simulated", input=text)
    assert (refused.returncode, "hint: interlock create NAME -t -" in refused.stderr) == (2, True)
    assert interlock("create", "web", "-t", "-", "--driver", "simulated", input=text).returncode == 0


def test_create_of_existing_instance_is_refused_whatever_its_template(interlock, history):
    """An existing instance need not be the one that was asked for."""
    interlock(*CREATE)
    refused = interlock("create", "web", "-t", "debian", "--driver", "simulated")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert history() == [("create", "done")]


def test_create_from_template_with_mistakes_tells_all_and_leaves_nothing(interlock, tmp_path, state):
    """All mistakes at once, each with its place, and no trace of an instance."""
    (tmp_path / "bad.yaml").write_text("images: []\ncpus: 0\nzzz: 1\n")
    refused = interlock("create", "web", "-t", "./bad.yaml", "--driver", "simulated")
    assert refused.returncode == 2
    assert [line.split(": ")[1] for line in refused.stderr.splitlines() if line.startswith("  | ")] == [
        *("images", "cpus", "zzz")
    ]
    assert state() == "absent"
