"""Content-Digest (RFC 9530): what the octets of a body must hash to, and a body that is held to it while it passes.

In:    a field's value; a body, whole or in pieces.
Out:   ContentDigest; Checked, which reads like the body it holds; GatewayError digest-mismatch.
Laws:  1. sha-256 and sha-512 count, every one that is there; the insecure ones of RFC 9530 section 5 and unknown ones
       count for nothing, and a field with nothing else is refused. 2. The last piece of a body stays here until all of
       it is hashed: who reads a wrong body never gets its end. 3. The digest is of the content, without transfer
       coding, as RFC 9530 section 2 says.
Not here: who demands a digest (phases.auth.signatures), Repr-Digest, trailers.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from edge.errors import GatewayError, Source
from edge.http.messages import ClientBody
from edge.http.structured import Item, StructuredError, dictionary

_ALGORITHMS: Final = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


class ContentDigest:
    """What must come out, by algorithm."""

    __slots__ = ("_wanted",)

    def __init__(self, field: bytes) -> None:
        """Raises StructuredError."""
        wanted: list[tuple[Any, bytes]] = []
        for name, member in dictionary(field).items():
            if not isinstance(member, Item) or not isinstance(member.value, bytes):
                raise StructuredError("a digest is not a byte sequence")
            algorithm = _ALGORITHMS.get(name)
            if algorithm is not None:
                wanted.append((algorithm, member.value))
        if not wanted:
            raise StructuredError("there is neither sha-256 nor sha-512")
        self._wanted = tuple(wanted)

    def fits(self, octets: bytes) -> bool:
        return all(algorithm(octets).digest() == value for algorithm, value in self._wanted)

    def begin(self) -> list[tuple[Any, bytes]]:
        """Give, for each algorithm, a hash to feed and what it must give."""
        return [(algorithm(), value) for algorithm, value in self._wanted]


class Checked:
    """A request's body (ClientBody) that ends only as its digest says."""

    __slots__ = ("_body", "_hashes", "_held", "length")

    def __init__(self, body: ClientBody, wanted: ContentDigest) -> None:
        self._body = body
        self._hashes = wanted.begin()
        self._held = b""
        self.length = body.length

    @property
    def trailers(self) -> bytes:
        return self._body.trailers

    @property
    def waits(self) -> bool:
        return self._body.waits

    def read(self) -> bytes:
        """Raises GatewayError(digest-mismatch) in place of the last piece. May be interrupted while it waits: what is
        held stays held."""
        while True:
            piece = self._body.read()
            if not piece:
                if any(running.digest() != value for running, value in self._hashes):
                    raise mismatch()
                held, self._held = self._held, b""
                return held
            for running, _ in self._hashes:
                running.update(piece)
            held, self._held = self._held, piece
            if held:
                return held

    def close(self) -> None:
        self._body.close()


def mismatch() -> GatewayError:
    return GatewayError(
        "digest-mismatch", "The body does not have the Content-Digest that was signed.", source=Source.DOWNSTREAM
    )
