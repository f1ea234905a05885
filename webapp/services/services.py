"""Services: machines that call, made, renamed, switched off and on, given a new secret, revoked.

Laws:  1. A secret is in the answer to the call that made it, and nowhere else. 2. A revoked service stays revoked and
       its row has no secret any more. 3. Whatever changes is a new version of the configuration, so that edges learn it
       at once.
Not here: the secrets (services.service_secrets), signatures (edge.phases.auth), Clerk's machines (edge.phases.auth).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from contracts import bounds
from webapp.extensions import tenant_scope
from webapp.models import Service
from webapp.schemas.paging import Page
from webapp.schemas.service import ServiceMade, ServiceNew, ServicePatch, ServiceQuery, ServiceRotation, ServiceView
from webapp.services import listing, publishing, service_secrets
from webapp.services.actor import Actor, require_admin
from webapp.services.errors import Conflict, Invalid, NotFound
from webapp.services.origins import check_tenant
from webapp.services.revision import Revision, Written, check_match, revision

_FIELDS = tuple(name for name in ServiceView.model_fields if name != "expired")


def page(actor: Actor, query: ServiceQuery) -> Page[ServiceView]:
    """Oldest first. Blocks on one query at any number of rows."""
    with tenant_scope(actor.tenant_id) as session:
        rows = select(Service).where(Service.tenant_id == actor.tenant_id)
        if query.name is not None:
            rows = rows.where(Service.name == query.name)
        return listing.page(session, rows, Service, query, _views)


def get(actor: Actor, service_id: UUID) -> ServiceView:
    """Raises NotFound."""
    with tenant_scope(actor.tenant_id) as session:
        return _view(_row(session, actor, service_id))


def create(actor: Actor, new: ServiceNew) -> Written[ServiceMade]:
    """Make a service. The answer is the only place where its secret is ever seen.

    Raises Forbidden, NotFound (another tenant_id), Invalid, Conflict (too many, or a machine that is here already).
    """
    require_admin(actor)
    check_tenant(actor, new.tenant_id)
    if new.expires_at is not None and new.expires_at <= datetime.now(UTC):
        raise Invalid.field("expires_at", "must be in the future")
    with revision(actor) as change:
        held = change.session.scalar(select(func.count()).where(Service.tenant_id == actor.tenant_id)) or 0
        if held >= bounds.SERVICES_PER_TENANT_MAX:
            raise Conflict(f"A tenant has at most {bounds.SERVICES_PER_TENANT_MAX} services.")
        row = Service(
            id=uuid4(),  # the id is part of what a secret is sealed for
            tenant_id=actor.tenant_id,
            name=new.name,
            kind=new.kind,
            key_id=new.machine_id or service_secrets.new_key_id(),
            scopes=list(new.scopes),
            addresses=list(new.addresses),
            expires_at=new.expires_at,
            created_by=actor.clerk_user_id,
        )
        secret = service_secrets.replace(row, 0, "kind") if new.kind == "hmac" else None
        change.session.add(row)
        change.session.flush()
        view = _view(row)
        change.config_changed(f"Service {view.name} created")
        change.record("service.created", view.id, None, view)
    return Written(_made(view, secret), change.receipt)


def update(actor: Actor, service_id: UUID, patch: ServicePatch, if_match: int | None = None) -> Written[ServiceView]:
    """Raises Forbidden, NotFound, Invalid, Conflict (it is revoked), PreconditionFailed."""
    require_admin(actor)
    expires_at = patch.expires_at if "expires_at" in patch.model_fields_set else None
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise Invalid.field("expires_at", "must be in the future; to end a service now, revoke it")
    with revision(actor) as change:
        row = _living(change, actor, service_id, if_match)
        before = _view(row)
        for field in patch.model_fields_set:
            value = getattr(patch, field)
            setattr(row, field, list(value) if field in ("scopes", "addresses") else value)
        view = _changed(change, row, before, "changed")
    return Written(view, change.receipt)


def rotate(
    actor: Actor, service_id: UUID, rotation: ServiceRotation, if_match: int | None = None
) -> Written[ServiceMade]:
    """Give a service a second secret; the first lives through its grace. One that was in its grace ends at once.

    Raises Forbidden, NotFound, Invalid, Conflict (it is revoked, or its credentials are Clerk's), PreconditionFailed.
    """
    require_admin(actor)
    with revision(actor) as change:
        row = _living(change, actor, service_id, if_match)
        if row.kind != "hmac":
            raise Conflict("The credentials of this machine are Clerk's: rotate them there.")
        before = _view(row)
        secret = service_secrets.replace(row, rotation.grace_seconds, "grace_seconds")
        view = _changed(change, row, before, "rotated")
    return Written(_made(view, secret), change.receipt)


def enable(actor: Actor, service_id: UUID, if_match: int | None = None) -> Written[ServiceView]:
    """Raises Forbidden, NotFound, Conflict (it is revoked), PreconditionFailed."""
    return _switch(actor, service_id, if_match, "enabled")


def disable(actor: Actor, service_id: UUID, if_match: int | None = None) -> Written[ServiceView]:
    """Raises Forbidden, NotFound, Conflict (it is revoked), PreconditionFailed."""
    return _switch(actor, service_id, if_match, "disabled")


def _switch(
    actor: Actor, service_id: UUID, if_match: int | None, verb: Literal["enabled", "disabled"]
) -> Written[ServiceView]:
    require_admin(actor)
    with revision(actor) as change:
        row = _living(change, actor, service_id, if_match)
        before = _view(row)
        row.enabled = verb == "enabled"
        view = _changed(change, row, before, verb)
    return Written(view, change.receipt)


def revoke(actor: Actor, service_id: UUID, if_match: int | None = None) -> Written[ServiceView]:
    """End a service for ever; once more changes nothing. Raises Forbidden, NotFound, PreconditionFailed."""
    require_admin(actor)
    with revision(actor) as change:
        row = _row(change.session, actor, service_id)
        check_match(row.row_version, if_match)
        before = _view(row)
        if row.revoked_at is None:
            row.revoked_at = datetime.now(UTC)
            row.enabled = False
            service_secrets.forget(row)
            view = _changed(change, row, before, "revoked")
        else:
            view = before
            change.config_changed(f"Service {view.name} revoked")
    return Written(view, change.receipt)


def remove(actor: Actor, service_id: UUID, if_match: int | None = None) -> publishing.Receipt:
    """Revoke and forget. Raises Forbidden, NotFound, PreconditionFailed."""
    require_admin(actor)
    with revision(actor) as change:
        row = _row(change.session, actor, service_id)
        check_match(row.row_version, if_match)
        change.session.delete(row)
        change.config_changed(f"Service {row.name} removed")
        change.record("service.removed", service_id, _view(row), None)
    return change.receipt


def reseal(actor: Actor) -> tuple[int, tuple[UUID, ...]]:
    """Seal secrets anew that an older sealing key sealed. Raises Forbidden, NotFound.

    Gives of how many services, and those whose secrets cannot be opened any more.
    """
    with revision(actor) as change:
        rows = change.session.scalars(
            select(Service).where(Service.tenant_id == actor.tenant_id, Service.secret.is_not(None))
        )
        count = 0
        lost: list[UUID] = []
        for row in rows.all():
            service_secrets.drop_ended(row, datetime.now(UTC))
            done, is_lost = service_secrets.reseal(row)
            if is_lost:
                lost.append(row.id)
            if done:
                row.row_version += 1
                count += 1
                change.record("service.resealed", row.id, None, None)
        if count:
            change.config_changed("Secrets of services sealed anew")
    return count, tuple(lost)


def drop_ended(actor: Actor) -> int:
    """Take away secrets whose grace has ended; gives of how many services. Raises Forbidden, NotFound."""
    now = datetime.now(UTC)
    with revision(actor) as change:
        rows = change.session.scalars(
            select(Service).where(Service.tenant_id == actor.tenant_id, Service.previous_until <= now)
        ).all()
        for row in rows:
            before = _view(row)
            service_secrets.drop_ended(row, now)
            row.row_version += 1
            change.session.flush()
            change.record("service.secret_ended", row.id, before, _view(row))
        if rows:
            change.config_changed("Secrets of services ended")
    return len(rows)


def _living(change: Revision, actor: Actor, service_id: UUID, if_match: int | None) -> Service:
    row = _row(change.session, actor, service_id)
    check_match(row.row_version, if_match)
    if row.revoked_at is not None:
        raise Conflict("The service is revoked, for ever.")
    return row


def _changed(change: Revision, row: Service, before: ServiceView, verb: str) -> ServiceView:
    service_secrets.drop_ended(row, datetime.now(UTC))
    row.row_version += 1
    change.session.flush()
    view = _view(row)
    change.config_changed(f"Service {view.name} {verb}")
    change.record(f"service.{verb}", row.id, before, view)
    return view


def _row(session: Session, actor: Actor, service_id: UUID) -> Service:
    row = session.scalars(
        select(Service).where(Service.tenant_id == actor.tenant_id, Service.id == service_id)
    ).one_or_none()
    if row is None:
        raise NotFound
    return row


def _view(row: Service) -> ServiceView:
    now = datetime.now(UTC)
    shown = {name: getattr(row, name) for name in _FIELDS}
    if row.previous_until is not None and row.previous_until <= now:
        shown["previous_until"] = None
    return ServiceView(**shown, expired=row.expires_at is not None and row.expires_at <= now)


def _views(rows: Sequence[Service]) -> list[ServiceView]:
    return [_view(row) for row in rows]


def _made(view: ServiceView, secret: str | None) -> ServiceMade:
    return ServiceMade(**view.model_dump(exclude={"state"}), secret=secret)
