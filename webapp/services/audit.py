"""The audit log, newest first, and the versions of a tenant's configuration.

Laws:  1. Append-only: this module only reads; services.revision writes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import select

from contracts import bounds
from webapp.extensions import tenant_scope
from webapp.models import AuditEntry, ConfigVersion
from webapp.schemas.base import Input, View
from webapp.services.actor import Actor


class HistoryQuery(Input):
    limit: Annotated[int, Field(ge=1, le=bounds.PAGE_ITEMS_MAX)] = bounds.PAGE_ITEMS_DEFAULT
    before: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    """Only what is older than this one."""


class AuditView(View):
    id: int
    at: datetime
    via: str
    clerk_user_id: str | None
    impersonator: str | None
    action: str
    noun_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    config_version: int
    request_id: str
    ip: str | None


class VersionView(View):
    version: int
    sha256: str
    author: str | None
    message: str
    created_at: datetime


class AuditPage(View):
    items: tuple[AuditView, ...]
    next_before: int | None


class VersionPage(View):
    items: tuple[VersionView, ...]
    next_before: int | None


def page(actor: Actor, query: HistoryQuery) -> AuditPage:
    with tenant_scope(actor.tenant_id) as session:
        rows = select(AuditEntry).where(AuditEntry.tenant_id == actor.tenant_id)
        if query.before is not None:
            rows = rows.where(AuditEntry.id < query.before)
        found = session.scalars(rows.order_by(AuditEntry.id.desc()).limit(query.limit + 1)).all()
        items = tuple(AuditView.model_validate(row) for row in found[: query.limit])
        return AuditPage(items=items, next_before=items[-1].id if len(found) > query.limit else None)


def versions(actor: Actor, query: HistoryQuery) -> VersionPage:
    """Newest first, without the documents."""
    with tenant_scope(actor.tenant_id) as session:
        columns = (
            ConfigVersion.version,
            ConfigVersion.sha256,
            ConfigVersion.author,
            ConfigVersion.message,
            ConfigVersion.created_at,
        )
        rows = select(*columns).where(ConfigVersion.tenant_id == actor.tenant_id)
        if query.before is not None:
            rows = rows.where(ConfigVersion.version < query.before)
        found = session.execute(rows.order_by(ConfigVersion.version.desc()).limit(query.limit + 1)).all()
        items = tuple(VersionView.model_validate(row, from_attributes=True) for row in found[: query.limit])
        return VersionPage(items=items, next_before=items[-1].version if len(found) > query.limit else None)
