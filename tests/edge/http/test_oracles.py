"""Our parser beside h11 and httptools: where they accept and we refuse, or the other way round, the reason stands here.

Requests are given whole. A verdict is "yes" (a request, complete with its body) or "no".
"""

from __future__ import annotations

import h11
import httptools
import pytest

from edge.errors import GatewayError
from edge.http.framing import ChunkedDecoder, FramingError, LengthDecoder
from edge.http.parser import SectionMemo, parse_request_head
from edge.settings import Limits

H = b"Host: a\r\n"


def get(lines: bytes = H, target: bytes = b"/", version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + lines + b"\r\n"


def post(lines: bytes, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\n" + H + lines + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"

# raw -> (h11, httptools) where they differ from us, with the reason
SAME = "same"
TABLE: list[tuple[str, bytes, str, str]] = [
    # (name, request, why h11 differs or SAME, why httptools differs or SAME)
    ("plain", get(), SAME, SAME),
    ("query", get(target=b"/a?b=c&d"), SAME, SAME),
    ("absolute form", get(target=b"http://a/b"), SAME, SAME),
    ("absolute form, other host", get(target=b"http://b/"), "does not read targets", "does not read targets"),
    ("options asterisk", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n", SAME, SAME),
    ("get asterisk", get(target=b"*"), "does not read targets", "does not read targets"),
    ("relative target", get(target=b"a"), "does not read targets", SAME),
    ("fragment", get(target=b"/a#b"), "does not read targets", "takes fragments"),
    ("non-ascii target", get(target=b"/\xc3\xa4"), SAME, SAME),
    ("http/1.0", get(version=b"HTTP/1.0"), SAME, SAME),
    (
        "http/1.0 without host",
        get(b"", version=b"HTTP/1.0"),
        "1.0 needs no host; ours must know the tenant",
        "checks no host",
    ),
    ("http/1.2", get(version=b"HTTP/1.2"), "leaves versions to the server", SAME),
    ("http/2.0", get(version=b"HTTP/2.0"), "leaves versions to the server", "takes 2.0 in the request line"),
    ("http/0.9", b"GET /\r\n\r\n", SAME, "speaks 0.9"),
    ("lower-case version", get(version=b"http/1.1"), SAME, SAME),
    ("no host", get(b""), SAME, "checks no host"),
    ("two hosts", get(H + H), SAME, "checks no host"),
    ("host with space", get(b"Host: a b\r\n"), "does not read the host", "checks no host"),
    ("host with bad port", get(b"Host: a:99x\r\n"), "does not read the port", "checks no host"),
    ("host, open bracket", get(b"Host: [::1\r\n"), "does not read addresses", "checks no host"),
    ("host, bad escape", get(b"Host: a%zz\r\n"), "does not read escapes", "checks no host"),
    ("space before colon", get(H + b"A : b\r\n"), SAME, SAME),
    ("tab before colon", get(H + b"A\t: b\r\n"), SAME, SAME),
    ("folded line", get(H + b"A: b\r\n c\r\n"), "unfolds, as RFC 9112 lets it", SAME),
    ("folded first line", get(b" A: b\r\n" + H), SAME, SAME),
    ("empty name", get(H + b": b\r\n"), SAME, SAME),
    ("no colon", get(H + b"Ab\r\n"), SAME, SAME),
    ("bad name", get(H + b"A(: b\r\n"), SAME, SAME),
    ("empty value", get(H + b"A:\r\n"), SAME, SAME),
    ("obs-text value", get(H + b"A: \xe4\r\n"), SAME, SAME),
    ("tab in value", get(H + b"A: b\tc\r\n"), SAME, SAME),
    ("nul in value", get(H + b"A: b\x00\r\n"), SAME, SAME),
    ("escape in value", get(H + b"A: \x1b\r\n"), "takes some controls in values", SAME),
    ("delete in value", get(H + b"A: \x7f\r\n"), "takes some controls in values", SAME),
    ("bare cr in value", get(H + b"A: b\rc\r\n"), SAME, SAME),
    ("bare lf ends a line", get(H + b"A: b\nB: c\r\n"), "ends lines at LF", SAME),
    ("bare lf everywhere", b"GET / HTTP/1.1\nHost: a\n\n", "ends lines at LF", SAME),
    ("empty line first", b"\r\n" + get(), "skips none, against the SHOULD of RFC 9112 section 2.2", SAME),
    ("two empty lines first", b"\r\n\r\n" + get(), SAME, "skips any number of empty lines"),
    ("space first", b" " + get(), SAME, SAME),
    ("two spaces", b"GET  / HTTP/1.1\r\n" + H + b"\r\n", SAME, "skips blanks"),
    ("space behind version", b"GET / HTTP/1.1 \r\n" + H + b"\r\n", SAME, SAME),
    ("unknown method", b"BREW / HTTP/1.1\r\n" + H + b"\r\n", SAME, "knows its list of methods only"),
    ("trace", b"TRACE / HTTP/1.1\r\n" + H + b"\r\n", "valid; we do not support it", "valid; we do not support it"),
    (
        "connect",
        b"CONNECT a:1 HTTP/1.1\r\n" + H + b"\r\n",
        "valid; we do not support it",
        "valid; we do not support it",
    ),
    ("length", post(b"Content-Length: 3\r\n", b"abc"), SAME, SAME),
    ("length with leading zeros", post(b"Content-Length: 003\r\n", b"abc"), SAME, SAME),
    ("length with plus", post(b"Content-Length: +3\r\n", b"abc"), SAME, SAME),
    ("length with minus", post(b"Content-Length: -3\r\n", b"abc"), SAME, SAME),
    ("hex length", post(b"Content-Length: 0x3\r\n", b"abc"), SAME, SAME),
    ("empty length", post(b"Content-Length: \r\n", b""), SAME, SAME),
    ("differing lengths", post(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd"), SAME, SAME),
    (
        "equal lengths",
        post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"),
        "joins equal repeats, as RFC 9112 lets it",
        SAME,
    ),
    ("listed length", post(b"Content-Length: 3, 3\r\n", b"abc"), "joins equal repeats, as RFC 9112 lets it", SAME),
    ("length with underscore", post(b"Content-Length: 3_0\r\n", b"abc"), SAME, SAME),
    ("huge length", post(b"Content-Length: 99999999999999999999\r\n"), SAME, SAME),
    (
        "both lengths",
        post(b"Content-Length: 3\r\n" + CHUNKED, b"0\r\n\r\n"),
        "prefers chunked, as RFC 9112 lets it",
        SAME,
    ),
    (
        "both lengths, other order",
        post(CHUNKED + b"Content-Length: 3\r\n", b"0\r\n\r\n"),
        "prefers chunked, as RFC 9112 lets it",
        SAME,
    ),
    ("chunked", post(CHUNKED, b"3\r\nabc\r\n0\r\n\r\n"), SAME, SAME),
    ("chunked, upper case", post(b"Transfer-Encoding: CHUNKED\r\n", b"0\r\n\r\n"), SAME, SAME),
    ("gzip, chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), SAME, "passes other codings on"),
    ("chunked twice", post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), SAME, SAME),
    ("identity", post(b"Transfer-Encoding: identity\r\n"), SAME, SAME),
    ("xchunked", post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), SAME, SAME),
    ("chunked in 1.0", b"POST / HTTP/1.0\r\n" + H + CHUNKED + b"\r\n0\r\n\r\n", "reads it in 1.0", "reads it in 1.0"),
    ("chunk extension", post(CHUNKED, b"3;a=b\r\nabc\r\n0\r\n\r\n"), SAME, SAME),
    ("empty chunk extension", post(CHUNKED, b"3;\r\nabc\r\n0\r\n\r\n"), "checks no extensions", SAME),
    ("chunk size with sign", post(CHUNKED, b"+3\r\nabc\r\n0\r\n\r\n"), SAME, SAME),
    ("chunk size 0x", post(CHUNKED, b"0x3\r\nabc\r\n0\r\n\r\n"), SAME, SAME),
    ("chunk size with space", post(CHUNKED, b"3 \r\nabc\r\n0\r\n\r\n"), "allows blanks behind the size", SAME),
    (
        "chunk size of 17 digits",
        post(CHUNKED, b"00000000000000003\r\nabc\r\n0\r\n\r\n"),
        "takes 20 digits",
        "counts the value, not the digits",
    ),
    ("chunk overlong", post(CHUNKED, b"3\r\nabcd\r\n0\r\n\r\n"), SAME, SAME),
    ("chunk line ended by lf", post(CHUNKED, b"3\nabc\r\n0\r\n\r\n"), SAME, SAME),
    ("trailer", post(CHUNKED, b"0\r\nA: b\r\n\r\n"), SAME, SAME),
    ("malformed trailer", post(CHUNKED, b"0\r\nA b\r\n\r\n"), SAME, SAME),
    ("unknown expectation", get(H + b"Expect: x\r\n"), "leaves it to the server", "leaves it to the server"),
]


def ours(raw: bytes) -> bool:
    try:
        parsed = parse_request_head(raw, SectionMemo(), Limits())
        if parsed is None:
            return False
        head, used = parsed
        decoder = ChunkedDecoder() if head.chunked else LengthDecoder(head.content_length or 0)
        decoder.feed(raw[used:])
    except (GatewayError, FramingError):
        return False
    return decoder.done


def of_h11(raw: bytes) -> bool:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw)
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return False
            if isinstance(event, h11.EndOfMessage):
                return True
    except h11.RemoteProtocolError:
        return False


class _Listener:
    complete = False

    def on_message_complete(self):
        self.complete = True


def of_httptools(raw: bytes) -> bool:
    listener = _Listener()
    parser = httptools.HttpRequestParser(listener)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        return True
    except httptools.HttpParserError:
        return False
    return listener.complete


def test_the_table_is_long_enough_to_mean_something():
    assert len(TABLE) >= 60
    assert len({name for name, *_ in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("name", "raw", "h11_differs", "httptools_differs"), TABLE, ids=[row[0] for row in TABLE])
def test_every_difference_to_the_oracles_is_explained(name, raw, h11_differs, httptools_differs):
    verdict = ours(raw)
    assert (of_h11(raw) == verdict) == (h11_differs == SAME)
    assert (of_httptools(raw) == verdict) == (httptools_differs == SAME)


@pytest.mark.parametrize(("name", "raw"), [row[:2] for row in TABLE], ids=[row[0] for row in TABLE])
def test_we_take_nothing_that_both_oracles_refuse(name, raw):
    assert not ours(raw) or of_h11(raw) or of_httptools(raw)
