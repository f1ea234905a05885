"""The one credential of a request, found and classified without believing a word of it.

In:    X-API-Key and Authorization; Signature-Input, where the route takes signatures; whose tokens are Clerk's.
Out:   Credential or None; GatewayError credentials-ambiguous.
Laws:  1. Two kinds of credential at once, or one of them twice, is 400: nobody has to guess which one counted. 2. The
       kind names the only verifier that will run. Of a signed token it follows from typ, then sub and category, then
       iss, none of which is believed for it. 3. A key of our format with a wrong checksum is never looked up, and a
       token that is malformed never verified. 4. Where a route does not take signatures, they are the origin's.
Not here: believing (the other modules of this phase), which kinds a route takes (edge.snapshot).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from contracts import apikey, clerk, tokens
from contracts.bounds import KEY_CHARS_MAX
from edge.http import signatures
from edge.http.messages import FieldSection
from edge.http.parser import Memo
from edge.phases.auth.refusals import ambiguous
from edge.snapshot import CredentialKind

API_KEY: Final = frozenset({b"x-api-key"})
AUTHORIZATION: Final = frozenset({b"authorization"})
# RFC 6750 section 2.1: b64token
_BEARER: Final = re.compile(rb"[A-Za-z0-9._~+/-]+=*")


@dataclass(slots=True)
class Credential:
    """What was presented. `fields`: lower-cased names of the fields that carried it. One whose form already proves it
    wrong is not `plausible`, and `flaw` says why. `digest`: what it is remembered by; of a key, what the key store
    calls it once asked. `issuer`: whom a signed token says it is from."""

    kind: CredentialKind
    value: bytes = field(repr=False)
    fields: frozenset[bytes]
    plausible: bool = True
    digest: bytes = b""
    issuer: str = ""
    flaw: str = "form or checksum is wrong"


def classify(section: FieldSection, clerk_issuer: str, seen: Memo, *, signed: bool = False) -> Credential | None:
    """Find the one credential of a request; `signed`: a signature may be it. `seen`: tokens of other sections.

    Raises GatewayError.
    """
    keys = section.index.get(b"x-api-key", ())
    authorizations = section.index.get(b"authorization", ())
    if len(keys) > 1 or len(authorizations) > 1:
        raise ambiguous("A credential field was sent more than once.")
    scheme, value = _scheme(authorizations[0]) if authorizations else (b"", b"")
    if signed and signatures.is_signed(section):
        return _signature(section, alone=not keys and not scheme)
    if keys and scheme:
        raise ambiguous("Send either X-API-Key or Authorization: Bearer, not both.")
    if keys:
        return _key(keys[0], API_KEY)
    if not scheme:
        return None
    if scheme != b"bearer":  # RFC 9449 section 7.1: bound to a key whose possession we cannot check
        return Credential("access_token", value, AUTHORIZATION, plausible=False, flaw="DPoP is not taken")
    if apikey.has_our_prefix(value):
        return _key(value, AUTHORIZATION)
    credential: Credential | None = seen.get(value)
    if credential is None:
        credential = _token(value, clerk_issuer)
        if credential.plausible:
            seen.keep(value, credential)
    return credential


def _signature(section: FieldSection, *, alone: bool) -> Credential:
    if not alone:
        raise ambiguous("Send either a signature or another credential, not both.")
    if any(len(section.index.get(name, ())) > 1 for name in signatures.FIELDS):
        raise ambiguous("A signature field was sent more than once.")
    return Credential("signature", b"", signatures.FIELDS)


def _scheme(value: bytes) -> tuple[bytes, bytes]:
    """RFC 9110 section 11.1: the scheme is case-insensitive. Schemes that carry no token of ours are the origin's."""
    scheme, _, credentials = value.partition(b" ")
    scheme = scheme.lower()
    return (scheme, credentials.strip(b" ")) if scheme in (b"bearer", b"dpop") else (b"", b"")


def _token(value: bytes, clerk_issuer: str) -> Credential:
    if len(value) > tokens.TOKEN_BYTES_MAX or not _BEARER.fullmatch(value):
        return Credential("opaque_access", value, AUTHORIZATION, plausible=False, flaw="it is no bearer token")
    if not tokens.is_signed(value):
        opaque: CredentialKind = "opaque_machine" if value.startswith(b"mt_") else "opaque_access"
        return Credential(opaque, value, AUTHORIZATION, digest=hashlib.sha256(value).digest())
    try:
        token = tokens.take_apart(value)
    except tokens.TokenRefused as refused:
        return Credential("session", value, AUTHORIZATION, plausible=False, flaw=refused.reason)
    issuer = token.issuer
    kind: CredentialKind
    if token.header.is_access_token:
        kind = "access_token"
    elif clerk.is_machine(token, clerk_issuer):
        kind = "machine_token"
    else:
        kind = "session" if issuer in ("", clerk_issuer) else "user_token"
    return Credential(kind, value, AUTHORIZATION, digest=hashlib.sha256(value).digest(), issuer=issuer)


def _key(value: bytes, fields: frozenset[bytes]) -> Credential:
    if apikey.has_our_prefix(value):
        return Credential("key", value, fields, plausible=apikey.parse_key(value) is not None)
    return Credential("key", value, fields, plausible=0 < len(value) <= KEY_CHARS_MAX)
