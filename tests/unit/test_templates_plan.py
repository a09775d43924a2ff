"""A plan turns template, wishes and host into a complete spec, and reads nothing before it is carried out."""

import getpass
import os

import pytest

from interlock.drivers.simulated import SimulatedDriver
from interlock.fsm.errors import UsageError
from interlock.templates import plan as plan_module
from interlock.templates.plan import Wishes, host_user, hostname, plan

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
def draft(home, template):
    """Return what makes the draft of a simulated machine from the template and wishes."""
    return lambda **wishes: plan(home, "web", template, SimulatedDriver(), Wishes(**{"arch": "x86_64", **wishes}))(
        print
    )


def test_plan_reads_nothing_until_it_is_carried_out(home):
    """What is planned costs nothing: a template that is missing is found missing under the instance's lock."""
    assert callable(plan(home, "web", "./missing.yaml", SimulatedDriver(), Wishes()))
    assert not home.root.exists()


def test_plan_takes_the_template_where_nothing_is_wished(draft):
    """What the template says stands in the spec; what it leaves open is the default."""
    spec = draft().spec
    assert (spec.cpus, spec.memory_bytes, spec.user) == (3, 512 << 20, "anna")
    assert (spec.disk_bytes, spec.start_timeout_s, spec.stop_timeout_s) == (10 << 30, 300.0, 60.0)


def test_plan_wishes_overrule_the_template(draft):
    """What was asked for stands in the spec, whatever the template says."""
    spec = draft(cpus=1, memory_bytes=1 << 30, disk_bytes=1 << 31, user="bert", start_timeout_s=5.0).spec
    assert (spec.cpus, spec.memory_bytes, spec.disk_bytes) == (1, 1 << 30, 1 << 31)
    assert (spec.user, spec.start_timeout_s) == ("bert", 5.0)


def test_plan_each_draft_is_an_instance_of_its_own(draft):
    """A guest runs its first boot for each creation: no two have the same identity."""
    assert draft().spec.instance_id != draft().spec.instance_id


def test_plan_architecture_that_the_driver_lacks_is_refused(home, template):
    """A machine that the driver cannot run is not created."""
    with pytest.raises(UsageError, match='driver "simulated" has no machines of architecture vax'):
        plan(home, "web", template, SimulatedDriver(), Wishes(arch="vax"))(print)


def test_plan_architecture_that_the_template_lacks_is_refused(home, template):
    """A template without an image for the machine cannot make it, and says for which it can."""
    from interlock.drivers.qemu import QemuDriver

    with pytest.raises(UsageError, match="has no image for aarch64; it has: x86_64"):
        plan(home, "web", template, QemuDriver(), Wishes(arch="aarch64"))(print)


@pytest.mark.parametrize(
    ("name", "expected"), [("web", "web"), ("Web.1_x", "web-1-x"), ("x-", "x"), ("a" * 63, "a" * 63)]
)
def test_hostname_of_any_name_is_a_label(name, expected):
    """What the guest calls itself is what RFC 1123 allows."""
    assert hostname(name) == expected


@pytest.mark.parametrize(
    ("uid", "login", "expected"), [(1000, "anna", "anna"), (0, "root", "interlock"), (1000, "Anna B", "interlock")]
)
def test_host_user_that_cannot_be_a_login_is_replaced(monkeypatch, uid, login, expected):
    """The same login inside as outside, except root, and what no guest would accept."""
    monkeypatch.setattr(getpass, "getuser", lambda: login)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert host_user() == expected


def test_host_user_of_a_uid_without_a_name_is_replaced(monkeypatch):
    """A container's user may have no name at all."""

    def unknown():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(plan_module.getpass, "getuser", unknown)
    assert host_user() == "interlock"
