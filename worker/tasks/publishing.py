"""Bring to Redis what PostgreSQL decided, when the write itself could not, and mend what Redis lost.

Laws:  1. Every task here is idempotent: what is sent is read at the moment of sending. 2. One tenant that fails keeps
       no other waiting. 3. Order within a tenant is the service's (an advisory lock and the outbox's ids).
Not here: what is sent and how (webapp.services.publishing).
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import select

from contracts import tasks
from webapp.extensions import system_scope
from webapp.models import Tenant
from webapp.services import publishing
from webapp.services.errors import StoreUnavailable
from worker import plan
from worker.app import app, rules
from worker.stores import has_parts, settings, store

_log = structlog.get_logger("worker.publishing")
_RUN_S: Final = 10


@app.task(name=tasks.PUBLISH)  # type: ignore[untyped-decorator]
def publish(tenant_id: str) -> int:
    """Publish what the tenant's outbox holds; give the number of batches. Idempotent: an empty outbox does nothing."""
    tenant = UUID(tenant_id)
    receipts = publishing.publish_pending(tenant)
    plan.refresh(store(), settings().probe_shards, rules(), tenant)
    return len(receipts)


@app.task(name=tasks.RECONCILE, max_retries=0)  # type: ignore[untyped-decorator]
def reconcile() -> dict[str, Any]:
    """Publish every outbox, rebuild what Redis lost, renew the probe plan. Idempotent: it mends what differs."""
    published = _each(publishing.pending_tenants(), publishing.publish_pending, "outbox not published")
    rebuilt = _each(publishing.drifted_tenants(), publishing.rebuild, "tenant not rebuilt")
    slots = settings().reconcile_deep
    rebuilt += _each(_deep_drift(int(time.time()) // _RUN_S % slots, slots), publishing.rebuild, "tenant not rebuilt")
    planned = plan.refresh(store(), settings().probe_shards, rules())
    outcome = {"published": published, "rebuilt": rebuilt, "planned": planned}
    if any(outcome.values()):
        _log.info("reconciled", **outcome)
    return outcome


def _deep_drift(slot: int, slots: int) -> Iterable[UUID]:
    """Give the tenants of this slot of whom anything at all differs."""
    with system_scope() as session:
        tenants = session.scalars(select(Tenant.id)).all()
    for tenant_id in tenants:
        if zlib.crc32(tenant_id.bytes) % slots != slot:
            continue
        try:
            found = publishing.drift(tenant_id)
        except StoreUnavailable:
            if not has_parts():
                raise
            continue
        except Exception:
            _log.exception("tenant not compared", tenant_id=str(tenant_id))
            continue
        if found:
            _log.warning("drift found", tenant_id=str(tenant_id), found=found)
            yield tenant_id


def _each(tenants: Iterable[UUID], act: Callable[[UUID], object], failed: str) -> int:
    """Act on each tenant; one that fails is logged and left for the next run. Raises StoreUnavailable when there is no
    use in asking on."""
    done = 0
    for tenant_id in tenants:
        try:
            act(tenant_id)
            done += 1
        except StoreUnavailable:
            if not has_parts():
                raise
            _log.warning(failed, tenant_id=str(tenant_id), reason="its part of the store is away")
        except Exception:
            _log.exception(failed, tenant_id=str(tenant_id))
    return done
