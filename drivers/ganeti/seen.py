"""An instance as its cluster describes it, in our terms.

Source: Ganeti, gnt-instance(8), "status"; the fields come from RAPI's `/2/instances`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...host.bounds import WORD_LENGTH, clipped

OF_HOME, OF_INSTANCE = "interlock:home:", "interlock:instance:"
"""Beginnings of tags that name the home an instance belongs to, and the instance of that home."""


class Claim(NamedTuple):
    """A tag that names a home: `interlock:home:MARK`, or `interlock:home:MARK:TURN`. The lowest claim counts."""

    turn: int
    """How often the instance had been adopted before, 0 for the home that created it."""
    mark: str
    tag: str

    @classmethod
    def of(cls, tag: str) -> "Claim":
        """Return the claim that `tag` makes, which begins with OF_HOME."""
        said = tag.removeprefix(OF_HOME)
        mark, _, turn = said.rpartition(":")
        return cls(int(turn), mark, tag) if mark and turn.isdecimal() else cls(0, said, tag)


_ALIVE = frozenset({"running", "ERROR_up", "ERROR_wrongnode"})
_DOWN = frozenset({"ADMIN_down", "ADMIN_offline", "USER_down", "ERROR_down"})
_UNKNOWN = {"ERROR_nodedown": "does not answer", "ERROR_nodeoffline": "is set offline"}


class Seen(NamedTuple):
    """One instance, as the cluster sees it."""

    name: str
    status: str
    node: str
    """The node on which it runs, or would run."""
    tags: frozenset[str]
    address: str
    """The address of its first card; empty if the cluster does not know it."""
    memory_mib: int
    cpus: int
    serial: int
    """A number that changes whenever the cluster's record of the instance changes."""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Seen":
        """Return the instance that RAPI's record `data` describes."""
        sizes = data.get("beparams") or {}
        addresses = data.get("nic.ips") or [None]
        return cls(
            name=str(data.get("name", "")),
            status=str(data.get("status", "")),
            node=str(data.get("pnode", "")),
            tags=frozenset(map(str, data.get("tags") or ())),
            address=str(addresses[0] or ""),
            memory_mib=_number(sizes.get("maxmem")),
            cpus=_number(sizes.get("vcpus")),
            serial=_number(data.get("serial_no")),
        )

    @property
    def alive(self) -> bool | None:
        """Whether it runs; None if its node does not answer, or if we do not know the status that the cluster gives."""
        return True if self.status in _ALIVE else False if self.status in _DOWN else None

    @property
    def unknown(self) -> str:
        """Why it is unknown whether it runs."""
        if self.status in _UNKNOWN:
            return f"its node {self.node} {_UNKNOWN[self.status]}"
        return f'the cluster gives it the status "{clipped(self.status, WORD_LENGTH)}"'

    @property
    def silent(self) -> bool:
        """True if its node does not answer although it is not set offline."""
        return self.status == "ERROR_nodedown"

    @property
    def condition(self) -> str | None:
        """What is wrong with a running instance; None if nothing is."""
        if self.status == "ERROR_wrongnode":
            return "it runs on another node than the cluster has on record; `gnt-cluster verify` says more"
        return None

    @property
    def exit_reason(self) -> str:
        """Why it is down, if it was not ended from here."""
        if self.status == "USER_down":
            return "guest shut down"
        if self.status == "ERROR_down":
            return "the guest shut down, or its hypervisor ended"
        return "stopped in the cluster"

    def belongs_to(self, instance_id: str) -> bool:
        """True if it was made for the instance with that id."""
        return instance_id in self.instance_ids

    @property
    def instance_ids(self) -> list[str]:
        """The spec ids of the instances that it was made for, normally one; empty if no home made it."""
        return [tag.removeprefix(OF_INSTANCE) for tag in sorted(self.tags) if tag.startswith(OF_INSTANCE)]

    @property
    def claims(self) -> list[Claim]:
        """The claims of homes to it, the one that counts first; normally one (`ownership`)."""
        return sorted(Claim.of(tag) for tag in self.tags if tag.startswith(OF_HOME))

    @property
    def home(self) -> str:
        """The mark of the home that it belongs to; empty if it belongs to no home."""
        return next((claim.mark for claim in self.claims), "")

    def next_claim(self, mark: str) -> Claim:
        """Return a claim of the home with that mark that counts once the present ones are gone."""
        return Claim.of(f"{OF_HOME}{mark}:{1 + max((claim.turn for claim in self.claims), default=0)}")


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
