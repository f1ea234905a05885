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
