"""What must hold for any bytes at all, as functions that raise AssertionError: for properties and fuzz targets alike.

1. However the bytes are cut, and whatever was read before, the reading is the same. 2. No exception but ours leaves the
parser or a decoder. 3. What h11 and httptools read otherwise is explained. 4. What we accept and send on is read by
ourselves and by both of them as it was meant.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from edge.http import writer
from edge.http.framing import ChunkedDecoder, FramingError, chunk, last_chunk
from edge.http.headers import request_lines, response_lines, trailers
from edge.http.messages import Reply, RequestHead, ResponseHead
from edge.http.parser import SectionMemo
from tests.edge.http.differences import Difference, of_request, of_response
from tests.edge.http.readings import Reading, our_request, our_response, pieces

CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
_NOTHING: frozenset[bytes] = frozenset()
_DATE_LINE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def cuts_of(raw: bytes) -> list[int]:
    """Choose some places to cut at, always the same for the same bytes."""
    chance = zlib.crc32(raw)
    size = len(raw) + 1
    return [chance % size, (chance >> 8) % size, (chance >> 16) % size]


def same(one: Reading, other: Reading) -> bool:
    return one._replace(head=None) == other._replace(head=None)


def explained(differences: Iterable[Difference], raw: bytes) -> None:
    for found in differences:
        assert found.rows, (
            f"nothing explains: {found.oracle} {found.kind} {found.slug}\n  bytes:  {raw!r}\n  ours:   {found.ours}\n"
            f"  theirs: {found.theirs}"
        )


def hold_for_request(raw: bytes, cuts: Iterable[int] | None = None) -> Reading:
    whole = our_request(raw)
    cut = our_request(raw, cuts_of(raw) if cuts is None else cuts)
    assert same(whole, cut), f"cut otherwise: {cut}, whole: {whole}"
    memo = SectionMemo()
    for _ in range(3):  # first seen, its block remembered, its head remembered
        assert same(whole, our_request(raw, memo=memo)), "remembered otherwise"
    explained(of_request(raw), raw)
    if whole.verdict == "accept":
        assert isinstance(whole.head, RequestHead)
        _passes_on_request(whole.head, whole.body, trailers(whole.head.section, whole.trailers))
    return whole


def hold_for_response(
    raw: bytes, method: bytes = b"GET", closed: bool = False, cuts: Iterable[int] | None = None
) -> Reading:
    whole = our_response(raw, method, closed)
    cut = our_response(raw, method, closed, cuts_of(raw) if cuts is None else cuts)
    assert same(whole, cut), f"cut otherwise: {cut}, whole: {whole}"
    memo = SectionMemo()
    other = b"GET" if method == b"HEAD" else b"HEAD"
    otherwise = our_response(raw, other, closed)
    for _ in range(2):
        assert same(whole, our_response(raw, method, closed, memo=memo)), "remembered otherwise"
        assert same(otherwise, our_response(raw, other, closed, memo=memo)), "remembered otherwise"
    explained(of_response(raw, method, closed), raw)
    if whole.verdict == "accept":
        assert isinstance(whole.head, ResponseHead)
        _passes_on_response(whole.head, whole.body, method)
    return whole


def hold_for_chunks(raw: bytes, cuts: Iterable[int] | None = None) -> tuple[str, bytes, bytes, bytes]:
    """The same for a body of chunks; give (verdict, body, what is left, trailers)."""
    whole = _decoded([raw])
    assert whole == _decoded(pieces(raw, cuts_of(raw) if cuts is None else cuts)), "cut otherwise"
    assert whole == _decoded([raw[at : at + 1] for at in range(len(raw))]), "octet by octet otherwise"
    explained(of_request(CHUNKED_HEAD + raw), CHUNKED_HEAD + raw)
    verdict, body, _, behind = whole
    if verdict == "accept":
        again = (chunk(body) if body else b"") + last_chunk(behind)
        assert _decoded([again]) == ("accept", body, b"", behind)
    return whole


def _decoded(parts: list[bytes]) -> tuple[str, bytes, bytes, bytes]:
    decoder = ChunkedDecoder()
    try:
        body = b"".join([decoder.feed(part) for part in parts])
    except FramingError:
        return "refuse", b"", b"", b""
    return ("accept" if decoder.done else "wait"), body, decoder.leftover, decoder.trailers


def _fields(lines: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        yield name.lower(), value


def _passes_on_request(head: RequestHead, body: bytes, behind: bytes) -> None:
    target = head.path if head.query is None else head.path + b"?" + head.query
    lines = request_lines(head.section, _NOTHING)
    raw = writer.request_lines(head.method, target, b"origin:80", lines, b"")
    raw += writer.request_framing(head.method, None if head.chunked else len(body)) + b"\r\n"
    raw += (chunk(body) if body else b"") + last_chunk(behind) if head.chunked else body
    sent = our_request(raw)
    assert (sent.verdict, sent.body, sent.left, sent.trailers) == ("accept", body, b"", behind), f"sent: {raw!r}"
    assert sent.start == (head.method, target, b"1.1")
    assert sent.fields[0] == (b"host", b"origin:80")
    passed = list(sent.fields[1:])
    if head.chunked or body or head.method in (b"POST", b"PUT", b"PATCH"):
        name, value = passed.pop()
        assert (name, value) == (b"transfer-encoding", b"chunked") or (name, int(value)) == (
            b"content-length",
            len(body),
        )
    assert passed == list(_fields(lines))
    differences = list(of_request(raw))
    assert not any(found.kind.startswith("reads") or found.oracle == "h11" for found in differences), f"sent: {raw!r}"
    explained(differences, raw)


def _passes_on_response(head: ResponseHead, body: bytes, method: bytes) -> None:
    if head.status < 200:
        return
    reply = Reply(head.status, head.reason, response_lines(head.section, _NOTHING), body, head.announced_length)
    line, _, _ = writer.framing_line(reply, method, 11)
    raw = writer.response_head(reply, line, b"", _DATE_LINE)
    if method != b"HEAD" and head.status not in (204, 304):
        raw += body
    sent = our_response(raw, method)
    assert isinstance(sent.head, ResponseHead), f"sent: {raw!r}"
    assert (sent.verdict, sent.body, sent.left, sent.keep_alive) == ("accept", body, b"", True), f"sent: {raw!r}"
    assert (sent.head.status, sent.head.reason) == (head.status, head.reason)
    wanted = [field for field in _fields(reply.lines) if field[0] != b"date"]
    assert [field for field in sent.fields if field[0] not in (b"date", b"content-length")] == wanted
    assert len(sent.head.section.index[b"date"]) == 1
    assert list(of_response(raw, method)) == [], f"sent: {raw!r}"
