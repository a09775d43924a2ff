"""A plan turns template, wishes and host into a complete spec, and reads nothing before it is carried out."""

import json
import os
from pathlib import Path

import pytest

from interlock.creation.plan import Wishes, check, hostname, plan
from interlock.disks import Disks
from interlock.drivers.qemu.driver import QemuDriver
from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import InvalidTemplateError, UsageError
from interlock.fsm.spec import Disk, Forward, Mount, Spec
from interlock.templates.load import load

TEMPLATE = """
images:
- location: build:tiny
  arch: x86_64
cpus: 3
memory: 512MiB
user:
  name: anna
"""


@pytest.fixture
def template(tmp_path):
    """Return the path of a template that says something about most things."""
    (tmp_path / "t.yaml").write_text(TEMPLATE)
    return str(tmp_path / "t.yaml")


@pytest.fixture
def more(template):
    """Return a function that adds to the template."""

    def add(text):
        with Path(template).open("a") as file:
            file.write(text)

    return add


@pytest.fixture
def said():
    """Collect what a plan reports."""
    return []


@pytest.fixture
def draft(home, template, said):
    """Return a function that makes the draft of a simulated machine from the template and wishes."""
    return lambda **wishes: plan(home, "web", template, SimulatedDriver(), Wishes(**{"arch": "x86_64", **wishes}))(
        said.append
    )


def test_plan_reads_nothing_until_it_is_carried_out(home):
    """What is planned costs nothing: a template that is missing is found missing under the instance's lock."""
    assert callable(plan(home, "web", "./missing.yaml", SimulatedDriver(), Wishes()))
    assert not home.root.exists()


def test_plan_takes_the_template_where_nothing_is_wished(draft):
    """What the template says stands in the spec."""
    spec = draft().spec
    assert (spec.cpus, spec.memory_bytes, spec.user) == (3, 512 << 20, "anna")


def test_plan_wishes_overrule_the_template(draft):
    """What was asked for stands in the spec, whatever the template says."""
    spec = draft(cpus=1, memory_bytes=1 << 30, disk_bytes=1 << 31, user="bert", start_timeout_s=5.0).spec
    assert (spec.cpus, spec.memory_bytes, spec.disk_bytes) == (1, 1 << 30, 1 << 31)
    assert (spec.user, spec.start_timeout_s) == ("bert", 5.0)


def test_plan_takes_the_host_where_nobody_says(home, tmp_path, said):
    """Half of the memory and a few processors, never more than there is; a disk that takes room only when it fills."""
    (tmp_path / "bare.yaml").write_text("images: [{location: 'build:tiny'}]\n")
    spec = plan(home, "web", str(tmp_path / "bare.yaml"), SimulatedDriver(), Wishes())(said.append).spec
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    assert spec.cpus == min(4, len(os.sched_getaffinity(0)))
    assert spec.memory_bytes == min(4 << 30, half)
    assert (spec.disk_bytes, spec.start_timeout_s, spec.stop_timeout_s) == (100 << 30, 300.0, 60.0)


def test_plan_takes_the_homes_defaults_where_the_template_says_nothing(draft, home):
    """What a site wants of all its machines stands in one file; a template's own word comes first."""
    home.root.mkdir(mode=0o700)
    home.defaults.write_text("disk: 7GiB\ncpus: 1\n")
    spec = draft().spec
    assert (spec.disk_bytes, spec.cpus) == (7 << 30, 3)


def test_plan_edits_change_the_template(draft):
    """`--set` and its like are part of the template when it is read."""
    assert draft(edits=("cpus=2", "user.name=carl")).spec.cpus == 2


def test_plan_of_a_template_that_was_read_reads_no_other(home, template, said):
    """What somebody agreed to is what is made, whatever becomes of the file."""
    loaded = load(template)
    Path(template).unlink()
    assert plan(home, "web", loaded, SimulatedDriver(), Wishes(arch="x86_64"))(said.append).spec.cpus == 3
    assert said == []


