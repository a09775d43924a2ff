"""A program as embedders write it, which mypy and pyright check strictly against the installed package."""

import asyncio
import logging
from pathlib import Path

from interlock import (
    Change,
    Completed,
    Event,
    Image,
    Interlock,
    InterlockError,
    Outcome,
    SimulatedDriver,
    State,
    Status,
    Verdict,
    Wishes,
    aio,
)

TEMPLATE = {"images": [{"location": "build:tiny"}], "cpus": 2}


def heard(event: Event) -> None:
    """Log the event's message."""
    logging.getLogger(__name__).info(event.message)


def life(home: Path) -> list[str]:
    """Take an instance through its life, and return what was learned about it, or the error of the delete."""
    vms = Interlock(home, driver="simulated", on_event=heard)
    made: Outcome = vms.create("web", TEMPLATE, Wishes(memory_bytes=1 << 30))
    assert made.state is State.created
    vms.start("web", timeout_s=60, on_event=heard)
    done: Completed = vms.run("web", ["uname", "-a"], input=b"", timeout_s=10)
    status: Status = vms.status("web")
    verdicts: list[Verdict] = vms.can("web")
    images: tuple[Image, ...] = vms.images.list()
    try:
        vms.delete("web")
    except InterlockError as error:
        return [error.message, error.hint or "", *error.details]
    return [done.text, status.state, *(verdict.why for verdict in verdicts), *(image.name for image in images)]


async def at_once(vms: Interlock) -> Change | None:
    """Start two instances at once, and return the first change of either."""
    outcomes: list[Outcome] = await asyncio.gather(*(aio.call(vms.start, name, timeout_s=60) for name in ("a", "b")))
    async for change in aio.iterate(vms.watch([outcome.instance for outcome in outcomes], since="2026-01-01")):
        return change
    return None


def tested() -> str:
    """Return the answer of a simulated guest, and the name of its instance."""
    driver = SimulatedDriver(orders={}, memory={}, answers={"uname -r": "6.1.0"})
    vms = Interlock(driver=driver)
    with vms.throwaway("tiny") as vm:
        return vms.run(vm, ["uname", "-r"]).text + driver.ran[0].instance
