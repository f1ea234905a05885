"""The order of authentication: classify the credential, let exactly one verifier speak.

In:    the request, its tenant and route.
Out:   exchange.principal, exchange.consumed; GatewayError.
Laws:  1. A route's mode says which kinds it takes (route.accepts); another kind is refused unread. 2. Verifiers are
       never tried one after another. 3. On a public route credentials are the origin's business: they are neither read
       nor removed.
Not here: what each verifier demands (its module), scopes (authorise).
"""

from __future__ import annotations

from typing import Final, Protocol

from edge.exchange import Exchange, Principal
from edge.phases.auth.credential import Credential, classify
from edge.phases.auth.keys import KeyVerifier
from edge.phases.auth.refusals import invalid, missing
from edge.phases.auth.sessions import SessionVerifier
from edge.ports import KeyStore, SessionKeys
from edge.snapshot import CredentialKind, Route, Tenant

_WORDS: Final[dict[CredentialKind, str]] = {
    "key": "a key",
    "session": "a session token",
    "user_token": "a token of another issuer",
    "access_token": "an OAuth access token",
    "opaque_access": "an opaque access token",
    "machine_token": "a machine token",
    "opaque_machine": "an opaque machine token",
    "signature": "a signed request",
}


class Verifier(Protocol):
    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Give whom the credential proves. Raises GatewayError(credentials-invalid, identity-unavailable)."""


class Authenticator:
    """The phase: one verifier for each kind of credential."""

    __slots__ = ("verifiers",)

    def __init__(self, keys: KeyStore, sessions: SessionKeys) -> None:
        self.verifiers: dict[CredentialKind, Verifier] = {
            "key": KeyVerifier(keys),
            "session": SessionVerifier(sessions),
        }

    def authenticate(self, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Give the principal of a request to a route that is not public. Raises GatewayError. Blocks on the stores."""
        section = exchange.head.section
        credential: Credential | None = section.derived.get("credential")
        if credential is None:
            credential = section.derived["credential"] = classify(section)
        if credential is None:
            raise missing(tenant, route)
        if not credential.plausible:
            raise invalid(tenant, route, "form or checksum is wrong")
        kind = credential.kind
        if kind not in route.accepts:
            raise invalid(tenant, route, f"{_WORDS[kind]} is not what the route takes")
        principal = self.verifiers[kind].verify(credential, exchange, tenant, route)
        exchange.consumed = credential.fields
        exchange.principal = principal
        return principal
