"""Believing an opaque token: somebody else knows it, and is asked.

In:    a plausible token; what its authority says of it; the time.
Out:   Principal; GatewayError credentials-invalid, scope-insufficient, identity-unavailable, tenant-overloaded.
Laws:  1. One authority is asked: Clerk about its own (`oat_`, `mt_`), else the one issuer of the route. Where there is
       none, nobody is asked. 2. Time is checked on every use, whatever is remembered. 3. A token of Clerk's must be of
       the tenant's organisation, unless the route takes any user; a machine must be one of the tenant's. 4. The same
       word of an authority gives the very same principal again, so that what hangs on it is found by identity.
Not here: what an answer means (introspection), asking and remembering (edge.net.introspection).
"""

from __future__ import annotations

from typing import Final

from contracts.tokens import SKEW_S
from edge.exchange import Exchange, Principal
from edge.phases.auth.credential import Credential
from edge.phases.auth.refusals import invalid, uncovered
from edge.ports import SessionKeys, TokenCheck, TokenStatus
from edge.snapshot import Route, Tenant

CLERK_ACCESS_PREFIX: Final = b"oat_"


class OpaqueAccessVerifier:
    """OAuth access tokens."""

    __slots__ = ("_sessions", "_tokens")

    def __init__(self, tokens: TokenCheck, sessions: SessionKeys) -> None:
        self._tokens = tokens
        self._sessions = sessions

    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Raises GatewayError. Blocks on the authority for a token not seen lately."""
        token = credential.value
        if not route.issuers and token.startswith(CLERK_ACCESS_PREFIX):
            status = self._tokens.check(tenant.id, "clerk_access", token, credential.digest)
            _require_in_force(status, exchange, tenant, route)
            if not route.any_user and status.org_id != tenant.config.clerk_org_id:
                raise invalid(tenant, route, "a token of another organisation, or of none")
            return _principal(status, self._sessions.expectation.issuer, exchange)
        introspector = route.introspector
        if introspector is None:
            raise invalid(tenant, route, "an opaque token, and no issuer to ask about it")
        status = self._tokens.check(tenant.id, introspector, token, credential.digest)
        _require_in_force(status, exchange, tenant, route)
        for scope in introspector.required_scopes:
            if scope not in status.scopes:
                raise uncovered(tenant, introspector.required_scopes)
        return _principal(status, introspector.issuer, exchange)


class OpaqueMachineVerifier:
    """Tokens of machines that Clerk knows. What such a machine may do is said by the tenant's service, not by Clerk."""

    __slots__ = ("_sessions", "_tokens")

    def __init__(self, tokens: TokenCheck, sessions: SessionKeys) -> None:
        self._tokens = tokens
        self._sessions = sessions

    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Raises GatewayError. Blocks on Clerk for a token not seen lately."""
        if not tenant.machines:
            raise invalid(tenant, route, "a machine's token, and the tenant has no such machine")
        status = self._tokens.check(tenant.id, "clerk_machine", credential.value, credential.digest)
        _require_in_force(status, exchange, tenant, route)
        expected = self._sessions.expectation
        if expected.machine_id and expected.machine_id not in status.scopes:
            raise invalid(tenant, route, "a machine's token that is not meant for this gateway")
        machine = tenant.machines.get(status.subject)
        if machine is None:
            raise invalid(tenant, route, "a machine that is not the tenant's")
        if machine.expires_at is not None and exchange.received_at >= machine.expires_at:
            raise invalid(tenant, route, f"service {machine.id} expired")
        if not machine.may_call_from(exchange.client_ip):
            raise invalid(tenant, route, f"service {machine.id} may not call from this address")
        principal: Principal | None = machine.principal
        if principal is None:
            principal = machine.principal = Principal("service", status.subject, machine.scopes, issuer=expected.issuer)
        return principal


def _require_in_force(status: TokenStatus, exchange: Exchange, tenant: Tenant, route: Route) -> None:
    """Raises GatewayError(credentials-invalid). An end is an end; a beginning may be seen SKEW_S too early by us."""
    if status.refusal:
        raise invalid(tenant, route, status.refusal)
    now = exchange.received_at
    if status.expires_at is not None and now >= status.expires_at:
        raise invalid(tenant, route, "the token expired")
    if status.not_before is not None and now < status.not_before - SKEW_S:
        raise invalid(tenant, route, "the token is not valid yet")


def _principal(status: TokenStatus, issuer: str, exchange: Exchange) -> Principal:
    derived = exchange.head.section.derived
    kept = derived.get("principal")
    if kept is not None and kept[0] is status:
        remembered: Principal = kept[1]
        return remembered
    principal = Principal(
        "oauth", status.subject, status.scopes, status.org_id, client_id=status.client_id, issuer=issuer
    )
    derived["principal"] = (status, principal)
    return principal
