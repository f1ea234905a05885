"""Which route serves the request.

In:    exchange.tenant, the path and the method as sent.
Out:   exchange.path (normalised), exchange.match, exchange.route; GatewayError path-invalid, route-unknown,
       method-not-allowed.
Laws:  1. One normalised path is matched, limited, cached and forwarded. 2. A path that some route knows, but not with
       this method, is 405 with Allow; a path that no route knows is 404. 3. HEAD is allowed wherever GET is.
       4. A preflight takes the route of the method it asks about. 5. Paths are remembered by the tenant's version and
       go with it; how many is bounded for all of a worker.
Not here: the matcher (edge.snapshot), its grammar and precedence (contracts.patterns).
"""

from __future__ import annotations

from typing import Final
from weakref import WeakSet

from contracts.patterns import PathError
from edge.errors import GatewayError, Source
from edge.exchange import Exchange
from edge.snapshot import Resolved, Route, Tenant

PATHS_MAX: Final = 2_048
"""Raw paths a tenant's version remembers; beyond it the memory starts over."""
ALL_PATHS_MAX: Final = 65_536
"""Of all tenants together: a bound for each would be none with 10,000 tenants."""
_PATH_BYTES_REMEMBERED_MAX: Final = 512


class Paths:
    """What a worker remembers of paths: which tenants have some, and how many at most."""

    __slots__ = ("_count", "_tenants")

    def __init__(self) -> None:
        self._count = 0
        self._tenants: WeakSet[Tenant] = WeakSet()

    def resolve(self, tenant: Tenant, raw_path: bytes) -> Resolved:
        """Find a path's routes and remember it if it has some. Raises patterns.PathError."""
        found = tenant.resolve(raw_path)
        if found.routes and len(raw_path) <= _PATH_BYTES_REMEMBERED_MAX:
            if self._count >= ALL_PATHS_MAX:
                self._start_over()
            if len(tenant.paths) >= PATHS_MAX:
                tenant.paths.clear()
            self._tenants.add(tenant)
            self._count += 1
            tenant.paths[raw_path] = found
        return found

    def _start_over(self) -> None:
        for tenant in tuple(self._tenants):
            tenant.paths.clear()
        self._tenants.clear()
        self._count = 0


def match(exchange: Exchange, tenant: Tenant, paths: Paths) -> Route:
    """Raises GatewayError. Complexity: two look-ups for a path and method seen before."""
    head = exchange.head
    found = tenant.paths.get(head.path)
    if found is None:
        found = _resolve(tenant, head.path, paths)
    exchange.path = found.path
    chosen = found.by_method.get(head.method) or found.choose(head.method)
    if chosen is None:
        raise _unmatched(found)
    exchange.match = chosen
    route = exchange.route = chosen.route
    return route


def of_preflight(exchange: Exchange, tenant: Tenant, paths: Paths, asked: bytes) -> Route | None:
    """Give the route that the announced request would take, None where that is no route with CORS: there OPTIONS is a
    request like any other. Raises GatewayError(path-invalid)."""
    head = exchange.head
    found = tenant.paths.get(head.path)
    if found is None:
        found = _resolve(tenant, head.path, paths)
    chosen = found.by_method.get(asked) or found.choose(asked)
    if chosen is None or chosen.route.cors is None:
        return None
    exchange.path = found.path
    exchange.match = chosen
    exchange.route = chosen.route
    return chosen.route


def _resolve(tenant: Tenant, raw_path: bytes, paths: Paths) -> Resolved:
    try:
        return paths.resolve(tenant, raw_path)
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
