"""Stored answers in two tiers, memory of this worker and Redis, and the generations that purge them (ports.Cache).

In:    cache keys and answers; purge changes from the feed.
Out:   what is stored and not purged.
Laws:  1. An entry carries the generations of everything, its route and its URL, and counts only while they are equal: a
       purge is one number. An answer that was asked for before the tenant's newest purge is not kept.
       2. The memory tier is bounded by bytes, least recently used first; the Redis tier by TTL. 3. Storing never makes
       a request wait. 4. What cannot be decoded is not there.
Redis away: the memory tier alone.
Not here: what may be stored and for how long (edge.http.caching, edge.phases.cache).
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Final

import msgspec

from contracts import keyspace
from contracts.bounds import CACHE_OBJECT_BYTES_MAX
from contracts.messages import Change
from edge.errors import StoreAway
from edge.ports import CacheKey, StoredResponse
from edge.store.wire import ShardAway, Store

_ENTRY_OVERHEAD_BYTES: Final = 600
STALE_KEPT_S: Final = 60.0
"""How long past its lifetime an entry is kept, for the phases that may still use it stale."""

Stamp = tuple[int, int, int]


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """The Redis tier's form of an entry."""

    stamp: Stamp
    status: int
    reason: bytes
    lines: bytes
    body: bytes
    stored_at: float
    initial_age_s: float
    lifetime_s: float


_DECODER: Final = msgspec.msgpack.Decoder(_Packed)


class Generations:
    """The purge counters of one tenant. `serial` changes whenever any of them does, and is never used twice."""

    __slots__ = ("changed_at", "counts", "known", "serial")

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}
        self.known = False
        self.serial = 0
        self.changed_at = float("-inf")

    def stamp(self, key: CacheKey) -> Stamp:
        counts = self.counts
        route, url = b"r:" + key.route_id.encode(), b"u:" + key.url_digest.encode()
        return counts.get(b"*", 0), counts.get(route, 0), counts.get(url, 0)


class _Entry:
    __slots__ = ("drop_at", "serial", "size", "stamp", "stored")

    def __init__(self, stored: StoredResponse, stamp: Stamp, serial: int) -> None:
        self.stored = stored
        self.stamp = stamp
        self.serial = serial
        self.size = _ENTRY_OVERHEAD_BYTES + len(stored.lines) + len(stored.body)
        self.drop_at = stored.stored_at + stored.lifetime_s - stored.initial_age_s + STALE_KEPT_S


class CacheStore:
    def __init__(self, client: Store, bytes_max: int, wall: Callable[[], float] = time.time) -> None:
        self._client = client
        self._bytes_max = bytes_max
        self._wall = wall
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._bytes = 0
        self._generations: dict[str, Generations] = {}
        self._serials = count(1)
        self.errors_total = 0

    @property
    def bytes_held(self) -> int:
        return self._bytes

    def find(self, key: CacheKey) -> StoredResponse | None:
        name = (key.tenant_id, key.digest)
        entry = self._entries.get(name)
        generations = self._generations.get(key.tenant_id)
        if entry is not None and generations is not None:
            current = entry.serial == generations.serial or entry.stamp == generations.stamp(key)
            if current and entry.drop_at >= self._wall():
                entry.serial = generations.serial
                self._entries.move_to_end(name)
                return entry.stored
            self._forget(name)
        return self._find_in_redis(key, name)

    def keep(self, key: CacheKey, stored: StoredResponse) -> None:
        generations = self._generations.get(key.tenant_id)
        name = (key.tenant_id, key.digest)
        if generations is None or not generations.known or len(stored.body) > CACHE_OBJECT_BYTES_MAX:
            return
        if stored.stored_at <= generations.changed_at:
            return  # perhaps purged while the origin was answering
        stamp = generations.stamp(key)
        entry = _Entry(stored, stamp, generations.serial)
        self._remember(name, entry)
        ttl_ms = int((entry.drop_at - self._wall()) * 1000)
        if ttl_ms > 0:
            packed = msgspec.msgpack.encode(
                _Packed(
                    stamp, stored.status, stored.reason, stored.lines, stored.body, stored.stored_at,
                    stored.initial_age_s, stored.lifetime_s,
                )
            )  # fmt: skip
            self._client.send("SET", keyspace.cache_entry(key.tenant_id, key.digest), packed, "PX", ttl_ms)

    # ---- the two tiers

    def _find_in_redis(self, key: CacheKey, name: tuple[str, str]) -> StoredResponse | None:
        generations = self._generations.get(key.tenant_id)
        if generations is None:
            return None
        try:
            if not generations.known:
                self._reload(key.tenant_id)
            body = self._client.call("GET", keyspace.cache_entry(key.tenant_id, key.digest))
        except StoreAway:
            self.errors_total += 1
            return None
        if body is None:
            return None
        try:
            packed = _DECODER.decode(body)
        except msgspec.MsgspecError:
            return None
        if packed.stamp != generations.stamp(key):
            return None
        stored = StoredResponse(
            packed.status, packed.reason, packed.lines, packed.body, packed.stored_at, packed.initial_age_s,
            packed.lifetime_s,
        )  # fmt: skip
        self._remember(name, _Entry(stored, packed.stamp, generations.serial))
        return stored

    def _remember(self, name: tuple[str, str], entry: _Entry) -> None:
        self._forget(name)
        self._entries[name] = entry
        self._bytes += entry.size
        while self._bytes > self._bytes_max and self._entries:
            self._forget(next(iter(self._entries)))

    def _forget(self, name: tuple[str, str]) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._bytes -= entry.size

    # ---- generations

    def load(self, tenant_id: str) -> None:
        """Begin to hold a tenant. Never raises; until its generations are known, none of its answers are kept."""
        generations = self._generations[tenant_id] = Generations()
        try:
            self._reload(tenant_id)
            generations.changed_at = float("-inf")  # whoever asks for the tenant first waits for this
        except StoreAway:
            self.errors_total += 1

    def drop(self, tenant_id: str) -> None:
        self._generations.pop(tenant_id, None)

    def on_change(self, change: Change) -> None:
        if change.kind == "purge" and change.tenant_id in self._generations:
            self._reload(change.tenant_id)

    def on_resync(self, lost: bool) -> None:
        if lost:  # the numbers may have gone back, and with them a purge
            self._entries.clear()
            self._bytes = 0
        for tenant_id in list(self._generations):
            with contextlib.suppress(ShardAway):  # its return brings us back here
                self._reload(tenant_id)

    def _reload(self, tenant_id: str) -> None:
        listed = self._client.call("HGETALL", keyspace.cache_generations(tenant_id))
        counts = {field: int(value) for field, value in zip(listed[::2], listed[1::2], strict=True)}
        generations = self._generations.get(tenant_id)
        if generations is not None and (counts != generations.counts or not generations.known):
            generations.counts = counts
            generations.known = True
            generations.serial = next(self._serials)
            generations.changed_at = self._wall()
