"""Whether a believed caller may do this here.

In:    the principal, the method, the route's demands.
Out:   nothing, or GatewayError scope-insufficient.
Laws:  1. A key needs `read` for GET, HEAD, OPTIONS and `write` for the rest; `write` does not include `read`. 2. Anyone
       needs all of the route's required_scopes, one of its required_roles, all of its required_permissions. 3. A scope
       that is lacking is named (RFC 6750 section 3.1); roles and permissions are the tenant's own words and are not.
"""

from __future__ import annotations

from typing import Final

from edge.exchange import Principal
from edge.phases.auth.refusals import outranked, uncovered
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
    if route.required_roles and principal.role not in route.required_roles:
        raise outranked(tenant, f"role {principal.role} is none of {', '.join(route.required_roles)}")
    for permission in route.required_permissions:
        if permission not in principal.permissions:
            raise outranked(tenant, f"permission {permission} is lacking")
