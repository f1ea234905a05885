"""Who may call a route, between its three forms: the API's flat fields, `routes.access`, the snapshot's AccessConfig.

In:    a checked route; what the row holds.
Out:   the document of the row (None when there is nothing in it), the view's fields, the snapshot's part.
Laws:  1. The document has AccessConfig's own members, so that building a snapshot translates nothing. 2. What is not
       used is not written: an edge that does not know it keeps up. 3. A route names issuers of its own tenant only, of
       a kind whose tokens it takes; another tenant's is as unknown as none. 4. An opaque token does not say who made
       it, and whoever is asked learns it: a route that takes such tokens has one issuer to ask, or none.
Not here: rules about fields alone (webapp.schemas.access).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Text, and_, cast, func, or_, select
from sqlalchemy.orm import Session

from contracts import bounds, snapshot
from webapp.models import Issuer, Route
from webapp.schemas.access import AddressRules, accepted
from webapp.schemas.route import RouteNew
from webapp.services.errors import Conflict, Invalid, NotFound

Stored = dict[str, Any]
_LISTS: Final = ("accept", "required_roles", "required_permissions")
_CORS: Final = {
    "allow_origins": "origins",
    "allow_methods": "methods",
    "allow_headers": "headers",
    "expose_headers": "expose",
    "allow_credentials": "credentials",
    "max_age_seconds": "max_age_s",
}


def stored(new: RouteNew) -> Stored | None:
    """Give what the row is to hold."""
    made: Stored = {name: list(value) for name in _LISTS if (value := getattr(new, name))}
    if new.issuers:
        made["issuers"] = [str(issuer_id) for issuer_id in new.issuers]
    if new.cors is not None:
        given = new.cors.model_dump(mode="json")
        made["cors"] = {ours: given[theirs] for theirs, ours in _CORS.items()}
    rules = stored_rules(new.addresses)
    if rules is not None:
        made["addresses"] = rules
    if new.identity_token:
        made["identity_token"] = True
    return made or None


def stored_rules(rules: AddressRules | None) -> Stored | None:
    """Rules without a network say nothing: None."""
    if rules is None or not (rules.allow or rules.deny):
        return None
    return {"allow": list(rules.allow), "deny": list(rules.deny)}


def fields(held: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give the view's fields."""
    if held is None:
        return {}
    shown = dict(held)
    cors = shown.get("cors")
    if cors is not None:
        shown["cors"] = {theirs: cors[ours] for theirs, ours in _CORS.items()}
    return shown


def config(held: Mapping[str, Any] | None) -> snapshot.AccessConfig | msgspec.UnsetType:
    """Give the snapshot's part."""
    return msgspec.UNSET if held is None else msgspec.convert(held, snapshot.AccessConfig)


def rules_config(held: Mapping[str, Any] | None) -> snapshot.AddressRules | msgspec.UnsetType:
    return msgspec.UNSET if held is None else msgspec.convert(held, snapshot.AddressRules)


def check_issuers(session: Session, tenant_id: UUID, new: RouteNew) -> None:
    """Raises NotFound for one the tenant does not have, Invalid for one whose tokens the route would never take, and
    where several could be asked about an opaque token."""
    takes = accepted(new.auth_mode, new.accept)
    if not new.issuers and "oauth" not in takes:
        return
    rows = session.execute(select(Issuer.id, Issuer.kind).where(Issuer.tenant_id == tenant_id))
    kinds = {row.id: row.kind for row in rows}
    for index, issuer_id in enumerate(new.issuers):
        kind = kinds.get(issuer_id)
        if kind is None:
            raise NotFound(f"issuers.{index}")
        if ("jwt" if kind == "jwt" else "oauth") not in takes:
            raise Invalid.field(f"issuers.{index}", f"is of kind {kind}, whose tokens this route does not take")
    asked = [issuer_id for issuer_id in new.issuers or kinds if kinds[issuer_id] == "introspection"]
    if "oauth" in takes and len(asked) > 1:
        raise Invalid.field("issuers", "must name at most one of kind introspection: opaque tokens name no issuer")


def check_size(session: Session, row: Route) -> None:
    """Raises Conflict when what all routes ask of callers is too much to travel in every version."""
    if row.access is None:
        return
    total = select(func.coalesce(func.sum(func.octet_length(cast(Route.access, Text))), 0))
    if (session.scalar(total.where(Route.tenant_id == row.tenant_id)) or 0) > bounds.ACCESS_BYTES_PER_TENANT_MAX:
        limit = bounds.ACCESS_BYTES_PER_TENANT_MAX // 1024
        raise Conflict(
            f"What a tenant's routes ask of callers (addresses, cors, roles) is at most {limit} KiB together."
        )


def asking_every_issuer(tenant_id: UUID) -> ColumnElement[bool]:
    """Say which routes take opaque tokens of whichever issuer the tenant has."""
    takes = or_(
        Route.auth_mode == "oauth_required",
        and_(Route.auth_mode == "any", Route.access.contains({"accept": ["oauth"]})),
    )
    return and_(Route.tenant_id == tenant_id, takes, func.coalesce(Route.access.op("?")("issuers"), False).is_(False))
