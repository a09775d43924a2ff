"""Makes a warm image.

The ordinary rows do it: an instance is created, started and deleted; while it runs, its driver captures one moment of
it. The instance is called `warming-IMAGE` and is visible meanwhile. A process that is killed leaves it behind. The next
process that makes a warm image of that image removes it: its spec says what it was made for.
"""

from dataclasses import replace
from typing import Any

from ..drivers.contract import Deadline, Driver
from ..errors import HostError, IllegalTransitionError, ImageError
from ..fsm import words
from ..fsm.engine import Engine
from ..fsm.records import checked_name, now
from ..fsm.table import Trigger
from ..host import cancellation
from ..host.files import make_private_directory
from ..host.locks import held
from ..host.progress import Report
from ..images import warm
from ..images.store import Image, Store
from ..images.warm import WarmImage
from ..templates.load import Loaded, builtin_names, load
from ..version import __version__
from .plan import described, machine_of, plan
from .warm import choose, programs
from .wishes import Wishes

_CATCH_S, _QUIET_S = 120.0, 120.0

_QUIET = "! command -v systemctl >/dev/null || systemctl is-system-running --wait"
"""Ends when the guest has started everything: each instance would have to repeat what is left to do."""


def ensure(engine: Engine, driver: Driver, loaded: Loaded, wishes: Wishes, report: Report) -> None:
    """Make a warm image for machines of the template `loaded` and `wishes`, if none fits.

    Raises what creating such an instance would raise, and what `make` raises.
    """
    image, spec = machine_of(engine.home, _name("any"), loaded, driver, wishes, report)
    if choose(Store(engine.home.images), image, spec)[0] is None:
        sizes = Wishes(cpus=spec.cpus, memory_bytes=spec.memory_bytes, disk_bytes=spec.disk_bytes)
        make(engine, driver, image, sizes, report)


def _name(image: str) -> str:
    """Return the name of the instance from which a warm image of `image` is made."""
    return checked_name(f"warming-{image}")


def _origin(image: str) -> str:
    """Return what the spec of that instance has as its origin."""
    return f"image warm {image}"


def make(
    engine: Engine,
    driver: Driver,
    image: Image,
    sizes: Wishes,
    report: Report,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> WarmImage | None:
    """Return the warm image of `image` for machines of `sizes`; make it if it does not exist, or with `force`. The
    default sizes are those of the built-in template of that name. A `dry_run` makes nothing, reports what would be
    done, and returns the existing warm image if that would be kept, else None.

    Raises ImageError for an image whose guests cannot take an identity while they run, HostError for a driver without
    warm images, IllegalTransitionError if the user has an instance of the name that is needed, and what the rows raise.
    """
    if not driver.abilities.warms:
        raise HostError(f'driver "{driver.name}" has no warm images')
    if image.first_boot[0] != "overlay" or image.kind != "built":
        raise ImageError(
            f"image {image.name} cannot be warmed: its guests have no agent that gives a running guest its identity; "
            "only images that Interlock builds have one"
        )
    home = engine.home
    store, name = Store(home.images), _name(image.name)
    base: dict[str, Any] = {"images": [{"location": f"build:{image.name}", "arch": image.arch}]}
    if image.name in builtin_names():
        base = {"base": f"template:{image.name}"}
    loaded = replace(
        load({**base, "mounts": [], "warm": "never", "propagateProxyEnv": False}), name=_origin(image.name)
    )
    # Everything else is as in most instances of this home: their guests need not be given what this one has.
    asked = Wishes(arch=image.arch, cpus=sizes.cpus, memory_bytes=sizes.memory_bytes, disk_bytes=sizes.disk_bytes)
    spec = described(home, name, loaded, driver, asked)
    if dry_run:
        there = None if force else choose(store, image, spec)[0]
        keeps = f"keeps its memory and disk in {store.warm}/ and deletes {name}"
        if not there:
            _check_whose(engine, name, loaded.name)
        report(_there(there) if there else f"creates and boots the instance {name}, {keeps}")
        return there
    make_private_directory(store.warm)
    with held(store.warm / "lock", "waiting for another process to make a warm image", report):
        there = None if force else choose(store, image, spec)[0]
        if there:
            report(_there(there))
            return there
        _check_whose(engine, name, loaded.name)
        _remove(engine, name)
        engine.create(name, plan(home, name, loaded, driver, asked))
        try:
            engine.fire(name, Trigger.start)
            site = engine.site(name)
            driver.run(site, ["sh", "-c", _QUIET], timeout_s=_QUIET_S)
            with store.writing(report) as writer:
                place = writer.work / warm.key(image.name, image.arch, spec)
                make_private_directory(place)
                driver.warm(site, place, report, Deadline(_CATCH_S))
                made = WarmImage(
                    image.name,
                    image.arch,
                    image.mark.digest,
                    driver.name,
                    spec.cpus,
                    spec.memory_bytes,
                    spec.disk_bytes,
                    programs(),
                    now(),
                    __version__,
                    place,
                )
                return warm.add(writer, made)
        finally:
            with cancellation.shielded():
                _remove(engine, name)


def _there(found: WarmImage) -> str:
    return f"image {found.image} already has a warm image, {found.machine}; --force makes it again"


def _check_whose(engine: Engine, name: str, origin: str) -> None:
    """Raise IllegalTransitionError if the instance `name` exists and was not made to warm an image."""
    if not engine.home.exists(name):
        return
    status = engine.status(name)
    if status.spec is None or status.spec.origin != origin:
        raise IllegalTransitionError(
            f'instance "{name}" was not made by `image warm`, which needs its name',
            hint=words.way(name, status.state, Trigger.rename),
        )


def _remove(engine: Engine, name: str) -> None:
    if engine.home.exists(name):
        engine.fire(name, Trigger.kill, force=True)
        engine.fire(name, Trigger.delete, force=True)
