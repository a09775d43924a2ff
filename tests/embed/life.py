"""A program as embedders write it: it takes machines through their lives, from several processes and threads at once.

Run as `python life.py DRIVER PROCESSES THREADS`, with the home in the environment. It ships no template file. It prints
one line of JSON for each machine: the output of its guests, and the transitions that a watcher in this process saw.
"""

import json
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import chain
from multiprocessing import get_context

from interlock import Interlock, Phase, SimulatedDriver, State, Wishes

TEMPLATE = {"images": [{"location": "build:tiny"}], "cpus": 1}
WISHES = Wishes(memory_bytes=256 << 20, disk_bytes=1 << 30)


def heard(stdin: bytes) -> str:
    """Return the answer of a simulated guest, which is the same as that of a real one."""
    return f"heard {stdin.decode()}"


def interlock(driver: str) -> Interlock:
    """Return the API with the given driver."""
    simulated = SimulatedDriver(answers={"sh -c 'read word && echo heard $word'": heard})
    return Interlock(driver=simulated if driver == "simulated" else driver)


def live(vms: Interlock, name: str) -> str:
    """Take the machine `name` and a fork through their lives, and clone it; return what the two guests said."""
    vms.create(name, TEMPLATE, WISHES)
    assert vms.start(name, timeout_s=600).state is State.running
    said = ask(vms, name)
    fork = f"{name}-fork"
    assert vms.fork(name, fork).changed
    assert vms.start(fork, timeout_s=600).state is State.running
    said += ask(vms, fork)
    vms.delete(fork, force=True)
    vms.stop(name)
    assert vms.clone(name, f"{name}-copy").changed
    return said


def ask(vms: Interlock, name: str) -> str:
    """Return the answer of the guest of `name` to its own name."""
    return vms.run(name, ["sh", "-c", "read word && echo heard $word"], input=f"{name}\n", timeout_s=300).text


def live_many(driver: str, names: list[str]) -> list[str]:
    """Take the machines `names` through their lives at once, one thread each, and return what their guests said."""
    vms = interlock(driver)
    with ThreadPoolExecutor(len(names)) as threads:
        return list(threads.map(live, [vms] * len(names), names))


def main(driver: str, processes: int, threads: int) -> None:
    """Run all machines, and print what each said and what the watcher saw of it."""
    groups = [[f"p{process}t{thread}" for thread in range(threads)] for process in range(processes)]
    names = [name for group in groups for name in group]
    vms = interlock(driver)
    seen: dict[str, list[str]] = {name: [] for name in names}
    cloned = {name: threading.Event() for name in names}
    failed = threading.Event()
    changes = vms.watch(names, until=lambda: failed.is_set() or all("delete" in done for done in seen.values()))

    def watch() -> None:
        for change in changes:
            if change.line is not None and change.line.phase == Phase.done:
                seen[change.instance].append(change.line.trigger)
                if change.line.trigger == "clone":
                    cloned[change.instance].set()

    def end(name: str) -> None:
        """Delete `name` and its clone once the watcher has seen the clone: it may miss what is deleted too soon."""
        assert cloned[name].wait(300)
        vms.delete(name)
        vms.delete(f"{name}-copy")

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            said = list(chain.from_iterable(pool.map(live_many, [driver] * processes, groups)))
        with ThreadPoolExecutor() as ending:
            list(ending.map(end, names))
    except BaseException:
        failed.set()
        raise
    finally:
        watcher.join()
    for name, words in zip(names, said, strict=True):
        sys.stdout.write(json.dumps({"name": name, "said": words, "seen": seen[name]}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
