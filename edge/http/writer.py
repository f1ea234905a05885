"""Heads of messages as bytes: what both ends of the gateway send, composed with one join.

In:    the parts others decided (lines from headers, forwarded and phases), the framing, the date.
Out:   a complete head, ended by the empty line.
Laws:  1. Framing, Connection and Date of an answer are written here and only here. 2. An answer without a body by
       definition (HEAD, 1xx, 204, 304) never gets one. 3. A gateway with a clock never sends an answer without Date
       (RFC 9110 section 6.6.1), and keeps the origin's.
Not here: end-to-end fields (headers), chunks (framing).
"""

from __future__ import annotations

from typing import Final

from edge.http.messages import Reply

CHUNKED_LINE: Final = b"Transfer-Encoding: chunked\r\n"
CLOSE_LINE: Final = b"Connection: close\r\n"
KEEP_ALIVE_LINE: Final = b"Connection: keep-alive\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECT_LINE: Final = b"Expect: 100-continue\r\n"

_STATUS_LINES: dict[tuple[int, bytes], bytes] = {}
_STATUS_LINES_MAX: Final = 1024
_REASON_BYTES_REMEMBERED_MAX: Final = 64


def status_line(status: int, reason: bytes) -> bytes:
    """Give the status line; always HTTP/1.1, whatever the client speaks (RFC 9110 section 2.5)."""
    key = (status, reason)
    line = _STATUS_LINES.get(key)
    if line is None:
        line = b"HTTP/1.1 %d %b\r\n" % key
        if len(_STATUS_LINES) < _STATUS_LINES_MAX and len(reason) <= _REASON_BYTES_REMEMBERED_MAX:
            _STATUS_LINES[key] = line
    return line


def request_start(method: bytes, target: bytes, host: bytes, lines: bytes, extra: bytes) -> bytes:
    """Compose what a request head for an origin begins with: HTTP/1.1, kept alive. Framing and the empty line follow.

    `target`: origin-form. `host`: the Host field's value. `lines`, `extra`: end-to-end lines each ended by CRLF.
    """
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b" % (method, target, host, lines, extra)


def request_framing(method: bytes, length: int | None) -> bytes:
    """Give the line that frames a request's body. `length`: its octets; None: chunked; 0 with a method that has no body
    by custom sends no Content-Length (RFC 9110 section 8.6).
    """
    if length is None:
        return CHUNKED_LINE
    if length or method in _WITH_BODY:
        return b"Content-Length: %d\r\n" % length
    return b""


_WITH_BODY: Final = frozenset({b"POST", b"PUT", b"PATCH"})


def response_head(reply: Reply, framing: bytes, connection: bytes, date_line: bytes) -> bytes:
    """Compose an answer's head. `framing`: from `framing_line`; `connection`: "", CLOSE_LINE or KEEP_ALIVE_LINE;
    `date_line`: b"Date: ...\\r\\n" of this second, used where the reply has none.
    """
    lines = reply.lines
    key = (reply.status, reply.reason)
    line = _STATUS_LINES.get(key) or status_line(*key)
    if lines[:5] == b"Date:" or has_date(lines):
        date_line = b""
    if reply.extra:
        return b"".join((line, lines, *reply.extra, date_line, framing, connection, b"\r\n"))
    return b"".join((line, lines, date_line, framing, connection, b"\r\n"))


def interim_head(status: int, reason: bytes, lines: bytes) -> bytes:
    """Compose an interim answer (1xx): it has neither framing nor body (RFC 9110 section 15.2)."""
    return b"%b%b\r\n" % (status_line(status, reason), lines)


def has_date(lines: bytes) -> bool:
    """Whether the lines carry Date: first where headers wrote them, anywhere else otherwise."""
    return b"\ndate:" in (b"\n" + lines).lower()


_BODILESS: Final = frozenset({204, 304})


def framing_line(reply: Reply, method: bytes, version: int) -> tuple[bytes, bool, bool]:
    """Decide an answer's framing: (line, chunked, until_close). Until close only for HTTP/1.0 and an unknown length."""
    status, body = reply.status, reply.body
    if method == b"HEAD" or status in _BODILESS or status < 200:  # RFC 9112 section 6.3, rule 1
        length = reply.announced_length
        if length is None and method == b"HEAD" and isinstance(body, bytes) and body:
            length = len(body)
        if length is None or status == 204 or status < 200:  # RFC 9110 section 8.6: none in 1xx and 204
            return b"", False, False
        return b"Content-Length: %d\r\n" % length, False, False
    length = len(body) if isinstance(body, bytes) else body.length
    if length is not None:
        return b"Content-Length: %d\r\n" % length, False, False
    if version == 11:
        return CHUNKED_LINE, True, False
    return b"", False, True
