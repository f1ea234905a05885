"""The jobs the worker offers: names, queues and arguments, so that a caller need not import the worker.

In:    nothing.
Out:   task names, queue names.
Laws:  1. Arguments are JSON and small: ids, never rows or secrets. 2. Every task may run twice.
Not here: the tasks (worker.tasks), when they run (worker.schedule).
"""

from __future__ import annotations

from typing import Final

QUEUE_PROBES: Final = "probes"
QUEUE_PURGE: Final = "purge"
QUEUE_DEFAULT: Final = "default"
QUEUE_MAINTENANCE: Final = "maintenance"
QUEUES: Final = (QUEUE_PROBES, QUEUE_PURGE, QUEUE_DEFAULT, QUEUE_MAINTENANCE)

PUBLISH: Final = "publishing.publish"
"""(tenant_id): publish what the tenant's outbox holds."""
RECONCILE: Final = "publishing.reconcile"
"""(): publish every outbox, mend what differs between PostgreSQL and Redis."""
HEALTH_SWEEP: Final = "health.sweep"
"""(shard): probe the targets of a shard that are due."""
HEALTH_CHECK: Final = "health.check"
"""(tenant_id, origin_id): probe one origin's targets now."""
CACHE_PURGE: Final = "cache.purge"
"""(tenant_id, route_id | null, url | null): advance generations."""
EXPIRE_KEYS: Final = "keys.expire"
"""(): mark keys past their deadline, for people; the edge itself refuses them to the second."""
KEY_USES: Final = "keys.uses"
"""(): take what the edges said of keys (last used, digests under a newer pepper) to PostgreSQL."""
ROTATE_KEYS: Final = "keys.rotate"
"""(): make successors of keys whose policy says so, end those that were replaced."""
ROTATE_IDENTITY_KEYS: Final = "identity_keys.rotate"
"""(): move identity keys on where it is time."""
EXPIRE_SECRETS: Final = "services.expire_secrets"
"""(): take away signing secrets past their grace; the edge itself believes them no longer."""

QUEUE_OF: Final = {
    PUBLISH: QUEUE_DEFAULT,
    RECONCILE: QUEUE_DEFAULT,
    HEALTH_SWEEP: QUEUE_PROBES,
    HEALTH_CHECK: QUEUE_PROBES,
    CACHE_PURGE: QUEUE_PURGE,
    EXPIRE_KEYS: QUEUE_MAINTENANCE,
    KEY_USES: QUEUE_MAINTENANCE,
    ROTATE_KEYS: QUEUE_MAINTENANCE,
    ROTATE_IDENTITY_KEYS: QUEUE_MAINTENANCE,
    EXPIRE_SECRETS: QUEUE_MAINTENANCE,
}

BROKER_KEY_PREFIX: Final = "ve:celery:"
"""Before every key of the broker (Celery's transport option global_keyprefix): sender and worker must agree."""
