"""Believing tokens of a tenant's own issuers: of users (kind jwt) and access tokens by RFC 9068 (kind oauth).

In:    a plausible signed token; the tenant's issuers; their keys; the time.
Out:   Principal; GatewayError credentials-invalid, scope-insufficient, identity-unavailable.
Laws:  1. Only the issuer that `iss` names is asked, and only if the tenant has it and the route takes it. 2. What was
       believed once is remembered, but time, tenant, the issuer's configuration and its set of keys are checked on
       every use. 3. A token of another tenant's issuer is answered as one of nobody's.
Not here: what a token must say (contracts.tokens), Clerk's own (sessions, clerk_tokens).
"""

from __future__ import annotations

from typing import Literal

from contracts import tokens
from contracts.keysets import KeySet
from contracts.tokens import Believed
from edge.exchange import Exchange, Principal
from edge.issuers import Issuer
from edge.phases.auth.beliefs import Belief, Beliefs, proved
from edge.phases.auth.credential import Credential
from edge.phases.auth.refusals import invalid, uncovered
from edge.ports import IssuerKeys
from edge.snapshot import Route, Tenant


class TokenVerifier:
    """Of one kind of issuer. Holds the memory of its believed tokens."""

    __slots__ = ("_keys", "_kind", "beliefs")

    def __init__(self, kind: Literal["jwt", "oauth"], keys: IssuerKeys) -> None:
        self._kind = kind
        self._keys = keys
        self.beliefs = Beliefs()

    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Raises GatewayError. Blocks on the issuer only for a key that is not known."""
        issuer = tenant.issuers.get((self._kind, credential.issuer))
        if issuer is None or not route.takes_issuer(issuer):
            raise invalid(tenant, route, "of an issuer that is not the tenant's, or not the route's")
        now = exchange.received_at
        keys = issuer.pinned or self._keys.keys(issuer)
        belief = self.beliefs.get(tenant.id, credential.digest)
        if belief is None or belief.keys is not keys or belief.place != issuer.place or not belief.is_timely(now):
            belief = self._believe(credential, issuer, keys, tenant, route, now)
        principal = belief.principal
        for scope in issuer.required_scopes:
            if scope not in principal.scopes:
                raise uncovered(tenant, issuer.required_scopes)
        return principal

    def _believe(
        self, credential: Credential, issuer: Issuer, keys: KeySet, tenant: Tenant, route: Route, now: float
    ) -> Belief:
        def renew() -> KeySet:
            return keys if issuer.pinned is not None else self._keys.refreshed(issuer)

        try:
            token = tokens.take_apart(credential.value)
            believed, keys_used = proved(lambda held: tokens.verify(token, held, issuer.terms, now), keys, renew)
        except tokens.TokenRefused as refused:
            self.beliefs.forget(tenant.id, credential.digest)
            raise invalid(tenant, route, f"issuer {issuer.id}: {refused.reason}") from None
        principal = _principal(believed, issuer)
        belief = Belief(principal, keys_used, issuer.place, believed.valid_from, believed.expires_at)
        self.beliefs.keep(tenant.id, credential.digest, belief)
        return belief


def _principal(believed: Believed, issuer: Issuer) -> Principal:
    return Principal(
        "user" if issuer.kind == "jwt" else "oauth",
        believed.subject,
        believed.scopes,
        client_id=believed.client_id,
        issuer=issuer.issuer,
    )
