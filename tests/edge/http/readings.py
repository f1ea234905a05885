"""One message out of some bytes, as we, h11 and httptools read it: what tests and fuzz targets compare.

A reading is "accept" (a message complete with its body), "refuse" or "wait"; the parts after the verdict count for
"accept" alone. `cuts` are the places where the bytes are cut into reads, as a socket might.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import h11
import httptools

from edge.errors import GatewayError
from edge.http.framing import ChunkedDecoder, Decoder, FramingError, LengthDecoder, UntilCloseDecoder
from edge.http.messages import RequestHead, ResponseHead
from edge.http.parser import SectionMemo, parse_request_head, parse_response_head
from edge.settings import Limits

Fields = tuple[tuple[bytes, bytes], ...]
LIMITS = Limits()


class Reading(NamedTuple):
    """`slug`: why we refuse a head, "body" for a body. `start`: (method, target, version) or (status, version).

    `fields`, and `behind` those of the trailer section, have lower-cased names. `trailers` and `head` are ours alone.
    """

    verdict: str
    slug: str = ""
    start: tuple[bytes, ...] = ()
    fields: Fields = ()
    body: bytes = b""
    left: bytes = b""
    keep_alive: bool | None = None
    trailers: bytes = b""
    behind: Fields = ()
    head: RequestHead | ResponseHead | None = None


REFUSED = Reading("refuse")
WAITING = Reading("wait")


def pieces(raw: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(raw)), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(edges)]


# Ours


def our_request(
    raw: bytes, cuts: Iterable[int] = (), memo: SectionMemo | None = None, limits: Limits = LIMITS
) -> Reading:
    memo = SectionMemo() if memo is None else memo  # an empty one is false
    buffer = b""
    coming = iter(pieces(raw, cuts))
    try:
        for piece in coming:
            buffer += piece
            parsed = parse_request_head(buffer, memo, limits)
            if parsed is not None:
                break
        else:
            return WAITING
    except GatewayError as error:
        return Reading("refuse", error.problem.slug if error.close else "the connection would go on")
    head, used = parsed
    start = (head.method, head.target, b"1.1" if head.version == 11 else b"1.0")
    decoder: Decoder = ChunkedDecoder() if head.chunked else LengthDecoder(head.content_length or 0)
    return _with_body(decoder, head, start, [buffer[used:], *coming], closed=False)


def our_response(
    raw: bytes, method: bytes = b"GET", closed: bool = False, cuts: Iterable[int] = (), memo: SectionMemo | None = None
) -> Reading:
    memo = SectionMemo() if memo is None else memo  # an empty one is false
    buffer = b""
    coming = iter(pieces(raw, cuts))
    try:
        for piece in coming:
            buffer += piece
            parsed = parse_response_head(buffer, method, memo)
            if parsed is not None:
                break
        else:
            return WAITING
    except GatewayError as error:
        return Reading("refuse", error.problem.slug)
    head, used = parsed
    start = (b"%d" % head.status, b"1.1" if head.version == 11 else b"1.0")
    decoder: Decoder
    if head.content_length is not None:
        decoder = LengthDecoder(head.content_length)
    else:
        decoder = ChunkedDecoder() if head.chunked else UntilCloseDecoder()
    return _with_body(decoder, head, start, [buffer[used:], *coming], closed)


def _with_body(
    decoder: Decoder, head: RequestHead | ResponseHead, start: tuple[bytes, ...], coming: list[bytes], closed: bool
) -> Reading:
    fields = tuple((name.lower(), value) for name, value in head.section.fields)
    body = b""
    try:
        for piece in coming:
            body += decoder.feed(piece)
        if closed:
            decoder.end()
    except FramingError:
        return Reading("refuse", "body", start, fields, head=head)
    verdict = "accept" if decoder.done else "wait"
    trailers = decoder.trailers
    lines = [line.partition(b":") for line in trailers.split(b"\r\n")[:-1]]
    behind = tuple((name.lower(), value.strip(b" \t")) for name, _, value in lines)
    return Reading(verdict, "", start, fields, body, decoder.leftover, head.keep_alive, trailers, behind, head)


# h11


def _h11_message(connection: h11.Connection, version_of: h11.Event | None = None) -> Reading:
    start: tuple[bytes, ...] = ()
    fields: Fields = ()
    body = b""
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return WAITING
            if isinstance(event, h11.Request):
                start = (event.method, event.target, event.http_version)
                fields = tuple(event.headers)
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                start = (b"%d" % event.status_code, event.http_version)
                fields = tuple(event.headers)
                if event.status_code < 200:
                    return Reading("accept", "", start, fields, b"", connection.trailing_data[0])
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                left = connection.trailing_data[0]
                return Reading("accept", "", start, fields, body, left, behind=tuple(event.headers))
            else:
                return REFUSED
    except h11.RemoteProtocolError:
        return REFUSED


def h11_request(raw: bytes) -> Reading:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(raw) if raw else None
    return _h11_message(connection)


def h11_response(raw: bytes, method: bytes = b"GET", closed: bool = False) -> Reading:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"a")]))
    connection.send(h11.EndOfMessage())
    if raw:
        connection.receive_data(raw)
    if closed:
        connection.receive_data(b"")
    return _h11_message(connection)


# httptools (llhttp)


class _Listener:
    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.behind: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.headed = False
        self.complete = False
        self.start: tuple[bytes, ...] = ()
        self.keep_alive: bool | None = None
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser

    def on_url(self, octets: bytes) -> None:
        if not self.complete:
            self.target += octets

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:  # else the next message's
            fields = self.behind if self.headed else self.fields
            fields.append((name.lower(), (value or b"").strip(b" \t")))

    def on_headers_complete(self) -> None:
        if self.headed:
            return
        self.headed = True
        parser = self.parser
        version = parser.get_http_version().encode()
        if isinstance(parser, httptools.HttpRequestParser):
            self.start = (parser.get_method(), self.target, version)
        else:
            self.start = (b"%d" % parser.get_status_code(), version)
        self.keep_alive = parser.should_keep_alive()

    def on_body(self, octets: bytes) -> None:
        if not self.complete:
            self.body += octets

    def on_message_complete(self) -> None:
        self.complete = True

    def reading(self, left: bytes) -> Reading:
        behind = tuple(self.behind)
        return Reading("accept", "", self.start, tuple(self.fields), self.body, left, self.keep_alive, behind=behind)


def _httptools(kind: type, raw: bytes, used: int | None) -> tuple[_Listener, str, bytes]:
    """Feed the bytes; with `used`, in two pieces that show whether the message ends exactly there.

    Give (what was heard, verdict, what is left). "early" is left where it ended before `used`.
    """
    listener = _Listener()
    parser = listener.parser = kind(listener)
    left = b"" if used is None else raw[used:]
    for piece in (raw,) if used is None else (raw[: used - 1], raw[used - 1 : used]):
        if listener.complete:
            return listener, "accept", b"early"
        try:
            parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            listener.complete = True
        except httptools.HttpParserError:
            return listener, "accept" if listener.complete else "refuse", left
    return listener, "accept" if listener.complete else "wait", left


def httptools_request(raw: bytes, used: int | None = None) -> Reading:
    listener, verdict, left = _httptools(httptools.HttpRequestParser, raw, used)
    return listener.reading(left) if verdict == "accept" else REFUSED if verdict == "refuse" else WAITING


def httptools_response(raw: bytes, closed: bool = False, used: int | None = None) -> Reading:
    """It cannot be told of a closed connection: what has neither length nor chunks is complete then."""
    listener, verdict, left = _httptools(httptools.HttpResponseParser, raw, used)
    framed = any(name in (b"content-length", b"transfer-encoding") for name, _ in listener.fields)
    if verdict == "wait" and closed and listener.headed and not framed:
        return listener.reading(b"")
    return listener.reading(left) if verdict == "accept" else REFUSED if verdict == "refuse" else WAITING
