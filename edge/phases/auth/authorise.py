"""Whether a believed caller may do this here.

In:    the principal, the method, the route's demands.
Out:   nothing, or GatewayError scope-insufficient.
Laws:  1. A key needs `read` for GET, HEAD, OPTIONS and `write` for the rest; `write` does not include `read`. 2. Anyone
       needs all of the route's required_scopes.
"""

from __future__ import annotations

from typing import Final

from edge.exchange import Principal
from edge.phases.auth.refusals import uncovered
from edge.snapshot import Route, Tenant

READ_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})


def authorise(principal: Principal, method: bytes, tenant: Tenant, route: Route) -> None:
    """Raises GatewayError(scope-insufficient)."""
    scopes = principal.scopes
    if principal.kind == "key":
        needed = "read" if method in READ_METHODS else "write"
        if needed not in scopes:
            raise uncovered(tenant, (needed,))
    for scope in route.required_scopes:
        if scope not in scopes:
            raise uncovered(tenant, route.required_scopes)
