"""What the verifiers of the Clerk instance's signed tokens share: one memory each, the instance's keys, one renewal.

In:    a plausible signed token; the instance's keys; the time.
Out:   Belief; GatewayError credentials-invalid, identity-unavailable.
Laws:  1. What was believed once is remembered, but time and the set of keys are checked on every use. 2. A belief is
       the instance's, not a tenant's: each verifier compares it with the tenant on every use.
Not here: what a kind of token must say (contracts.clerk), whom a tenant lets in (sessions, clerk_tokens).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from contracts.tokens import TokenRefused, Unverified, take_apart
from edge.phases.auth.beliefs import Belief, Beliefs, proved
from edge.phases.auth.credential import Credential
from edge.phases.auth.refusals import invalid
from edge.ports import SessionKeys
from edge.snapshot import Route, Tenant

InstanceKeys = Mapping[str, RSAPublicKey]
_INSTANCE: Final = ""
"""In the place of a tenant's id."""


class InstanceVerifier(ABC):
    __slots__ = ("beliefs", "sessions")

    def __init__(self, sessions: SessionKeys) -> None:
        self.sessions = sessions
        self.beliefs = Beliefs()

    @abstractmethod
    def judge(self, token: Unverified, keys: InstanceKeys, now: float) -> Belief:
        """Believe a token of the verifier's kind. Raises TokenRefused."""

    def belief(self, credential: Credential, tenant: Tenant, route: Route, now: float) -> Belief:
        """Raises GatewayError. Blocks on the issuer only for a key that is not known."""
        belief = self.beliefs.get(_INSTANCE, credential.digest)
        # the key it was by may have been withdrawn
        if belief is None or belief.keys is not self.sessions.keys() or not belief.is_timely(now):
            belief = self._believe(credential, tenant, route, now)
        return belief

    def _believe(self, credential: Credential, tenant: Tenant, route: Route, now: float) -> Belief:
        try:
            token = take_apart(credential.value)
            belief, _ = proved(lambda keys: self.judge(token, keys, now), self.sessions.keys(), self.sessions.refreshed)
        except TokenRefused as refused:
            self.beliefs.forget(_INSTANCE, credential.digest)
            raise invalid(tenant, route, refused.reason) from None
        self.beliefs.keep(_INSTANCE, credential.digest, belief)
        return belief
