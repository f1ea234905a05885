"""Follows what the control plane changes, and tells it what is in force here.

In:    the stream keyspace.CHANGES, read over a connection of its own.
Out:   each change handed to the subscribers in order; `applied`, the id up to which all is in force.
Laws:  1. A change is applied before its id counts as applied. 2. After every (re)connection the subscribers reload what
       they hold, because a gap cannot be told from silence. 3. A poll backs the stream up. 4. A subscriber that cannot
       reach Redis makes the feed start over; nothing is skipped.
Redis away: nothing is followed; `fresh_mono` grows old and each subscriber does what its port says.
Not here: what a change means (tenants, keys, health, cache_store, edge.net.jwks), heartbeats (heartbeat).
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import gevent
import msgspec

from contracts import keyspace, messages
from contracts.clerk import LIFETIME_S_MAX
from contracts.messages import Change
from edge.errors import StoreAway
from edge.store.wire import Link, ShardAway

_LOG: Final = logging.getLogger(__name__)
_BLOCK_MS: Final = 1_000
_COUNT: Final = 256
POLL_EVERY_S: Final = 5.0
_KINDS: Final = ("config", "key", "health", "purge", "session")
_RELOADS: Final = ("config", "key", "health", "purge")


class Subscriber(Protocol):
    """Whoever holds something that Redis knows better. Both may raise StoreAway and may block on Redis."""

    def on_change(self, change: Change) -> None: ...

    def on_resync(self, lost: bool) -> None:
        """Reload what is held. `lost`: Redis came back older or empty, so what is missing there is not gone."""


class ConfigFeed:
    def __init__(
        self,
        link: Link,
        subscribers: Sequence[Subscriber],
        on_applied: Callable[[], None],
        poll: Callable[[], object],
    ) -> None:
        self._link = link
        self._subscribers = subscribers
        self._on_applied = on_applied
        self._poll = poll
        self._greenlets: list[gevent.Greenlet[[], None]] = []
        self._part_returned = False
        self.applied = "0-0"
        self.fresh_mono = float("-inf")
        """When the stream was last known to be fully applied."""
        self.tried_once = False
        self.propagation_s: deque[float] = deque(maxlen=1_000)
        """Seconds from each change's entry in Redis to its being in force, for the metrics to take."""

    def start(self) -> None:
        self._greenlets = [gevent.spawn(self._follow_forever), gevent.spawn(self._poll_forever)]

    def stop(self) -> None:
        gevent.killall(self._greenlets)
        self._link.close()

    def start_over(self) -> None:
        """A part of the store was away and is back: have everything reloaded. Never blocks."""
        self._part_returned = True
        if self.fresh_mono != float("-inf"):
            self._link.close()  # else it is about to begin, or looks once more when it has begun

    def age_s(self) -> float:
        """Give how old the knowledge is that everything is in force; infinite when it never was."""
        return time.monotonic() - self.fresh_mono

    # ---- the stream

    def _follow_forever(self) -> None:
        while True:
            try:
                self._catch_up()
                self.tried_once = True
                while not self._part_returned:
                    self._read_on()
            except StoreAway as error:
                if not self.tried_once or self.age_s() < 2.0:
                    _LOG.warning("the change stream is lost: %s", error)
            self.tried_once = True
            self._link.close()
            gevent.sleep(random.uniform(0.2, 0.5))

    def _catch_up(self) -> None:
        """Take the stream's end as the place to go on from, then have everything reloaded as it is from there on."""
        returned, self._part_returned = self._part_returned, False
        try:
            self._resync(returned)
        except StoreAway:
            self._part_returned = self._part_returned or returned
            raise

    def _resync(self, part_returned: bool) -> None:
        self._link.open()
        last = self._link.request("XREVRANGE", keyspace.CHANGES, "+", "-", "COUNT", 1, timeout_s=1.0)
        end = last[0][0].decode("ascii") if last else "0-0"
        first_time = self.fresh_mono == float("-inf")
        lost = not first_time and messages.stream_id(end) < messages.stream_id(self.applied)
        self._recall_sessions(None if first_time or lost else self.applied)
        for subscriber in self._subscribers:
            subscriber.on_resync(lost or part_returned)
        # What came while all else was there is read on: a tenant that was deleted meanwhile must not seem to be lost.
        if lost or first_time or not part_returned:
            self._advance(end)

    def _recall_sessions(self, after: str | None) -> None:
        """Sessions signed out while nobody listened are known from the stream alone, as long as a token can live: those
        behind the entry `after`, or all of them. The newest first, should there be more entries than fit."""
        since = int((time.time() - LIFETIME_S_MAX) * 1000) if after is None else "(" + after
        limit = keyspace.CHANGES_ENTRIES_MAX
        entries = self._link.request("XREVRANGE", keyspace.CHANGES, "+", since, "COUNT", limit, timeout_s=2.0)
        for _, fields in entries:
            change = _decode(fields)
            if change is not None and change.kind == "session":
                self._apply(change)

    def _read_on(self) -> None:
        answer = self._link.request(
            "XREAD", "BLOCK", _BLOCK_MS, "COUNT", _COUNT, "STREAMS", keyspace.CHANGES, self.applied,
            timeout_s=_BLOCK_MS / 1000 + 1.0,
        )  # fmt: skip
        if not answer:
            self.fresh_mono = time.monotonic()
            return
        entries = answer[0][1]
        for entry_id, fields in entries:
            change = _decode(fields)
            if change is not None:
                self._apply(change)
            self.propagation_s.append(max(0.0, time.time() - messages.stream_id(entry_id.decode("ascii"))[0] / 1000))
        self._advance(entries[-1][0].decode("ascii"))

    def _apply(self, change: Change) -> None:
        # An unknown kind comes from a newer control plane: reload all we know how to reload (messages, law 2).
        known = (change,) if change.kind in _KINDS else tuple(
            msgspec.structs.replace(change, kind=kind, version=0, digests=()) for kind in _RELOADS
        )  # fmt: skip
        for item in known:
            for subscriber in self._subscribers:
                try:
                    subscriber.on_change(item)
                except ShardAway as error:
                    _LOG.info("a change waits for a part of the store: %s", error)

    def _advance(self, entry_id: str) -> None:
        self.applied = entry_id
        self.fresh_mono = time.monotonic()
        self._on_applied()

    def _poll_forever(self) -> None:
        while True:
            gevent.sleep(POLL_EVERY_S * random.uniform(0.9, 1.1))
            try:
                self._poll()
            except StoreAway:
                continue  # the follower says it


def _decode(fields: Sequence[bytes]) -> Change | None:
    pairs = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        return messages.decode_change(pairs.get(messages.FIELD, b""))
    except messages.MessageError as error:
        _LOG.error("an entry of the change stream is not a change: %s", error)
        return None
