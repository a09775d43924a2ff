"""One command to a hypervisor's monitor, and its answer or the reason why there is none.

The monitor is a unix socket in the runtime directory; it serves one client at a time, and a hypervisor that hangs
accepts a connection and then says nothing. So every call opens, asks and closes, within a few seconds.
"""

from pathlib import Path

from ...errors import DriverError

SOCKET = "qmp.sock"

TIMEOUT_S = 3.0
"""An idle monitor answers in a millisecond, one under full load in tens of them."""


class MonitorError(DriverError):
    """The hypervisor did not answer on its monitor; that says nothing about whether it lives."""


def execute(runtime: Path, command: str, timeout_s: float = TIMEOUT_S) -> object:
    """Return what the hypervisor of the runtime directory answers to `command`; raise MonitorError if it does not."""
    from concurrent.futures import ThreadPoolExecutor

    # A thread of its own, because a program that embeds Interlock may run an event loop in this one.
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_execute, runtime / SOCKET, command, timeout_s).result()


def _execute(socket: Path, command: str, timeout_s: float) -> object:
    # Slow to import, and needed only by commands that talk to a monitor.
    import asyncio
    import logging

    from qemu.qmp import QMPClient, QMPError

    # What goes wrong is raised here in our words; the library would also print it in its own.
    logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL + 1)

    async def conversation() -> object:
        client = QMPClient()
        async with asyncio.timeout(timeout_s):
            await client.connect(str(socket))
            try:
                return await client.execute(command)
            finally:
                await client.disconnect()

    try:
        return asyncio.run(conversation())
    except TimeoutError as err:
        raise MonitorError(f"the monitor did not answer in {timeout_s:.1f} s") from err
    except (QMPError, OSError, EOFError) as err:
        cause = err.__cause__ or err
        raise MonitorError(f"the monitor refused {command}: {cause}") from err
