"""The JSON API's door: `Authorization: Bearer <session token>` and nothing else (RFC 6750).

In:    the request's Authorization field.
Out:   g.caller, g.actor (None while the organisation has no tenant).
Laws:  1. A cookie is never looked at. 2. Missing credentials get a bare challenge; refused ones say why by Clerk's
       reason word, never more. 3. Keys that cannot be had are 503, not 401.
"""

from __future__ import annotations

from flask import g, request

from contracts.clerk import SessionRefused
from webapp.auth.callers import caller_of
from webapp.auth.keyset import KeysUnavailable
from webapp.auth.verifier import current_verifier
from webapp.services import tenants
from webapp.services.actor import Actor
from webapp.services.errors import Forbidden, ServiceError

_REALM = 'Bearer realm="vantageedge"'


class Unauthenticated(ServiceError):
    """`challenge` is the WWW-Authenticate field's value (RFC 9110 section 11.6.1)."""

    slug = "unauthenticated"

    def __init__(self, detail: str, reason: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.challenge = _REALM if reason is None else f'{_REALM}, error="invalid_token", error_description="{reason}"'


class IdentityUnavailable(ServiceError):
    slug = "identity-unavailable"

    def __init__(self) -> None:
        super().__init__("The identity provider's keys cannot be had right now. Try again.")


def authenticate() -> None:
    """Believe the bearer token or refuse. Raises Unauthenticated, IdentityUnavailable, Forbidden (no organisation)."""
    try:
        session = current_verifier().session(_token(), from_cookie=False)
    except SessionRefused as refusal:
        raise Unauthenticated(f"The token is not accepted: {refusal.reason}.", refusal.reason) from None
    except KeysUnavailable:
        raise IdentityUnavailable from None
    caller = caller_of(session, "api")
    if caller is None:
        raise Forbidden("The token has no active organisation; choose one, then get a new token.")
    g.caller = caller
    found = tenants.sign_in(caller)
    g.actor = None if found is None else found[0]


def _token() -> str:
    fields = request.headers.getlist("Authorization")
    if len(fields) > 1:
        raise Unauthenticated("More than one Authorization field was sent.", "token-invalid")
    scheme, _, token = (fields[0] if fields else "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Send Authorization: Bearer <session token>.")
    return token.strip()


def current_actor() -> Actor:
    """Raises Forbidden when the caller's organisation has no tenant yet."""
    actor: Actor | None = g.actor
    if actor is None:
        raise Forbidden("Your organisation has no tenant yet; POST /api/v1/tenants makes it.")
    return actor
