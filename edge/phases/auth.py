"""Who calls, and whether the route lets them: classify the credential, let exactly one verifier speak, then authorise.

In:    X-API-Key and Authorization of the request; the route's auth_mode, required_scopes, any_user; keys and sessions.
Out:   exchange.principal, exchange.consumed; GatewayError credentials-*, scope-insufficient, identity-unavailable.
Laws:  1. Two kinds of credential at once, or one of them twice, is 400: nobody has to guess which one counted.
       2. A route's mode names the only verifier that runs; another kind of credential is refused unread. 3. A key or
       session of another tenant gets the very answer an unknown one gets. 4. What was believed once is remembered, but
       time, tenant, revocation and the set of keys are checked on every use. 5. A key of our format with a wrong
       checksum is never looked up. 6. On a public route credentials are the origin's business: they are neither read
       nor removed.
Not here: what a session token must say (contracts.clerk), how keys are found (edge.store.keys).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from contracts import apikey, clerk
from contracts.bounds import KEY_CHARS_MAX
from contracts.snapshot import KeyRecord
from edge.errors import GatewayError, Source
from edge.exchange import Exchange, Principal
from edge.http.messages import FieldSection
from edge.ports import KeyStore, SessionKeys
from edge.snapshot import Route, Tenant

SESSIONS_MAX: Final = 10_000
"""Believed sessions remembered per worker; beyond it the memory starts over."""

READ_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_API_KEY: Final = frozenset({b"x-api-key"})
_AUTHORIZATION: Final = frozenset({b"authorization"})

_MISSING: Final = {
    "apikey_required": "This route needs an API key in X-API-Key.",
    "jwt_required": "This route needs a session token in Authorization: Bearer.",
}
_INVALID: Final = {
    "apikey_required": "The API key is not valid.",
    "jwt_required": "The session token is not valid.",
}


@dataclass(slots=True)
class Credential:
    """What was presented. `fields`: lower-cased names of the fields that carried it. A key whose form already proves it
    wrong is not `plausible`. `digest`: what it is remembered by; of a key, what the key store calls it once asked."""

    kind: Literal["key", "token"]
    value: bytes
    fields: frozenset[bytes]
    plausible: bool = True
    digest: bytes = b""


def classify(section: FieldSection) -> Credential | None:
    """Find the one credential of a request. Raises GatewayError(credentials-ambiguous)."""
    keys = section.index.get(b"x-api-key", ())
    authorizations = section.index.get(b"authorization", ())
    if len(keys) > 1 or len(authorizations) > 1:
        raise _ambiguous("A credential field was sent more than once.")
    bearer = _bearer(authorizations[0]) if authorizations else None
    if keys and bearer is not None:
        raise _ambiguous("Send either X-API-Key or Authorization: Bearer, not both.")
    if keys:
        return _key(keys[0], _API_KEY)
    if bearer is None:
        return None
    if apikey.has_our_prefix(bearer):
        return _key(bearer, _AUTHORIZATION)
    plausible = 0 < len(bearer) <= clerk.TOKEN_BYTES_MAX and bearer.isascii()
    return Credential("token", bearer, _AUTHORIZATION, plausible, hashlib.sha256(bearer).digest())


def _bearer(value: bytes) -> bytes | None:
    """RFC 9110 section 11.1: the scheme is case-insensitive. Other schemes are the origin's business: None."""
    scheme, _, credentials = value.partition(b" ")
    return credentials.strip(b" ") if scheme.lower() == b"bearer" else None


def _key(value: bytes, fields: frozenset[bytes]) -> Credential:
    if apikey.has_our_prefix(value):
        return Credential("key", value, fields, plausible=apikey.parse_key(value) is not None)
    return Credential("key", value, fields, plausible=0 < len(value) <= KEY_CHARS_MAX)


