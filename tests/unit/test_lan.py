"""Places on the network of instances: each follows from an instance's id, without an allocator."""

from ipaddress import ip_address, ip_network

from interlock.guest import lan


def test_place_follows_from_the_id():
    """The place for an id never changes, so there is no list of places to get wrong."""
    assert lan.place("i-1") == lan.place("i-1")
    assert lan.place("i-1").address != lan.place("i-2").address
    assert lan.place("i-1").mac != lan.place("i-2").mac


def test_place_is_a_host_on_a_network_that_nobody_uses():
    """The address is neither the network's nor the broadcast address, and the MAC is locally administered."""
    network = ip_network("198.18.0.0/15")
    places = [lan.place(f"i-{number}") for number in range(3000)]
    assert all(ip_address(place.address) in network for place in places)
    assert {str(network[0]), str(network[-1])}.isdisjoint(place.address for place in places)
    assert {int(place.mac[:2], 16) & 3 for place in places} == {2}, "local, and of one card"
    assert places[0].with_prefix == f"{places[0].address}/15"


def test_places_are_rarely_the_same():
    """Places coincide as rarely as chance has it: about thirty times among 3000 guests."""
    assert len({lan.place(f"i-{number}").address for number in range(3000)}) > 2900
