"""What the beat sends, and when.

Out:   the beat table in Celery's form.
Laws:  1. Each entry expires before it would be useless, so a worker that was away is not met by a heap of old sweeps.
       2. The table is the code's: RedBeat drops entries that are gone from here. 3. Two beats are safe: one holds the
       lock, the other takes over within LOCK_S.
Not here: the jobs (worker.tasks).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from contracts import tasks

SWEEP_EVERY_S: Final = 1.0
RECONCILE_EVERY_S: Final = 10.0
EXPIRE_EVERY_S: Final = 60.0
KEY_USES_EVERY_S: Final = 60.0
ROTATE_EVERY_S: Final = 300.0
IDENTITY_KEYS_EVERY_S: Final = 60.0
LOCK_S: Final = 10
LOOP_S: Final = 1
"""The beat renews its lock at least so often; far below LOCK_S, or it would lose it by its own sleep."""


def table(probe_shards: int) -> dict[str, dict[str, Any]]:
    """Give the beat table for so many shards of probes."""
    entries = {
        "reconcile": _entry(tasks.RECONCILE, RECONCILE_EVERY_S, expires_s=RECONCILE_EVERY_S),
        "expire-keys": _entry(tasks.EXPIRE_KEYS, EXPIRE_EVERY_S, expires_s=EXPIRE_EVERY_S),
        "key-uses": _entry(tasks.KEY_USES, KEY_USES_EVERY_S, expires_s=KEY_USES_EVERY_S),
        "rotate-keys": _entry(tasks.ROTATE_KEYS, ROTATE_EVERY_S, expires_s=ROTATE_EVERY_S),
        "rotate-identity-keys": _entry(
            tasks.ROTATE_IDENTITY_KEYS, IDENTITY_KEYS_EVERY_S, expires_s=IDENTITY_KEYS_EVERY_S
        ),
        "expire-secrets": _entry(tasks.EXPIRE_SECRETS, EXPIRE_EVERY_S, expires_s=EXPIRE_EVERY_S),
    }
    for shard in range(probe_shards):
        entries[f"sweep-{shard}"] = _entry(
            tasks.HEALTH_SWEEP, SWEEP_EVERY_S, expires_s=2 * SWEEP_EVERY_S, args=(shard,)
        )
    return entries


def _entry(task: str, every_s: float, expires_s: float, args: tuple[int, ...] = ()) -> dict[str, Any]:
    return {
        "task": task,
        "schedule": timedelta(seconds=every_s),
        "args": args,
        "options": {"expires": expires_s, "queue": tasks.QUEUE_OF[task]},
    }
