"""What time does to API keys: those past their deadline are switched off, their uses written down, successors made.

Laws:  1. Idempotent: what is done is not found again. 2. The edge refuses an expired key to the second by itself, so
       these jobs may be late. 3. One tenant that fails does not keep the others waiting.
Not here: what rotation and uses mean (services.key_rotation, services.key_uses), the edge's own check
       (edge.phases.auth).
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import select

from contracts import tasks
from webapp.extensions import system_scope
from webapp.models import ApiKey, Tenant
from webapp.services import key_rotation, key_uses
from webapp.services.actor import Actor
from webapp.services.errors import NotFound, StoreUnavailable
from webapp.services.revision import revision
from worker.app import app
from worker.stores import has_parts

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
            expired += _expire(_actor(tenant_id, org_id, tasks.EXPIRE_KEYS), now)
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


@app.task(name=tasks.KEY_USES, max_retries=0)  # type: ignore[untyped-decorator]
def take_uses() -> dict[str, int]:
    """Write down what edges said of keys; give how much. Idempotent: told again it changes nothing."""
    left, total = key_uses.USES_PER_RUN, key_uses.Taken()
    for tenant_id, told_at in key_uses.tenants_told_of():
        if left <= 0:
            break
        try:
            taken = key_uses.take(_actor(tenant_id, "", tasks.KEY_USES), told_at, left)
        except StoreUnavailable:
            if not has_parts():
                raise
            continue  # its part of the store is away
        except NotFound:
            continue  # the tenant is gone, and what was said of it too
        except Exception:
            _log.exception("uses of keys not written", tenant_id=str(tenant_id))
            continue
        left -= taken.uses
        total += taken
    return {"uses": total.uses, "renewals": total.renewals}


@app.task(name=tasks.ROTATE_KEYS, max_retries=0)  # type: ignore[untyped-decorator]
def rotate() -> dict[str, int]:
    """Do what rotation policies ask for; give how much. Idempotent: each step is one transaction."""
    now = datetime.now(UTC)
    total = key_rotation.Advanced()
    for tenant_id, org_id in key_rotation.tenants_with_work(now):
        actor = _actor(tenant_id, org_id, tasks.ROTATE_KEYS)
        try:
            told_at = key_uses.told_at(tenant_id)
            if told_at is not None:  # whoever used a key a moment ago must not lose it as unused
                key_uses.take(actor, told_at)
            total += key_rotation.advance(actor, now)
        except StoreUnavailable:
            if not has_parts():
                raise
            continue  # its part of the store is away
        except Exception:
            _log.exception("keys not rotated", tenant_id=str(tenant_id))
    outcome = asdict(total)
    if any(outcome.values()):
        _log.info("keys rotated", **outcome)
    return outcome


def _actor(tenant_id: UUID, org_id: str, task: str) -> Actor:
    return Actor(
        org_id=org_id,
        clerk_user_id=None,
        role="admin",
        via="worker",
        request_id=task,
        tenant_id=tenant_id,
        user_id=None,
    )
