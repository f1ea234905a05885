"""Twin of edge.http.framing: where a body ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.http.framing import (
    LAST_CHUNK,
    ChunkedDecoder,
    Decoder,
    FramingError,
    LengthDecoder,
    UntilCloseDecoder,
    chunk,
    last_chunk,
)


def decoded(decoder: Decoder, *pieces: bytes) -> tuple[bytes, bool, bytes]:
    body = b"".join(decoder.feed(piece) for piece in pieces)
    return body, decoder.done, decoder.leftover


def chunked(*pieces: bytes) -> tuple[bytes, bool, bytes]:
    return decoded(ChunkedDecoder(), *pieces)


def test_a_length_ends_the_body_and_the_rest_is_the_next_message():
    assert decoded(LengthDecoder(5), b"ab", b"cdeGET /") == (b"abcde", True, b"GET /")
    assert LengthDecoder(0).done


def test_a_length_cut_short_is_an_error():
    decoder = LengthDecoder(5)
    decoder.feed(b"abc")
    with pytest.raises(FramingError, match="2 octets"):
        decoder.end()
    decoder.feed(b"de")
    decoder.end()


def test_until_close_ends_with_the_connection():
    decoder = UntilCloseDecoder()
    assert decoder.feed(b"abc") == b"abc" and not decoder.done
    decoder.end()
    assert decoder.done and decoder.leftover == b""


def test_chunks_become_octets():
    assert chunked(b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET /") == (b"abc0123456789", True, b"GET /")


def test_what_comes_after_the_last_chunk_is_kept_over_several_feeds():
    assert chunked(b"0\r\n\r\nGE", b"T /") == (b"", True, b"GET /")


def test_encoding_and_decoding_agree():
    assert chunked(chunk(b"abc") + chunk(b"x" * 5000) + LAST_CHUNK) == (b"abc" + b"x" * 5000, True, b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"3;a\r\nabc\r\n0\r\n\r\n",
        b"3;a=b;c\r\nabc\r\n0;x=y\r\n\r\n",
        b'3 ; a = "b;\\"c"\r\nabc\r\n0\r\n\r\n',
        b"0003\r\nabc\r\n0000000000000000\r\n\r\n",
    ],
)
def test_extensions_and_leading_zeros_are_ignored(raw):
    assert chunked(raw) == (b"abc", True, b"")


def test_trailers_are_kept_apart_from_the_body():
    decoder = ChunkedDecoder()
    assert decoded(decoder, b"3\r\nabc\r\n0\r\nExpires: now\r\nA", b": b\r\n\r\nGET") == (b"abc", True, b"GET")
    assert decoder.trailers == b"Expires: now\r\nA: b\r\n"
    assert LengthDecoder(0).trailers == UntilCloseDecoder().trailers == b""


def test_the_last_chunk_carries_the_trailers():
    decoder = ChunkedDecoder()
    assert decoded(decoder, chunk(b"abc") + last_chunk(b"A: b\r\n")) == (b"abc", True, b"")
    assert (decoder.trailers, last_chunk(b"")) == (b"A: b\r\n", LAST_CHUNK)


@pytest.mark.parametrize(
    "raw",
    [
        b"-3\r\nabc\r\n",
        b"+3\r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b" 3\r\nabc\r\n",
        b"3 \r\nabc\r\n",
        b"\r\n",
        b"g\r\n",
        b"3;\r\nabc\r\n",
        b"3;a b\r\nabc\r\n",
        b"3;\x00\r\n",
        b"3\nabc\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n",
        b"3\r\nabc\rX",
        b"00000000000000003\r\nabc\r\n",  # 17 digits
        b"3;a=" + b"b" * 600 + b"\r\n",
        b"3;a=" + b"b" * 600,
        b"0\r\nA : b\r\n\r\n",
        b"0\r\n A: b\r\n\r\n",
        b"0\r\nA\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: " + b"b" * 8200 + b"\r\n",
        b"0\r\n" + (b"A: " + b"b" * 4000 + b"\r\n") * 3 + b"\r\n",
        (b"1;a=" + b"b" * 500 + b"\r\nx\r\n") * 40,
    ],
)
def test_malformed_chunks_are_refused(raw):
    with pytest.raises(FramingError):
        chunked(raw)
    with pytest.raises(FramingError):
        chunked(*(raw[at : at + 1] for at in range(len(raw))))


@pytest.mark.parametrize("raw", [b"", b"3", b"3\r\nab", b"3\r\nabc", b"3\r\nabc\r\n", b"0\r\n", b"0\r\nA: b\r\n"])
def test_chunks_cut_short_are_an_error(raw):
    decoder = ChunkedDecoder()
    decoder.feed(raw)
    assert not decoder.done
    with pytest.raises(FramingError):
        decoder.end()


def test_a_complete_body_ends_without_complaint():
    decoder = ChunkedDecoder()
    decoder.feed(LAST_CHUNK)
    decoder.end()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.binary(max_size=10),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_any_split_of_the_bytes_gives_the_same_body(parts, behind, cuts):
    raw = b"".join(chunk(part) for part in parts) + b"0\r\nT: 1\r\n\r\n" + behind
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [raw[a:b] for a, b in itertools.pairwise(edges)]
    assert chunked(*pieces) == (b"".join(parts), True, behind)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 60))
def test_no_bytes_crash_the_decoder_and_no_split_changes_the_verdict(raw, cut):
    def verdict(*pieces: bytes):
        try:
            return chunked(*pieces)
        except FramingError:
            return "refused"

    whole = verdict(raw)
    parts = verdict(raw[:cut], raw[cut:])
    assert whole == parts


def test_a_decoder_holds_no_more_than_one_incomplete_line():
    decoder = ChunkedDecoder()
    decoder.feed(b"ffffff\r\n")
    for _ in range(100):
        assert decoder.feed(b"x" * 65_536) == b"x" * 65_536
    assert len(decoder._rest) == 0
