"""`interlock image`: the commands on the image store, with real files and instances that link them."""

import json
import os
import subprocess

import pytest

from interlock.commands.images import build_command
from interlock.images.builders.packages import RELEASE
from interlock.images.source import BUILT_HERE

ARCH = ("--arch", "x86_64")


@pytest.fixture
def disk(tmp_path):
    """Return a raw disk on this host."""
    (tmp_path / "my-disk.img").write_bytes(bytes(510) + b"\x55\xaa" + bytes(1 << 20))
    return tmp_path / "my-disk.img"


@pytest.fixture
def imported(interlock, disk):
    """Return the record of an image that was imported as `mine`."""
    done = interlock("image", "import", str(disk), "--name", "mine", *ARCH, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def use(vms, home, imported):
    """Return a function that makes an instance that links the image's disk, as `create` does."""

    def make(name):
        vms.create(name, "tiny", driver="simulated")
        blob = home.images / "blobs" / imported["files"]["disk"]["digest"].removeprefix("sha256:")
        os.link(blob, home.directory(name) / "base.qcow2")

    return make


def records(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_image_list_of_nothing_is_empty_and_makes_nothing(interlock, home):
    """Listing images changes nothing."""
    done = interlock("image", "list")
    assert (done.returncode, done.stdout, done.stderr, home.root.exists()) == (0, "", "", False)


def test_image_list_names_the_instances(interlock, use):
    """The list names the instances that use an image."""
    use("web")
    use("db")
    titles, line = interlock("image", "list").stdout.splitlines()
    assert titles.split() == ["NAME", "ARCH", "SIZE", "BOOTS", "BY", "WARM", "USED", "BY", "ORIGIN"]
    assert line.split()[:2] == ["mine", "x86_64"]
    assert "  firmware  -     db, web  /" in line


def test_image_list_as_json_has_the_documented_keys(interlock, use, imported, disk):
    """Programs get everything that people see, under stable names."""
    use("web")
    assert records(interlock("image", "list", "--format", "json")) == [imported | {"instances": ["web"]}]
    assert (imported["kind"], imported["boot"], imported["origin"]) == ("imported", ["firmware"], str(disk))


@pytest.mark.parametrize("pack", [None, "gzip", "bzip2", "xz"])
def test_image_import_takes_what_is_compressed(interlock, disk, pack):
    """A disk is accepted in any compression; the image has the file's name without its suffixes."""
    if pack:
        subprocess.run([pack, disk], check=True, timeout=60)
    (file,) = disk.parent.glob("my-disk.img*")
    done = interlock("image", "import", str(file), *ARCH)
    assert (done.returncode, done.stdout) == (0, "")
    assert "imported image my-disk for x86_64" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("none.img",), 2), ((".",), 2), (("text",), 6), (("cd.iso",), 6), (("my-disk.img", "--name", "debian"), 6)],
)
def test_image_import_of_what_is_no_image_is_an_error_of_words(interlock, disk, arguments, code):
    """Each failure has its exit code and no traceback."""
    (disk.parent / "text").write_text("hello")
    (disk.parent / "cd.iso").write_bytes(bytes(4096))
    done = interlock("image", "import", *arguments, *ARCH)
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) > 1
    assert "Traceback" not in done.stderr


def test_image_inspect_shows_the_manifest(interlock, imported, disk):
    """It shows everything known, including what the image was made of and the digest of the source file."""
    (record,) = records(interlock("image", "inspect", "mine", *ARCH, "--format", "json"))
    assert {key: record[key] for key in imported} == imported
    assert record["made_of"]["disk"]["location"] == str(disk)
    assert record["made_of"]["disk"]["digest"].startswith("sha256:")
    assert (record["kernel_arguments"], record["packages"]) == ("", {})


def test_image_inspect_and_delete_of_nothing_are_not_found(interlock):
    """The hint lists the images that exist."""
    for command in ("inspect", "delete"):
        done = interlock("image", command, "none")
        assert (done.returncode, done.stderr.splitlines()[-1]) == (4, "hint: interlock image list")


