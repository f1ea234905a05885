"""Twin of edge.http.headers: what passes on to the next hop."""

from __future__ import annotations

import pytest

from edge.http import headers
from edge.http.parser import SectionMemo, parse_request_head, parse_response_head
from edge.settings import Limits

NOTHING: frozenset[bytes] = frozenset()


def section(*lines: bytes):
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return parse_request_head(raw, SectionMemo(), Limits())[0].section


def answer(*lines: bytes):
    raw = b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return parse_response_head(raw, b"GET", SectionMemo())[0].section


def test_end_to_end_fields_pass_in_order_with_repeats_and_case():
    lines = headers.request_lines(section(b"X-B:  2 ", b"accept: */*", b"X-B: 3"), NOTHING)
    assert lines == b"X-B: 2\r\naccept: */*\r\nX-B: 3\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: x",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: close",
        b"Proxy-Authorization: Basic x",
        b"TE: trailers",
        b"Trailer: Expires",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AA",
        b"Content-Length: 5",
        b"Expect: 100-continue",
        b"Forwarded: for=x",
        b"X-Forwarded-For: 1.1.1.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: x",
        b"X-Real-IP: 1.1.1.1",
        b"X-Original-URL: /admin",
        b"X-Rewrite-URL: /admin",
        b"X-Vantage-Principal: root",
        b"x-vantage-tenant: other",
        b"X_Vantage_Tenant: other",
        b"X-Forwarded-Port: 1",
        b"X-Forwarded-Server: x",
        b"X-Forwarded-Prefix: /evil",
        b"X-Forwarded-Scheme: http",
        b"X-Forwarded-Ssl: on",
        b"X-Forwarded-User: root",
    ],
)
def test_these_request_fields_never_pass(line):
    assert headers.request_lines(section(line), NOTHING) == b""


def test_host_never_passes_and_via_does():
    assert headers.request_lines(section(b"Via: 1.1 other"), NOTHING) == b"Via: 1.1 other\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Keep-Alive: 5",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 5",
        b"Upgrade: websocket",
        b"Trailer: A",
        b"Proxy-Authenticate: Basic",
        b"TE: x",
    ],
)
def test_these_response_fields_never_pass(line):
    assert headers.response_lines(answer(line), NOTHING) == b""


def test_what_connection_nominates_does_not_pass_in_either_direction():
    """RFC 9110 section 7.6.1: intermediaries MUST remove fields with the same name as a connection-option."""
    lines = (b"Connection: X-A, close", b"x-a: 1", b"X-B: 2")
    assert headers.request_lines(section(*lines), NOTHING) == b"X-B: 2\r\n"
    assert headers.response_lines(answer(*lines), NOTHING) == b"X-B: 2\r\n"


def test_connection_cannot_nominate_essentials():
    lines = (b"Connection: Authorization, Cache-Control", b"Connection: cookie", b"Authorization: x", b"Cookie: a=b")
    assert headers.request_lines(section(*lines), NOTHING) == b"Authorization: x\r\nCookie: a=b\r\n"


def test_the_caller_can_drop_more_and_each_choice_is_remembered_by_itself():
    shared = section(b"X-Api-Key: secret", b"A: b")
    dropped = headers.request_lines(shared, frozenset({b"x-api-key"}))
    assert dropped == b"A: b\r\n"
    assert headers.request_lines(shared, NOTHING) == b"X-Api-Key: secret\r\nA: b\r\n"
    assert headers.request_lines(shared, frozenset({b"x-api-key"})) is dropped
    assert headers.response_lines(shared, NOTHING).startswith(b"Host: a\r\n")


def test_date_comes_first_in_a_response_unless_dropped():
    given = answer(b"Server: x", b"DATE: Sun, 06 Nov 1994 08:49:37 GMT")
    assert headers.response_lines(given, NOTHING) == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: x\r\n"
    assert headers.response_lines(given, NOTHING) is headers.response_lines(given, NOTHING)
    assert headers.response_lines(given, frozenset({b"date"})) == b"Server: x\r\n"
