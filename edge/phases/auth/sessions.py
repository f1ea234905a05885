"""Believing a Clerk session token.

In:    a plausible token; the instance's keys; the time.
Out:   Principal; GatewayError credentials-invalid, identity-unavailable.
Laws:  1. What was believed once is remembered, but time, tenant, sign-out and the set of keys are checked on every use.
       2. The organisation of the token is the tenant's own, unless the route takes any user.
Not here: what a session token must say (contracts.clerk), memory and keys (instance).
"""

from __future__ import annotations

from contracts import clerk
from contracts.tokens import Unverified
from edge.exchange import Exchange, Principal
from edge.phases.auth.beliefs import Belief
from edge.phases.auth.credential import Credential
from edge.phases.auth.instance import InstanceKeys, InstanceVerifier
from edge.phases.auth.refusals import invalid
from edge.snapshot import Route, Tenant


class SessionVerifier(InstanceVerifier):
    __slots__ = ()

    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Raises GatewayError. Blocks on the issuer only for a key that is not known."""
        belief = self.belief(credential, tenant, route, exchange.received_at)
        if self.sessions.denied(belief.detail):
            raise invalid(tenant, route, "the session was signed out")
        principal = belief.principal
        if not route.any_user and principal.org_id != tenant.config.clerk_org_id:
            raise invalid(tenant, route, "session of another organisation")
        return principal

    def judge(self, token: Unverified, keys: InstanceKeys, now: float) -> Belief:
        expected = self.sessions.expectation
        session = clerk.believe_session(token, keys, expected, now)
        granted = session.org_permissions
        principal = Principal(
            "user", session.user_id, granted, session.org_id, session.org_role, granted, issuer=expected.issuer
        )
        return Belief(principal, keys, b"", session.issued_at, session.expires_at, session.session_id)
