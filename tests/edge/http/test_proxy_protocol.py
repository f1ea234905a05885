"""Twin of edge.http.proxy_protocol: HAProxy's proxy-protocol.txt, read strictly."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http.proxy_protocol import HEADER_BYTES_MAX, ProxyHeaderError, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = bytes([192, 0, 2, 7]) + bytes([192, 0, 2, 1]) + struct.pack("!HH", 1234, 443)
V6 = ipaddress.ip_address("2001:db8::7").packed + ipaddress.ip_address("2001:db8::1").packed + b"\x04\xd2\x01\xbb"
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")

PADDING = HEADER_BYTES_MAX - 31


def v2(command: int, family: int, addresses: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses) if length is None else length) + addresses


GOOD = {
    b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n": "192.0.2.7",
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": "255.255.255.255",
    b"PROXY TCP6 2001:DB8:0:0:0:0:0:7 ::1 0 1\r\n": "2001:db8::7",
    b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 1\r\n": "192.0.2.7",
    # section 2.1: the longest lines there are
    b"PROXY TCP6 " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n": "ffff:" * 7 + "ffff",
    b"PROXY UNKNOWN " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n": None,
    b"PROXY UNKNOWN\r\n": None,
    v2(0x21, 0x11, V4): "192.0.2.7",
    v2(0x21, 0x21, V6): "2001:db8::7",
    v2(0x21, 0x21, ipaddress.ip_address("::ffff:192.0.2.7").packed + V6[16:]): "192.0.2.7",
    v2(0x21, 0x11, V4 + b"\x01\x00\x02h2\x04\x00\x00"): "192.0.2.7",
    v2(0x21, 0x31, UNIX): None,
    v2(0x21, 0x00, b""): None,
    v2(0x21, 0x00, b"whatever"): None,
    v2(0x20, 0x00, b""): None,
    v2(0x20, 0xFF, b"anything at all"): None,
    v2(0x21, 0x11, V4 + b"\x04" + struct.pack("!H", PADDING) + b"\0" * PADDING): "192.0.2.7",
}  # fmt: skip


@pytest.mark.parametrize(("header", "address"), GOOD.items(), ids=lambda value: repr(value)[:40])
def test_a_good_header_gives_the_client_and_where_it_ends(header, address):
    assert parse(header) == (address, len(header))
    assert parse(header + b"GET / HTTP/1.1\r\n") == (address, len(header))


@given(st.sampled_from(sorted(GOOD)), st.data())
def test_however_it_is_cut_it_means_the_same(header, data):
    cut = data.draw(st.integers(0, len(header) - 1))
    assert parse(header[:cut]) is None
    assert parse(header[:cut] + header[cut:]) == (GOOD[header], len(header))


BAD = [
    (b"GET / HTTP/1.1\r\n", "no PROXY header"),
    (b"\r\n\r\n\x00\r\nQUIX\n", "no PROXY header"),
    (b"proxy TCP4 192.0.2.7 192.0.2.1 1 2\r\n", "no PROXY header"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n", "without CRLF"),
    (b"PROXY \n", "without CRLF"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n", "malformed"),
    (b"PROXY TCP4  192.0.2.7 192.0.2.1 1 2\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2 \r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 -1 2\r\n", "malformed"),
    (b"PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n", "malformed"),
    (b"PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n", "malformed"),
    (b"PROXY UNKNOWNX\r\n", "malformed"),
    (b"PROXY UNKNOWN \x00\r\n", "malformed"),
    (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n", "out of range"),
    (b"PROXY TCP4 192.0.2.07 192.0.2.1 1 2\r\n", "address is malformed"),
    (b"PROXY TCP4 192.0.2 192.0.2.1 1 2\r\n", "address is malformed"),
    (b"PROXY TCP4 192.0.2.7 192.0.2.256 1 2\r\n", "address is malformed"),
    (b"PROXY TCP4 ::1 192.0.2.1 1 2\r\n", "address is malformed"),
    (b"PROXY TCP6 192.0.2.7 ::1 1 2\r\n", "address is malformed"),
    (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "no end"),
    (b"PROXY TCP4 " + b"1" * 96, "no end"),
    (v2(0x11, 0x11, V4), "version or command"),
    (v2(0x22, 0x11, V4), "version or command"),
    (SIGNATURE + b"\x00", "version or command"),
    (v2(0x21, 0x12, V4), "family or protocol"),
    (v2(0x21, 0x41, V4), "family or protocol"),
    (v2(0x21, 0x01, V4), "family or protocol"),
    (v2(0x21, 0x11, V4[:11]), "too short"),
    (v2(0x21, 0x21, V4), "too short"),
    (v2(0x21, 0x11, b"", 0xFFFF), "too large"),
    (v2(0x20, 0x00, b"", HEADER_BYTES_MAX - 15), "too large"),
    (v2(0x21, 0x11, V4 + b"\x01"), "extension"),
    (v2(0x21, 0x11, V4 + b"\x01\x00\x03h2"), "extension"),
]


@pytest.mark.parametrize(("octets", "why"), BAD, ids=lambda value: repr(value)[:40])
def test_a_bad_header_is_refused(octets, why):
    with pytest.raises(ProxyHeaderError, match=why):
        parse(octets)


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"])
)
def test_whatever_comes_is_a_header_or_refused_and_more_octets_change_no_verdict(octets, start):
    buffer = start + octets
    try:
        parsed = parse(buffer)
    except ProxyHeaderError:
        with pytest.raises(ProxyHeaderError):
            parse(buffer + b"x")
        return
    if parsed is None:
        assert len(buffer) < HEADER_BYTES_MAX
    else:
        address, used = parsed
        assert 0 < used <= len(buffer)
        assert parse(buffer[:used]) == parsed
        assert address is None or ipaddress.ip_address(address)
