"""Tenants: found by their organisation, made, changed, removed; and people as their members.

Laws:  1. A person sees the tenant of their active organisation and no other. 2. Whoever makes a tenant is an admin of
       its organisation. 3. A membership row is made on first sight of a token; it is for display, rights come from the
       token.
Not here: believing tokens (webapp.auth).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from webapp.extensions import current_settings, org_scope, tenant_scope
from webapp.models import ApiKey, Origin, Route, Tenant, User
from webapp.schemas.paging import Page
from webapp.schemas.tenant import TenantNew, TenantPatch, TenantQuery, TenantView
from webapp.services import publishing, route_access
from webapp.services.actor import Actor, Caller, require_admin
from webapp.services.errors import Forbidden, NotFound
from webapp.services.revision import Revision, Written, check_match, revision

_SEEN_EVERY: Final = timedelta(minutes=5)


def find_by_org(org_id: str) -> TenantView | None:
    with org_scope(org_id) as session:
        row = session.scalars(select(Tenant).where(Tenant.clerk_org_id == org_id)).one_or_none()
        return None if row is None else TenantView.model_validate(row)


def sign_in(caller: Caller) -> tuple[Actor, TenantView] | None:
    """Find the caller's tenant and make them a member of it. None when their organisation has no tenant."""
    tenant = find_by_org(caller.org_id)
    if tenant is None:
        return None
    user_id = _member(tenant.id, caller) if caller.clerk_user_id else None
    return actor_of(caller, tenant.id, user_id), tenant


def actor_of(caller: Caller, tenant_id: UUID, user_id: UUID | None) -> Actor:
    return Actor(
        org_id=caller.org_id,
        clerk_user_id=caller.clerk_user_id,
        role=caller.role,
        via=caller.via,
        request_id=caller.request_id,
        ip=caller.ip,
        session_id=caller.session_id,
        email=caller.email,
        impersonator=caller.impersonator,
        tenant_id=tenant_id,
        user_id=user_id,
    )


def _member(tenant_id: UUID, caller: Caller) -> UUID:
    now = datetime.now(UTC)
    with tenant_scope(tenant_id) as session:
        row = session.scalars(
            select(User).where(User.tenant_id == tenant_id, User.clerk_user_id == caller.clerk_user_id)
        ).one_or_none()
        if row is not None and _is_fresh(row, caller, now):
            return row.id
        values: dict[str, Any] = {"role": caller.role, "last_seen_at": now, "updated_at": func.clock_timestamp()}
        if caller.email is not None:
            values["email"] = caller.email
        statement = (
            insert(User)
            .values(tenant_id=tenant_id, clerk_user_id=caller.clerk_user_id, **values)
            .on_conflict_do_update(index_elements=["tenant_id", "clerk_user_id"], set_=values)
            .returning(User.id)
        )
        user_id = session.execute(statement).scalar_one()
        session.commit()
        return user_id


def _is_fresh(row: User, caller: Caller, now: datetime) -> bool:
    same = row.role == caller.role and (caller.email is None or row.email == caller.email)
    return same and row.last_seen_at is not None and now - row.last_seen_at < _SEEN_EVERY


def get(actor: Actor, tenant_id: UUID) -> TenantView:
    """Raises NotFound."""
    if tenant_id != actor.tenant_id:
        raise NotFound
    with tenant_scope(actor.tenant_id) as session:
        row = session.get(Tenant, tenant_id)
        if row is None:
            raise NotFound
        return TenantView.model_validate(row)


def page(caller: Caller, query: TenantQuery) -> Page[TenantView]:
    """Give the tenants a person may see now: at most the one of their active organisation."""
    tenant = find_by_org(caller.org_id)
    items = () if tenant is None or query.position is not None else (tenant,)
    return Page(items=items)


def create(caller: Caller, new: TenantNew) -> Written[TenantView]:
    """Make the tenant of the caller's organisation. Raises Forbidden, Conflict (naming the field)."""
    require_admin(caller)
    if new.clerk_org_id != caller.org_id:
        raise Forbidden("clerk_org_id must be your active organisation.")
    # The id is chosen here, so that the row can be written under the very scope it will live in.
    actor = actor_of(caller, uuid4(), None)
    tenant = Tenant(id=actor.tenant_id, name=new.name, subdomain=new.subdomain, clerk_org_id=new.clerk_org_id)
    with revision(actor, founding=tenant) as change:
        change.config_changed("Tenant created")
        change.record("tenant.created", tenant.id, None, _view_after(change))
    if caller.clerk_user_id:
        _member(actor.tenant_id, caller)
    return Written(_view_after(change), change.receipt)


def _view_after(change: Revision) -> TenantView:
    return TenantView.model_validate(change.tenant)


def update(actor: Actor, tenant_id: UUID, patch: TenantPatch, if_match: int | None = None) -> Written[TenantView]:
    """Raises NotFound, Conflict, PreconditionFailed."""
    require_admin(actor)
    if tenant_id != actor.tenant_id:
        raise NotFound
    with revision(actor) as change:
        tenant = change.tenant
        check_match(tenant.row_version, if_match)
        before = TenantView.model_validate(tenant)
        for field in patch.model_fields_set - {"addresses"}:
            setattr(tenant, field, getattr(patch, field))
        if "addresses" in patch.model_fields_set:
            tenant.addresses = route_access.stored_rules(patch.addresses)
        tenant.row_version += 1
        change.session.flush()
        moved = before.subdomain != tenant.subdomain
        old_hosts = (current_settings().host_of(before.subdomain),) if moved else ()
        change.config_changed("Tenant changed", old_hosts)
        change.record("tenant.changed", tenant_id, before, _view_after(change))
    return Written(_view_after(change), change.receipt)


def remove(actor: Actor, tenant_id: UUID, if_match: int | None = None) -> publishing.Receipt:
    """Remove the tenant and everything of it, except its audit log. Raises NotFound, PreconditionFailed."""
    require_admin(actor)
    if tenant_id != actor.tenant_id:
        raise NotFound
    with revision(actor) as change:
        tenant, session = change.tenant, change.session
        check_match(tenant.row_version, if_match)
        change.keys_changed(session.scalars(select(ApiKey.digest).where(ApiKey.tenant_id == tenant_id)).all())
        change.tenant_removed(current_settings().host_of(tenant.subdomain))
        change.record("tenant.removed", tenant_id, TenantView.model_validate(tenant), None)
        change.seal_then_delete(
            delete(Route).where(Route.tenant_id == tenant_id),
            delete(Origin).where(Origin.tenant_id == tenant_id),
            delete(Tenant).where(Tenant.id == tenant_id),
        )
    return change.receipt
