"""How far a change has come: which edge workers are alive, and which have it in force.

In:    receipts; heartbeats in keyspace.EDGES.
Out:   Liveness, EdgeState.
Laws:  1. A change is live when every live worker's `applied` has reached the receipt's place in the stream.
       2. Waiting is bounded by the caller and by PREFER_WAIT_S_MAX.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import cast

from redis.exceptions import RedisError

from contracts import keyspace, messages
from contracts.bounds import PREFER_WAIT_S_MAX
from webapp.extensions import redis_client
from webapp.services.errors import StoreUnavailable
from webapp.services.publishing import Receipt

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Liveness:
    """`live` of `total` live edge workers have it; 0 of 0 while no edge runs."""

    live: int
    total: int
    elapsed_ms: float

    @property
    def is_complete(self) -> bool:
        return self.total > 0 and self.live == self.total


@dataclass(frozen=True, slots=True)
class EdgeState:
    edge: str
    worker: str
    pid: int
    started_at: float
    age_s: float
    """Since its last heartbeat."""
    applied: str
    is_current: bool
    """It has the newest entry of the stream in force."""
    tenants: int


def current() -> tuple[EdgeState, ...]:
    """Give the live edge workers, by name. Raises StoreUnavailable."""
    try:
        newest = redis_client().xrevrange(keyspace.CHANGES, count=1)
        beats = _beats()
    except RedisError as error:
        raise StoreUnavailable("Redis is away: the edges cannot be seen from here.") from error
    # The client of this application never decodes: bytes come back.
    last = messages.stream_id(cast("bytes", newest[0][0]).decode("ascii")) if newest else (0, 0)
    now = time.time()
    return tuple(
        EdgeState(
            edge=beat.edge,
            worker=beat.worker,
            pid=beat.pid,
            started_at=beat.started_at,
            age_s=max(0.0, now - beat.at),
            applied=beat.applied,
            is_current=messages.stream_id(beat.applied) >= last,
            tenants=beat.tenants,
        )
        for beat in sorted(beats, key=lambda beat: (beat.edge, beat.worker))
    )


def liveness(receipt: Receipt) -> Liveness:
    """Look once. Raises StoreUnavailable."""
    return await_live(receipt, 0.0)


def await_live(receipt: Receipt, timeout_s: float) -> Liveness:
    """Wait until every live edge worker has the change, or the time is up. Raises StoreUnavailable.

    Blocks at most min(timeout_s, PREFER_WAIT_S_MAX); not at all for a change that is not published.
    """
    began_mono = time.monotonic()
    deadline_mono = began_mono + min(max(timeout_s, 0.0), PREFER_WAIT_S_MAX)
    while True:
        try:
            beats = _beats()
        except RedisError as error:
            raise StoreUnavailable("Redis is away: the edges cannot be seen from here.") from error
        live = 0
        if receipt.stream_id is not None:
            wanted = messages.stream_id(receipt.stream_id)
            live = sum(messages.stream_id(beat.applied) >= wanted for beat in beats)
        now_mono = time.monotonic()
        state = Liveness(live, len(beats), (now_mono - began_mono) * 1_000)
        if receipt.stream_id is None or state.is_complete or now_mono >= deadline_mono:
            return state
        time.sleep(_POLL_S)


def _beats() -> list[messages.Heartbeat]:
    alive_since = time.time() - keyspace.HEARTBEAT_STALE_S
    beats = []
    for value in redis_client().hvals(keyspace.EDGES):
        try:
            beat = messages.decode_heartbeat(cast("bytes", value))
            messages.stream_id(beat.applied)
        except messages.MessageError:
            continue  # of another version of the edge: it cannot be counted on
        if beat.at >= alive_since:
            beats.append(beat)
    return beats
