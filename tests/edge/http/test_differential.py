"""The whole corpus and generated inputs beside h11 and httptools: whatever we accept they read the same way, and where
they accept what we refuse, the table in differences.py says why."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge.http.corpus import records
from tests.edge.http.differences import TABLE, Difference, of_request, of_response

REQUESTS = records.requests()
RESPONSES = records.responses()


def told(differences: list[Difference], raw: bytes) -> list[str]:
    """Say what nothing explains."""
    return [
        f"{found.oracle} {found.kind} {found.slug}\n  bytes: {raw!r}\n  ours:   {found.ours}\n  theirs: {found.theirs}"
        for found in differences
        if not found.rows
    ]


@pytest.mark.parametrize("record", REQUESTS, ids=lambda record: record.name)
def test_every_difference_over_a_request_has_a_named_reason(record):
    assert told(list(of_request(record.raw)), record.raw) == []


@pytest.mark.parametrize("record", RESPONSES, ids=lambda record: record.name)
def test_every_difference_over_a_response_has_a_named_reason(record):
    assert told(list(of_response(record.raw, record.method, record.closed)), record.raw) == []


def test_every_reason_explains_a_record_that_no_other_explains():
    """Else it is not needed, and could hide something."""
    found = [difference for record in REQUESTS for difference in of_request(record.raw)]
    found += [found for record in RESPONSES for found in of_response(record.raw, record.method, record.closed)]
    needed = {difference.rows[0] for difference in found if len(difference.rows) == 1}
    assert [row for row in TABLE if row not in needed] == []


@pytest.mark.parametrize("record", REQUESTS, ids=lambda record: record.name)
def test_we_accept_no_request_that_both_refuse(record):
    refusing = {difference.oracle for difference in of_request(record.raw) if difference.kind == "refuses"}
    allowed = {"extension-blanks", "trailer-framing"}  # RFC 9112 sections 7.1.1 and 6.5.1 are on our side
    assert len(refusing) < 2 or record.name in allowed


# Generated: well-formed and nearly so, from pieces that mean something

_BLANK = st.sampled_from([b" ", b" ", b" ", b" ", b"  ", b"\t", b""])
_END = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b" \r\n", b"\r\n "])
_METHOD = st.sampled_from(b"GET POST POST PUT HEAD OPTIONS BREW get TRACE CONNECT G,T".split())
_TARGET = st.sampled_from(b"/ / /a?b /a#b * http://a/b http://b a:80 x /%0d%0a //b /\xc3\xa9".split())
_VERSION = st.sampled_from(b"1.1 1.1 1.1 1.1 1.1 1.0 1.0 1.2 2.0 0.9 1.10".split()).map(b"HTTP/".__add__)
_NAMES = (
    b"Content-Length Content-Length Transfer-Encoding Transfer-Encoding Connection Expect Host Upgrade X-A X_A"
    b" Content_Length content-length TE Trailer A(b \xe4 Cookie".split()
)
_VALUES = (
    b"3 3 0 03 +3 3,3 0x3 99999999999999999999 chunked chunked Chunked gzip,chunked chunked,identity identity close"
    b' keep-alive 100-continue upgrade a \xff "'.split()
)
_NAME = st.sampled_from([*_NAMES, b"A b", b""])
_VALUE = st.sampled_from([*_VALUES, b"", b"b\x00", b"a\tb", b"\x0bchunked", b"chunked "])
_FIELD = st.tuples(_NAME, st.sampled_from([b":", b": ", b": ", b" : ", b":\t"]), _VALUE, _END)
_SIZE = st.sampled_from(
    [b"3", b"3", b"3", b"03", b"3;a=b", b"3;a", b"3;", b'3;a="b', b"3 ", b"0x3", b"-3", b"4", b"00000000000000003"]
)
_CHUNK = st.tuples(_SIZE, _END, st.sampled_from([b"abc", b"abc", b"\r\n\r", b"ab"]), _END)
_LAST = st.sampled_from(
    [b"0\r\n\r\n", b"0\r\n\r\n", b"0;a\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\n\r\n", b"0\r\n\n", b"00\r\n\r\n"]
)
_BODY = st.one_of(
    st.just(b""),
    st.just(b"abc"),
    st.just(b"abcdef"),
    st.tuples(st.lists(_CHUNK, max_size=2), _LAST).map(
        lambda parts: b"".join(itertools.chain.from_iterable(parts[0])) + parts[1]
    ),
)
_BEHIND = st.sampled_from([b"", b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n", b"x"])


def _joined(parts: tuple) -> bytes:
    return b"".join(b"".join(part) if isinstance(part, tuple) else part for part in parts)


@st.composite
def requests(draw):
    line = draw(st.tuples(_METHOD, _BLANK, _TARGET, _BLANK, _VERSION, _END))
    host = draw(st.sampled_from([b"Host: a\r\n"] * 9 + [b"", b"Host: a\r\nHost: a\r\n", b"Host: a b\r\n"]))
    fields = draw(st.lists(_FIELD, max_size=4))
    ending = draw(st.sampled_from([b"\r\n"] * 9 + [b"\n", b""]))
    return _joined((line, host, *fields, ending, draw(_BODY), draw(_BEHIND)))


@st.composite
def responses(draw):
    version = draw(st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/1.2", b"ICY"]))
    code = draw(st.sampled_from([b"200"] * 6 + [b"204", b"304", b"100", b"103", b"404", b"600", b"20"]))
    line = (version, draw(_BLANK), code, draw(st.sampled_from([b" OK", b" ", b"", b" O\x01K"])), draw(_END))
    fields = draw(st.lists(_FIELD, max_size=4))
    ending = draw(st.sampled_from([b"\r\n"] * 9 + [b"\n", b""]))
    return _joined((line, *fields, ending, draw(_BODY), draw(_BEHIND)))


@settings(max_examples=1200, deadline=None)
@given(requests())
def test_generated_requests_are_read_alike(raw):
    assert told(list(of_request(raw)), raw) == []


@settings(max_examples=800, deadline=None)
@given(responses(), st.sampled_from([b"GET", b"GET", b"HEAD"]), st.booleans())
def test_generated_responses_are_read_alike(raw, method, closed):
    assert told(list(of_response(raw, method, closed)), raw) == []


@settings(max_examples=1000, deadline=None)
@given(st.data())
def test_records_with_a_few_octets_changed_are_read_alike(data):
    record = data.draw(st.sampled_from([record for record in REQUESTS + RESPONSES if len(record.raw) < 400]))
    raw = bytearray(record.raw)
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from(
                [b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x00", b"0", b"3", b";", b":", b",", b'"', b"\x80"]
            )
        )
    octets = bytes(raw)
    if record in REQUESTS:
        assert told(list(of_request(octets)), octets) == []
    else:
        assert told(list(of_response(octets, record.method, record.closed)), octets) == []
