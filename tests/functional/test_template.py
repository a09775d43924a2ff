"""`interlock template`: lists, shows, checks and copies templates."""

import json
from pathlib import Path

import pytest

BUILTIN = Path(__file__).parents[2] / "templates" / "builtin"
TEXTS = {path.stem: path for folder in ("_images", ".") for path in (BUILTIN / folder).glob("*.yaml")}
NAMES = sorted(TEXTS)
GOOD = "images:\n- location: build:tiny\n  arch: x86_64\n"


@pytest.fixture
def files(tmp_path):
    """Write a valid template, one with notes and an invalid one into the current folder."""
    (tmp_path / "good.yaml").write_text("# Mine.\nbase: base.yaml\nprovision:\n- file: hello.sh\n")
    (tmp_path / "base.yaml").write_text(GOOD)
    (tmp_path / "hello.sh").write_text("#!/bin/sh\necho hello\n")
    (tmp_path / "odd.yaml").write_text(f"{GOOD}vmType: vz\n")
    (tmp_path / "bad.yaml").write_text(f"{GOOD}cpus: 0\nmemroy: 1GiB\n")
    return tmp_path


def test_template_list_names_every_builtin(interlock):
    """Each template is listed with its first sentence."""
    listed = [json.loads(line) for line in interlock("template", "list", "--format", "json").stdout.splitlines()]
    assert [entry["name"] for entry in listed] == NAMES
    assert all(entry["summary"] for entry in listed)


@pytest.mark.parametrize("name", NAMES)
def test_template_show_prints_the_text_itself(interlock, name):
    """The text of a built-in is printed unchanged."""
    assert interlock("template", "show", name).stdout == TEXTS[name].read_text()


@pytest.mark.parametrize("name", ["debian", "ubuntu", "docker", "ubuntu-lts", "rocky-9"])
def test_template_copied_elsewhere_is_right_there(interlock, tmp_path, monkeypatch, name):
    """A built-in names its bases in a way that works from a copy elsewhere."""
    monkeypatch.setenv("INTERLOCK_HOME", "/tmp/none")  # short, because docker's socket lies below it
    assert interlock("template", "copy", name, "copy.yaml").returncode == 0
    assert interlock("template", "validate", "copy.yaml").returncode == 0
    assert (tmp_path / "copy.yaml").read_text() == TEXTS[name].read_text()


def test_template_show_of_mistakes_prints_it_and_them(interlock, files):
    """The text of an invalid template is printed too."""
    done = interlock("template", "show", "./bad.yaml")
    assert (done.returncode, done.stdout) == (2, (files / "bad.yaml").read_text())
    assert "bad.yaml:4:7: cpus: expected at least 1, found 0" in done.stderr


def test_template_show_of_unknown_name_is_not_found(interlock):
    """The exit code is that of not-found."""
    assert interlock("template", "show", "no-such").returncode == 4


@pytest.mark.usefixtures("files")
def test_template_validate_prints_a_line_for_each_and_all_mistakes(interlock):
    """Results are on stdout, notes and mistakes on stderr, and the exit code is that of an invalid template."""
    done = interlock("template", "validate", "good.yaml", "odd.yaml", "bad.yaml", "no.yaml", "tiny")
    assert done.stdout.splitlines() == [
        "TEMPLATE   RESULT",
        "good.yaml  ok",
        "odd.yaml   ok",
        "bad.yaml   2 mistakes",
        "no.yaml    1 mistake",
        "tiny       ok",
    ]
    assert done.stderr.splitlines() == [
        "note: odd.yaml:4: vmType: does not apply here and is ignored",
        "error: invalid-template",
        "2 of 5 templates cannot be used",
        "  | bad.yaml:4:7: cpus: expected at least 1, found 0",
        "  | bad.yaml:5:1: memroy: no such key; did you mean memory?",
        "  | there is no file no.yaml",
    ]
    assert done.returncode == 2


@pytest.mark.usefixtures("files")
def test_template_validate_logs_a_note_as_its_event(interlock):
    """The event says that it is a note, so the message need not."""
    done = interlock("--log-format", "json", "template", "validate", "odd.yaml")
    record = json.loads(done.stderr)
    assert (record["event"], record["level"]) == ("note", "info")
    assert record["message"] == "odd.yaml:4: vmType: does not apply here and is ignored"


