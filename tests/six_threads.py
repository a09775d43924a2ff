"""Run by tests as `python six_threads.py DRIVER`: six threads begin at once, each with its own instance."""

import sys
import threading
import traceback

from interlock import Interlock

begin = threading.Barrier(6)
states: list[str] = []
failed: list[str] = []


def live(name: str, driver: str) -> None:
    """Create the instance `name`, start and stop it if it is simulated, delete it, and record its last state."""
    try:
        begin.wait()
        vms = Interlock()
        outcome = vms.create(name, "tiny", driver=driver)
        if driver == "simulated":
            vms.start(name)
            outcome = vms.stop(name)
        vms.delete(name)
        states.append(outcome.state)
    except BaseException:  # noqa: BLE001 - it is printed, whatever it is
        traceback.print_exc()
        failed.append(name)


threads = [threading.Thread(target=live, args=[f"w{number}", sys.argv[1]]) for number in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.stdout.write("".join(f"{state}\n" for state in states))
sys.exit(len(failed))
