"""Signed tokens (RFC 7515, RFC 7519): what one says, and when it is believed. The rules every kind of token shares.

In:    a token's bytes; public keys; what is expected of it; the time.
Out:   Unverified, which nobody believes; Believed; TokenRefused with a reason.
Laws:  1. The algorithm is one of those configured, and the key's own (RFC 8725 section 3.1); nothing in a token chooses
       a key source: `jku`, `x5u`, `jwk`, `x5c` are ignored, `crit` refuses. 2. One spelling: strict base64url, no
       duplicate members, no NaN, UTF-8 alone. 3. Every token ends (`exp`); times are finite numbers. 4. A token bound
       to a key (`cnf`) is refused: we cannot check the possession. 5. The form (`typ`) keeps kinds of tokens apart
       (RFC 8725 section 3.11). 6. Reasons are for logs, never the token itself.
Not here: keys (contracts.keysets), what is particular to Clerk (contracts.clerk), who asks for what (edge.phases.auth).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NoReturn, TypeGuard

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from contracts.keysets import KeySet, is_key_id
from contracts.public_keys import PublicKey

TOKEN_BYTES_MAX: Final = 8_192
SKEW_S: Final = 5.0
TEXT_CHARS_MAX: Final = 256
"""Of a subject, a client, an organisation."""
SCOPES_MAX: Final = 128
"""A token's scopes are remembered with its caller, thousands of them: one of many short words takes ten times its
length."""
_TIME_MAX: Final = 253_402_300_800
"""The year 10000: later than that is no time."""
_FORM: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
# A JSON object's first octet is "{": so begins its base64url.
_OBJECT: Final = re.compile(rb"e[w-z][A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
# RFC 6749 section 3.3: scope-token
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_SCOPES: Final = re.compile(r"(?:[\x21\x23-\x5b\x5d-\x7e]+(?: +|$))*")
_ACCESS_TYPES: Final = ("at+jwt", "application/at+jwt")

Form = Literal["user", "access", "machine"]
# RFC 9068 section 2.2 for access tokens; `iss` and `aud` are compared by themselves.
_REQUIRED: Final[dict[Form, tuple[str, ...]]] = {
    "user": ("exp", "sub"),
    "access": ("exp", "iat", "sub", "client_id", "jti"),
    "machine": ("exp", "iat", "sub"),
}


class TokenRefused(ValueError):
    """The token is not believed. `reason` is one of Clerk's own reason words where one fits."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownKey(TokenRefused):
    """The token names a key that is not in the set: worth one refresh of the set."""


class BadSignature(TokenRefused):
    """The signature does not fit: worth one refresh, for a key rotated under the same kid."""


@dataclass(frozen=True, slots=True)
class Header:
    """A JOSE header, checked in form. `type` and `category` as written; a key id is there or None."""

    algorithm: str
    key_id: str | None
    type: str | None
    category: str | None

    @property
    def is_access_token(self) -> bool:
        """RFC 9068 section 2.1; media types are compared without case (RFC 7515 section 4.1.9)."""
        return self.type is not None and self.type.lower() in _ACCESS_TYPES


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a token says, believed by nobody yet."""

    header: Header
    claims: Mapping[str, object]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str:
        """Give `iss`, empty when there is none: good for looking up who could be asked, and for nothing else."""
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else ""

    @property
    def subject(self) -> str:
        subject = self.claims.get("sub")
        return subject if isinstance(subject, str) else ""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a token must say. `audience`: one of these must be in `aud`; None: somebody else looks at it."""

    form: Form
    issuer: str
    algorithms: tuple[str, ...]
    audience: tuple[str, ...] | None
    audience_optional: bool = False
    """A token without `aud` passes; one with another `aud` does not."""


@dataclass(frozen=True, slots=True)
class Believed:
    """Times are wall seconds; `valid_from`: the later of `iat` and `nbf`, 0 where it says neither."""

    subject: str
    scopes: tuple[str, ...]
    client_id: str | None
    valid_from: float
    expires_at: float
    claims: Mapping[str, object]


