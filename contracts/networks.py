"""Networks that clients come from, as a tenant writes them and as the edge asks about them.

In:    CIDR texts; a client's address as text.
Out:   the one canonical text of a network; Networks, which says which of them holds an address; AddressFilter, which
       says whether an address may come.
Laws:  1. An IPv4 address inside IPv6 (::ffff:0:0/96, RFC 4291 section 2.5.5.2) is that IPv4 address, in rules and in
       clients: one client has one identity. 2. What has host bits set is refused, not guessed at. 3. Asking costs one
       look-up for each length of prefix that is used, whatever the number of networks.
Not here: which addresses we may connect to (contracts.addresses), what follows from a match (edge.phases).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

_MAPPED_BITS: Final = 96


class NetworkError(ValueError):
    """The text names no network; the message is for the person who wrote it."""


def canonical_network(text: str) -> str:
    """Give a network in CIDR form; an address alone is a network of one. Raises NetworkError."""
    if "%" in text:
        raise NetworkError("must not carry a zone")
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise NetworkError(_mended(text)) from None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return f"{mapped}/{network.prefixlen - _MAPPED_BITS}"
    return str(network)


def _mended(text: str) -> str:
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "must be a network like 192.0.2.0/24 or 2001:db8::/32"
    return f"has host bits set: write {meant}, or one address alone"


def canonical_address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read a client's address: without a zone, and as IPv4 where IPv4 is inside. Raises ValueError."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class Networks:
    """Canonical networks, ready to be asked. Raises NetworkError when made of a text that is none."""

    __slots__ = ("_by_length",)

    def __init__(self, texts: Iterable[str]) -> None:
        found: dict[tuple[int, int], dict[int, str]] = {}
        for text in texts:
            network = ipaddress.ip_network(canonical_network(text))
            shift = network.max_prefixlen - network.prefixlen
            found.setdefault((network.version, shift), {})[int(network.network_address) >> shift] = str(network)
        # Smallest networks first, so that the answer is the most specific rule.
        self._by_length = tuple((version, shift, found[version, shift]) for version, shift in sorted(found))

    def holding(self, ip: str) -> str | None:
        """Give the smallest network that holds an address, None when none does. Raises ValueError."""
        address = canonical_address(ip)
        number, version = int(address), address.version
        for of_version, shift, networks in self._by_length:
            if of_version == version:
                network = networks.get(number >> shift)
                if network is not None:
                    return network
        return None

    def __len__(self) -> int:
        return sum(len(networks) for _, _, networks in self._by_length)

    def __repr__(self) -> str:
        return f"<Networks {len(self)}>"


class Judgement(NamedTuple):
    """`because`: for the log and for who explains, never for the client."""

    allowed: bool
    because: str


class AddressFilter:
    """Rules ready to be asked: deny wins; where anything is allowed, everything else is denied."""

    __slots__ = ("_allow", "_deny")

    def __init__(self, allow: Iterable[str], deny: Iterable[str]) -> None:
        """Raises NetworkError."""
        self._allow = Networks(allow)
        self._deny = Networks(deny)

    def judge(self, ip: str) -> Judgement:
        """Complexity: a few look-ups. Who cannot be read as an address may not come."""
        try:
            denied = self._deny.holding(ip)
            if denied is not None:
                return Judgement(False, f"{denied} is denied")
            if not self._allow:
                return Judgement(True, "nothing denies it")
            allowed = self._allow.holding(ip)
        except ValueError:
            return Judgement(False, "it is no IP address")
        return Judgement(False, "nothing allows it") if allowed is None else Judgement(True, f"{allowed} is allowed")

    def __repr__(self) -> str:
        return f"<AddressFilter allow={len(self._allow)} deny={len(self._deny)}>"


@lru_cache(maxsize=4_096)
def counted_as(ip: str) -> bytes:
    """Give what a client counts as: its address for IPv4, its /64 for IPv6, of which one customer has many addresses.

    Raises ValueError.
    """
    address = canonical_address(ip)
    return address.packed if address.version == 4 else address.packed[:8]