class Authenticator:
    """The phase; holds the memory of believed sessions."""

    __slots__ = ("_keys", "_sessions", "_verified")

    def __init__(self, keys: KeyStore, sessions: SessionKeys) -> None:
        self._keys = keys
        self._sessions = sessions
        self._verified: dict[bytes, tuple[clerk.Session, Principal, Mapping[str, RSAPublicKey]]] = {}

    def authenticate(self, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Give the principal of a request to a route that is not public. Raises GatewayError. Blocks on the stores."""
        mode = route.auth_mode
        section = exchange.head.section
        credential: Credential | None = section.derived.get("credential")
        if credential is None:
            credential = section.derived["credential"] = classify(section)
        if credential is None:
            raise _refusal("credentials-missing", _MISSING[mode], tenant.challenge)
        if not credential.plausible:
            raise _invalid(mode, tenant, "form or checksum is wrong")
        if mode == "apikey_required":
            principal = self._by_key(credential, section, tenant, exchange.received_at)
        else:
            principal = self._by_session(credential, tenant, route, exchange.received_at)
        exchange.consumed = credential.fields
        exchange.principal = principal
        return principal

    def _by_key(self, credential: Credential, section: FieldSection, tenant: Tenant, now: float) -> Principal:
        """Order: exists, enabled, expiry; scopes are `authorise`'s. Which one failed is for the log alone."""
        if credential.kind != "key":
            raise _invalid("apikey_required", tenant, "a token where a key is required")
        memo = credential.digest
        if not memo:
            memo = credential.digest = self._keys.memo(credential.value)
        record = self._keys.find(tenant.id, credential.value, memo)
        if record is None or record.tenant_id != tenant.id:
            raise _invalid("apikey_required", tenant, "unknown key")
        if not record.enabled:
            raise _invalid("apikey_required", tenant, f"key {record.id} is disabled")
        if record.expires_at is not None and now >= record.expires_at:
            raise _invalid("apikey_required", tenant, f"key {record.id} expired")
        return _key_principal(record, section)

    def _by_session(self, credential: Credential, tenant: Tenant, route: Route, now: float) -> Principal:
        if credential.kind != "token":
            raise _invalid("jwt_required", tenant, "a key where a token is required")
        known = self._verified.get(credential.digest)
        if known is None or known[2] is not self._sessions.keys():  # the issuer may have withdrawn the key it was by
            known = self._verify(credential, tenant, now)
        session, principal, _ = known
        if now >= session.expires_at + clerk.SKEW_S:
            self._verified.pop(credential.digest, None)
            raise _invalid("jwt_required", tenant, "session-token-expired")
        if now < session.issued_at - clerk.SKEW_S:
            raise _invalid("jwt_required", tenant, "session-token-iat-in-the-future")
        if self._sessions.denied(session.session_id):
            raise _invalid("jwt_required", tenant, "the session was signed out")
        if not route.any_user and session.org_id != tenant.config.clerk_org_id:
            raise _invalid("jwt_required", tenant, "session of another organisation")
        return principal

    def _verify(
        self, credential: Credential, tenant: Tenant, now: float
    ) -> tuple[clerk.Session, Principal, Mapping[str, RSAPublicKey]]:
        token = credential.value.decode("ascii")
        expected = self._sessions.expectation
        try:
            try:
                keys = self._sessions.keys()
                session = clerk.verify_session(token, keys, expected, now)
            except (clerk.UnknownKey, clerk.BadSignature):
                keys = self._sessions.refreshed()
                session = clerk.verify_session(token, keys, expected, now)
        except clerk.SessionRefused as refused:
            self._verified.pop(credential.digest, None)
            raise _invalid("jwt_required", tenant, refused.reason) from None
        principal = Principal("user", session.user_id, session.org_permissions, session.org_id, session.org_role)
        if len(self._verified) >= SESSIONS_MAX:
            self._verified.clear()
        known = self._verified[credential.digest] = (session, principal, keys)
        return known


def authorise(principal: Principal, method: bytes, tenant: Tenant, route: Route) -> None:
    """Check scopes: a key needs `read` or `write` for the method; anyone needs the route's required_scopes."""
    scopes = principal.scopes
    if principal.kind == "key":
        needed = "read" if method in READ_METHODS else "write"
        if needed not in scopes:
            raise _uncovered(tenant, (needed,))
    for scope in route.required_scopes:
        if scope not in scopes:
            raise _uncovered(tenant, route.required_scopes)


def _key_principal(record: KeyRecord, section: FieldSection) -> Principal:
    kept = section.derived.get("principal")
    if kept is not None and kept[0] is record:
        remembered: Principal = kept[1]
        return remembered
    principal = Principal("key", record.id, record.scopes)
    section.derived["principal"] = (record, principal)
    return principal


def _ambiguous(detail: str) -> GatewayError:
    return GatewayError("credentials-ambiguous", detail, source=Source.DOWNSTREAM)


def _refusal(slug: str, detail: str, challenge: bytes, internal: str = "") -> GatewayError:
    fields = ((b"WWW-Authenticate", challenge),)
    return GatewayError(slug, detail, internal=internal, source=Source.DOWNSTREAM, fields=fields)


def _invalid(mode: str, tenant: Tenant, internal: str) -> GatewayError:
    """One answer for all that is wrong with a credential (RFC 6750 section 3.1); the reason goes to the log."""
    challenge = tenant.challenge + b', error="invalid_token"'
    return _refusal("credentials-invalid", _INVALID[mode], challenge, internal)


def _uncovered(tenant: Tenant, needed: tuple[str, ...]) -> GatewayError:
    """RFC 6750 section 3.1: insufficient_scope is 403 and may name the scope that is needed."""
    text = " ".join(needed)
    challenge = tenant.challenge + b', error="insufficient_scope", scope="%b"' % text.encode("ascii", "replace")
    return _refusal("scope-insufficient", f"The credentials do not cover this: {text} is needed.", challenge)
