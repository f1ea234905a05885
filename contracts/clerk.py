"""What a token of the Clerk instance says, and when it is believed: sessions, OAuth access tokens, machine tokens.

In:    the token, the instance's keys, what is expected of it, and the time.
Out:   Session, Access, Machine; or SessionRefused with a reason.
Laws:  1. The algorithm is pinned to RS256; nothing in the token chooses a key source. 2. All three kinds share the
       instance's key: header type, category, issuer and subject must be the kind's own, so that none passes for
       another. 3. Reasons are for logs and headers, never the token itself.
Not here: what every token must keep to (contracts.tokens), fetching and caching keys (edge.net.jwks,
          webapp.auth.keyset), cookies and handshake (webapp.auth).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from contracts import tokens
from contracts.keysets import KeySetError, read_jwks
from contracts.public_keys import RSA_BITS_MIN
from contracts.tokens import SKEW_S, TOKEN_BYTES_MAX, BadSignature, Terms, UnknownKey, Unverified
from contracts.tokens import TokenRefused as SessionRefused

__all__ = [
    "LIFETIME_S_MAX", "SKEW_S", "TOKEN_BYTES_MAX", "Access", "BadSignature", "Expectation", "KeySetError", "Machine",
    "OneKey", "Session", "SessionRefused", "UnknownKey", "believe_access", "believe_machine", "believe_session",
    "frontend_api_host", "is_machine", "parse_keyset", "parse_pem", "peek_key_id", "verify_session",
]  # fmt: skip

LIFETIME_S_MAX: Final = 3_600
ALGORITHM: Final = "RS256"
MACHINE_CATEGORY: Final = "cl_B7d4PD333AAA"
_SESSION_CATEGORIES: Final = (None, "cl_B7d4PD111AAA", "cl_I7d4PD111III")
_MACHINE_CATEGORIES: Final = (None, MACHINE_CATEGORY)
_REQUIRED: Final = ("exp", "iat", "nbf", "sub", "iss", "sid")


class OneKey(Mapping[str, RSAPublicKey]):
    """CLERK_JWT_KEY: the key under any kid, since a PEM names none."""

    def __init__(self, key: RSAPublicKey) -> None:
        self._key = key

    def __getitem__(self, kid: str) -> RSAPublicKey:
        return self._key

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 1


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a token must say. `azp_required`: a cookie must name an authorised party, a header may leave it out."""

    issuer: str
    authorized_parties: tuple[str, ...]
    azp_required: bool = False
    oauth_audiences: tuple[str, ...] = ()
    """An OAuth access token that names an audience must name one of these."""
    machine_id: str = ""
    """Our own `mch_...`: machine tokens must be meant for it. Empty: none is believed."""


@dataclass(frozen=True, slots=True)
class Session:
    """A believed session. Times are wall seconds; role is `org:admin` style or None without an organisation."""

    user_id: str
    session_id: str
    org_id: str | None
    org_slug: str | None
    org_role: str | None
    org_permissions: tuple[str, ...]
    actor: str | None
    issued_at: float
    expires_at: float
    email: str | None


@dataclass(frozen=True, slots=True)
class Access:
    """A believed OAuth access token of the instance."""

    user_id: str
    client_id: str
    scopes: tuple[str, ...]
    org_id: str | None
    valid_from: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Machine:
    """A believed machine token of the instance, meant for us."""

    machine_id: str
    valid_from: float
    expires_at: float


def peek_key_id(token: str) -> str:
    """Give the `kid` after checking the header's form. Raises SessionRefused; trusts nothing else."""
    header, _, rest = token.partition(".")
    if len(token) > TOKEN_BYTES_MAX or rest.count(".") != 1 or not header.isascii():
        raise SessionRefused("token-invalid")
    return _session_key_id(tokens.read_header(header.encode("ascii")))


def _session_key_id(header: tokens.Header) -> str:
    if header.algorithm != ALGORITHM:
        raise SessionRefused("token-invalid-algorithm")
    if header.type not in (None, "JWT") or header.category not in _SESSION_CATEGORIES:
        raise SessionRefused("token-type-mismatch")
    if header.key_id is None:
        raise SessionRefused("jwk-kid-mismatch")
    return header.key_id