@pytest.mark.usefixtures("files")
def test_template_validate_tells_programs_the_same(interlock):
    """There is one object per line, with its mistakes and notes."""
    done = interlock("template", "validate", "odd.yaml", "bad.yaml", "--format", "json")
    odd, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert (odd["result"], odd["mistakes"], len(odd["notes"])) == ("ok", [], 1)
    assert (bad["result"], len(bad["mistakes"])) == ("2 mistakes", 2)


@pytest.mark.usefixtures("files")
def test_template_validate_with_set_checks_what_would_become_of_it(interlock):
    """The edits are those of `create`; a mistake in one is reported with the edit as its place."""
    edits = ("--set", "cpus=2", "--set", "memroy=null")
    assert interlock("template", "validate", "bad.yaml", *edits).returncode == 0
    done = interlock("template", "validate", "good.yaml", "--set", "cpus=lots")
    assert "  | --set cpus=lots: cpus: expected a whole number, found 'lots'" in done.stderr.splitlines()


@pytest.mark.usefixtures("files")
def test_template_validate_reads_standard_input(interlock):
    """A template can come through a pipe."""
    done = interlock("template", "validate", "-", input=GOOD)
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "-         ok")


def test_template_copy_embedded_needs_no_other_file(interlock, files):
    """Bases and scripts are embedded, edits are applied, and the files that the template named are no longer needed."""
    done = interlock("template", "copy", "--embed", "good.yaml", "all.yaml", "--set", "cpus=3")
    assert (done.returncode, done.stdout) == (0, "")
    for name in ("base.yaml", "hello.sh", "good.yaml"):
        (files / name).unlink()
    assert "echo hello" in (files / "all.yaml").read_text()
    assert interlock("template", "validate", "all.yaml").returncode == 0
    assert interlock("template", "copy", "--embed", "all.yaml", "-").stdout == (files / "all.yaml").read_text()


def test_template_copy_over_a_file_is_refused(interlock, files):
    """An existing file is not overwritten."""
    done = interlock("template", "copy", "tiny", "good.yaml")
    assert (done.returncode, "good.yaml already exists" in done.stderr) == (2, True)
    assert (files / "good.yaml").read_text().startswith("# Mine.")


def test_template_copy_into_no_folder_tells_the_cause(interlock):
    """The error has the path and the system's message."""
    done = interlock("template", "copy", "tiny", "no/such/folder.yaml")
    assert (done.returncode, "no/such/folder.yaml: No such file or directory" in done.stderr) == (2, True)


def test_template_copy_as_it_is_takes_no_edits(interlock, tmp_path):
    """A plain copy keeps the text byte for byte, so --set is refused."""
    assert interlock("template", "copy", "tiny", "x.yaml", "--set", "cpus=3").returncode == 2
    assert not (tmp_path / "x.yaml").exists()


def test_template_schema_describes_every_key(interlock):
    """An editor that reads it knows the keys, their values, and that null is allowed."""
    schema = json.loads(interlock("template", "schema").stdout)
    assert {"base", "images", "boot", "mounts", "portForwards", "9p"} <= {
        *schema["properties"],
        *schema["$defs"]["Mount"]["properties"],
    }
    assert schema["properties"]["cpus"]["type"] == ["integer", "null"]
    assert "anyOf" not in json.dumps(schema)
    assert (schema["additionalProperties"], "required" in schema) == (False, False)
    assert schema["properties"]["boot"]["description"].startswith("Which of the image's ways")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memory: 64TiB\n", "is more than this host can give"),
        (
            "mounts: [{location: /etc}]\n",
            "mounts[0].mountPoint: expected a folder that the guest's own system does not",
        ),
        ("additionalDisks: [data]\n", 'additionalDisks[0]: there is no disk "data"'),
    ],
    ids=["memory", "mount-point", "disk"],
)
def test_template_validate_says_what_create_says(interlock, tmp_path, text, words):
    """A template that passes can be created here, as far as that can be known without its image."""
    (tmp_path / "web.yaml").write_text(f"{GOOD}{text}")
    checked = interlock("template", "validate", "web.yaml")
    created = interlock("create", "web", "-t", "web.yaml", "--arch", "x86_64")
    assert words in checked.stderr
    assert words in created.stderr
    assert 0 not in (checked.returncode, created.returncode)
