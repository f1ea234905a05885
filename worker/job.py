"""The base of every job: an application context, a measure, and a bounded retry when a store is away.

In:    a task's body.
Out:   its result, or its error after MAX_RETRIES attempts.
Laws:  1. Only what may pass by itself is retried: a store away, a socket lost; a mistake of ours fails at once.
       2. Retries wait with full jitter, never longer than the broker's visibility timeout. 3. A job that the beat
       repeats anyway sets max_retries=0. 4. Arguments are ids, so they may be logged; bodies and secrets never are.
Not here: row scopes (webapp.extensions), which each body opens for itself.
"""

from __future__ import annotations

import random
import time
from typing import Any, Final

import celery
import structlog
from celery.exceptions import Ignore, Reject, Retry
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from webapp.services.errors import StoreUnavailable
from worker import metrics
from worker.stores import flask_app

_log = structlog.get_logger("worker.job")
MAX_RETRIES: Final = 6
RETRY_S_MAX: Final = 30.0
TRANSIENT: Final = (StoreUnavailable, RedisError, OperationalError, InterfaceError, PoolTimeout, OSError)


class Job(celery.Task):  # type: ignore[misc]
    abstract = True
    max_retries = MAX_RETRIES

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        started_mono = time.monotonic()
        with flask_app().app_context():
            try:
                return self.run(*args, **kwargs)
            except (Retry, Ignore, Reject):
                raise
            except TRANSIENT as error:
                raise self._again(error) from error
            except Exception as error:
                self._failed(error)
                raise
            finally:
                metrics.TASK_SECONDS.labels(self.name).observe(time.monotonic() - started_mono)

    def _again(self, error: Exception) -> BaseException:
        """Give what ends this attempt: a Retry that is already on its way, or the error itself."""
        if self.request.called_directly or self.request.retries >= self.max_retries:
            self._failed(error)
            return error
        metrics.TASK_RETRIES.labels(self.name).inc()
        countdown_s = wait_s(self.request.retries, random.random())
        _log.warning("job put off", task=self.name, seconds=round(countdown_s, 2), reason=type(error).__name__)
        again: BaseException = self.retry(exc=error, countdown=countdown_s, throw=False)
        return again

    def _failed(self, error: Exception) -> None:
        metrics.TASK_FAILURES.labels(self.name).inc()
        request = self.request
        _log.error("job failed", task=self.name, job_id=request.id, args=request.args, reason=type(error).__name__)


def wait_s(retries: int, chance: float) -> float:
    """Give the wait before an attempt: up to 1 s, 2 s, 4 s ... RETRY_S_MAX, all of it by chance in [0, 1)."""
    return 0.1 + float(min(RETRY_S_MAX, 2.0**retries)) * chance