def is_signed(token: bytes) -> bool:
    """Whether it has the form of a JWS in compact serialisation whose header is a JSON object."""
    return _OBJECT.fullmatch(token) is not None


def take_apart(token: bytes) -> Unverified:
    """Read a token strictly. Raises TokenRefused. Complexity: linear in at most TOKEN_BYTES_MAX."""
    match = _FORM.fullmatch(token) if len(token) <= TOKEN_BYTES_MAX else None
    if match is None:
        _refuse("token-invalid")
    header = read_header(match[1])
    return Unverified(header, _object(match[2]), token[: match.start(3) - 1], _octets(match[3]))


def read_header(part: bytes) -> Header:
    """Read a token's first part. Raises TokenRefused.

    RFC 7515 section 4.1.11: "If any of the listed extension Header Parameters are not understood and supported by the
    recipient, then the JWS is invalid". We understand none.
    """
    members = _object(part)
    algorithm, category = members.get("alg"), members.get("cat")
    if not isinstance(algorithm, str):
        _refuse("token-invalid-algorithm")
    kind = members.get("typ")
    if not (kind is None or isinstance(kind, str)) or not (category is None or isinstance(category, str)):
        _refuse("token-type-mismatch")
    if "crit" in members:
        _refuse("token-invalid")
    key_id = members.get("kid")
    if "kid" in members and not is_key_id(key_id):
        _refuse("jwk-kid-mismatch")
    return Header(algorithm, key_id if isinstance(key_id, str) else None, kind, category)


def verify(token: Unverified, keys: KeySet, terms: Terms, now: float) -> Believed:
    """Believe a token or raise TokenRefused (UnknownKey and BadSignature are worth a refresh of the keys)."""
    believed = check_claims(token, terms, now)
    check_signature(token, keys.candidates(token.header.algorithm, token.header.key_id))
    return believed


def check_claims(token: Unverified, terms: Terms, now: float) -> Believed:
    """Check all but the signature, which costs the most and so comes last. Raises TokenRefused."""
    header, claims = token.header, token.claims
    if header.algorithm not in terms.algorithms:
        _refuse("token-invalid-algorithm")
    if header.is_access_token if terms.form != "access" else not header.is_access_token:
        _refuse("token-type-mismatch")
    if terms.form != "access" and header.type is not None and header.type.lower() not in ("jwt", "application/jwt"):
        _refuse("token-type-mismatch")
    if any(name not in claims for name in _REQUIRED[terms.form]):
        _refuse("token-invalid")
    if claims.get("iss") != terms.issuer:
        _refuse("token-invalid-issuer")
    valid_from, expires_at = read_times(claims)
    check_times(valid_from, expires_at, now)
    if terms.audience is not None:
        _check_audience(claims, terms.audience, terms.audience_optional)
    if "cnf" in claims:
        _refuse("token-bound-to-a-key")
    client_id = None
    if "client_id" in claims:
        client_id = read_text(claims, "client_id")
    if terms.form == "access":
        read_text(claims, "jti")
    return Believed(read_text(claims, "sub"), read_scopes(claims), client_id, valid_from, expires_at, claims)


def check_signature(token: Unverified, keys: Sequence[PublicKey]) -> None:
    """Raises UnknownKey when there is no key, BadSignature when no key fits. The algorithm must be the keys' own."""
    if not keys:
        raise UnknownKey("jwk-kid-mismatch")
    for key in keys:
        if _fits(token.header.algorithm, key, token.signed, token.signature):
            return
    raise BadSignature("token-invalid-signature")


