"""Take signing secrets away whose grace has ended, from the table and from what the edges hold.

Laws:  1. Idempotent: what is gone is not found again. 2. The edge believes a replaced secret to the second its grace
       ends by itself, so this job may be late. 3. One tenant that fails does not keep the others waiting.
       4. Older versions of the configuration are history and keep the sealed form.
Not here: replacing a secret (webapp.services.services), the edge's own check (edge.phases.auth.signatures).
"""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from sqlalchemy import select

from contracts import tasks
from webapp.extensions import system_scope
from webapp.models import Service, Tenant
from webapp.services import services
from webapp.services.actor import Actor
from worker.app import app

_log = structlog.get_logger("worker.services")


@app.task(name=tasks.EXPIRE_SECRETS, max_retries=0)  # type: ignore[untyped-decorator]
def expire_secrets() -> int:
    """Take away secrets past their grace; give of how many services. Idempotent: a second run finds none."""
    with system_scope() as session:
        found = session.execute(
            select(Service.tenant_id, Tenant.clerk_org_id)
            .join(Tenant, Tenant.id == Service.tenant_id)
            .where(Service.previous_until <= datetime.now(UTC))
            .distinct()
        ).all()
    ended = 0
    for tenant_id, org_id in found:
        actor = Actor(
            org_id=org_id,
            clerk_user_id=None,
            role="admin",
            via="worker",
            request_id=tasks.EXPIRE_SECRETS,
            tenant_id=tenant_id,
            user_id=None,
        )
        try:
            ended += services.drop_ended(actor)
        except Exception:
            _log.exception("secrets not taken away", tenant_id=str(tenant_id))
    return ended
