"""A pytest plugin for programs that embed Interlock; pytest finds it if both are installed.

A program and its test:

    def kernel_of(vm: str) -> str:
        return Interlock().run(vm, ["uname", "-r"]).text

    def test_kernel_is_that_of_the_guest(interlock_vm, interlock_driver):
        interlock_driver.answers = {"uname -r": "6.1.0"}
        assert kernel_of(interlock_vm) == "6.1.0"

Machines are simulated, unless the test is marked `interlock_real`. The program finds the home and the driver in its
environment, so it must not name them: `Interlock()`. Unless a test uses these fixtures, the plugin imports nothing and
changes nothing; `-p no:interlock` disables it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .drivers.simulated import SimulatedDriver

REAL = "interlock_real"


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", f"{REAL}: interlock_vm is a real guest, run by QEMU, instead of a simulated one")


@pytest.fixture
def interlock_home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty home, which the environment names too; instances in it are deleted at the end of the test.

    Instances that are created without naming a driver are simulated; in a test marked `interlock_real`, QEMU runs them.
    Such a test uses the images of the home that the environment named before: each is built once, and kept.
    """
    from . import drivers
    from .api import Interlock
    from .drivers.simulated import VARIABLE as ORDERS
    from .drivers.simulated import SimulatedDriver
    from .host.home import Home

    home = Home.at(tmp_path / "interlock")
    real = request.node.get_closest_marker(REAL) is not None
    if real:
        kept = Home.from_environment()
        for each in (kept, home):
            each.prepare()
        kept.images.mkdir(mode=0o700, exist_ok=True)
        home.images.symlink_to(kept.images)
    monkeypatch.setenv("INTERLOCK_HOME", str(home.root))
    monkeypatch.setenv(drivers.VARIABLE, drivers.DEFAULT if real else SimulatedDriver.name)
    monkeypatch.delenv(ORDERS, raising=False)
    yield home.root
    vms = Interlock(home)
    for status in vms.instances():
        if status.protected:
            vms.unprotect(status.name)
        vms.delete(status.name, force=True)


@pytest.fixture
def interlock_driver(monkeypatch: pytest.MonkeyPatch) -> "SimulatedDriver":
    """Return the simulated driver of this process, with no orders or answers set.

    Set its `answers` and `orders`, which the driver's class describes; `ran` lists what was run in the guests. After
    the test, all three have their former values.
    """
    from . import drivers
    from .drivers.simulated import SimulatedDriver

    driver = drivers.find(SimulatedDriver.name)
    assert isinstance(driver, SimulatedDriver)  # noqa: S101 - for the type checker
    fresh: dict[str, Any] = {"orders": None, "answers": {}, "ran": []}
    for name, value in fresh.items():
        monkeypatch.setattr(driver, name, value)
    return driver


@pytest.fixture
def interlock_template() -> "str | dict[str, Any]":
    """Return the template of `interlock_vm`, as `Interlock.create` takes it. Override it with your own template."""
    return "tiny"


@pytest.fixture
def interlock_vm(
    interlock_home: Path,
    interlock_driver: "SimulatedDriver",  # noqa: ARG001 - so that no test gets the answers of another
    interlock_template: "str | dict[str, Any]",
) -> str:
    """Return the name of a running instance in `interlock_home`."""
    from .api import Interlock

    return Interlock(interlock_home).up("vm", interlock_template).instance
