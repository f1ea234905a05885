"""Twin of edge.http.forwarded: what the origin is told about the client, what trusted hops tell us, and loops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.addresses import parse_networks
from edge.http import forwarded
from edge.http.forwarded import TRUSTED_HOPS_MAX, Told, TrustedHops
from edge.http.parser import SectionMemo, parse_request_head
from edge.settings import Limits


def test_the_origin_learns_address_scheme_and_host():
    assert forwarded.lines("192.0.2.1", b"https", b"demo.example") == (
        b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: demo.example\r\n"
        b"Forwarded: for=192.0.2.1;proto=https;host=demo.example\r\nVia: 1.1 vantageedge\r\n"
    )


def test_what_is_no_token_is_quoted():
    """RFC 7239 section 6: an IPv6 address is in brackets and quoted."""
    lines = forwarded.lines("2001:db8::1", b"http", b"demo.localhost:8000", 10)
    assert b'Forwarded: for="[2001:db8::1]";proto=http;host="demo.localhost:8000"\r\n' in lines
    assert b"X-Forwarded-For: 2001:db8::1\r\n" in lines
    assert lines.endswith(b"Via: 1.0 vantageedge\r\n")


@pytest.mark.parametrize(
    ("via", "ours"),
    [
        (b"", False),
        (b"Via: 1.1 other\r\n", False),
        (b"Via: 1.1 vantageedge\r\n", True),
        (b"Via: 1.0 a, HTTP/1.1 VantageEdge (x)\r\n", True),
        (b"Via: 1.1 a\r\nVia: 1.1 vantageedge\r\n", True),
        (b"Via: vantageedge\r\n", False),
        (b'Via: 1.1 a ("1.1 vantageedge 1.1 vantageedge")\r\n', False),
        (b'Via: 1.1 a"\r\nVia: 1.1 vantageedge\r\n', True),
        (b'Via: "\r\nVia: 1.1 vantageedge\r\n', True),
        (b"Via: 1.1 a (\r\nVia: 1.1 vantageedge\r\n", True),
    ],
)
def test_a_request_that_passed_through_us_is_known_by_via(via, ours):
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n" + via + b"\r\n"
    assert forwarded.passed_through_us(parse_request_head(raw, SectionMemo(), Limits())[0].section) is ours


def with_fields(name: bytes, *values: bytes):
    lines = b"".join(b"%b: %b\r\n" % (name, value) for value in values)
    raw = b"OPTIONS / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n"
    return parse_request_head(raw, SectionMemo(), Limits())[0].section


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ((), None),
        ((b"0",), 0),
        ((b"000",), 0),
        ((b"7",), 7),
        ((b"255",), 255),
        ((b"9999",), 256),
        ((b"9" * 5000,), 256),
    ],
)
def test_max_forwards_is_read_up_to_our_own_maximum(lines, left):
    """RFC 9110 section 7.6.2: the lesser of the received value decremented by one and "the recipient's maximum
    supported value for Max-Forwards" goes on."""
    assert forwarded.hops_left(with_fields(b"max-forwards", *lines)) == left


@pytest.mark.parametrize("lines", [(b"",), (b"-1",), (b"+1",), (b"1.0",), (b"1, 1",), (b"one",), (b"1", b"1")])
def test_max_forwards_that_is_no_number_is_not_guessed_at(lines):
    with pytest.raises(ValueError, match="Max-Forwards"):
        forwarded.hops_left(with_fields(b"max-forwards", *lines))


def section(lines: bytes):
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n"
    return parse_request_head(raw, SectionMemo(), Limits())[0].section


NETWORKS = parse_networks("10.0.0.0/8,2001:db8::/32")
CUSTOMARY = TrustedHops(NETWORKS)
STANDARD = TrustedHops(NETWORKS, by_rfc_7239=True)
PEER = "10.0.0.1"


