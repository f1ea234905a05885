"""What a Clerk session token says, and when it is believed. One verifier for the edge, the API and the console.

In:    the token, the issuer's keys, what is expected of it, and the time.
Out:   Session, or SessionRefused with a reason.
Laws:  1. The algorithm is pinned to RS256; nothing in the token chooses a key source (`jku`, `x5u`, `jwk`, `x5c` are
       ignored, `crit` refuses). 2. Header category and claims must be a session's: OAuth and machine tokens share the
       instance's key and must not pass. 3. Reasons are for logs and headers, never the token itself.
Not here: fetching and caching keys (edge.net.jwks, webapp.auth.keyset), cookies and handshake (webapp.auth).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_pem_public_key

TOKEN_BYTES_MAX: Final = 8_192
SKEW_S: Final = 5.0
LIFETIME_S_MAX: Final = 3_600
RSA_BITS_MIN: Final = 2_048
_SESSION_CATEGORIES: Final = (None, "cl_B7d4PD111AAA", "cl_I7d4PD111III")
_REQUIRED: Final = ("exp", "iat", "nbf", "sub", "iss", "sid")


class SessionRefused(ValueError):
    """The token is not believed. `reason` is one of Clerk's own reason words where one fits."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownKey(SessionRefused):
    """The token names a key that is not in the set: worth one refresh of the set."""


class BadSignature(SessionRefused):
    """The signature does not fit: worth one refresh, for a key rotated under the same kid."""


class KeySetError(ValueError):
    """The document is not a JWKS with a usable key."""


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


def peek_key_id(token: str) -> str:
    """Give the `kid` after checking the header's form. Raises SessionRefused; trusts nothing else."""
    if len(token) > TOKEN_BYTES_MAX:
        raise SessionRefused("token-invalid")
    parts = token.split(".")
    if len(parts) != 3:
        raise SessionRefused("token-invalid")
    header = _json_object(parts[0])
    if header.get("alg") != "RS256":
        raise SessionRefused("token-invalid-algorithm")
    if header.get("typ") not in (None, "JWT") or header.get("cat") not in _SESSION_CATEGORIES:
        raise SessionRefused("token-type-mismatch")
    if "crit" in header:
        raise SessionRefused("token-invalid")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= 256:
        raise SessionRefused("jwk-kid-mismatch")
    return key_id


def verify_session(token: str, keys: Mapping[str, RSAPublicKey], expected: Expectation, now: float) -> Session:
    """Believe a session token or raise SessionRefused (UnknownKey and BadSignature are worth a refresh of the keys)."""
    key_id = peek_key_id(token)
    key = keys.get(key_id)
    if key is None:
        raise UnknownKey("jwk-kid-mismatch")
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            options={  # times are checked below, against the caller's clock
                "require": list(_REQUIRED),
                "verify_aud": False,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_iss": False,
            },
        )
    except jwt.InvalidSignatureError:
        raise BadSignature("token-invalid-signature") from None
    except jwt.PyJWTError:
        raise SessionRefused("token-invalid") from None
    return _session(claims, expected, now)


def _session(claims: Mapping[str, object], expected: Expectation, now: float) -> Session:
    issued_at, expires_at = _times(claims, now)
    if claims["iss"] != expected.issuer:
        raise SessionRefused("token-invalid-issuer")
    user_id, session_id = claims["sub"], claims["sid"]
    if not (isinstance(user_id, str) and user_id.startswith("user_")):
        raise SessionRefused("token-type-mismatch")
    if not (isinstance(session_id, str) and session_id.startswith("sess_")):
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
    times = [claims[name] for name in ("iat", "nbf", "exp")]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in times):
        raise SessionRefused("token-invalid")
    issued_at, not_before, expires_at = (float(value) for value in times)  # type: ignore[arg-type]
    if not abs(expires_at - issued_at) <= LIFETIME_S_MAX:  # also refuses NaN
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


def _json_object(part: str) -> dict[str, object]:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=_no_duplicates)
    except (ValueError, binascii.Error, RecursionError):
        raise SessionRefused("token-invalid") from None
    if not isinstance(value, dict):
        raise SessionRefused("token-invalid")
    return value


def _no_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def parse_keyset(document: bytes) -> dict[str, RSAPublicKey]:
    """Read a JWKS (RFC 7517 section 5) into kid -> key; keys we would not use are skipped. Raises KeySetError."""
    try:
        listed = json.loads(document)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeySetError("not a JWKS") from None
    keys: dict[str, RSAPublicKey] = {}
    for item in listed if isinstance(listed, list) else ():
        if not isinstance(item, dict) or item.get("kty") != "RSA" or not isinstance(item.get("kid"), str):
            continue
        if item.get("use") not in (None, "sig") or item.get("alg") not in (None, "RS256"):
            continue
        try:
            numbers = RSAPublicNumbers(e=_integer(item.get("e")), n=_integer(item.get("n")))
            key = numbers.public_key()
        except (ValueError, TypeError):
            continue
        if key.key_size >= RSA_BITS_MIN:
            keys[item["kid"]] = key
    if not keys:
        raise KeySetError("no usable RS256 key of at least 2048 bits")
    return keys


def _integer(text: object) -> int:
    if not isinstance(text, str):
        raise TypeError("not text")
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


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
