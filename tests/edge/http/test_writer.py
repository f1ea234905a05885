"""Twin of edge.http.writer: heads as bytes."""

from __future__ import annotations

import pytest

from edge.http import writer
from edge.http.messages import Reply
from edge.http.writer import CHUNKED_LINE, CLOSE_LINE

DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


class Arriving:
    def __init__(self, length):
        self.length = length

    def read(self):
        return b""

    def close(self):
        pass


def test_a_status_line_is_made_once():
    assert writer.status_line(200, b"OK") == b"HTTP/1.1 200 OK\r\n"
    assert writer.status_line(200, b"OK") is writer.status_line(200, b"OK")


def test_the_status_lines_remembered_are_bounded():
    for number in range(1100):
        assert writer.status_line(299, b"%d" % number) == b"HTTP/1.1 299 %d\r\n" % number
    assert len(writer._STATUS_LINES) <= 1024
    writer._STATUS_LINES.clear()
    assert writer.status_line(200, b"a" * 65) == b"HTTP/1.1 200 " + b"a" * 65 + b"\r\n"
    assert not writer._STATUS_LINES, "an origin may write 64 KiB there"
    writer._STATUS_LINES.clear()


@pytest.mark.parametrize(
    ("method", "length", "framing"),
    [
        (b"GET", 0, b""),
        (b"POST", 0, b"Content-Length: 0\r\n"),
        (b"GET", 3, b"Content-Length: 3\r\n"),
        (b"POST", None, CHUNKED_LINE),
    ],
)
def test_a_request_head_for_an_origin(method, length, framing):
    lines = writer.request_start(method, b"/a?b", b"origin:1", b"A: b\r\n", b"Via: x\r\n")
    assert lines == method + b" /a?b HTTP/1.1\r\nHost: origin:1\r\nA: b\r\nVia: x\r\n"
    assert writer.request_framing(method, length) == framing


def test_an_answer_keeps_the_origins_date_and_gets_one_otherwise():
    """RFC 9110 section 6.6.1: a recipient with a clock that forwards a response without Date MUST add one."""

    def head(lines: bytes) -> bytes:
        return writer.response_head(Reply(200, b"OK", lines, b""), b"Content-Length: 0\r\n", b"", DATE)

    assert head(b"A: b\r\n") == b"HTTP/1.1 200 OK\r\nA: b\r\n" + DATE + b"Content-Length: 0\r\n\r\n"
    for own in (b"Date: then\r\nA: b\r\n", b"A: b\r\ndate: then\r\n", b"DATE: then\r\n"):
        assert head(own) == b"HTTP/1.1 200 OK\r\n" + own + b"Content-Length: 0\r\n\r\n"


def test_extra_lines_come_behind_the_origins():
    reply = Reply(404, b"Not Found", b"A: b\r\n", b"")
    reply.extra += [b"X: 1\r\n", b"Y: 2\r\n"]
    head = writer.response_head(reply, b"", CLOSE_LINE, DATE)
    assert head == b"HTTP/1.1 404 Not Found\r\nA: b\r\nX: 1\r\nY: 2\r\n" + DATE + b"Connection: close\r\n\r\n"


def test_an_interim_answer_is_a_head_and_nothing_else():
    """RFC 9110 section 15.2: a 1xx response "is terminated by the end of the header section"."""
    assert writer.interim_head(103, b"Early Hints", b"Link: x\r\n") == b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "method", "version", "expected"),
    [
        (Reply(200, b"", b"", b"abc"), b"GET", 11, (b"Content-Length: 3\r\n", False, False)),
        (Reply(200, b"", b"", b""), b"GET", 11, (b"Content-Length: 0\r\n", False, False)),
        (Reply(200, b"", b"", Arriving(7)), b"GET", 10, (b"Content-Length: 7\r\n", False, False)),
        (Reply(200, b"", b"", Arriving(None)), b"GET", 11, (CHUNKED_LINE, True, False)),
        (Reply(200, b"", b"", Arriving(None)), b"GET", 10, (b"", False, True)),
        (Reply(200, b"", b"", b"", 9), b"HEAD", 11, (b"Content-Length: 9\r\n", False, False)),
        (Reply(404, b"", b"", b"abc"), b"HEAD", 11, (b"Content-Length: 3\r\n", False, False)),
        (Reply(200, b"", b"", b""), b"HEAD", 11, (b"", False, False)),
        (Reply(304, b"", b"", b"", 9), b"GET", 11, (b"Content-Length: 9\r\n", False, False)),
        (Reply(304, b"", b"", b""), b"GET", 11, (b"", False, False)),
        (Reply(204, b"", b"", b"", 9), b"GET", 11, (b"", False, False)),
    ],
)
def test_an_answer_is_framed_by_what_is_known_of_it(reply, method, version, expected):
    assert writer.framing_line(reply, method, version) == expected
