"""The driver contract is complete and stated in one place."""

import re
from pathlib import Path

import pytest

import interlock
from interlock import Interlock, drivers
from interlock.drivers import conformance
from interlock.drivers.contract import BASE, DEMANDS, KNOWN_HOSTS, SEED, SSH_KEY, Spec, disk_file
from interlock.drivers.simulated import SimulatedDriver
from interlock.errors import HostError

ROOT = Path(interlock.__file__).parent

OTHERS = {
    "driver", "arch",  # which driver it is, and an architecture that it supports: Abilities.arches
    "cpus", "memory_bytes", "disk_bytes",  # every machine has a size
    "boot", "kernel_arguments",  # properties of the image
    "user", "hostname", "instance_id", "timezone",  # set in the guest by its seed
    "start_timeout_s", "stop_timeout_s",  # the engine turns these into a deadline
    "created_at", "message", "origin", "version", "schema",  # for people, and for the record
    "kept_by",  # set by the driver itself; it shows the engine that others start its machines: Abilities.kept_by
}  # fmt: skip


def test_every_field_of_the_spec_is_a_demand_or_known_not_to_be():
    """The author of a new field has to decide whether a driver may ignore it."""
    assert DEMANDS.keys() | OTHERS == set(Spec._fields)
    assert not DEMANDS.keys() & OTHERS


def test_every_demand_has_a_default_and_the_suite_an_example_that_differs():
    """A value other than the default is how a spec asks for it, and how the suite sees a driver refuse it."""
    defaults = {name: default for name, default in Spec._field_defaults.items() if name in DEMANDS}
    assert defaults.keys() == DEMANDS.keys()
    assert conformance._ASKED.keys() == DEMANDS.keys()
    assert all(conformance._ASKED[name] != default for name, default in defaults.items())


def test_files_that_creation_hands_over_are_named_in_the_contract_alone():
    """Creation, the image store and the drivers share one constant for the name of each file."""
    spelt = re.compile(
        "|".join(f'"{re.escape(name)}"' for name in (BASE, SEED, SSH_KEY, KNOWN_HOSTS)) + f"|{disk_file('')}{{"
    )
    sources = [
        path for path in ROOT.glob("**/*.py") if path.relative_to(ROOT).parts[0] not in ("tests", ".venv", "build")
    ]
    assert [str(path.relative_to(ROOT)) for path in sources if spelt.search(path.read_text())] == [
        "drivers/contract.py"
    ]


def test_create_with_a_driver_that_honours_nothing_names_what_it_refuses(home, tmp_path, monkeypatch):
    """The refusal comes before an image is looked for or a file is made, and says what to leave out."""

    class Plain(SimulatedDriver):
        name = "plain"
        abilities = SimulatedDriver.abilities._replace(images=True, honours=frozenset())

    monkeypatch.setattr(drivers, "find", lambda _: Plain())
    template = tmp_path / "web.yaml"
    asked = "mounts: [{location: /srv}]\nportForwards: [{guestPort: 80, hostPort: 8080}]\n"
    template.write_text(f"base: template:debian\n{asked}")
    with pytest.raises(HostError, match=r'"plain" does not support .*mounts, portForwards; leave that out'):
        Interlock().create("web", str(template))
    assert not home.images.exists()
    assert not home.directory("web").exists()
