"""The clock's scheduler: RedBeat that outlives a Redis that was away, wiped or failed over.

In:    the beat table (worker.schedule).
Out:   jobs on the broker's queues, from whichever beat holds the lock.
Laws:  1. Any number of beats is safe: the lock decides at each tick who sends. 2. A beat never ends because of Redis: a
       lost lock is asked for again, without waiting in it. 3. Whoever takes the lock puts the table in place, so a
       wiped Redis gets it back and a new release's table counts from the moment its beat takes over.
Not here: when each job is due (RedBeat), what is due (worker.schedule).
"""

from __future__ import annotations

from typing import Any, Final

import structlog
from celery.signals import beat_init
from kombu.exceptions import OperationalError
from redbeat.schedulers import (
    LUA_EXTEND_TO_SCRIPT,
    RedBeatScheduler,
    acquire_distributed_beat_lock,
    get_redis,
)
from redis.exceptions import LockError, RedisError

from contracts import tasks
from worker import schedule

_log = structlog.get_logger("worker.beat")
_AGAIN_S: Final = 1.0

# RedBeat's own way waits for the lock before the first tick, and gives up for good when Redis is away just then.
beat_init.disconnect(acquire_distributed_beat_lock)


class Scheduler(RedBeatScheduler):  # type: ignore[misc]
    """One per beat process."""

    lock: Any = None

    def setup_schedule(self) -> None:
        """Wait with the table until the lock is ours."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, if we hold the lock. Give the seconds to the next tick."""
        try:
            if self.lock is None and not self._take_lock():
                return _AGAIN_S
            return float(super().tick(*args, **kwargs))
        except LockError:
            _log.warning("lock lost")
            self.lock = None
        except (RedisError, OperationalError) as error:
            _log.warning("redis away", reason=type(error).__name__)
        return _AGAIN_S

    def _take_lock(self) -> bool:
        client = get_redis(self.app)
        lock = client.lock(self.lock_key, timeout=self.lock_timeout)
        lock.lua_extend = client.register_script(LUA_EXTEND_TO_SCRIPT)
        if not lock.acquire(blocking=False):
            return False
        super().setup_schedule()
        self.lock = lock
        # Redis may have been away or wiped: what it lost comes back now, not at the next round.
        expires_s = schedule.RECONCILE_EVERY_S
        self.app.send_task(tasks.RECONCILE, queue=tasks.QUEUE_OF[tasks.RECONCILE], expires=expires_s, retry=False)
        _log.info("lock taken")
        return True

    def close(self) -> None:
        """Give the lock back, so that another beat need not wait for its end."""
        try:
            super().close()
        except RedisError:
            _log.warning("lock not given back")