def verify_session(token: str, keys: Mapping[str, RSAPublicKey], expected: Expectation, now: float) -> Session:
    """Believe a session token or raise SessionRefused (UnknownKey and BadSignature are worth a refresh of the keys)."""
    return believe_session(tokens.take_apart(token.encode("utf-8", "replace")), keys, expected, now)


def believe_session(token: Unverified, keys: Mapping[str, RSAPublicKey], expected: Expectation, now: float) -> Session:
    """As `verify_session`, of a token that was taken apart."""
    _check_signature(token, keys, _session_key_id(token.header))
    if any(name not in token.claims for name in _REQUIRED):
        raise SessionRefused("token-invalid")
    return _session(token.claims, expected, now)


def _check_signature(token: Unverified, keys: Mapping[str, RSAPublicKey], key_id: str | None) -> None:
    key = keys.get(key_id) if key_id is not None else None
    tokens.check_signature(token, () if key is None else (key,))


def believe_access(token: Unverified, keys: Mapping[str, RSAPublicKey], expected: Expectation, now: float) -> Access:
    """Believe an OAuth access token (RFC 9068) of the instance, which may leave out `aud`. Raises SessionRefused."""
    terms = Terms("access", expected.issuer, (ALGORITHM,), expected.oauth_audiences, audience_optional=True)
    believed = tokens.check_claims(token, terms, now)
    if not believed.subject.startswith("user_"):
        raise SessionRefused("token-type-mismatch")
    _check_signature(token, keys, token.header.key_id)
    org_id = tokens.read_text(token.claims, "org_id") if "org_id" in token.claims else None
    client_id = tokens.read_text(token.claims, "client_id")
    return Access(believed.subject, client_id, believed.scopes, org_id, believed.valid_from, believed.expires_at)


def is_machine(token: Unverified, issuer: str) -> bool:
    """Whether it is a machine's, to be believed as such or not at all."""
    return token.header.category == MACHINE_CATEGORY or (token.issuer == issuer and token.subject.startswith("mch_"))


def believe_machine(token: Unverified, keys: Mapping[str, RSAPublicKey], expected: Expectation, now: float) -> Machine:
    """Believe a machine token that is meant for us: our id is in `aud`, or in Clerk's `scopes`. Raises SessionRefused.

    Anybody's machine gets tokens of the instance: without an id of our own nobody could say whom one was made for.
    """
    if token.header.category not in _MACHINE_CATEGORIES:
        raise SessionRefused("token-type-mismatch")
    believed = tokens.check_claims(token, Terms("machine", expected.issuer, (ALGORITHM,), None), now)
    if not believed.subject.startswith("mch_"):
        raise SessionRefused("token-type-mismatch")
    scopes = token.claims.get("scopes")
    meant_for = (*tokens.read_audience(token.claims), *(scopes.split(" ") if isinstance(scopes, str) else ()))
    if not expected.machine_id or expected.machine_id not in meant_for:
        raise SessionRefused("token-invalid-audience")
    _check_signature(token, keys, token.header.key_id)
    return Machine(believed.subject, believed.valid_from, believed.expires_at)


def _session(claims: Mapping[str, object], expected: Expectation, now: float) -> Session:
    issued_at, expires_at = _times(claims, now)
    if claims["iss"] != expected.issuer:
        raise SessionRefused("token-invalid-issuer")
    user_id, session_id = claims["sub"], claims["sid"]
    if not (tokens.is_text(user_id) and user_id.startswith("user_")):
        raise SessionRefused("token-type-mismatch")
    if not (tokens.is_text(session_id) and session_id.startswith("sess_")):
        raise SessionRefused("token-type-mismatch")
    party = claims.get("azp")
    if party is None:
        if expected.azp_required:
            raise SessionRefused("token-invalid-authorized-parties")
    elif party not in expected.authorized_parties:
        raise SessionRefused("token-invalid-authorized-parties")
    if claims.get("sts") == "pending":
        raise SessionRefused("session-pending")
    if "cnf" in claims:  # bound to a key whose possession we cannot check
        raise SessionRefused("token-invalid")
    org_id, org_slug, org_role, permissions = _organisation(claims)
    actor = claims.get("act")
    email = claims.get("email")
    return Session(
        user_id=user_id,
        session_id=session_id,
        org_id=org_id,
        org_slug=org_slug,
        org_role=org_role,
        org_permissions=permissions,
        actor=_text(actor.get("sub")) if isinstance(actor, dict) else None,
        issued_at=issued_at,
        expires_at=expires_at,
        email=email if isinstance(email, str) else None,
    )


