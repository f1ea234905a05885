"""What a caller is told who is not let in (RFC 6750 section 3): little, and the same for all that is wrong.

In:    the tenant, the route, the reason.
Out:   GatewayError credentials-*, scope-insufficient.
Laws:  1. A bad credential gets one answer whatever is bad about it; the reason is for the log. 2. A credential of
       another tenant is answered as an unknown one.
"""

from __future__ import annotations

from typing import Final

from edge.errors import GatewayError, Source
from edge.snapshot import Route, Tenant

_MISSING: Final = {
    "apikey_required": "This route needs an API key in X-API-Key.",
    "jwt_required": "This route needs a session token in Authorization: Bearer.",
    "oauth_required": "This route needs an OAuth access token in Authorization: Bearer.",
    "service_required": "This route needs a machine token or a signed request.",
    "any": "This route needs credentials.",
}
_INVALID: Final = {
    "apikey_required": "The API key is not valid.",
    "jwt_required": "The session token is not valid.",
    "oauth_required": "The access token is not valid.",
    "service_required": "The service's credentials are not valid.",
    "any": "The credentials are not valid.",
}


def ambiguous(detail: str) -> GatewayError:
    return GatewayError("credentials-ambiguous", detail, source=Source.DOWNSTREAM)


def missing(tenant: Tenant, route: Route) -> GatewayError:
    """RFC 6750 section 3.1: without any credential there is no error code."""
    return _refusal("credentials-missing", _MISSING[route.auth_mode], tenant.challenge)


def invalid(tenant: Tenant, route: Route, internal: str) -> GatewayError:
    challenge = tenant.challenge + b', error="invalid_token"'
    return _refusal("credentials-invalid", _INVALID[route.auth_mode], challenge, internal)


def uncovered(tenant: Tenant, needed: tuple[str, ...]) -> GatewayError:
    """RFC 6750 section 3.1: insufficient_scope is 403 and may name the scope that is needed."""
    text = " ".join(needed)
    challenge = tenant.challenge + b', error="insufficient_scope", scope="%b"' % text.encode("ascii", "replace")
    return _refusal("scope-insufficient", f"The credentials do not cover this: {text} is needed.", challenge)


def outranked(tenant: Tenant, internal: str) -> GatewayError:
    """Believed, but without the role or a permission the route asks for; which one is for the log."""
    challenge = tenant.challenge + b', error="insufficient_scope"'
    return _refusal("scope-insufficient", "The caller's role or permissions do not cover this.", challenge, internal)


def _refusal(slug: str, detail: str, challenge: bytes, internal: str = "") -> GatewayError:
    fields = ((b"WWW-Authenticate", challenge),)
    return GatewayError(slug, detail, internal=internal, source=Source.DOWNSTREAM, fields=fields)
