"""Twin of edge.http.upgrade: what may be asked of an origin, and which 101 answers it (RFC 9110 section 7.8)."""

import pytest

from edge.http import upgrade
from edge.http.messages import RequestHead, ResponseHead
from edge.http.parser import SectionMemo, parse_request_head, parse_response_head
from edge.settings import Limits


def asks(lines: bytes, line: bytes = b"GET / HTTP/1.1") -> RequestHead:
    parsed = parse_request_head(line + b"\r\nHost: a\r\n" + lines + b"\r\n", SectionMemo(), Limits())
    assert parsed is not None
    return parsed[0]


def says(lines: bytes, line: bytes = b"HTTP/1.1 101 Switching Protocols") -> ResponseHead:
    parsed = parse_response_head(line + b"\r\n" + lines + b"\r\n", b"GET", SectionMemo())
    assert parsed is not None
    return parsed[0]


@pytest.mark.parametrize(
    ("lines", "offer"),
    [
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"websocket"),
        (b"connection: keep-alive, upgrade\r\nUPGRADE: WebSocket\r\n", b"WebSocket"),
        (b"Connection: upgrade\r\nUpgrade: IRC/6.9, RTA/x11\r\nUpgrade: foo\r\n", b"IRC/6.9, RTA/x11, foo"),
        (b"Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", b"websocket"),
    ],
)
def test_what_a_client_asks_for_is_offered_in_its_order_and_spelling(lines, offer):
    head = asks(lines)
    assert upgrade.offered(head) == offer
    assert upgrade.offered(head) is upgrade.offered(head)


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "h2", "h3", "HTTP/2.0", "http", "HTTP/3", "TLS/1.0", "tls"])
def test_no_other_http_and_no_tls_is_offered(protocol):
    assert upgrade.offered(asks(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % protocol.encode())) == b""


@pytest.mark.parametrize("protocol", ['"websocket"', "web socket", "a/b/c", "/1", "websocket;q=1", ",", ""])
def test_what_is_no_protocol_is_not_offered(protocol):
    """protocol = protocol-name ["/" protocol-version], both tokens"""
    assert upgrade.offered(asks(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % protocol.encode())) == b""


def test_an_upgrade_in_an_http_1_0_request_is_ignored():
    """A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request."""
    lines = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    assert upgrade.offered(asks(lines, b"GET / HTTP/1.0")) == b""


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Connection: Upgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: close\r\nUpgrade: websocket\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_who_does_not_say_connection_upgrade_or_has_a_body_asks_for_nothing(lines):
    assert upgrade.offered(asks(lines, b"POST / HTTP/1.1")) == b""


def test_an_empty_body_is_none():
    assert upgrade.offered(asks(b"Connection: Upgrade\r\nUpgrade: a\r\nContent-Length: 0\r\n")) == b"a"


def test_the_lines_name_both_fields():
    assert upgrade.lines(b"websocket") == b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    ("lines", "offer"),
    [
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"websocket"),
        (b"Connection: upgrade\r\nUpgrade: WebSocket\r\n", b"a, websocket"),
        (b"Connection: x, UPGRADE\r\nUpgrade: IRC/6.9\r\nUpgrade: foo\r\n", b"foo, irc/6.9, bar"),
    ],
)
def test_a_101_to_what_was_offered_is_an_answer(lines, offer):
    head = says(lines)
    assert upgrade.agreed(head, offer) == head.section.get(b"upgrade")


@pytest.mark.parametrize(
    ("lines", "offer"),
    [
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b""),
        (b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"websocket"),
        (b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", b"websocket"),
        (b"Connection: Upgrade\r\nUpgrade: websocket/13\r\n", b"websocket"),
        (b"Connection: Upgrade\r\n", b"websocket"),
        (b"Connection: Upgrade\r\nUpgrade: ,\r\n", b"websocket"),
        (b"Upgrade: websocket\r\n", b"websocket"),
        (b"Connection: close\r\nUpgrade: websocket\r\n", b"websocket"),
    ],
)
def test_any_other_101_is_none(lines, offer):
    """A server MUST NOT switch to a protocol that was not indicated by the client."""
    assert upgrade.agreed(says(lines), offer) is None


def test_an_http_1_0_origin_cannot_switch():
    head = says(b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"HTTP/1.0 101 Switching Protocols")
    assert upgrade.agreed(head, b"websocket") is None