def _times(claims: Mapping[str, object], now: float) -> tuple[float, float]:
    issued_at, not_before, expires_at = (tokens.read_time(claims[name]) for name in ("iat", "nbf", "exp"))
    if abs(expires_at - issued_at) > LIFETIME_S_MAX:
        raise SessionRefused("token-invalid")
    if now >= expires_at + SKEW_S:
        raise SessionRefused("session-token-expired")
    if now < not_before - SKEW_S:
        raise SessionRefused("session-token-nbf")
    if now < issued_at - SKEW_S:
        raise SessionRefused("session-token-iat-in-the-future")
    return issued_at, expires_at


def _organisation(claims: Mapping[str, object]) -> tuple[str | None, str | None, str | None, tuple[str, ...]]:
    version = claims.get("v", 1)
    if version == 2:
        org = claims.get("o")
        if not isinstance(org, dict):
            return None, None, None, ()
        role = _text(org.get("rol"))
        if role is not None and not role.startswith("org:"):
            role = "org:" + role
        return _text(org.get("id")), _text(org.get("slg")), role, _permissions(claims.get("fea"), org)
    if version == 1:
        listed = claims.get("org_permissions")
        permissions = tuple(p for p in listed if isinstance(p, str)) if isinstance(listed, list) else ()
        return _text(claims.get("org_id")), _text(claims.get("org_slug")), _text(claims.get("org_role")), permissions
    raise SessionRefused("token-invalid")


def _permissions(features: object, org: Mapping[str, object]) -> tuple[str, ...]:
    """Decode version 2's compact permissions: one bit mask over `per` for each organisation feature."""
    names = []
    for item in _items(features):
        scope, _, name = item.partition(":")
        if scope in ("o", "ou", "uo"):
            names.append(name)
    verbs = _items(org.get("per"))
    granted = []
    for name, mask in zip(names, _items(org.get("fpm")), strict=False):
        bits = int(mask) if mask.isascii() and mask.isdigit() and len(mask) <= 64 else 0
        granted += [f"org:{name}:{verb}" for index, verb in enumerate(verbs) if bits >> index & 1]
    return tuple(granted)


def _items(text: object) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()] if isinstance(text, str) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def parse_keyset(document: bytes) -> dict[str, RSAPublicKey]:
    """Read a JWKS (RFC 7517 section 5) into kid -> key; keys we would not use are skipped. Raises KeySetError."""
    keys = {
        key_id: key
        for key_id, algorithm, key in read_jwks(document)
        if algorithm == ALGORITHM and key_id is not None and isinstance(key, RSAPublicKey)
    }
    if not keys:
        raise KeySetError("no usable RS256 key of at least 2048 bits")
    return keys


def parse_pem(text: str) -> RSAPublicKey:
    """Read CLERK_JWT_KEY. Raises KeySetError."""
    try:
        key = load_pem_public_key(text.replace("\\n", "\n").encode("ascii"))
    except (ValueError, UnicodeEncodeError):
        raise KeySetError("not a PEM public key") from None
    if not isinstance(key, RSAPublicKey) or key.key_size < RSA_BITS_MIN:
        raise KeySetError("not an RSA key of at least 2048 bits")
    return key


def frontend_api_host(publishable_key: str) -> str:
    """Give the host inside `pk_test_...` or `pk_live_...`. Raises ValueError."""
    parts = publishable_key.split("_")
    if len(parts) != 3 or parts[0] != "pk" or parts[1] not in ("test", "live"):
        raise ValueError("must look like pk_test_... or pk_live_...")
    try:
        host = base64.b64decode(parts[2] + "=" * (-len(parts[2]) % 4)).decode("ascii")
    except (ValueError, binascii.Error):
        raise ValueError("its last part is not base64") from None
    if not host.endswith("$") or host.count("$") != 1 or "." not in host:
        raise ValueError("its last part does not name a host")
    return host[:-1]
