"""Where a socket that opens in a guest appears on the host."""

import pytest

from interlock.creation.resolve import port_rules
from interlock.fsm.spec import PortRule
from interlock.keeper import rules
from interlock.templates.parts import PortForward

HOST = "192.0.2.1"

RULES = (
    {"guestIP": "127.0.0.2", "guestPortRange": [3000, 3009], "hostPortRange": [2000, 2009], "ignore": True},
    {"guestIP": "0.0.0.0", "guestIPMustBeZero": False, "guestPortRange": [3010, 3019], "ignore": True},
    {"guestIP": "0.0.0.0", "guestIPMustBeZero": False, "guestPortRange": [3000, 5029], "hostPortRange": [2000, 4029]},
    # The rule before covers all of this range.
    {"guestIP": "0.0.0.0", "guestIPMustBeZero": False, "guestPortRange": [3020, 3029], "ignore": True},
    {"guestPortRange": [6000, 7999], "hostPortRange": [8000, 9999], "hostIP": HOST},
    {"guestPortRange": [10000, 11999], "guestIPMustBeZero": True},
    {"guestIP": "0.0.0.0", "guestPort": 12000, "hostPort": 12001},
    {"guestIP": "127.0.0.3", "guestPort": 13000, "ignore": True},
    {"proto": "udp", "guestPort": 14000, "ignore": True},
)


def made(*asked: dict[str, object], default: bool = True) -> tuple[PortRule, ...]:
    """Return the rules of a template with these `portForwards`."""
    return port_rules(tuple(PortForward.model_validate(one) for one in asked), default=default)


@pytest.mark.parametrize(
    ("socket", "host"),
    [
        (("127.0.0.1", 8080), ("127.0.0.1", 8080)),
        (("0.0.0.0", 8080), ("127.0.0.1", 8080)),
        (("::", 8080), ("127.0.0.1", 8080)),
        (("::1", 8080), ("127.0.0.1", 8080)),
        (("127.0.0.53", 5353), None),
        (("10.0.2.15", 8080), None),
        (("0.0.0.0", 22), None),
        (("127.0.0.1", 22), None),
        (("0.0.0.0", 80), None),
        (("0.0.0.0", 1023), None),
        (("0.0.0.0", 1024), ("127.0.0.1", 1024)),
        (("0.0.0.0", 65535), ("127.0.0.1", 65535)),
    ],
)
def test_rules_without_any_of_the_template_s_forward_loopback_to_loopback(
    socket: tuple[str, int], host: tuple[str, int] | None
) -> None:
    """The last rule is always there: it forwards the guest's loopback to the host's, except ports below 1024."""
    assert [(way.host_ip, way.host_port) for way in rules.ways(made(), [socket])] == ([host] if host else [])


@pytest.mark.parametrize(
    ("socket", "host"),
    [
        (("127.0.0.2", 3000), None),
        (("127.0.0.3", 3001), ("127.0.0.1", 2001)),
        (("0.0.0.0", 3002), ("127.0.0.1", 2002)),
        (("0.0.0.0", 3010), None),
        (("127.0.0.1", 3011), None),
        (("127.0.0.2", 3020), ("127.0.0.1", 2020)),
        (("::", 3023), ("127.0.0.1", 2023)),
        (("::1", 3024), ("127.0.0.1", 2024)),
        (("127.0.0.1", 6030), (HOST, 8030)),
        (("::", 6032), (HOST, 8032)),
        (("192.168.5.15", 6034), None),
        (("0.0.0.0", 10000), ("127.0.0.1", 10000)),
        (("127.0.0.1", 10000), ("127.0.0.1", 10000)),
        (("0.0.0.0", 12000), None),
        (("127.0.0.1", 12000), ("127.0.0.1", 12000)),
        (("127.0.0.3", 13000), None),
        (("0.0.0.0", 13000), ("127.0.0.1", 13000)),
        (("0.0.0.0", 14000), ("127.0.0.1", 14000)),
    ],
)
def test_first_rule_that_fits_decides_as_in_lima(socket: tuple[str, int], host: tuple[str, int] | None) -> None:
    """Order, ranges, addresses, `ignore` and `guestIPMustBeZero` mean what Lima's own tests of its rules say.

    A port that one of the spec's forwards leads to (12000, on every address) gets no second way.
    """
    assert [(way.host_ip, way.host_port) for way in rules.ways(made(*RULES), [socket])] == ([host] if host else [])


def test_way_leads_to_where_the_program_listens() -> None:
    """A program on every address is reached by the loopback of its family; any other by its own address."""
    sockets = [("0.0.0.0", 2000), ("::", 2001), ("::1", 2002), ("127.0.0.1", 2003)]

    assert [(way.guest_ip, way.guest_port) for way in rules.ways(made(), sockets)] == [
        ("127.0.0.1", 2000),
        ("127.0.0.1", 2003),
        ("::1", 2001),
        ("::1", 2002),
    ]


def test_two_sockets_on_one_port_share_a_way() -> None:
    """A program that listens on both families has one port of the host, and the way leads to IPv4."""
    (way,) = rules.ways(made(), [("::", 8080), ("0.0.0.0", 8080)])

    assert (way.guest_ip, way.host_ip, way.host_port) == ("127.0.0.1", "127.0.0.1", 8080)


def test_guest_that_opens_all_its_ports_gets_a_bounded_number_of_ways() -> None:
    """A guest is not trusted with the number of sockets that the host opens for it."""
    assert len(rules.ways(made(), [("0.0.0.0", port) for port in range(2000, 4000)])) == rules.MOST


@pytest.mark.parametrize(
    "asked",
    [
        [{"guestIP": "0.0.0.0", "guestIPMustBeZero": False, "ignore": True}],
        [{"guestPort": 80}, {"guestIP": "0.0.0.0", "guestIPMustBeZero": False, "ignore": True, "proto": "any"}],
    ],
)
def test_template_that_ignores_all_ports_has_no_rules(asked: list[dict[str, object]]) -> None:
    """If no port can ever be forwarded, there are no rules, and nothing has to watch the guest."""
    assert made(*asked) == ()


def test_instance_without_the_default_rule_has_no_rules_unless_it_asks_for_some() -> None:
    """A driver that does not watch guests gets no default rule; a range that the template gives is kept."""
    assert made({"guestPort": 80}, default=False) == ()
    assert len(made({"guestPortRange": [1, 65535]}, default=False)) == 1
