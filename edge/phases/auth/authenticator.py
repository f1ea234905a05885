"""The order of authentication: classify the credential, let exactly one verifier speak.

In:    the request, its tenant and route.
Out:   exchange.principal, exchange.consumed; GatewayError.
Laws:  1. A route's mode says which kinds it takes (route.accepts); another kind is refused unread. 2. Verifiers are
       never tried one after another. 3. On a public route credentials are the origin's business: they are neither read
       nor removed. 4. A credential that is not believed is counted against the client, and who fails too often is
       refused unread (attempts).
Not here: what each verifier demands (its module), scopes (authorise).
"""

from __future__ import annotations

from typing import Final, Protocol

from edge.errors import GatewayError
from edge.exchange import Exchange, Principal
from edge.http.parser import Memo
from edge.phases.auth.attempts import Attempts
from edge.phases.auth.clerk_tokens import AccessTokenVerifier, MachineTokenVerifier
from edge.phases.auth.credential import Credential, classify
from edge.phases.auth.keys import KeyVerifier
from edge.phases.auth.opaque import OpaqueAccessVerifier, OpaqueMachineVerifier
from edge.phases.auth.refusals import invalid, missing
from edge.phases.auth.sessions import SessionVerifier
from edge.phases.auth.signatures import SignatureVerifier
from edge.phases.auth.tokens import TokenVerifier
from edge.ports import Ports
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


SEEN_MAX: Final = 4_096
SEEN_BYTES_MAX: Final = 2 * 1024 * 1024
"""Tokens whose kind is remembered beyond one section, in two generations: clients that send something new with every
request (a trace, an id) are not to be read anew each time."""


class Verifier(Protocol):
    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Give whom the credential proves. Raises GatewayError(credentials-invalid, identity-unavailable)."""


class Authenticator:
    """The phase: one verifier for each kind of credential."""

    __slots__ = ("_attempts", "_clerk_issuer", "_seen", "verifiers")

    def __init__(self, ports: Ports, attempts: Attempts) -> None:
        sessions, issuers, tokens = ports.sessions, ports.issuers, ports.tokens
        self._attempts = attempts
        self._clerk_issuer = sessions.expectation.issuer
        self._seen = Memo(SEEN_MAX, SEEN_BYTES_MAX)
        self.verifiers: dict[CredentialKind, Verifier] = {
            "key": KeyVerifier(ports.keys),
            "session": SessionVerifier(sessions),
            "user_token": TokenVerifier("jwt", issuers),
            "access_token": AccessTokenVerifier(sessions, issuers),
            "machine_token": MachineTokenVerifier(sessions),
            "opaque_access": OpaqueAccessVerifier(tokens, sessions),
            "opaque_machine": OpaqueMachineVerifier(tokens, sessions),
            "signature": SignatureVerifier(ports.secrets, ports.nonces),
        }

    def authenticate(self, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Give the principal of a request to a route that is not public. Raises GatewayError. Blocks on the stores."""
        section = exchange.head.section
        signed = route.takes_signatures
        place = "credential or signature" if signed else "credential"
        credential: Credential | None = section.derived.get(place)
        if credential is None:
            credential = section.derived[place] = classify(section, self._clerk_issuer, self._seen, signed=signed)
        if credential is None:
            raise missing(tenant, route)
        if self._attempts.blocked:
            self._attempts.check(exchange, tenant)
        try:
            kind = credential.kind
            if not credential.plausible:
                raise invalid(tenant, route, credential.flaw)
            if kind not in route.accepts:
                raise invalid(tenant, route, f"{_WORDS[kind]} is not what the route takes")
            principal = self.verifiers[kind].verify(credential, exchange, tenant, route)
        except GatewayError as error:
            if error.problem.slug == "credentials-invalid":
                self._attempts.failed(exchange, tenant)
            raise
        exchange.consumed = credential.fields
        exchange.principal = principal
        return principal
