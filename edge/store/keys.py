"""API keys as the edge knows them (ports.KeyStore): found by digest, remembered until a change says otherwise.

In:    presented keys; the records in Redis; changes and resyncs from the feed.
Out:   KeyRecords.
Laws:  1. A presented key is never kept: what remembers it is a keyed blake2b made with a key of this process. 2. A
       record is believed while the feed is fresh, or was within KNOWN_WITHOUT_STORE_S; a change evicts it. 3. A look-up
       that overlaps a change is not remembered. 4. Everything remembered is bounded (KNOWN_MAX keys take about 8 MB,
       however many a tenant has); unknown keys for seconds only. 5. A look-up asks for the digests under all peppers in
       one command, so a key that moves from one to the other meanwhile is seen under one of them.
Redis away: known keys stay valid up to KNOWN_WITHOUT_STORE_S, unknown ones are refused (identity-unavailable).
Not here: expiry, scopes, enabled (edge.phases.auth); the digest itself (contracts.apikey).
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import UNSET

from contracts import keyspace
from contracts.apikey import digest
from contracts.messages import Change
from contracts.snapshot import KeyRecord, PolicyConfig, SnapshotError, decode_key
from edge.errors import GatewayError, StoreAway
from edge.store.key_uses import KeyUses
from edge.store.wire import Store

KNOWN_WITHOUT_STORE_S: Final = 60.0
UNKNOWN_TTL_S: Final = 5.0
KNOWN_MAX: Final = 10_000
UNKNOWN_MAX: Final = 5_000
_SCOPE_SETS_MAX: Final = 1_000
_FRESH_S: Final = 2.5

_Name = tuple[str, bytes]
"""Tenant id and memo of a key."""


class _Known:
    __slots__ = ("marks", "record", "verified_mono")

    def __init__(self, record: KeyRecord | None, marks: tuple[bytes, ...], verified_mono: float) -> None:
        self.record = record
        self.marks = marks
        self.verified_mono = verified_mono


class KeyStore:
    def __init__(
        self,
        client: Store,
        peppers: Mapping[int, bytes],
        fresh_mono: Callable[[], float],
        noted: KeyUses,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fresh_mono` gives the monotonic time at which the feed was last known to have applied everything."""
        self._client = client
        self._peppers = tuple(peppers.items())
        self._fresh_mono = fresh_mono
        self._mono = mono
        self._keyed = hashlib.blake2b(digest_size=16, key=secrets.token_bytes(32))
        self._known: OrderedDict[_Name, _Known] = OrderedDict()
        self._unknown: OrderedDict[_Name, _Known] = OrderedDict()
        self._by_mark: dict[bytes, _Name] = {}
        self._scopes: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._policies: dict[tuple[PolicyConfig, ...], tuple[PolicyConfig, ...]] = {}
        self._noted = noted
        self.uses = noted.uses
        self._changes_seen = 0
        self._lost_mono = float("-inf")
        self.errors_total = 0

    def memo(self, presented: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(presented)
        return keyed.digest()

    def find(self, tenant_id: str, presented: bytes, memo: bytes = b"") -> KeyRecord | None:
        name = (tenant_id, memo or self.memo(presented))
        known = self._known.get(name)
        now = self._mono()
        if (
            known is not None
            and now - self._fresh_mono() <= _FRESH_S
            and (known.verified_mono > self._lost_mono or now - self._lost_mono <= KNOWN_WITHOUT_STORE_S)
        ):
            return known.record
        unknown = self._unknown.get(name)
        if unknown is not None and now - unknown.verified_mono <= UNKNOWN_TTL_S:
            return None
        try:
            return self._look_up(name, presented)
        except StoreAway as error:
            self.errors_total += 1
            if known is not None and now - max(known.verified_mono, self._fresh_mono()) <= KNOWN_WITHOUT_STORE_S:
                return known.record
            raise GatewayError(
                "identity-unavailable",
                "The key cannot be checked right now.",
                internal=f"key store away: {error}",
                fields=((b"Retry-After", b"1"),),
            ) from None

    def _look_up(self, name: _Name, presented: bytes) -> KeyRecord | None:
        seen = self._changes_seen
        tenant_id = name[0]
        digests = tuple(digest(presented, version, pepper) for version, pepper in self._peppers)
        bodies = self._client.call("MGET", *[keyspace.api_key(tenant_id, item) for item in digests])
        record = None
        for held, body in zip(digests, bodies, strict=True):
            if body is not None:
                record = self._decoded(body, tenant_id)
                if record is not None and held is not digests[0]:
                    self._noted.renew(self._peppers[0][1], record, held, digests[0])
                break
        self._noted.make_room()
        if seen == self._changes_seen:
            marks = tuple([_mark(tenant_id, item) for item in digests])
            self._remember(name, _Known(record, marks, self._mono()))
        return record

    def _decoded(self, body: bytes, tenant_id: str) -> KeyRecord | None:
        """A record that cannot be read or names another tenant is no record: fail closed.

        What thousands of records say alike is kept once."""
        try:
            record = decode_key(body)
        except SnapshotError:
            return None
        if record.tenant_id != tenant_id:
            return None
        for shared in (self._scopes, self._policies):
            if len(shared) >= _SCOPE_SETS_MAX:
                shared.clear()
        scopes = self._scopes.setdefault(record.scopes, record.scopes)
        policies = self._policies.setdefault(record.policies, record.policies) if record.policies else UNSET
        return msgspec.structs.replace(record, tenant_id=tenant_id, scopes=scopes, policies=policies)

    def _remember(self, name: _Name, known: _Known) -> None:
        self._evict(name)
        shelf, bound = (self._unknown, UNKNOWN_MAX) if known.record is None else (self._known, KNOWN_MAX)
        while len(shelf) >= bound:
            self._evict(next(iter(shelf)))
        shelf[name] = known
        for mark in known.marks:
            self._by_mark[mark] = name

    def _evict(self, name: _Name) -> None:
        for shelf in (self._known, self._unknown):
            known = shelf.pop(name, None)
            if known is not None:
                for mark in known.marks:
                    self._by_mark.pop(mark, None)

    def drop(self, tenant_id: str) -> None:
        """Forget every key of a tenant."""
        for shelf in (self._known, self._unknown):
            for name in [name for name in shelf if name[0] == tenant_id]:
                self._evict(name)

    def on_change(self, change: Change) -> None:
        if change.kind != "key":
            return
        self._changes_seen += 1
        if not change.digests:
            self.drop(change.tenant_id)
        for item in change.digests:
            name = self._by_mark.get(_mark(change.tenant_id, item))
            if name is not None:
                self._evict(name)

    def on_resync(self, lost: bool) -> None:
        """Changes may have been missed, so nothing is believed; after a loss what is known lives its last 60 s."""
        self._changes_seen += 1
        self._unknown.clear()
        if lost:
            self._lost_mono = self._mono()
        else:
            self._known.clear()
            self._by_mark.clear()


def _mark(tenant_id: str, stored: str) -> bytes:
    """Give what a digest is found by, in a fifth of its room."""
    return hashlib.blake2b(f"{tenant_id}/{stored}".encode(), digest_size=16).digest()
