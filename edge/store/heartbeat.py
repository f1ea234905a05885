"""Says that this worker lives and what it has in force; knows how many others live.

In:    what the feed has applied, what was refused.
Out:   messages.Heartbeat in keyspace.EDGES each second and right after every change; the number of live workers.
Laws:  1. A worker silent for keyspace.HEARTBEAT_STALE_S is dead, by our own clock that never steps: whose wall clock is
       wrong, another's or ours, does not matter. 2. The count never falls below one: ourselves; before Redis was asked
       it is the number of workers of our own host. 3. Redis away: the last count stays, because limits are shared by
       it.
Not here: what is done with either (counters; the control plane's receipts).
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from typing import Final

import gevent

from contracts import keyspace, messages
from edge.errors import StoreAway
from edge.store.wire import Store

_FORGET_AFTER_S: Final = 60.0


class Heartbeats:
    def __init__(
        self, client: Store, describe: Callable[[], tuple[str, int, dict[str, str]]], workers: int = 1,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`describe` gives the applied stream id, the number of held tenants, and what was rejected. `workers`: how
        many our host has."""
        self._client = client
        self._mono = mono
        self._seen: dict[bytes, tuple[bytes, float]] = {}
        """By worker: its newest heartbeat as it was written, and when we saw it first."""
        self._describe = describe
        self._edge = socket.gethostname()
        self._pid = os.getpid()
        self._started_at = time.time()
        self.worker_id = f"{self._edge}-{self._pid}-{secrets.token_hex(3)}"
        self.live_workers = max(1, workers)
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def start(self) -> None:
        self._greenlet = gevent.spawn(self._beat_forever)

    def stop(self) -> None:
        """Take ourselves off the list, so that nobody waits for us."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
        try:
            self._client.call("HDEL", keyspace.EDGES, self.worker_id)
        except StoreAway:
            return  # five seconds of silence say the same

    def beat(self) -> None:
        """Send a heartbeat now. Never blocks, never raises."""
        self._client.send("HSET", keyspace.EDGES, self.worker_id, self._encoded())

    def _encoded(self) -> bytes:
        applied, tenants, rejected = self._describe()
        return messages.encode(
            messages.Heartbeat(
                edge=self._edge, worker=self.worker_id, pid=self._pid, at=time.time(), started_at=self._started_at,
                applied=applied, tenants=tenants, rejected=dict(rejected),
            )
        )  # fmt: skip

    def _beat_forever(self) -> None:
        while True:
            try:
                _, listed = self._client.call_many(
                    [("HSET", keyspace.EDGES, self.worker_id, self._encoded()), ("HGETALL", keyspace.EDGES)]
                )
                self._count(listed)
            except StoreAway:
                pass  # law 3
            gevent.sleep(keyspace.HEARTBEAT_EVERY_S)

    def _count(self, listed: list[bytes]) -> None:
        now, seen = self._mono(), {}
        live, forgotten = 0, []
        for field, value in zip(listed[::2], listed[1::2], strict=True):
            known = self._seen.get(field)
            seen[field] = known if known is not None and known[0] == value else (value, now)
            silent_s = now - seen[field][1]
            if known is None:
                silent_s = _silence_at_first_sight(value)
                seen[field] = value, now - silent_s
            if silent_s <= keyspace.HEARTBEAT_STALE_S:
                live += 1
            elif silent_s > _FORGET_AFTER_S:
                forgotten.append(field)
        self._seen = seen
        self.live_workers = max(1, live)
        if forgotten:
            self._client.send("HDEL", keyspace.EDGES, *forgotten)


def _silence_at_first_sight(value: bytes) -> float:
    """Believe a worker's clock as long as it is the only thing we know; one that seems to be ahead is alive."""
    try:
        return max(0.0, time.time() - messages.decode_heartbeat(value).at)
    except messages.MessageError:
        return _FORGET_AFTER_S + 1