def test_plan_says_what_is_ignored(draft, more, said, template):
    """Nothing of a template is dropped in silence."""
    more("rosetta: {enabled: true}\n")
    draft()
    assert said[1:] == [f"{template}:9: rosetta: does not apply here and is ignored"]


def test_plan_replaces_variables(draft, more, home):
    """The spec holds no variable: the instance's directory, the user's home and params are known now."""
    more("""
param: {port: "80"}
message: "{{.Name}} in {{.Dir}}"
portForwards: [{guestSocket: "/run/user/{{.UID}}/{{.Param.port}}.sock", hostSocket: "{{.Dir}}/sock/it"}]
""")
    spec = draft(edits=("user.uid=777",)).spec
    directory = home.directory("web")
    assert spec.message == f"web in {directory}"
    assert spec.forwards == (
        Forward("tcp", "", 0, "/run/user/777/80.sock", "", 0, f"{directory}/sock/it", reverse=False),
    )


def test_plan_mounts_what_is_there(draft, more, tmp_path):
    """A folder has its absolute path, and is seen in the guest under the same, or under another."""
    more(f"mounts: [{{location: {tmp_path}}}, {{location: {tmp_path}, mountPoint: /mnt/a b, writable: true}}]\n")
    options = "trans=virtio,version=9p2000.L,msize=131072,cache=mmap"
    assert draft().spec.mounts == (
        Mount(str(tmp_path), str(tmp_path), writable=False, type="9p", security_model="none", options=f"{options},ro"),
        Mount(str(tmp_path), "/mnt/a b", writable=True, type="9p", security_model="none", options=f"{options},rw"),
    )


def test_plan_makes_the_folders_to_mount_and_says_so(draft, more, said, tmp_path):
    """As in Lima: what is to be shared need not be there yet."""
    more(f"mounts: [{{location: {tmp_path}/new/one}}, {{location: {tmp_path}}}]\n")
    draft()
    assert (tmp_path / "new" / "one").is_dir()
    assert [text for text in said if text.startswith("made")] == [f"made the folder {tmp_path}/new/one, to be mounted"]


def test_plan_tells_all_that_this_host_lacks_at_once(draft, more, tmp_path):
    """Folders that cannot be made, disks, zones, names and files: each with its place, and nothing is made."""
    (tmp_path / "file").touch()
    more(f"""
mounts: [{{location: {tmp_path}/new}}, {{location: {tmp_path}/file}}, {{location: {tmp_path}/file/x, mountPoint: /x}}]
additionalDisks: [data]
timezone: Mars/Utopia
hostResolver: {{hosts: {{a.test: b.test}}}}
caCerts: {{files: [{tmp_path}/none.pem]}}
""")
    with pytest.raises(InvalidTemplateError) as caught:
        draft()
    assert [detail.split(": ", 1)[1] for detail in caught.value.details] == [
        f"mounts[1].location: {tmp_path}/file is not a folder",
        f"mounts[2].location: {tmp_path}/file is not a folder",
        'additionalDisks[0]: there is no disk "data"',
        'timezone: there is no time zone "Mars/Utopia"',
        "hostResolver.hosts.a.test: b.test: this name has no address here",
        f"caCerts.files[0]: {tmp_path}/none.pem: No such file or directory",
    ]
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may make a folder anywhere")
def test_plan_folder_that_nobody_may_make_is_refused(draft, more):
    """The error comes before anything is made."""
    more("mounts: [{location: /proc/none/such}]\n")
    with pytest.raises(InvalidTemplateError, match="you may not make one in /proc"):
        draft()


def test_plan_folders_that_cannot_be_made_are_told_at_once(draft, more):
    """What the system refuses after all is an error with all of them."""
    more("mounts: [{location: /proc/none/such}, {location: /proc/none/other}]\n")
    with pytest.raises(UsageError) as caught:
        draft()
    assert len(caught.value.details) == 2


