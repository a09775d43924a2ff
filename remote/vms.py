"""`Interlock(home)` and `Interlock(host=...)`: the API that programs import.

    vms = Interlock(host="ssh://me@build.example.org", on_event=lambda event: print(event.message))
    vms.create("web", "debian")
    vms.start("web")

Modules for other hosts are loaded only when needed.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Self

from .. import api
from ..errors import UsageError
from ..fsm.events import Announce, quiet
from ..host.home import Home

if TYPE_CHECKING:
    from ..drivers.contract import Driver


class Interlock(api.Interlock):
    __doc__ = f"""{api.Interlock.__doc__}
    `host` names another host: `ssh://[user@]host[:port][/home]`, or a name from hosts.yaml. Calls then act on its
    instances, through the Interlock that is installed there, and `home` is not given. Paths are paths on that host,
    except for templates and the local side of `copy`.
    """

    def __new__(
        cls,
        home: Path | Home | None = None,  # noqa: ARG004 - as `__init__`
        *,
        host: str | None = None,
        driver: "str | Driver | None" = None,  # noqa: ARG004
        on_event: Announce = quiet,  # noqa: ARG004
        dry_run: bool = False,  # noqa: ARG004
        wait_s: float = 0.0,  # noqa: ARG004
    ) -> Self:
        """Return the API on this host's instances, or on those of `host`."""
        if host is not None and cls is Interlock and _is_another(host):
            cls = import_module(".client", __package__).RemoteInterlock  # noqa: PLW0642 - a class derived from this one
        return object.__new__(cls)

    def __init__(
        self,
        home: Path | Home | None = None,
        *,
        host: str | None = None,
        driver: "str | Driver | None" = None,
        on_event: Announce = quiet,
        dry_run: bool = False,
        wait_s: float = 0.0,
    ) -> None:
        if host is not None and _is_another(host):  # `__new__` did not choose the class for that: this one is derived
            raise UsageError(
                f"{type(self).__name__}, a class derived from Interlock, acts on this host only; "
                f'for another, call Interlock(host="{host}") itself'
            )
        super().__init__(home, driver=driver, on_event=on_event, dry_run=dry_run, wait_s=wait_s)


def _is_another(host: str) -> bool:
    from .address import find

    return find(host) is not None
