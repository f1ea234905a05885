"""Twin of edge.http.forwarded: what the origin is told about the client, and loops."""

from __future__ import annotations

import pytest

from edge.http import forwarded
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
        (b'Via: 1.1 a ("1.1 vantageedge, 1.1 vantageedge")\r\n', False),
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
