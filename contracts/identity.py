"""Identity tokens: what the gateway says of a caller to an origin, signed for that origin (docs/identity.md).

In:    public keys; a key that signs; the claims.
Out:   JWKs and key sets (RFC 7517), tokens in compact form (RFC 7515, RFC 7519), how long each of them lives.
Laws:  1. One algorithm, ES256 (RFC 7518 section 3.4), and a type of its own (RFC 8725 section 3.11): no other token
       passes for one of these. 2. A key is published for LEAD_S before it signs and for RETIRED_S after: who keeps a
       key set for JWKS_MAX_AGE_S never meets a token that it does not cover. 3. A token is ASCII whatever is claimed.
Not here: signing and opening keys (edge.net.identity), which claims (edge.phases.identity), rotation
          (webapp.services.identity_keys).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from contracts.snapshot import IdentityKeyConfig, identity_key_place

FIELD: Final = b"X-Vantage-Identity"
TYPE: Final = "vantage-identity+jwt"
ALGORITHM: Final = "ES256"
VERSION: Final = 1
"""The claim `v`: another one when a claim changes its meaning, not when one is added."""
LIFE_S: Final = 60
REUSE_S: Final = 30
"""Equal callers of a route share a token until it is so old: an origin sees at least the rest of LIFE_S."""

JWKS_PATH: Final = b"/.well-known/jwks.json"
JWKS_MAX_AGE_S: Final = 300
LEAD_S: Final = 600
"""From publishing a key to signing with it: JWKS_MAX_AGE_S, and as much for edges that hear of it late."""
RETIRED_S: Final = 3_600
"""From the last signature to taking the key away: LIFE_S, and time for an edge that does not hear of it."""
SIGNATURE_BYTES: Final = 64

_COORDINATE_BYTES: Final = 32


class SigningKey(NamedTuple):
    """A private key as a snapshot has it: sealed, and where it belongs."""

    kid: str
    sealed: str
    belongs_to: bytes


def signing_key(tenant_id: str, keys: Iterable[IdentityKeyConfig]) -> SigningKey | None:
    """Give the first that has its private half."""
    for key in keys:
        if key.private_key is not None:
            return SigningKey(key.id, key.private_key, identity_key_place(tenant_id, key.id))
    return None


def public_jwk(key: EllipticCurvePublicKey, kid: str) -> str:
    """Write a public key of P-256 as JSON (RFC 7517; RFC 7518 section 6.2.1). Raises ValueError for another curve."""
    if key.curve.name != SECP256R1.name:
        raise ValueError("ES256 needs a key of P-256")
    point = key.public_numbers()
    # RFC 7518 section 6.2.1.2: "The length of this octet string MUST be the full size of a coordinate".
    x, y = (_base64url(number.to_bytes(_COORDINATE_BYTES, "big")).decode("ascii") for number in (point.x, point.y))
    members = {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": ALGORITHM}
    return msgspec.json.encode(members).decode("ascii")


def key_set(jwks: Iterable[str]) -> bytes:
    """Write a JWK Set (RFC 7517 section 5) of keys that are JSON already. Raises ValueError for one that is not."""
    keys = [jwk.encode("utf-8") for jwk in jwks]
    for key in keys:
        try:
            msgspec.json.decode(key, type=dict)
        except msgspec.MsgspecError as error:
            raise ValueError(f"a public key is not a JWK: {error}") from None
    return b'{"keys":[%b]}' % b",".join(keys)


def header(kid: str) -> bytes:
    """Give a token's first part (RFC 7515 section 4), the same for all tokens under a key."""
    return _base64url(msgspec.json.encode({"alg": ALGORITHM, "kid": kid, "typ": TYPE}))


def signing_input(kid: str, claims: dict[str, object]) -> bytes:
    """Give what is signed (RFC 7515 section 5.1): the first two parts."""
    return b"%b.%b" % (header(kid), _base64url(json.dumps(claims, separators=(",", ":")).encode("ascii")))


def token(signed: bytes, signature: bytes) -> bytes:
    """Put a token together. `signature`: R and S, 32 octets each (RFC 7518 section 3.4)."""
    return b"%b.%b" % (signed, _base64url(signature))


def claims_of(signed: bytes) -> str:
    """Give the claims of what signing_input made, as JSON."""
    claims = signed.partition(b".")[2]
    return base64.urlsafe_b64decode(claims + b"=" * (-len(claims) % 4)).decode("ascii")


def issuer(host: str) -> str:
    """Spell the `iss` of the tenant that lives at a host."""
    return f"https://{host}"


def _base64url(octets: bytes) -> bytes:
    """RFC 7515 section 2: "with all trailing '=' characters omitted"."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=")