def test_image_delete_of_a_used_image_needs_force(interlock, use, home):
    """It is refused with the instances' names; with --force it is deleted, and the instance keeps its disk."""
    use("web")
    refused = interlock("image", "delete", "mine", *ARCH)
    assert refused.returncode == 6
    assert refused.stderr.splitlines()[1:] == [
        "image mine for x86_64 is used by web",
        "hint: interlock image delete mine --arch x86_64 --force",
    ]
    assert interlock("image", "delete", "mine", *ARCH, "--dry-run").stderr == refused.stderr
    dry = interlock("image", "delete", "mine", *ARCH, "--force", "--dry-run")
    assert dry.stderr.startswith("dry run: removes image mine for x86_64, ")
    assert interlock("image", "list").stdout
    assert interlock("image", "delete", "mine", *ARCH, "--force").returncode == 0
    assert interlock("image", "list").stdout == ""
    assert (home.directory("web") / "base.qcow2").stat().st_size > 0


def test_image_prune_lists_and_removes_only_with_yes(interlock, use, disk):
    """Used images stay; what would be freed is listed, with the command that removes it."""
    use("web")
    interlock("image", "import", str(disk), "--name", "twin", *ARCH)
    disk.write_bytes(disk.read_bytes() + b"more")
    interlock("image", "import", str(disk), "--name", "other", *ARCH)
    for option in ((), ("--dry-run",)):
        listed = interlock("image", "prune", *option)
        assert [line.split()[:2] for line in listed.stdout.splitlines()] == [["WHAT", "NAME"], ["image", "other"]]
        assert listed.stderr.startswith("nothing was removed; this would free ")
        assert listed.stderr.endswith(": interlock image prune --yes\n")
    pruned = interlock("image", "prune", "--yes", "--format", "json")
    assert [record["name"] for record in records(pruned)] == ["other"]
    assert pruned.stderr.startswith("freed ")
    assert {record["name"] for record in records(interlock("image", "list", "--format", "json"))} == {"mine", "twin"}


def test_image_prune_of_nothing_makes_nothing(interlock, home):
    """Without anything to remove, nothing is created."""
    done = interlock("image", "prune", "--yes")
    assert (done.returncode, done.stdout, done.stderr, home.root.exists()) == (0, "", "nothing to remove\n", False)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("tiny", "--package", "nginx"), "tiny takes no packages"),
        (("tiny", "--script", "my-disk.img"), "no script"),
        (("debian", "--suite", "trixie", "--as", "debian"), "is reserved for the plain image"),
        (("debian", "--package", "a b"), "not the name of a Debian package"),
        (("debian", "--as", "../x"), "cannot be called"),
    ],
)
def test_image_build_of_what_cannot_be_is_refused_at_once(interlock, disk, arguments, what):
    """A build that cannot work is refused before its download begins."""
    assert disk.exists()
    done = interlock("image", "build", *arguments)
    assert (done.returncode, done.stdout) == (6, "")
    assert what in done.stderr


def test_image_build_offers_what_the_builders_have():
    """The command does not load the builders to show its help, yet its help agrees with them."""
    name, suite = (next(it for it in build_command.params if it.name == wanted) for wanted in ("name", "suite"))
    assert (set(name.type.choices), suite.default) == (set(BUILT_HERE), RELEASE)


def test_image_that_can_be_built_and_is_not_there_is_to_be_built(interlock):
    """The first command that a reader of the guide types may be `image warm`."""
    for command in (["warm", "tiny"], ["inspect", "tiny"]):
        done = interlock("image", *command, *ARCH)
        hint = done.stderr.splitlines()[-1]
        assert (done.returncode, hint) == (4, f"hint: interlock image build tiny {' '.join(ARCH)}")


@pytest.mark.usefixtures("imported")
def test_image_without_the_agent_cannot_be_warmed(interlock, home):
    """It is refused before a machine is made, and the error gives the reason."""
    done = interlock("image", "warm", "mine", *ARCH)
    assert done.returncode != 0
    assert "image mine cannot be warmed: its guests have no agent" in done.stderr
    assert not home.exists("warming-mine")


@pytest.mark.usefixtures("imported")
def test_warm_images_of_an_image_that_has_none_can_be_deleted(interlock):
    """The command succeeds, and the image itself stays."""
    for more in ((), ("--dry-run",)):
        done = interlock("image", "delete", "mine", *ARCH, "--warm", *more)
        assert (done.returncode, done.stderr.split()[-1]) == (0, "0")
    assert interlock("image", "inspect", "mine", *ARCH).returncode == 0
