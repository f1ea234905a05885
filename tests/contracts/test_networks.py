"""Twin of contracts.networks: one spelling, one answer, whichever way an address is written."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.networks import (
    AddressFilter,
    NetworkError,
    Networks,
    canonical_address,
    canonical_network,
    counted_as,
)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::/0", "::/0"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:c000:207", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("64:ff9b::/96", "64:ff9b::/96"),
    ],
)
def test_a_network_has_one_spelling(text: str, canonical: str) -> None:
    assert canonical_network(text) == canonical
    assert canonical_network(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("192.0.2.7/24", "has host bits set: write 192.0.2.0/24, or one address alone"),
        ("2001:db8::1/32", "has host bits set: write 2001:db8::/32"),
        ("", "must be a network like"),
        ("192.0.2.0/33", "must be a network like"),
        ("192.0.2", "must be a network like"),
        ("192.0.02.0/24", "must be a network like"),
        ("api.example.com", "must be a network like"),
        ("fe80::1%eth0", "zone"),
    ],
)
def test_what_is_no_network_is_refused_and_host_bits_are_not_guessed_away(text: str, word: str) -> None:
    with pytest.raises(NetworkError, match=word):
        canonical_network(text)


def test_the_smallest_network_that_holds_an_address_is_named() -> None:
    networks = Networks(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32"])
    assert networks.holding("10.1.2.3") == "10.1.2.3/32"
    assert networks.holding("10.1.2.4") == "10.1.0.0/16"
    assert networks.holding("10.2.0.0") == "10.0.0.0/8"
    assert networks.holding("11.0.0.0") is None
    assert networks.holding("2001:db8::1%eth0") == "2001:db8::/32"
    assert networks.holding("2001:db9::1") is None
    assert (len(networks), repr(networks)) == (4, "<Networks 4>")


def test_ipv4_inside_ipv6_is_ipv4_in_rules_and_in_clients() -> None:
    assert Networks(["192.0.2.0/24"]).holding("::ffff:192.0.2.9") == "192.0.2.0/24"
    assert Networks(["::ffff:192.0.2.0/120"]).holding("192.0.2.9") == "192.0.2.0/24"
    assert Networks(["::/0"]).holding("::ffff:192.0.2.9") is None
    assert Networks(["0.0.0.0/0"]).holding("::1") is None
    assert str(canonical_address("::ffff:192.0.2.9")) == "192.0.2.9"


def test_what_is_no_address_is_an_error() -> None:
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        Networks([]).holding("unix")


_NETWORKS = st.builds(
    lambda number, length: str(ipaddress.ip_network((number, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


@given(st.lists(_NETWORKS, max_size=8), st.integers(0, 2**32 - 1))
def test_the_answer_is_that_of_asking_each_network_in_turn(texts: list[str], number: int) -> None:
    address = ipaddress.ip_address(number)
    holding = [network for text in texts if address in (network := ipaddress.ip_network(text))]
    smallest = max(holding, key=lambda network: network.prefixlen, default=None)
    assert Networks(texts).holding(str(address)) == (None if smallest is None else str(smallest))


@pytest.mark.parametrize(
    ("allow", "deny", "ip", "allowed", "because"),
    [
        ([], ["192.0.2.7"], "192.0.2.7", False, "192.0.2.7/32 is denied"),
        ([], ["192.0.2.7"], "::ffff:192.0.2.7", False, "192.0.2.7/32 is denied"),
        ([], ["192.0.2.7"], "192.0.2.8", True, "nothing denies it"),
        ([], [], "192.0.2.8", True, "nothing denies it"),
        (["192.0.2.0/24"], [], "192.0.2.8", True, "192.0.2.0/24 is allowed"),
        (["192.0.2.0/24"], [], "198.51.100.1", False, "nothing allows it"),
        (["192.0.2.0/24"], [], "2001:db8::1", False, "nothing allows it"),
        (["192.0.2.0/24"], ["192.0.2.8"], "192.0.2.8", False, "192.0.2.8/32 is denied"),
        (["192.0.2.8"], ["192.0.2.0/24"], "192.0.2.8", False, "192.0.2.0/24 is denied"),
        ([], ["192.0.2.7"], "unix", False, "it is no IP address"),
        (["0.0.0.0/0", "::/0"], [], "unix", False, "it is no IP address"),
    ],
)
def test_deny_wins_and_an_allow_list_denies_everybody_else(
    allow: list[str], deny: list[str], ip: str, allowed: bool, because: str
) -> None:
    assert AddressFilter(allow, deny).judge(ip) == (allowed, because)


def test_a_filter_says_how_large_it_is() -> None:
    assert repr(AddressFilter(["10.0.0.0/8"], ["10.0.0.1", "10.0.0.2"])) == "<AddressFilter allow=1 deny=2>"


def test_a_client_counts_by_its_ipv4_address_or_its_ipv6_network() -> None:
    assert counted_as("192.0.2.7") == counted_as("::ffff:192.0.2.7") != counted_as("192.0.2.8")
    assert counted_as("2001:db8:0:1::1") == counted_as("2001:db8:0:1:ffff::%eth0") != counted_as("2001:db8:0:2::1")
