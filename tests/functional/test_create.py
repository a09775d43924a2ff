"""`interlock create`: turns a template into an instance, and starts nothing."""

import json
import os

import pytest

CREATE = ("create", "web", "--template", "tiny", "--driver", "simulated")


def test_create_from_builtin_is_created_and_not_started(interlock, state, history):
    """There is one transition, and the guest has never run."""
    done = interlock(*CREATE)
    assert (done.returncode, done.stdout) == (0, "")
    assert state() == "created"
    assert history() == [("create", "done")]


def test_create_as_json_prints_the_outcome(interlock):
    """Programs read the outcome on stdout."""
    outcome = json.loads(interlock(*CREATE, "--format", "json").stdout)
    assert outcome.pop("elapsed_s") >= 0
    assert outcome == {"name": "web", "trigger": "create", "state": "created", "changed": True, "detail": None}


def test_create_options_overrule_the_template(interlock, vms):
    """The instance has the values of the options."""
    interlock(*CREATE, "--cpus", "3", "--memory", "2GiB", "--disk", "5G", "--user", "anna", "--arch", "aarch64")
    spec = vms.status("web").spec
    assert (spec.cpus, spec.memory_bytes, spec.disk_bytes) == (3, 2 << 30, 5 << 30)
    assert (spec.user, spec.arch) == ("anna", "aarch64")


@pytest.mark.parametrize(
    ("template", "name"), [("tiny", "tiny"), ("template:tiny", "tiny"), ("./my-own.yaml", "my-own")]
)
def test_create_without_name_is_named_after_its_template(interlock, vms, tmp_path, template, name):
    """The name is a built-in's own name, or a file's name without the suffix."""
    (tmp_path / "my-own.yaml").write_text("images: [{location: 'build:tiny', arch: x86_64}]\narch: x86_64\n")
    assert interlock("create", "-t", template, "--driver", "simulated").returncode == 0
    assert vms.status(name).state == "created"


def test_create_from_standard_input_needs_a_name(interlock):
    """A template from a pipe has no name to give; with a name on the command line it works like a file."""
    text = "images: [{location: 'build:tiny', arch: x86_64}]\n"
    refused = interlock("create", "-t", "-", "--driver", "simulated", input=text)
    assert (refused.returncode, "hint: interlock create web -t -" in refused.stderr) == (2, True)
    assert interlock("create", "web", "-t", "-", "--driver", "simulated", input=text).returncode == 0


def test_create_of_existing_instance_is_refused_whatever_its_template(interlock, history):
    """The existing instance may differ from the one that was asked for."""
    interlock(*CREATE)
    refused = interlock("create", "web", "-t", "debian", "--driver", "simulated")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert history() == [("create", "done")]


def test_create_from_template_with_mistakes_tells_all_and_leaves_nothing(interlock, tmp_path, state):
    """All mistakes are reported at once, each with its place, and no trace of an instance is left."""
    (tmp_path / "bad.yaml").write_text("images: []\ncpus: 0\nzzz: 1\n")
    refused = interlock("create", "web", "-t", "./bad.yaml", "--driver", "simulated")
    assert refused.returncode == 2
    assert [line.split(": ")[1] for line in refused.stderr.splitlines() if line.startswith("  | ")] == [
        *("images", "cpus", "zzz")
    ]
    assert state() == "absent"


def test_create_flags_edit_the_template(interlock, vms, tmp_path):
    """Mounts, ports, parameters and any other value become part of the template before it is resolved."""
    (tmp_path / "web.yaml").write_text(
        "images: [{location: 'build:tiny'}]\nparam: {port: '1'}\nmessage: port {{.Param.port}}\n"
        f"mounts: [{{location: {tmp_path}, mountPoint: /mnt/it}}]\nportForwards: [{{guestPort: 80}}]\n"
    )
    flags = (
        "--mount",
        f"{tmp_path}:w",
        "--port-forward",
        "8080:80",
        "--param",
        "port=8080",
        "--set",
        "ssh.localPort=2222",
    )
    assert interlock("create", "web", "-t", "./web.yaml", "--driver", "simulated", *flags).returncode == 0
    spec = vms.status("web").spec
    assert [(mount.mount_point, mount.writable) for mount in spec.mounts] == [(str(tmp_path), True), ("/mnt/it", False)]
    assert {(forward.host_port, forward.guest_port) for forward in spec.forwards} == {(8080, 80)}
    assert (spec.message, spec.ssh_port) == ("port 8080", 2222)


def test_create_plain_leaves_mounts_out_and_says_so(interlock, vms, tmp_path):
    """Everything that is dropped is named."""
    done = interlock(*CREATE, "--plain", "--mount", str(tmp_path))
    assert (done.returncode, "mounts[0]: dropped, because plain is true" in done.stderr) == (0, True)
    assert vms.status("web").spec.mounts == ()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--mount", ":w"), "--mount :w: expected DIR or DIR:w"),
        (("--mount", "/dev/null/such"), "mounts[0].location: /dev/null is not a folder"),
        (("--port-forward", "80"), "--port-forward 80: expected two ports, HOST:GUEST"),
        (("--port-forward", "99999:80"), "--set portForwards[]="),
        (("--param", "port"), "--param port: expected NAME=VALUE"),
        (("--set", "cpus=lots"), "--set cpus=lots: cpus: "),
        (("--set", "cpus"), "expected KEY=VALUE"),
    ],
    ids=["mount", "no-folder", "port", "large-port", "param", "value", "no-value"],
)
def test_create_flag_that_makes_no_sense_is_refused_by_name(interlock, state, flags, words):
    """The error names the flag and what is wrong with it; nothing is created."""
    done = interlock(*CREATE, *flags)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert state() == "absent"


@pytest.mark.parametrize("value", ["s3cret", '"s3\\ncret"', "[s3cret]"], ids=["right", "two-lines", "a-list"])
def test_create_keeps_no_secret_of_its_command_line(interlock, home, value):
    """The secret is neither printed nor written to a file, whether the creation succeeds or is refused."""
    done = interlock(*CREATE, "--set", f"env.TOKEN={value}", "--param", "internal_netplanOptional=s3cret")
    texts = [done.stdout, done.stderr, interlock("list", "--format", "json").stdout]
    texts += [path.read_text(errors="replace") for path in home.root.rglob("*") if path.is_file()]
    assert [text for text in texts if "s3cret" in text or "s3\\ncret" in text] == []
    assert done.returncode == (0 if value == "s3cret" else 2)


def test_create_under_a_umask_that_takes_everything_works(interlock, tmp_path):
    """The owner can read what is created, whatever the shell's umask."""
    done = interlock("create", "web", "-t", "tiny", "--driver", "simulated", preexec_fn=lambda: os.umask(0o777))
    assert done.returncode == 0
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "home").rglob("*")]
    assert {mode | 0o100 for mode in modes} == {0o700}