def test_check_says_what_a_draft_would(home, template, more):
    """One judgement for `create` and `template validate`: a mount point that a location implies, say."""
    more("mounts: [{location: /etc}]\n")
    with pytest.raises(InvalidTemplateError) as drafted:
        plan(home, "web", template, SimulatedDriver(), Wishes(arch="x86_64"))(print)
    with pytest.raises(InvalidTemplateError) as checked:
        check(home, "web", load(template), SimulatedDriver(), Wishes(arch="x86_64"))
    assert checked.value.details == drafted.value.details
    assert (
        "mounts[0].mountPoint: expected a folder that the guest's own system does not need" in checked.value.details[0]
    )


def test_plan_shares_the_disks_that_it_names(draft, more, home):
    """A disk keeps its format."""
    more("additionalDisks: [data]\n")
    home.prepare()
    Disks(home).create("data", 1 << 20, "raw")
    assert draft().spec.disks == (Disk("data", "raw"),)


@pytest.mark.parametrize(
    "text", ["probes: [{script: '#!/bin/true'}]", "provision: [{script: 'true'}]"], ids=["probes", "provision"]
)
def test_plan_of_scripts_gives_them_time(draft, more, text):
    """What installs software before it is ready takes longer than a boot."""
    more(text)
    assert draft().spec.start_timeout_s == 1800.0


def test_plan_of_too_long_probes_is_refused(draft, more):
    """A spec that no later command would read is not written."""
    quotes = '"' * 600_000  # each of which is two characters in JSON
    more(f"probes: [{{script: '#!/bin/sh {quotes}'}}]\n")
    with pytest.raises(UsageError, match="probes and message are longer than 1 MiB together"):
        draft()


def test_plan_each_draft_is_an_instance_of_its_own(draft):
    """A guest runs its first boot for each creation: no two have the same identity."""
    assert draft().spec.instance_id != draft().spec.instance_id


def test_plan_spec_reads_back_as_it_was_written(draft, more, tmp_path):
    """What creation writes, every later command understands."""
    more(f"mounts: [{{location: {tmp_path}}}]\nportForwards: [{{guestPort: 80, hostPort: 8080}}]\n")
    spec = draft().spec
    assert Spec.from_json(json.loads(json.dumps(spec.to_json())), "spec.json") == spec


def test_plan_architecture_that_the_driver_lacks_is_refused(home, template):
    """A machine that the driver cannot run is not created."""
    with pytest.raises(UsageError, match='driver "simulated" has no machines of architecture vax'):
        plan(home, "web", template, SimulatedDriver(), Wishes(arch="vax"))(print)


def test_plan_architecture_that_the_template_lacks_is_refused(home, template):
    """A template without an image for the machine cannot make it, and says for which it can."""
    with pytest.raises(InvalidTemplateError) as caught:
        plan(home, "web", template, QemuDriver(), Wishes(arch="aarch64"))(print)
    assert caught.value.details[0].endswith("images: there is no image for aarch64; there are images for x86_64")


def test_plan_architecture_that_no_archive_of_containerd_is_for_is_refused(home):
    """Packages do not take the place of an archive that was asked for."""
    archive = {"location": "https://example.org/x.tgz", "arch": "x86_64"}
    asked = {"images": [{"location": "build:tiny"}], "containerd": {"user": True, "archives": [archive]}}
    with pytest.raises(InvalidTemplateError) as caught:
        plan(home, "web", asked, QemuDriver(), Wishes(arch="aarch64"))(print)
    assert caught.value.details == ("<memory>:9:15: containerd.archives: there is no archive for aarch64",)


@pytest.mark.parametrize(
    ("name", "expected"), [("web", "web"), ("Web.1_x", "web-1-x"), ("x-", "x"), ("a" * 63, "a" * 63)]
)
def test_hostname_of_any_name_is_a_label(name, expected):
    """What the guest calls itself is what RFC 1123 allows."""
    assert hostname(name) == expected
