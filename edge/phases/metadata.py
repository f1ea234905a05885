"""Where an OAuth client finds out who gives out tokens for what it asked for (RFC 9728).

In:    the exchange, the tenant; Clerk's issuer.
Out:   the metadata document; challenges of routes that take OAuth tokens, pointing at it.
Laws:  1. A tenant without such a route has no such document, and a route of the tenant's own below /.well-known/ goes
       before it; one that merely matches everything does not. 2. `resource` is the URL that was, or would be, asked:
       a client must not take a document that names another (section 3.3). 3. The document says what routes demand of
       OAuth tokens and who issues them, which a 401 would tell anybody; no name, no origin. What has
       no value is left out (section 3.2).
Not here: the challenge itself (phases.auth.refusals).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from contracts.patterns import Literal, PathError
from edge.errors import GatewayError
from edge.exchange import Exchange
from edge.http.messages import Reply
from edge.snapshot import Route, Tenant

WELL_KNOWN: Final = b"/.well-known/oauth-protected-resource"
_POINTED_PATH_BYTES_MAX: Final = 1_024
_ENCODE: Final = msgspec.json.Encoder().encode
# Anybody may read it, from a page of any origin: it is the same for all and needs no credential.
_LINES: Final = (
    b"Content-Type: application/json\r\nCache-Control: public, max-age=60\r\nAccess-Control-Allow-Origin: *\r\n"
)


def answer(exchange: Exchange, tenant: Tenant, clerk_issuer: str) -> Reply | None:
    """Give the document for a path that begins with WELL_KNOWN; None when the request is a route's business."""
    head = exchange.head
    asked = head.path[len(WELL_KNOWN) :]
    if head.method not in (b"GET", b"HEAD") or asked[:1] not in (b"", b"/"):
        return None
    try:
        if any(_is_own(route) for route in tenant.resolve(head.path).routes):
            return None
        found: Iterable[Route] = tenant.routes if asked in (b"", b"/") else tenant.resolve(asked).routes
    except PathError:
        return None  # the route phase says what is wrong with it
    routes = [route for route in found if route.takes_oauth]
    if not routes:
        return None
    exchange.path = head.path
    scopes = sorted({scope for route in routes for scope in route.required_scopes})
    body = _ENCODE({
        "resource": (_base(exchange) + (b"" if asked == b"/" else asked)).decode("ascii"),
        "authorization_servers": _servers(tenant, routes, clerk_issuer),
        "bearer_methods_supported": ["header"],
        **({"scopes_supported": scopes} if scopes else {}),
    })  # fmt: skip
    if head.method == b"HEAD":
        return Reply(200, b"OK", _LINES, b"", len(body))
    return Reply(200, b"OK", _LINES, body)


def pointed(refused: GatewayError, exchange: Exchange, route: Route) -> GatewayError:
    """Let a route's challenge say where its metadata is (RFC 9728 section 5.1), if the route takes OAuth tokens."""
    if not route.takes_oauth or not any(name == b"WWW-Authenticate" for name, _ in refused.fields):
        return refused
    path = exchange.path if exchange.path != b"/" and len(exchange.path) <= _POINTED_PATH_BYTES_MAX else b""
    url = _base(exchange) + WELL_KNOWN + path
    parameter = b', resource_metadata="%b"' % url
    return refused.with_fields(
        tuple((name, value + parameter if name == b"WWW-Authenticate" else value) for name, value in refused.fields)
    )


def _is_own(route: Route) -> bool:
    first = route.pattern.segments[0] if route.pattern.segments else None
    return isinstance(first, Literal) and first.text == ".well-known"


def _base(exchange: Exchange) -> bytes:
    """Scheme and authority as the client wrote them, or as a trusted hop says it did."""
    head, told = exchange.head, exchange.told
    named = head.section.index.get(b"host")
    host = named[0] if named is not None else head.host
    if told is not None and told.host is not None:
        host = told.host
    return b"%b://%b" % (exchange.scheme, host.lower())


def _servers(tenant: Tenant, routes: Iterable[Route], clerk_issuer: str) -> list[str]:
    servers: dict[str, None] = {}
    for route in routes:
        if not route.issuers:
            servers[clerk_issuer] = None
        for issuer_id, issuer in tenant.authorization_servers:
            if not route.issuers or issuer_id in route.issuers:
                servers[issuer] = None
    return list(servers)
