"""Believing Clerk's OAuth access tokens and machine tokens in their signed form.

In:    a plausible signed token; the instance's keys; the tenant's machines; the time.
Out:   Principal; GatewayError credentials-invalid, identity-unavailable.
Laws:  1. An access token's organisation is the tenant's own, unless the route takes any user. 2. A machine is let in by
       the tenant's own list, and may do what that list says, not what its token says.
Not here: what the tokens must say (contracts.clerk), memory and keys (instance), their opaque forms, other issuers'
          access tokens (tokens).
"""

from __future__ import annotations

from contracts import clerk
from contracts.tokens import Unverified
from edge.exchange import Exchange, Principal
from edge.phases.auth.beliefs import Belief
from edge.phases.auth.credential import Credential
from edge.phases.auth.instance import InstanceKeys, InstanceVerifier
from edge.phases.auth.refusals import invalid
from edge.phases.auth.tokens import TokenVerifier
from edge.ports import IssuerKeys, SessionKeys
from edge.snapshot import Route, Tenant


class AccessTokenVerifier(InstanceVerifier):
    """Access tokens of Clerk; those that name another issuer go to the verifier of the tenant's own."""

    __slots__ = ("others",)

    def __init__(self, sessions: SessionKeys, issuers: IssuerKeys) -> None:
        super().__init__(sessions)
        self.others = TokenVerifier("oauth", issuers)

    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Raises GatewayError. Blocks on the issuer only for a key that is not known."""
        if credential.issuer != self.sessions.expectation.issuer:
            return self.others.verify(credential, exchange, tenant, route)
        if route.issuers:
            raise invalid(tenant, route, "the route takes tokens of named issuers, and Clerk is none of them")
        principal = self.belief(credential, tenant, route, exchange.received_at).principal
        if not route.any_user and principal.org_id != tenant.config.clerk_org_id:
            raise invalid(tenant, route, "access token of another organisation")
        return principal

    def judge(self, token: Unverified, keys: InstanceKeys, now: float) -> Belief:
        expected = self.sessions.expectation
        access = clerk.believe_access(token, keys, expected, now)
        principal = Principal(
            "oauth", access.user_id, access.scopes, access.org_id, client_id=access.client_id, issuer=expected.issuer
        )
        return Belief(principal, keys, b"", access.valid_from, access.expires_at)


class MachineTokenVerifier(InstanceVerifier):
    """Machine tokens of Clerk, of machines the tenant lists among its services."""

    __slots__ = ()

    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Raises GatewayError. Blocks on the issuer only for a key that is not known."""
        now = exchange.received_at
        proved = self.belief(credential, tenant, route, now).principal
        machine = tenant.machines.get(proved.subject)
        if machine is None:
            raise invalid(tenant, route, "a machine that is not the tenant's")
        if machine.expires_at is not None and now >= machine.expires_at:
            raise invalid(tenant, route, f"service {machine.id} expired")
        if not machine.may_call_from(exchange.client_ip):
            raise invalid(tenant, route, f"service {machine.id} may not call from this address")
        principal: Principal | None = machine.principal
        if principal is None:
            principal = machine.principal = Principal(
                "service", proved.subject, machine.scopes, issuer=self.sessions.expectation.issuer
            )
        return principal

    def judge(self, token: Unverified, keys: InstanceKeys, now: float) -> Belief:
        machine = clerk.believe_machine(token, keys, self.sessions.expectation, now)
        return Belief(Principal("service", machine.machine_id), keys, b"", machine.valid_from, machine.expires_at)
