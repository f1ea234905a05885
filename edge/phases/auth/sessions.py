"""Believing a Clerk session token.

In:    a plausible token; the instance's keys; the time.
Out:   Principal; GatewayError credentials-invalid, identity-unavailable.
Laws:  1. What was believed once is remembered, but time, tenant, sign-out and the set of keys are checked on every use.
       2. The organisation of the token is the tenant's own, unless the route takes any user.
Not here: what a session token must say (contracts.clerk).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from contracts import clerk
from edge.exchange import Exchange, Principal
from edge.phases.auth.credential import Credential
from edge.phases.auth.refusals import invalid
from edge.ports import SessionKeys
from edge.snapshot import Route, Tenant

SESSIONS_MAX: Final = 10_000
"""Believed sessions remembered per worker; beyond it the memory starts over."""

_Known = tuple[clerk.Session, Principal, Mapping[str, RSAPublicKey]]


class SessionVerifier:
    """Holds the memory of believed sessions."""

    __slots__ = ("_sessions", "_verified")

    def __init__(self, sessions: SessionKeys) -> None:
        self._sessions = sessions
        self._verified: dict[bytes, _Known] = {}

    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Raises GatewayError. Blocks on the issuer only for a key that is not known."""
        now = exchange.received_at
        known = self._verified.get(credential.digest)
        if known is None or known[2] is not self._sessions.keys():  # the issuer may have withdrawn the key it was by
            known = self._believe(credential, tenant, route, now)
        session, principal, _ = known
        if now >= session.expires_at + clerk.SKEW_S:
            self._verified.pop(credential.digest, None)
            raise invalid(tenant, route, "session-token-expired")
        if now < session.issued_at - clerk.SKEW_S:
            raise invalid(tenant, route, "session-token-iat-in-the-future")
        if self._sessions.denied(session.session_id):
            raise invalid(tenant, route, "the session was signed out")
        if not route.any_user and session.org_id != tenant.config.clerk_org_id:
            raise invalid(tenant, route, "session of another organisation")
        return principal

    def _believe(self, credential: Credential, tenant: Tenant, route: Route, now: float) -> _Known:
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
            raise invalid(tenant, route, refused.reason) from None
        principal = Principal("user", session.user_id, session.org_permissions, session.org_id, session.org_role)
        if len(self._verified) >= SESSIONS_MAX:
            self._verified.clear()
        known = self._verified[credential.digest] = (session, principal, keys)
        return known
