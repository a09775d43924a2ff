"""Where a socket that opens in a guest appears on the host: the rules of Lima's `portForwards`.

The first rule that fits a socket decides. A socket on every address of the guest (`0.0.0.0`, `::`) fits a rule for any
address, and one on `::1` a rule for `127.0.0.1`. Only a rule that ignores a single address leaves a socket on every
address to the rules after it. Source: lima-vm/lima, `pkg/portfwd/forward.go`.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from ..fsm.spec import Forward, PortRule

SSH = 22
"""The guest's own sshd, to which every instance has a forward anyway."""

PRIVILEGED = 1024
"""Only root can use the host's ports below this one, so they are never forwarded automatically."""

MOST = 256
"""A guest may open any number of ports, and each forward costs the host a socket."""

_LOOPBACK, _LOOPBACK_6 = "127.0.0.1", "::1"


def ways(rules: Sequence[PortRule], sockets: Iterable[tuple[str, int]]) -> tuple[Forward, ...]:
    """Return the forwards that lead to `sockets`, the addresses and ports that the guest listens on.

    Of two for the same port of the host, one is chosen: IPv4 before IPv6, then the lower port. At most MOST.
    """
    found: dict[tuple[str, int], Forward] = {}
    for ip, port in sorted(sockets, key=lambda socket: (":" in socket[0], socket[1], socket[0])):
        if (way := _way(rules, ip, port)) and len(found) < MOST:
            found.setdefault((way.host_ip, way.host_port), way)
    return tuple(found.values())


def _way(rules: Sequence[PortRule], ip: str, port: int) -> Forward | None:
    """Return the forward that leads to the socket on `ip`:`port` of the guest; None if it gets no forward."""
    if port == SSH:
        return None
    unspecified = ip_address(ip).is_unspecified
    for rule in rules:
        if not (rule.first <= port <= rule.last and _fits(rule, ip, unspecified=unspecified)):
            continue
        if rule.act == "ignore" and unspecified and not ip_address(rule.guest_ip).is_unspecified:
            continue
        host_port = rule.host_port + port - rule.first
        if rule.act != "forward" or host_port < PRIVILEGED:
            return None
        target = (_LOOPBACK_6 if ":" in ip else _LOOPBACK) if unspecified else ip
        return Forward("tcp", target, port, "", rule.host_ip, host_port, "", reverse=False)
    return None


def _fits(rule: PortRule, ip: str, *, unspecified: bool) -> bool:
    if unspecified or ip == rule.guest_ip or (ip, rule.guest_ip) == (_LOOPBACK_6, _LOOPBACK):
        return True
    return ip_address(rule.guest_ip).is_unspecified and not rule.exact