def client(hops: TrustedHops, lines: bytes) -> str:
    return hops.read(PEER, section(lines)).client_ip


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"192.0.2.7", "192.0.2.7"),
        (b"6.6.6.6, 192.0.2.7", "192.0.2.7"),
        (b"6.6.6.6,192.0.2.7,10.0.0.2 ,\t2001:db8::5", "192.0.2.7"),
        (b"192.0.2.7, , ", "192.0.2.7"),
        (b"10.0.0.3, 10.0.0.2", "10.0.0.3"),  # inside, the outermost hop is the client
        (b"192.0.2.7:1234", "192.0.2.7"),
        (b"[2001:DB9::7]:1234", "2001:db9::7"),
        (b"[2001:db9::7]", "2001:db9::7"),
        (b"2001:db9::7", "2001:db9::7"),
        (b"::ffff:192.0.2.7", "192.0.2.7"),
        (b"", PEER),
        (b"unknown", PEER),
        (b"192.0.2.7, unknown", PEER),
        (b"192.0.2.7, unknown, 10.0.0.2", "10.0.0.2"),
        (b"192.0.2.7.", PEER),
        (b"192.0.2.07", PEER),
        (b"fe80::1%eth0", PEER),
        (b"192.0.2.7:", PEER),
        (b"\xb9\xb2", PEER),
        (b"1" * 100, PEER),
        (b'"6.6.6.6, 192.0.2.7', "192.0.2.7"),  # a quotation mark swallows nothing
    ],
)
def test_the_client_is_the_rightmost_address_that_is_not_trusted(value, found):
    assert client(CUSTOMARY, b"X-Forwarded-For: " + value + b"\r\n") == found


def test_several_lines_are_one_list_and_the_other_family_is_not_read():
    lines = b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=5.5.5.5\r\nX-Forwarded-For: 192.0.2.7\r\n"
    assert client(CUSTOMARY, lines) == "192.0.2.7"
    assert client(STANDARD, lines) == "5.5.5.5"
    assert client(CUSTOMARY, b"Forwarded: for=5.5.5.5\r\n") == PEER
    assert client(STANDARD, b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n") == PEER


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"for=192.0.2.7", "192.0.2.7"),
        (b'For="[2001:db9:cafe::17]:4711"', "2001:db9:cafe::17"),
        (b"for=6.6.6.6, for=192.0.2.7;proto=https , for=10.0.0.2", "192.0.2.7"),
        (b'for=6.6.6.6, for="192.0.2.7:80"; by=_x;; ,', "192.0.2.7"),
        (b"for=_hidden, for=10.0.0.2", "10.0.0.2"),
        (b"for=unknown", PEER),
        (b"by=10.0.0.1", PEER),
        (b"for=192.0.2.7;for=192.0.2.8", PEER),
        (b"for=192.0.2.7:80", PEER),  # section 6: a port must be quoted
        (b"for=192.0.2.7, nonsense", PEER),
        (b'for="x, for=192.0.2.7', "192.0.2.7"),  # an open quotation mark swallows nothing
        (b'for=192.0.2.7;host="a,for=6.6.6.6"', "192.0.2.7"),
        (b'for=192.0.2.7;host="a,for=6.6.6.6;x=\\""', "192.0.2.7"),
        (b'for="192\\.0.2.7"', "192.0.2.7"),
        (b"", PEER),
    ],
)
def test_forwarded_is_read_from_the_right_too(value, found):
    """RFC 7239 section 4."""
    assert client(STANDARD, b"Forwarded: " + value + b"\r\n") == found


@given(st.text(st.sampled_from('a=;, "\\for=1.2'), max_size=60).map(str.encode))
def test_nothing_a_client_writes_hides_what_the_trusted_hop_appends(evil):
    for appended in (b"for=192.0.2.7;proto=https", b'for="192.0.2.7:80";host=";a=b,for=6.6.6.6"'):
        assert client(STANDARD, b"Forwarded: " + evil + b", " + appended + b"\r\n") == "192.0.2.7"
        assert client(STANDARD, b"Forwarded: " + evil + b"\r\nForwarded: " + appended + b"\r\n") == "192.0.2.7"
    assert client(CUSTOMARY, b"X-Forwarded-For: " + evil + b", 192.0.2.7\r\n") == "192.0.2.7"


