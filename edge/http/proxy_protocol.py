"""Who a connection came from, as the proxy before us writes it ahead of everything else: the PROXY protocol.

In:    the first octets of a connection from a proxy that is trusted to write them.
Out:   (address of the client, octets used), or None while the header is incomplete; ProxyHeaderError.
Laws:  1. No leniency: whoever may write this header decides every limit and log line by it. 2. A header means the same
       however it was cut into reads. 3. What can never become a header is refused at once. 4. No address is given where
       the header has none (UNKNOWN, LOCAL, Unix sockets): then the peer's own counts. 5. IPv4 inside IPv6 is IPv4.
Not here: who is trusted (edge.http.forwarded), waiting (edge.net.arrival). The specification is HAProxy's
          proxy-protocol.txt; sections below are its own.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

HEADER_BYTES_MAX: Final = 4_096
"""Of version 2; its length field would allow 65,551. Version 1 has its own bound."""
_V1_BYTES_MAX: Final = 107  # section 2.1: "so a 108-byte buffer is always enough to store all the line"
_V1_START: Final = b"PROXY "
_V1_UNKNOWN: Final = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*+)?")
_V1_TCP: Final = re.compile(
    rb"PROXY TCP([46]) ([0-9A-Fa-f.:]++) ([0-9A-Fa-f.:]++) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
)
_V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED_BYTES: Final = 16
_LOCAL, _PROXY = 0x20, 0x21
# Family and protocol, to the octets its addresses take. Datagrams do not come over TCP.
_V2_ADDRESS_BYTES: Final = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}


class ProxyHeaderError(ValueError):
    """The header is malformed or too large; the text is for the log."""


def parse(buffer: bytes) -> tuple[str | None, int] | None:
    """Give (the client's address or None, octets used). Raises ProxyHeaderError."""
    if buffer[:12] == _V2_SIGNATURE[: len(buffer)]:
        return _binary(buffer)
    if buffer[:6] == _V1_START[: len(buffer)]:
        return _text(buffer)
    raise ProxyHeaderError("no PROXY header")


def _text(buffer: bytes) -> tuple[str | None, int] | None:
    """Section 2.1."""
    end = buffer.find(b"\n", 0, _V1_BYTES_MAX)
    if end < 0:
        if len(buffer) >= _V1_BYTES_MAX:
            raise ProxyHeaderError("version 1: the line has no end")
        return None
    if buffer[end - 1 : end] != b"\r":
        raise ProxyHeaderError("version 1: the line ends without CRLF")
    line = buffer[: end - 1]
    match = _V1_TCP.fullmatch(line)
    if match is None:
        # "the receiver must ignore anything presented before the CRLF is found"
        if _V1_UNKNOWN.fullmatch(line) is None:
            raise ProxyHeaderError("version 1: the line is malformed")
        return None, end + 1
    family, source, destination, *ports = match.groups()
    if any(int(port) > 65_535 for port in ports):
        raise ProxyHeaderError("version 1: a port is out of range")
    parse_address = ipaddress.IPv4Address if family == b"4" else ipaddress.IPv6Address
    try:
        parse_address(destination.decode("ascii"))
        return _normal(parse_address(source.decode("ascii"))), end + 1
    except ValueError:
        raise ProxyHeaderError("version 1: an address is malformed") from None


def _binary(buffer: bytes) -> tuple[str | None, int] | None:
    """Section 2.2."""
    if len(buffer) > 12 and buffer[12] not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("version 2: unknown version or command")
    if len(buffer) < _V2_FIXED_BYTES:
        return None
    size = _V2_FIXED_BYTES + int.from_bytes(buffer[14:16], "big")
    if size > HEADER_BYTES_MAX:
        raise ProxyHeaderError("version 2: the header is too large")
    if buffer[12] == _LOCAL:
        # "must discard the protocol block including the family which is ignored"
        return (None, size) if len(buffer) >= size else None
    family = buffer[13]
    length = _V2_ADDRESS_BYTES.get(family)
    if length is None:
        raise ProxyHeaderError("version 2: unknown family or protocol")
    if size < _V2_FIXED_BYTES + length:
        raise ProxyHeaderError("version 2: it is too short for its addresses")
    if len(buffer) < size:
        return None
    addresses = buffer[_V2_FIXED_BYTES : _V2_FIXED_BYTES + length]
    if family != 0x00:  # unspecified: "the receiver should ignore" all of it
        _check_extensions(buffer[_V2_FIXED_BYTES + length : size])
    if family == 0x11:
        return _normal(ipaddress.IPv4Address(addresses[:4])), size
    if family == 0x21:
        return _normal(ipaddress.IPv6Address(addresses[:16])), size
    return None, size


def _check_extensions(vectors: bytes) -> None:
    """Section 2.2.7: type, length in two octets, value. None of them is used."""
    while vectors:
        end = 3 + int.from_bytes(vectors[1:3], "big")
        if end > len(vectors):
            raise ProxyHeaderError("version 2: an extension is cut short")
        vectors = vectors[end:]


def _normal(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
