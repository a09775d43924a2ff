"""The network that guests of one home's instances share, without root: a card in each, and a switch between them.

    RUNTIME/net-KEY/            for the instances beside each other in one folder; private to their owner
    ├── KEY.sock                at which the hypervisor of the instance whose sockets are in RUNTIME/KEY receives
    └── lock, switch            as `switch` has them

A hypervisor sends each frame of its guest as a datagram to the path of the switch's socket, so it does not notice when
another switch takes over. Only processes that can enter the folder can join. Addresses follow from the instances' ids
(`guest.lan`); whenever a guest has come up, all running guests are given the names (`introduce`).
"""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...errors import DriverError, HostError, InterlockError
from ...fsm.spec import Spec
from ...guest import agent as said
from ...guest import lan, ssh
from ...guest.seed import PROGRAM
from ...host.files import make_private_directory, remove_tree
from ...host.home import neighbours, owner
from ...host.progress import Report
from ..contract import Site
from . import agent, hypervisor, ssh_control, switch
from .capabilities import Capabilities
from .monitor import Monitor

_ID = "lan"
"""What QEMU calls the network."""

_CARD = "lan-card"

_TELLING_S, _TELLING_OTHERS_S = 30.0, 5.0
"""How long the guest that has come up may take to learn the names, which takes milliseconds; and how long any other
guest may take, because it may be paused."""

_TOLD = f'printf "%s\\n" "$1" | sh {PROGRAM} peers'

_LEAST = (7, 2)
"""The version of QEMU that brought networks of datagrams."""


def arguments(site: Site, capabilities: Capabilities) -> list[str]:
    """Return QEMU's options for the card of `site` on the network; an empty list if it is not on one."""
    if not site.spec.lan:
        return []
    if tuple(map(int, capabilities.version.split(".")[:2])) < _LEAST:
        raise HostError(
            f"networks between instances need QEMU {'.'.join(map(str, _LEAST))}; this is {capabilities.version}"
        )
    own, switch_ = _socket(site), _folder(site) / "switch"
    return [
        "-netdev",
        f"dgram,id={_ID},local.type=unix,local.path={_value(own)},remote.type=unix,remote.path={_value(switch_)}",
        "-device", f"virtio-net-pci,id={_CARD},netdev={_ID},mac={lan.place(site.spec.instance_id).mac},romfile=",
    ]  # fmt: skip


def prepare(site: Site) -> None:
    """Make the folder of the network of `site`, if it is on one.

    Raises DriverError where another instance on it, which runs, has the same address.
    """
    if not site.spec.lan:
        return
    make_private_directory(_folder(site))
    mine = lan.place(site.spec.instance_id).address
    for other in members(site):
        if other.directory != site.directory and lan.place(other.spec.instance_id).address == mine:
            raise DriverError(
                f'running instance "{other.name}" has the same address on the network of instances ({mine}): stop it, '
                f'or create "{site.name}" again to get another address'
            )


def beside(site: Site) -> list[list[str]]:
    """Return the programs that run beside the hypervisor of `site` for the network: its switch."""
    if not site.spec.lan:
        return []
    return [[sys.executable, "-I", "-S", str(Path(switch.__file__).absolute()), str(_folder(site))]]


def members(site: Site) -> Iterator[Site]:
    """Yield the instances on the network of `site` whose hypervisors run, `site` among them."""
    for socket in sorted(_folder(site).glob("*.sock")):
        runtime = site.runtime.parent / socket.stem
        directory = owner(runtime)
        with suppress(InterlockError, OSError):  # a damaged instance must not affect the others
            if directory and hypervisor.look(directory).alive:
                yield Site(directory.name, directory, runtime, Spec.read(directory))


def introduce(site: Site, report: Report) -> None:
    """Tell the guests on the network of `site`, whose own has come up, by which names to reach each other.

    One that does not listen learns them when it comes up itself.
    """
    present = list(members(site))
    lines = [f"{lan.place(it.spec.instance_id).address} {' '.join(lan.names(it.name))}" for it in present]
    for one in present:
        own = one.directory == site.directory
        if not _informed(one, "\n".join(lines), _TELLING_S if own else _TELLING_OTHERS_S) and own:
            report("the guest did not learn the names of the others")


def plug(site: Site, *, plugged: bool) -> None:
    """Plug or unplug the cable of the card of `site`, if it has one.

    A copy that has not taken its identity yet has the addresses of its original, so it must not be plugged in.
    """
    if site.spec.lan:
        with Monitor(site.runtime) as monitor:
            monitor.ask("set_link", name=_CARD, up=plugged)


def forget(site: Site) -> None:
    """Remove the socket of `site`, whose hypervisor has ended."""
    remove_tree(_socket(site))


def _informed(site: Site, lines: str, timeout_s: float) -> bool:
    """Return whether the guest of `site` was given `lines`: by its agent, or over ssh if that is open."""
    if agent.listens(site.directory):
        with suppress(said.AgentError):
            agent.ask(site.runtime, "peers", said.escaped({"peers": lines.encode()}), timeout_s=timeout_s)
            return True
    if not ssh_control.call(site.runtime):
        return False
    ssh.attempt(site.directory / ssh.CONFIG, site.name, ssh.as_root("sh", "-c", _TOLD, "sh", lines), timeout_s)
    return True


def _folder(site: Site) -> Path:
    return neighbours(site.runtime.parent, site.directory)


def _socket(site: Site) -> Path:
    return _folder(site) / f"{site.runtime.name}.sock"


def _value(path: Path) -> str:
    return os.fspath(path).replace(",", ",,")
