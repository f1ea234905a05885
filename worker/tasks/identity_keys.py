"""Move identity keys on: publish the next one, let it sign after its lead, take the old one away when it is forgotten.

Laws:  1. Idempotent, and safe with two beats: what is due is decided under the tenant's lock, once. 2. A run that comes
       late makes every step late and none too early. 3. One tenant that fails does not keep the others waiting.
Not here: the steps (webapp.services.identity_keys), signing (edge.net.identity).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog

from contracts import tasks
from webapp.services import identity_keys
from webapp.services.actor import Actor
from webapp.services.errors import NotFound
from worker.app import app
from worker.stores import settings

_log = structlog.get_logger("worker.identity_keys")


@app.task(name=tasks.ROTATE_IDENTITY_KEYS, max_retries=0)  # type: ignore[untyped-decorator]
def rotate() -> int:
    """Do what is due; give the number of tenants whose keys moved on. Idempotent: a second run finds nothing due."""
    now = datetime.now(UTC)
    sign_for = timedelta(days=settings().identity_key_days)
    moved = 0
    for tenant_id, org_id in identity_keys.due(now, sign_for):
        actor = Actor(
            org_id=org_id,
            clerk_user_id=None,
            role="admin",
            via="worker",
            request_id=tasks.ROTATE_IDENTITY_KEYS,
            tenant_id=tenant_id,
            user_id=None,
        )
        try:
            done = identity_keys.advance(actor, now, sign_for)
        except NotFound:  # removed meanwhile
            continue
        except Exception:
            _log.exception("identity keys not moved on", tenant_id=str(tenant_id))
            continue
        if done:
            moved += 1
            _log.info("identity keys moved on", tenant_id=str(tenant_id), done=done)
    return moved
