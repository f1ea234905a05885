"""Say in Redis that this worker lives, and when work last reached it.

Out:   keyspace.WORKERS: worker name -> {at, started_at, received_at, running}.
Laws:  1. Written each EVERY_S by a greenlet of its own, so a stalled consumer shows as an old `received_at` beside a
       fresh `at`. 2. Redis away is no reason to stop: the next beat tries again. 3. A worker that ends takes its entry
       with it; entries of the dead go after an hour.
Not here: what watches it (the console's operations page, alerts).
"""

from __future__ import annotations

import json
import threading
import time
from typing import Final

from redis.exceptions import RedisError

from contracts import keyspace
from worker import metrics
from worker.stores import Store

EVERY_S: Final = 5.0
_FORGET_S: Final = 3_600.0


class Liveness:
    """One per worker process."""

    def __init__(self, name: str, client: Store) -> None:
        self._name = name
        self._client = client
        self._started_at = time.time()
        self._received_at = 0.0
        self._running = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Blocks on Redis, briefly."""
        self._stopped.set()
        try:
            self._client.hdel(keyspace.WORKERS, self._name)
        except RedisError:
            return

    def began(self) -> None:
        self._received_at = time.time()
        self._running += 1
        metrics.TASK_RECEIVED.set(self._received_at)

    def ended(self) -> None:
        self._running -= 1

    def write(self) -> None:
        """Raises RedisError."""
        entry = {
            "at": time.time(),
            "started_at": self._started_at,
            "received_at": self._received_at,
            "running": self._running,
        }
        self._client.hset(keyspace.WORKERS, self._name, json.dumps(entry))

    def _run(self) -> None:
        forgotten = False
        while not self._stopped.is_set():
            try:
                self.write()
                if not forgotten:
                    self._forget_the_dead()
                    forgotten = True
            except RedisError:
                pass
            self._stopped.wait(EVERY_S)

    def _forget_the_dead(self) -> None:
        entries: dict[bytes, bytes] = self._client.hgetall(keyspace.WORKERS)  # type: ignore[assignment]
        for name, body in entries.items():
            try:
                is_dead = time.time() - float(json.loads(body)["at"]) > _FORGET_S
            except (ValueError, KeyError, TypeError):
                is_dead = True
            if is_dead:
                self._client.hdel(keyspace.WORKERS, name)