def _fits(algorithm: str, key: PublicKey, signed: bytes, signature: bytes) -> bool:
    """RFC 7518 sections 3.3 to 3.5, RFC 8037 section 3.1."""
    try:
        if algorithm == "RS256" and isinstance(key, RSAPublicKey):
            key.verify(signature, signed, PKCS1v15(), SHA256())
        elif algorithm == "PS256" and isinstance(key, RSAPublicKey):
            key.verify(signature, signed, PSS(MGF1(SHA256()), SHA256.digest_size), SHA256())
        elif algorithm == "ES256" and isinstance(key, EllipticCurvePublicKey) and len(signature) == 64:
            pair = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            key.verify(encode_dss_signature(*pair), signed, ECDSA(SHA256()))
        elif algorithm == "EdDSA" and isinstance(key, Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def read_times(claims: Mapping[str, object]) -> tuple[float, float]:
    """Give when a token begins and ends to be valid. Raises TokenRefused for a time that is none."""
    times = [read_time(claims[name]) for name in ("iat", "nbf") if name in claims]
    return max(times, default=0.0), read_time(claims.get("exp"))


def check_times(valid_from: float, expires_at: float, now: float) -> None:
    """Raises TokenRefused. SKEW_S is allowed on both sides."""
    if now >= expires_at + SKEW_S:
        _refuse("token-expired")
    if now < valid_from - SKEW_S:
        _refuse("token-not-active-yet")


def read_time(value: object) -> float:
    """Raises TokenRefused for what is no time between 1970 and the year 10000."""
    # bool is an int in Python; NaN and infinity are in no range
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _TIME_MAX:
        _refuse("token-invalid")
    return float(value)


def read_audience(claims: Mapping[str, object]) -> tuple[str, ...]:
    """RFC 7519 section 4.1.3: one string or a list of them. Raises TokenRefused."""
    listed = claims.get("aud", [])
    if isinstance(listed, str):
        return (listed,)
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        _refuse("token-invalid-audience")
    return tuple(listed)


def _check_audience(claims: Mapping[str, object], accepted: tuple[str, ...], optional: bool) -> None:
    if optional and "aud" not in claims:
        return
    if not any(audience in accepted for audience in read_audience(claims)):
        _refuse("token-invalid-audience")


def read_scopes(claims: Mapping[str, object]) -> tuple[str, ...]:
    """RFC 9068 section 2.2.3: `scope`, words with spaces between; without it `scp`, such words or a list of them."""
    said = claims.get("scope", claims.get("scp", ""))
    if isinstance(said, str) and _SCOPES.fullmatch(said):
        listed: list[object] = [*said.split()]
    else:
        listed = said if "scope" not in claims and isinstance(said, list) else [None]
    scopes = tuple(item for item in listed if isinstance(item, str) and _SCOPE.fullmatch(item))
    if len(scopes) != len(listed) or len(scopes) > SCOPES_MAX:
        _refuse("token-invalid")
    return scopes


def read_text(claims: Mapping[str, object], name: str) -> str:
    """Give a claim that names somebody. Raises TokenRefused."""
    value = claims.get(name)
    if not is_text(value):
        _refuse("token-invalid")
    return value


def is_text(value: object) -> TypeGuard[str]:
    """Whether it can name somebody: printable, not empty, at most TEXT_CHARS_MAX."""
    return isinstance(value, str) and 0 < len(value) <= TEXT_CHARS_MAX and value.isprintable()


def _refuse(reason: str) -> NoReturn:
    raise TokenRefused(reason)


def _octets(part: bytes) -> bytes:
    """RFC 7515 section 2: base64url without padding; with other bits behind the end it would be a second spelling."""
    try:
        octets = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        _refuse("token-invalid")
    if base64.urlsafe_b64encode(octets).rstrip(b"=") != part:
        _refuse("token-invalid")
    return octets


def _object(part: bytes) -> dict[str, object]:
    try:
        value = json.loads(_octets(part).decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        _refuse("token-invalid")
    if not isinstance(value, dict):
        _refuse("token-invalid")
    return value


def _no_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """RFC 7519 section 4 lets a parser take the last of duplicate names or refuse; two parsers must not differ."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
