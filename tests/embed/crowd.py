"""Many callers of one home: processes with several threads each, which make random calls on the same few instances.

Run as `python crowd.py SEED PROCESSES THREADS CALLS`, with the home in the environment; machines are simulated. It
prints one line of JSON for each call: `[name, trigger, new name, result]`; the result is `changed`, `held`, or the
class of the error.
"""

import json
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

from interlock import Interlock, InterlockError

STAYING = ("a", "b")
"""Instances that are never deleted, so that their whole history is available at the end."""

PASSING = ("c", "d", "e")

ASKED = (
    *((name, trigger) for name in STAYING for trigger in ("start", "stop", "kill", "suspend", "reset", "clone")),
    *((name, trigger) for name in PASSING for trigger in ("create", "create", "start", "kill", "rename", "delete")),
)

Call = tuple[str, str, str, str]


def calls(seed: int, count: int) -> Iterator[Call]:
    """Make `count` random calls, and yield each with its result."""
    chance = random.Random(seed)  # noqa: S311 - not for cryptography
    vms = Interlock(driver="simulated")
    for _ in range(count):
        name, trigger = chance.choice(ASKED)
        new = chance.choice([other for other in PASSING if other != name]) if trigger in {"clone", "rename"} else ""
        arguments = ["tiny"] if trigger == "create" else [new] if new else []
        try:
            outcome = getattr(vms, trigger)(name, *arguments)
        except InterlockError as error:
            yield name, trigger, new, type(error).__name__
        else:
            yield name, trigger, new, "changed" if outcome.changed else "held"


def crowd(seed: int, threads: int, count: int) -> list[Call]:
    """Make random calls from `threads` threads at once, and return them with their results."""

    def one(number: int) -> list[Call]:
        return list(calls(seed + number, count))

    with ThreadPoolExecutor(threads) as pool:
        return [call for made in pool.map(one, range(threads)) for call in made]


def main(seed: int, processes: int, threads: int, count: int) -> None:
    """Create the instances in STAYING, and print the results of all calls."""
    for name in STAYING:
        Interlock(driver="simulated").create(name, "tiny")
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        seeds = [seed + number * threads for number in range(processes)]
        for made in pool.map(crowd, seeds, [threads] * processes, [count] * processes):
            sys.stdout.writelines(f"{json.dumps(call)}\n" for call in made)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
