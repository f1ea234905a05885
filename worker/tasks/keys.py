"""Switch off API keys whose deadline has passed, so that people see it and the edge forgets them.

Laws:  1. Idempotent: what is switched off is not found again. 2. The edge refuses an expired key to the second by
       itself, so this job may be late. 3. One tenant that fails does not keep the others waiting.
Not here: rotation, the edge's own check (edge.phases.auth).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import select

from contracts import tasks
from webapp.extensions import system_scope
from webapp.models import ApiKey, Tenant
from webapp.services.actor import Actor
from webapp.services.revision import revision
from worker.app import app

_log = structlog.get_logger("worker.keys")
_KEYS_AT_ONCE: Final = 500


@app.task(name=tasks.EXPIRE_KEYS, max_retries=0)  # type: ignore[untyped-decorator]
def expire() -> int:
    """Switch off keys past their deadline; give how many. Idempotent: a second run finds none."""
    now = datetime.now(UTC)
    past = (ApiKey.expires_at <= now, ApiKey.enabled, ApiKey.revoked_at.is_(None))
    with system_scope() as session:
        found = session.execute(
            select(ApiKey.tenant_id, Tenant.clerk_org_id)
            .join(Tenant, Tenant.id == ApiKey.tenant_id)
            .where(*past)
            .distinct()
        ).all()
    expired = 0
    for tenant_id, org_id in found:
        try:
            expired += _expire(_actor(tenant_id, org_id), now)
        except Exception:
            _log.exception("keys not expired", tenant_id=str(tenant_id))
    return expired


def _expire(actor: Actor, now: datetime) -> int:
    """Switch off a tenant's expired keys, a batch a transaction, under the tenant's lock."""
    total = 0
    while True:
        with revision(actor) as change:
            rows = change.session.scalars(
                select(ApiKey)
                .where(
                    ApiKey.tenant_id == actor.tenant_id,
                    ApiKey.expires_at <= now,
                    ApiKey.enabled,
                    ApiKey.revoked_at.is_(None),
                )
                .order_by(ApiKey.id)
                .limit(_KEYS_AT_ONCE)
            ).all()
            for row in rows:
                row.enabled = False
                row.row_version += 1
                change.record("api_key.expired", row.id, {"enabled": True}, None)
            change.keys_changed([row.digest for row in rows])
        total += len(rows)
        if len(rows) < _KEYS_AT_ONCE:
            return total


def _actor(tenant_id: UUID, org_id: str) -> Actor:
    return Actor(
        org_id=org_id,
        clerk_user_id=None,
        role="admin",
        via="worker",
        request_id=tasks.EXPIRE_KEYS,
        tenant_id=tenant_id,
        user_id=None,
    )
