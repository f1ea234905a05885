"""Content-Digest (edge.http.digests): RFC 9530."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import GatewayError
from edge.http.digests import Checked, ContentDigest
from edge.http.structured import StructuredError
from tests.edge.fakes import Pieces
from tests.edge.signing import content_digest

HELLO = b'{"hello": "world"}'
# RFC 9421 appendix B.2, RFC 9530 appendix D.
SHA_512 = b"sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
SHA_256 = b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"


@pytest.mark.parametrize("field", [SHA_512, SHA_256, SHA_512 + b", " + SHA_256, b"md5=:AAAA:, " + SHA_256])
def test_the_examples_of_the_rfcs_fit(field):
    assert ContentDigest(field).fits(HELLO)
    assert not ContentDigest(field).fits(HELLO + b" ")


def test_where_two_digests_are_given_both_must_fit():
    wrong = content_digest(b"other")[1].encode()
    assert not ContentDigest(SHA_512 + b", " + wrong).fits(HELLO)
    assert not ContentDigest(wrong + b", " + SHA_512).fits(HELLO)


@pytest.mark.parametrize("field", [b"", b"md5=:AAAA:", b"SHA-256=:AAAA:", b"sha-256=AAAA", b"sha-256", b"sha-256=(1)",
                                   b"sha-256=:*:", SHA_256 + b", " + SHA_256, SHA_256 + b", unixsum=1"])  # fmt: skip
def test_a_field_without_a_digest_we_can_check_is_refused(field):
    """RFC 9530 section 5: md5, sha, unixsum, unixcksum, adler and crc32c are insecure in adversarial situations."""
    with pytest.raises(StructuredError):
        ContentDigest(field)


def test_a_digest_that_is_too_short_fits_nothing():
    assert not ContentDigest(b"sha-256=:AAAA:").fits(b"")


def read_all(body):
    got = []
    while piece := body.read():
        got.append(piece)
    return got


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=6))
def test_a_right_body_comes_out_as_it_went_in(pieces):
    body = Checked(Pieces(*pieces), ContentDigest(content_digest(b"".join(pieces))[1].encode()))
    assert read_all(body) == pieces
    assert body.read() == b""


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=6))
def test_of_a_wrong_body_the_last_piece_never_comes_out(pieces):
    body = Checked(Pieces(*pieces), ContentDigest(content_digest(b"another")[1].encode()))
    for expected in pieces[:-1]:
        assert body.read() == expected
    for _ in range(2):
        with pytest.raises(GatewayError) as caught:
            body.read()
        assert (caught.value.problem.slug, caught.value.problem.status) == ("digest-mismatch", 400)


class _Interrupt(BaseException):
    pass


def test_what_is_held_stays_held_when_a_read_is_interrupted():
    octets = b"onetwo"
    source = Pieces(b"one", _Interrupt(), b"two", _Interrupt())
    body = Checked(source, ContentDigest(content_digest(octets)[1].encode()))
    with pytest.raises(_Interrupt):
        body.read()
    assert body.read() == b"one"
    with pytest.raises(_Interrupt):
        body.read()
    assert (body.read(), body.read()) == (b"two", b"")


def test_it_looks_like_the_body_it_holds():
    source = Pieces(b"x", length=1, trailers=b"A: b\r\n", waits=True)
    body = Checked(source, ContentDigest(content_digest(b"x", "sha-512")[1].encode()))
    assert (body.length, body.trailers, body.waits) == (1, b"A: b\r\n", True)
    body.close()
    assert source.closed == 1
    assert hashlib.sha512(b"x").hexdigest() not in repr(body)
