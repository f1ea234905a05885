"""Who a request came from: told to the origin, and read from the proxies in front that we trust; and whether it came
through us before.

In:    the client's address, the scheme and host it used; a request's field section, and whether its peer is trusted.
Out:   X-Forwarded-For/-Proto/-Host, Forwarded (RFC 7239) and Via (RFC 9110 section 7.6.3) lines; Told; hops left.
Laws:  1. What a client said about itself is overwritten, never extended (headers drops it), except Via, which grows.
       2. What a trusted hop said is read from the right, as far as those who said it are trusted; the first address
       that is not of a trusted hop is the client. 3. Where an entry is malformed the reading stops, and who wrote it
       counts as the client. 4. What was left of the client is not passed on: nobody vouches for it. 5. A request that
       carries our pseudonym in Via is a loop.
Not here: which connections come from a trusted hop (edge.net.listener).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from contracts.addresses import IPNetwork
from edge.http.fields import token_or_quoted
from edge.http.grammar import PARAMETER, split_authority
from edge.http.messages import FieldSection

HOPS_MAX: Final = 255
"""More than a chain of proxies ever has. RFC 9110 section 7.6.2: what goes on is the lesser of the received value
decremented by one and "the recipient's maximum supported value"."""
_HOPS: Final = re.compile(rb"[0-9]++")

PSEUDONYM: Final = b"vantageedge"
VIA_10: Final = b"Via: 1.0 " + PSEUDONYM + b"\r\n"
VIA_11: Final = b"Via: 1.1 " + PSEUDONYM + b"\r\n"
TRUSTED_HOPS_MAX: Final = 32
"""So many trusted hops are followed; what they say beyond counts as malformed."""
_ADDRESS_CHARS_MAX: Final = 64
_HOST_CHARS_MAX: Final = 261
"""A DNS name (RFC 1035 section 2.3.4: 255 octets) and a port. What a hop passes on unread may be a client's, and it is
remembered."""
_SCHEMES: Final = frozenset({b"http", b"https"})
_PORT: Final = rb"(?::[0-9]{1,5})?"
_V4_NODE: Final = re.compile(rb"([0-9.]++)" + _PORT)
_V6_NODE: Final = re.compile(rb"\[([0-9A-Fa-f:.]++)\]" + _PORT)
# RFC 7239 section 4: forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] ). Found from the right, where
# the trusted hop wrote: an element cannot begin inside a quoted string and end where the string does.
_LAST_ELEMENT: Final = re.compile(
    rb"(?:^|,)[ \t]*+(" + PARAMETER + rb"(?:[ \t]*+;(?:[ \t]*+" + PARAMETER + rb")?+)*+)[ \t]*+\Z"
)
_PAIR: Final = re.compile(PARAMETER)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)


class Told(NamedTuple):
    """What a trusted hop said. `hops`: addresses between the client and us, nearest last; empty when the hop itself is
    the client. `scheme` and `host` are None where it said nothing usable.
    """

    client_ip: str
    scheme: bytes | None
    host: bytes | None
    hops: tuple[str, ...]

    def lines(self, scheme: bytes, host: bytes, version: int) -> bytes:
        return lines(self.client_ip, scheme, self.host or host, version, self.hops)


class TrustedHops:
    """`by_rfc_7239`: read Forwarded and ignore X-Forwarded-*, else the other way round."""

    __slots__ = ("_by_rfc_7239", "_networks", "contains")

    def __init__(self, networks: Sequence[IPNetwork], *, by_rfc_7239: bool = False) -> None:
        self._networks = tuple(networks)
        self._by_rfc_7239 = by_rfc_7239
        self.contains: Final = lru_cache(maxsize=4096)(self._contains)
        """Whether an address is of a trusted hop."""

    def _contains(self, ip: str) -> bool:
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:  # a connection over a Unix socket
            return False
        return any(address in network for network in self._networks if network.version == address.version)

    def read(self, peer: str, section: FieldSection) -> Told:
        """Give what the trusted hop `peer` said in a request. Remembered in the section for the last such peer."""
        kept = section.derived.get("told")
        if kept is not None and kept[0] == peer:
            told: Told = kept[1]
            return told
        told = self._standard(peer, section) if self._by_rfc_7239 else self._customary(peer, section)
        section.derived["told"] = (peer, told)
        return told

    def _customary(self, peer: str, section: FieldSection) -> Told:
        chain = [peer]
        # Split by every comma: a quotation mark that a client sent must not swallow what the hop wrote behind it.
        listed = b",".join(section.index.get(b"x-forwarded-for", ()))
        for item in reversed(listed.rsplit(b",", TRUSTED_HOPS_MAX)):
            node = item.strip(b" \t")
            if node:
                address = parse_node(node)
                if address is None:
                    break
                chain.append(address)
                if not self.contains(address):
                    break
        return _told(
            chain, _only(section.index.get(b"x-forwarded-proto")), _only(section.index.get(b"x-forwarded-host"))
        )

    def _standard(self, peer: str, section: FieldSection) -> Told:
        chain = [peer]
        scheme = host = b""
        for element in _elements(b",".join(section.index.get(b"forwarded", ()))):
            scheme = element.get(b"proto", scheme)
            host = element.get(b"host", host)
            address = parse_node(element.get(b"for", b""))
            if address is None:
                break
            chain.append(address)
            if not self.contains(address):
                break
        return _told(chain, scheme, host)

    def __repr__(self) -> str:
        family = "Forwarded" if self._by_rfc_7239 else "X-Forwarded-*"
        return f"<TrustedHops {len(self._networks)} networks, {family}>"


def _told(chain: list[str], scheme: bytes, host: bytes) -> Told:
    """`chain`: the peer first, the client last."""
    scheme = scheme.lower()
    return Told(
        chain[-1],
        scheme if scheme in _SCHEMES else None,
        host if 0 < len(host) <= _HOST_CHARS_MAX and split_authority(host) is not None else None,
        tuple(reversed(chain[:-1])),
    )


def _only(values: tuple[bytes, ...] | None) -> bytes:
    return values[0] if values is not None and len(values) == 1 else b""


def _elements(value: bytes) -> Iterator[dict[bytes, bytes]]:
    """Give the elements of Forwarded from the right, parameters by lower-cased name; ends where one is malformed."""
    for _ in range(TRUSTED_HOPS_MAX):
        value = value.rstrip(b" \t,")
        match = _LAST_ELEMENT.search(value)
        if match is None:
            return
        pairs = [pair.partition(b"=") for pair in _PAIR.findall(match[1])]
        element = {name.lower(): _unquoted(written) for name, _, written in pairs}
        if len(element) != len(pairs):  # "Each parameter MUST NOT occur more than once per field-value" (section 4)
            return
        yield element
        value = value[: match.start()]


def _unquoted(written: bytes) -> bytes:
    return _ESCAPED.sub(rb"\1", written[1:-1]) if written[:1] == b'"' else written


def parse_node(node: bytes) -> str | None:
    """Read an address that may carry a port (RFC 7239 section 6); None for anything else. IPv4 inside IPv6 is IPv4."""
    if len(node) > _ADDRESS_CHARS_MAX:
        return None
    match = _V4_NODE.fullmatch(node) or _V6_NODE.fullmatch(node)
    text = node if match is None else match[1]
    if b"%" in text:  # a zone means something on one machine only
        return None
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


@lru_cache(maxsize=4096)
def lines(client_ip: str, scheme: bytes, host: bytes, version: int = 11, hops: tuple[str, ...] = ()) -> bytes:
    """Give the lines a request gets. `host`: what the client asked for, with port if it named one.
    `version`: of the message received (10 or 11), for Via. `hops`: trusted ones between the client and us, nearest
    last. Remembered for the clients of the moment.
    """
    ip = client_ip.encode("ascii")
    chain = b"".join([b", " + hop.encode("ascii") for hop in hops])
    path = b"".join([b", for=" + _node(hop.encode("ascii")) for hop in hops])
    told = b"X-Forwarded-For: %b%b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (ip, chain, scheme, host)
    return b"%bForwarded: for=%b;proto=%b;host=%b%b\r\n%b" % (
        told, _node(ip), scheme, token_or_quoted(host), path, via(version),
    )  # fmt: skip


def _node(ip: bytes) -> bytes:
    return b'"[%b]"' % ip if b":" in ip else ip


def via(version: int) -> bytes:
    """Give the Via line of a message received in this version (10 or 11); responses get one too."""
    return VIA_11 if version == 11 else VIA_10


def hops_left(section: FieldSection) -> int | None:
    """Give Max-Forwards (RFC 9110 section 7.6.2), at most HOPS_MAX + 1; None when there is none. Raises ValueError."""
    values = section.index.get(b"max-forwards")
    if values is None:
        return None
    if len(values) != 1 or _HOPS.fullmatch(values[0]) is None:
        raise ValueError("Max-Forwards is not one number")
    digits = values[0].lstrip(b"0")
    return min(int(digits or b"0"), HOPS_MAX + 1) if len(digits) <= 9 else HOPS_MAX + 1


def passed_through_us(section: FieldSection) -> bool:
    """Whether Via names us: the request would go round for ever (RFC 9110 section 7.6.3)."""
    values = section.index.get(b"via")
    if values is None:
        return False
    # Split by every comma: a quotation mark that a client sent must not swallow what we wrote behind it.
    return any(_received_by(member) == PSEUDONYM for member in b",".join(values).split(b","))


def _received_by(member: bytes) -> bytes:
    parts = member.split(None, 2)
    return parts[1].lower() if len(parts) > 1 else b""
