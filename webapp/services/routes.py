"""Routes: which requests go where, and on what terms.

Laws:  1. A route leads to an origin of its own tenant; another's is as unknown as none. 2. A patch is checked as the
       whole route it makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from contracts import bounds
from webapp.extensions import tenant_scope
from webapp.models import Origin, Route
from webapp.schemas.paging import Page
from webapp.schemas.route import RouteNew, RoutePatch, RouteQuery, RouteView
from webapp.services import identity_keys, listing, publishing, route_access
from webapp.services.actor import Actor, require_admin
from webapp.services.errors import Conflict, NotFound, invalid_from
from webapp.services.origins import check_tenant
from webapp.services.revision import Written, check_match, revision

_OWN_FIELDS: Final = tuple(name for name in RouteView.model_fields if name in Route.__table__.columns)


def page(actor: Actor, query: RouteQuery) -> Page[RouteView]:
    """Oldest first. Blocks on one query at any number of rows."""
    with tenant_scope(actor.tenant_id) as session:
        rows = select(Route).where(Route.tenant_id == actor.tenant_id)
        if query.origin_id is not None:
            rows = rows.where(Route.origin_id == query.origin_id)
        return listing.page(session, rows, Route, query, _views)


def get(actor: Actor, route_id: UUID) -> RouteView:
    """Raises NotFound."""
    with tenant_scope(actor.tenant_id) as session:
        return _view(_row(session, actor, route_id))


def create(actor: Actor, new: RouteNew) -> Written[RouteView]:
    """Raises Forbidden, NotFound (another tenant's tenant_id, origin_id or issuer), Invalid, Conflict (too many)."""
    require_admin(actor)
    check_tenant(actor, new.tenant_id)
    with revision(actor) as change:
        _check_origin(change.session, actor, new.origin_id)
        route_access.check_issuers(change.session, actor.tenant_id, new)
        held = change.session.scalar(select(func.count()).where(Route.tenant_id == actor.tenant_id)) or 0
        if held >= bounds.ROUTES_PER_TENANT_MAX:
            raise Conflict(f"A tenant has at most {bounds.ROUTES_PER_TENANT_MAX} routes.")
        if new.identity_token:
            identity_keys.ensure(change)
        row = Route(tenant_id=actor.tenant_id)
        _fill(row, new)
        change.session.add(row)
        change.session.flush()
        route_access.check_size(change.session, row)
        view = _view(row)
        change.config_changed(f"Route {view.path_pattern} created")
        change.record("route.created", view.id, None, view)
    return Written(view, change.receipt)


def update(actor: Actor, route_id: UUID, patch: RoutePatch, if_match: int | None = None) -> Written[RouteView]:
    """Raises Forbidden, NotFound, Invalid, PreconditionFailed."""
    require_admin(actor)
    with revision(actor) as change:
        row = _row(change.session, actor, route_id)
        check_match(row.row_version, if_match)
        before = _view(row)
        merged = _merge(before, patch)
        if merged.origin_id != before.origin_id:
            _check_origin(change.session, actor, merged.origin_id)
        route_access.check_issuers(change.session, actor.tenant_id, merged)
        if merged.identity_token and not before.identity_token:
            identity_keys.ensure(change)
        _fill(row, merged)
        row.row_version += 1
        change.session.flush()
        route_access.check_size(change.session, row)
        view = _view(row)
        change.config_changed(f"Route {view.path_pattern} changed")
        change.record("route.changed", route_id, before, view)
    return Written(view, change.receipt)


def remove(actor: Actor, route_id: UUID, if_match: int | None = None) -> publishing.Receipt:
    """Raises Forbidden, NotFound, PreconditionFailed."""
    require_admin(actor)
    with revision(actor) as change:
        row = _row(change.session, actor, route_id)
        check_match(row.row_version, if_match)
        change.session.delete(row)
        change.config_changed(f"Route {row.path_pattern} removed")
        change.record("route.removed", route_id, _view(row), None)
    return change.receipt


def _merge(before: RouteView, patch: RoutePatch) -> RouteNew:
    kept = before.model_dump(include={*RoutePatch.model_fields})
    try:
        return RouteNew.model_validate({**kept, **patch.model_dump(exclude_unset=True)})
    except ValidationError as error:
        raise invalid_from(error) from None


def _check_origin(session: Session, actor: Actor, origin_id: UUID) -> None:
    found = session.scalar(select(Origin.id).where(Origin.tenant_id == actor.tenant_id, Origin.id == origin_id))
    if found is None:
        raise NotFound("origin_id")


def _fill(row: Route, new: RouteNew) -> None:
    row.name = new.name
    row.path_pattern = new.path_pattern
    row.methods = list(new.methods)
    row.origin_id = new.origin_id
    row.auth_mode = new.auth_mode
    row.priority = new.priority
    row.enabled = new.enabled
    row.required_scopes = list(new.required_scopes)
    row.any_user = new.any_user
    row.access = route_access.stored(new)
    row.rate_limit = None if new.rate_limit is None else new.rate_limit.model_dump(mode="json", exclude_none=True)
    row.cache_policy = None if new.cache_policy is None else new.cache_policy.model_dump(mode="json")
    row.rewrite = None if new.rewrite is None else new.rewrite.model_dump(mode="json", exclude_none=True)
    row.forward_credential = new.forward_credential
    row.preserve_host = new.preserve_host
    row.body_bytes_max = new.body_bytes_max


def _row(session: Session, actor: Actor, route_id: UUID) -> Route:
    row = session.scalars(select(Route).where(Route.tenant_id == actor.tenant_id, Route.id == route_id)).one_or_none()
    if row is None:
        raise NotFound
    return row


def _view(row: Route) -> RouteView:
    shown = {name: getattr(row, name) for name in _OWN_FIELDS}
    return RouteView.model_validate(shown | route_access.fields(row.access))


def _views(rows: Sequence[Route]) -> list[RouteView]:
    return [_view(row) for row in rows]
