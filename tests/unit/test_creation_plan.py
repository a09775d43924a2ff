"""A plan turns template, wishes and host into a complete spec, and reads nothing until it runs."""

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
    """Return the path of a template with an image, processors, memory and a user."""
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
    """Planning reads nothing: a missing template is noticed when the plan runs, under the instance's lock."""
    assert callable(plan(home, "web", "./missing.yaml", SimulatedDriver(), Wishes()))
    assert not home.root.exists()


def test_plan_takes_the_template_where_nothing_is_wished(draft):
    """The spec has the template's values."""
    spec = draft().spec
    assert (spec.cpus, spec.memory_bytes, spec.user) == (3, 512 << 20, "anna")


def test_plan_wishes_overrule_the_template(draft):
    """Wishes override the template's values in the spec."""
    spec = draft(cpus=1, memory_bytes=1 << 30, disk_bytes=1 << 31, user="bert", start_timeout_s=5.0).spec
    assert (spec.cpus, spec.memory_bytes, spec.disk_bytes) == (1, 1 << 30, 1 << 31)
    assert (spec.user, spec.start_timeout_s) == ("bert", 5.0)


def test_plan_takes_the_host_where_nobody_says(home, tmp_path, said):
    """Half of the memory up to 4 GiB, up to four processors, and a disk that takes room only as it fills."""
    (tmp_path / "bare.yaml").write_text("images: [{location: 'build:tiny'}]\n")
    spec = plan(home, "web", str(tmp_path / "bare.yaml"), SimulatedDriver(), Wishes())(said.append).spec
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    assert spec.cpus == min(4, len(os.sched_getaffinity(0)))
    assert spec.memory_bytes == min(4 << 30, half)
    assert (spec.disk_bytes, spec.start_timeout_s, spec.stop_timeout_s) == (100 << 30, 300.0, 60.0)


def test_plan_takes_the_homes_defaults_where_the_template_says_nothing(draft, home):
    """One file holds the defaults for all machines of a site; a template's own values come first."""
    home.root.mkdir(mode=0o700)
    home.defaults.write_text("disk: 7GiB\ncpus: 1\n")
    spec = draft().spec
    assert (spec.disk_bytes, spec.cpus) == (7 << 30, 3)


def test_plan_edits_change_the_template(draft):
    """Edits, from `--set` for example, are applied to the template as it is read."""
    assert draft(edits=("cpus=2", "user.name=carl")).spec.cpus == 2


def test_plan_of_a_template_that_was_read_reads_no_other(home, template, said):
    """A template that the user has agreed to is used as it was read, even if its file is gone."""
    loaded = load(template)
    Path(template).unlink()
    assert plan(home, "web", loaded, SimulatedDriver(), Wishes(arch="x86_64"))(said.append).spec.cpus == 3
    assert said == []


def test_plan_says_what_is_ignored(draft, more, said, template):
    """No key of a template is ignored silently."""
    more("rosetta: {enabled: true}\n")
    draft()
    assert said[1:] == [f"{template}:9: rosetta: does not apply here and is ignored"]


def test_plan_replaces_variables(draft, more, home):
    """The spec holds no variables: name, directory, uid and params are filled in."""
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
    """A folder keeps its absolute path; in the guest it has the same path, or the one that the template gives."""
    more(f"mounts: [{{location: {tmp_path}}}, {{location: {tmp_path}, mountPoint: /mnt/a b, writable: true}}]\n")
    options = "trans=virtio,version=9p2000.L,msize=131072,cache=mmap"
    assert draft().spec.mounts == (
        Mount(str(tmp_path), str(tmp_path), writable=False, type="9p", security_model="none", options=f"{options},ro"),
        Mount(str(tmp_path), "/mnt/a b", writable=True, type="9p", security_model="none", options=f"{options},rw"),
    )


def test_plan_makes_the_folders_to_mount_and_says_so(draft, more, said, tmp_path):
    """As in Lima, a folder to be mounted need not exist yet."""
    more(f"mounts: [{{location: {tmp_path}/new/one}}, {{location: {tmp_path}}}]\n")
    draft()
    assert (tmp_path / "new" / "one").is_dir()
    assert [text for text in said if text.startswith("made")] == [f"made the folder {tmp_path}/new/one, to be mounted"]


def test_plan_tells_all_that_this_host_lacks_at_once(draft, more, tmp_path):
    """The error lists every folder, disk, zone, name and file at fault with its place, and nothing is made."""
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


def test_plan_folders_that_cannot_be_made_are_all_reported_at_once(draft, more):
    """If the system refuses to make folders, the error lists all of them."""
    more("mounts: [{location: /proc/none/such}, {location: /proc/none/other}]\n")
    with pytest.raises(UsageError) as caught:
        draft()
    assert len(caught.value.details) == 2


def test_check_says_what_a_draft_would(home, template, more):
    """`create` and `template validate` report the same, such as a mount point that a location implies."""
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
    """A guest that installs software before it is ready needs longer than a boot."""
    more(text)
    assert draft().spec.start_timeout_s == 1800.0


def test_plan_of_too_long_probes_is_refused(draft, more):
    """A spec that is too long for later commands to read is not written."""
    quotes = '"' * 600_000  # each quote takes two characters in JSON
    more(f"probes: [{{script: '#!/bin/sh {quotes}'}}]\n")
    with pytest.raises(UsageError, match="probes and message together are longer than 1 MiB"):
        draft()


def test_plan_each_draft_is_an_instance_of_its_own(draft):
    """Each creation has an identity of its own, so that the guest runs its first boot."""
    assert draft().spec.instance_id != draft().spec.instance_id


def test_plan_spec_reads_back_as_it_was_written(draft, more, tmp_path):
    """Every later command understands the spec that creation writes."""
    more(f"mounts: [{{location: {tmp_path}}}]\nportForwards: [{{guestPort: 80, hostPort: 8080}}]\n")
    spec = draft().spec
    assert Spec.from_json(json.loads(json.dumps(spec.to_json())), "spec.json") == spec


def test_plan_architecture_that_the_driver_lacks_is_refused(home, template):
    """A machine that the driver cannot run is not created."""
    with pytest.raises(UsageError, match='driver "simulated" has no machines of architecture vax'):
        plan(home, "web", template, SimulatedDriver(), Wishes(arch="vax"))(print)


def test_plan_architecture_that_the_template_lacks_is_refused(home, template):
    """The error names the architectures that the template has images for."""
    with pytest.raises(InvalidTemplateError) as caught:
        plan(home, "web", template, QemuDriver(), Wishes(arch="aarch64"))(print)
    assert caught.value.details[0].endswith("images: there is no image for aarch64; there are images for x86_64")


def test_plan_architecture_that_no_archive_of_containerd_is_for_is_refused(home):
    """Packages do not replace an archive that the template asks for."""
    archive = {"location": "https://example.org/x.tgz", "arch": "x86_64"}
    asked = {"images": [{"location": "build:tiny"}], "containerd": {"user": True, "archives": [archive]}}
    with pytest.raises(InvalidTemplateError) as caught:
        plan(home, "web", asked, QemuDriver(), Wishes(arch="aarch64"))(print)
    assert caught.value.details == ("<memory>:9:15: containerd.archives: there is no archive for aarch64",)


@pytest.mark.parametrize(
    ("name", "expected"), [("web", "web"), ("Web.1_x", "web-1-x"), ("x-", "x"), ("a" * 63, "a" * 63)]
)
def test_hostname_of_any_name_is_a_label(name, expected):
    """The guest's hostname is a label as RFC 1123 allows it."""
    assert hostname(name) == expected
