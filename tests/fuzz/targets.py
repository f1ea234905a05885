"""Four fuzz targets: a request, a response, a body of chunks, the fields of a signature. Each takes any bytes and
raises AssertionError when a law does not hold; those of whole messages are in tests/edge/http/laws.py.

Seeds come from the corpus. A find becomes a record of the corpus.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from edge.http import digests, signatures, structured
from edge.http.messages import FieldSection
from tests.edge.http.corpus import records
from tests.edge.http.laws import CHUNKED_HEAD, hold_for_chunks, hold_for_request, hold_for_response

_SEED_BYTES_MAX = 1_024
_SIGNATURE = (
    b'sig1=("date";sf), ve=("@method" "@authority" "@path" "@query" "content-digest");created=1700000000'
    b';nonce="MDEyMzQ1Njc4OWFiY2RlZg==";keyid="svc_1";alg="hmac-sha256";tag="vantageedge-s2s"\n'
    b"sig1=:YQ==:, ve=:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=:\n"
    b"sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:, md5=:YQ==:"
)


def fuzz_request(octets: bytes) -> None:
    hold_for_request(octets)


def fuzz_response(octets: bytes) -> None:
    """The first octet says whether it answers a HEAD and whether the origin closes behind it."""
    how = octets[0] if octets else 0
    hold_for_response(octets[1:], b"HEAD" if how & 1 else b"GET", bool(how & 2))


def fuzz_chunks(octets: bytes) -> None:
    hold_for_chunks(octets)


def fuzz_signature(octets: bytes) -> None:
    """Signature-Input, Signature and Content-Digest, a line each: read or refused; read again as they are written."""
    said, proof, digest = [*octets.split(b"\n", 2), b"", b""][:3]
    index = {b"signature-input": (said,), b"signature": (proof,)}
    section = FieldSection(b"", tuple((name, line) for name, (line,) in index.items()), index)
    signed = signatures.is_signed(section)
    with contextlib.suppress(signatures.SignatureError):
        claim = signatures.read(section)
        assert signed, "what is read was seen"
        again = structured.dictionary(b"ve=" + claim.parameters)["ve"]
        assert isinstance(again, structured.InnerList)
        assert structured.serialise(again) == claim.parameters, "there is one canonical form"
    with contextlib.suppress(structured.StructuredError):
        digests.ContentDigest(digest).fits(b"")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "request": fuzz_request,
    "response": fuzz_response,
    "chunks": fuzz_chunks,
    "signature": fuzz_signature,
}


def seeds(target: str) -> list[bytes]:
    if target == "signature":
        return [_SIGNATURE, _SIGNATURE.replace(b" ", b"  ").replace(b";", b"; ")]
    if target == "response":
        found = [
            bytes((0x30 | (record.method == b"HEAD") | record.closed << 1,)) + record.raw
            for record in records.responses()
        ]
    else:
        found = [record.raw for record in records.requests()]
    if target == "chunks":
        found = [raw.removeprefix(CHUNKED_HEAD) for raw in found if raw.startswith(CHUNKED_HEAD)]
    return [raw for raw in found if len(raw) <= _SEED_BYTES_MAX]


# What a mutation should insert whole.
WORDS = (
    b"GET ", b"POST ", b"HEAD ", b"OPTIONS * ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 304", b"HTTP/1.1 204", b"HTTP/1.1 100", b"Host: a\r\n", b"Content-Length: 3\r\n", b"Content-Length:",
    b"Transfer-Encoding:", b"Transfer-Encoding: chunked\r\n", b"chunked", b"identity", b"gzip, ", b"keep-alive",
    b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"Expect: 100-continue\r\n", b"http://a",
    b"Content_Length: 3\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\r\n ", b"\t", b"\x00", b"\x0b", b"\x7f", b"\x80",
    b"0\r\n\r\n", b"3\r\nabc\r\n", b";a=b", b';a="b"', b'\\"', b"0x", b"ffffffffffffffff", b"0\r\nX: y\r\n\r\n",
    b"[::1]", b"%41", b"18446744073709551616",
)  # fmt: skip