def test_what_trusted_hops_say_is_followed_so_far_and_no_further():
    for count, found in ((TRUSTED_HOPS_MAX - 1, "192.0.2.7"), (TRUSTED_HOPS_MAX + 1, "10.0.0.9")):
        assert client(CUSTOMARY, b"X-Forwarded-For: 192.0.2.7" + b", 10.0.0.9" * count + b"\r\n") == found
        assert client(STANDARD, b"Forwarded: for=192.0.2.7" + b", for=10.0.0.9" * count + b"\r\n") == found


@pytest.mark.parametrize(
    ("lines", "scheme", "host"),
    [
        (b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example:8443\r\n", b"https", b"shop.example:8443"),
        (b"X-Forwarded-Proto: HTTP\r\n", b"http", None),
        (b"X-Forwarded-Proto: https, http\r\n", None, None),
        (b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https\r\n", None, None),
        (b"X-Forwarded-Proto: wss\r\nX-Forwarded-Host: a b\r\n", None, None),
        (b"X-Forwarded-Host: " + b"a" * 261 + b"\r\n", None, b"a" * 261),
        (b"X-Forwarded-Host: " + b"a" * 262 + b"\r\n", None, None),
    ],
)
def test_scheme_and_host_are_what_the_trusted_hop_said_if_it_is_usable(lines, scheme, host):
    told = CUSTOMARY.read(PEER, section(lines + b"X-Forwarded-For: 192.0.2.7\r\n"))
    assert told == Told("192.0.2.7", scheme, host, (PEER,))


def test_in_forwarded_they_are_what_was_said_of_the_client():
    value = b'for=6.6.6.6;proto=http, for=192.0.2.7;proto=https;host="shop.example:81", for=10.0.0.2;proto=http;host=in'
    told = STANDARD.read(PEER, section(b"Forwarded: " + value + b"\r\n"))
    assert told == Told("192.0.2.7", b"https", b"shop.example:81", ("10.0.0.2", PEER))
    told = STANDARD.read(PEER, section(b"Forwarded: for=192.0.2.7, for=10.0.0.2;proto=https\r\n"))
    assert told.scheme == b"https"


def test_the_origin_gets_the_chain_from_the_client_on_and_nothing_left_of_it():
    value = b"X-Forwarded-For: 6.6.6.6, 192.0.2.7, 2001:db8::5\r\nX-Forwarded-Proto: https\r\n"
    told = CUSTOMARY.read(PEER, section(value))
    assert told.lines(b"https", b"a.example", 11) == (
        b"X-Forwarded-For: 192.0.2.7, 2001:db8::5, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n"
        b'X-Forwarded-Host: a.example\r\nForwarded: for=192.0.2.7;proto=https;host=a.example, for="[2001:db8::5]", '
        b"for=10.0.0.1\r\nVia: 1.1 vantageedge\r\n"
    )
    alone = CUSTOMARY.read(PEER, section(b"X-Forwarded-Host: shop.example\r\n"))
    assert alone.lines(b"http", b"a.example", 10).startswith(
        b"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shop.example\r\n"
    )


def test_what_was_read_is_remembered_for_the_same_peer_only():
    block = section(b"X-Forwarded-For: 192.0.2.7\r\n")
    told = CUSTOMARY.read(PEER, block)
    assert CUSTOMARY.read(PEER, block) is told
    assert CUSTOMARY.read("10.0.0.2", block).hops == ("10.0.0.2",)
    assert len(block.derived) == 1


def test_who_is_trusted():
    assert CUSTOMARY.contains("10.255.0.1") and CUSTOMARY.contains("2001:db8::1")
    assert not CUSTOMARY.contains("11.0.0.1") and not CUSTOMARY.contains("local")
    assert repr(CUSTOMARY) == "<TrustedHops 2 networks, X-Forwarded-*>"
    assert repr(STANDARD) == "<TrustedHops 2 networks, Forwarded>"
