"""Which route serves the request.

In:    exchange.tenant, the path and the method as sent.
Out:   exchange.path (normalised), exchange.match, exchange.route; GatewayError path-invalid, route-unknown,
       method-not-allowed.
Laws:  1. One normalised path is matched, limited, cached and forwarded. 2. A path that some route knows, but not with
       this method, is 405 with Allow; a path that no route knows is 404. 3. HEAD is allowed wherever GET is.
Not here: the matcher (edge.snapshot), its grammar and precedence (contracts.patterns).
"""

from __future__ import annotations

from contracts.patterns import PathError
from edge.errors import GatewayError, Source
from edge.exchange import Exchange
from edge.snapshot import Resolved, Route, Tenant


def match(exchange: Exchange, tenant: Tenant) -> Route:
    """Raises GatewayError. Complexity: two look-ups for a path and method seen before."""
    head = exchange.head
    found = tenant.paths.get(head.path)
    if found is None:
        found = _resolve(tenant, head.path)
    exchange.path = found.path
    chosen = found.by_method.get(head.method) or found.choose(head.method)
    if chosen is None:
        raise _unmatched(found)
    exchange.match = chosen
    route = exchange.route = chosen.route
    return route


def _resolve(tenant: Tenant, raw_path: bytes) -> Resolved:
    try:
        return tenant.resolve(raw_path)
    except PathError as error:
        detail = str(error)
        raise GatewayError("path-invalid", f"{detail[0].upper()}{detail[1:]}.", source=Source.DOWNSTREAM) from None


def _unmatched(found: Resolved) -> GatewayError:
    if not found.routes:
        return GatewayError("route-unknown", "No route matches this path.", source=Source.DOWNSTREAM)
    allow = b", ".join(found.methods)
    return GatewayError(
        "method-not-allowed",
        f"This path allows {allow.decode('ascii')}.",
        source=Source.DOWNSTREAM,
        fields=((b"Allow", allow),),
    )
