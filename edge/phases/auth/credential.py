"""The one credential of a request, found and classified without believing a word of it.

In:    X-API-Key and Authorization.
Out:   Credential or None; GatewayError credentials-ambiguous.
Laws:  1. Two kinds of credential at once, or one of them twice, is 400: nobody has to guess which one counted. 2. The
       kind names the only verifier that will run. 3. A key of our format with a wrong checksum is never looked up.
Not here: believing (the other modules of this phase), which kinds a route takes (edge.snapshot).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from contracts import apikey, clerk
from contracts.bounds import KEY_CHARS_MAX
from edge.http.messages import FieldSection
from edge.phases.auth.refusals import ambiguous
from edge.snapshot import CredentialKind

API_KEY: Final = frozenset({b"x-api-key"})
AUTHORIZATION: Final = frozenset({b"authorization"})


@dataclass(slots=True)
class Credential:
    """What was presented. `fields`: lower-cased names of the fields that carried it. One whose form already proves it
    wrong is not `plausible`. `digest`: what it is remembered by; of a key, what the key store calls it once asked."""

    kind: CredentialKind
    value: bytes
    fields: frozenset[bytes]
    plausible: bool = True
    digest: bytes = b""


def classify(section: FieldSection) -> Credential | None:
    """Find the one credential of a request. Raises GatewayError(credentials-ambiguous)."""
    keys = section.index.get(b"x-api-key", ())
    authorizations = section.index.get(b"authorization", ())
    if len(keys) > 1 or len(authorizations) > 1:
        raise ambiguous("A credential field was sent more than once.")
    bearer = _bearer(authorizations[0]) if authorizations else None
    if keys and bearer is not None:
        raise ambiguous("Send either X-API-Key or Authorization: Bearer, not both.")
    if keys:
        return _key(keys[0], API_KEY)
    if bearer is None:
        return None
    if apikey.has_our_prefix(bearer):
        return _key(bearer, AUTHORIZATION)
    plausible = 0 < len(bearer) <= clerk.TOKEN_BYTES_MAX and bearer.isascii()
    return Credential("session", bearer, AUTHORIZATION, plausible, hashlib.sha256(bearer).digest())


def _bearer(value: bytes) -> bytes | None:
    """RFC 9110 section 11.1: the scheme is case-insensitive. Other schemes are the origin's business: None."""
    scheme, _, credentials = value.partition(b" ")
    return credentials.strip(b" ") if scheme.lower() == b"bearer" else None


def _key(value: bytes, fields: frozenset[bytes]) -> Credential:
    if apikey.has_our_prefix(value):
        return Credential("key", value, fields, plausible=apikey.parse_key(value) is not None)
    return Credential("key", value, fields, plausible=0 < len(value) <= KEY_CHARS_MAX)
