"""What this worker has seen of API keys, told to the control plane: when each was last used, and its newer digest.

In:    uses, noted by authentication in a dictionary; keys found under an older pepper (edge.store.keys).
Out:   each FLUSH_S one batch into keyspace.key_uses (the newest use wins) and keyspace.key_renewals.
Laws:  1. Noting is a dictionary's store; nothing waits for Redis but the greenlet that flushes. 2. What is noted is
       bounded: the memory of known keys and as many look-ups. 3. A renewal carries the proof of who holds the newer
       pepper (contracts.apikey.renewal_proof), never the key.
Redis away, or a part of it: what a flush could not tell is dropped and counted; the next use tells it again.
Not here: what becomes of it (webapp.services.key_uses).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import gevent

from contracts import keyspace, messages
from contracts.apikey import renewal_proof
from contracts.snapshot import KeyRecord
from edge.errors import StoreAway
from edge.store.wire import Command, ShardAway, Store, Word

FLUSH_S: Final = 10.0
LOOK_UPS_MAX: Final = 10_000
"""Between two flushes; with more of them nothing that was noted is worth its room."""
_PER_COMMAND: Final = 500
_Uses = dict[str, dict[str, float]]
_Renewals = dict[str, dict[str, messages.KeyRenewal]]


class KeyUses:
    def __init__(self, client: Store, wall: Callable[[], float] = time.time) -> None:
        self._client = client
        self._wall = wall
        self._greenlet: gevent.Greenlet[[], None] | None = None
        self._look_ups = 0
        self.uses: defaultdict[str, dict[str, float]] = defaultdict(dict)
        """ports.KeyStore.uses."""
        self.renewals: _Renewals = {}
        self.dropped_total = 0

    def start(self) -> None:
        self._greenlet = gevent.spawn(self._flush_forever)

    def stop(self) -> None:
        """Tell what is noted and end. Blocks up to the store's deadline."""
        if self._greenlet is not None:
            self._greenlet.kill()
            self._greenlet = None
        self.flush()

    def renew(self, pepper: bytes, record: KeyRecord, old: str, new: str) -> None:
        """Note that a key found under digest `old` has the digest `new` under the newest pepper."""
        proof = renewal_proof(pepper, record.tenant_id, record.id, old, new)
        noted = self.renewals.setdefault(record.tenant_id, {})
        noted[record.id] = messages.KeyRenewal(old=old, new=new, proof=proof)

    def make_room(self) -> None:
        """Called at each look-up: only through those can more be noted than the key store knows."""
        self._look_ups += 1
        if self._look_ups > LOOK_UPS_MAX:
            self._drop(*self._taken())

    def flush(self) -> None:
        """Tell Redis what is noted. Never raises. Blocks up to the store's deadline."""
        uses, renewals = self._taken()
        if not uses and not renewals:
            return
        told = [*_commands(uses, renewals)]
        try:
            replies = self._client.call_each(told)
            # By itself and last: whoever reads the tenants' entries finds the rest in place.
            tenants = [(self._wall(), tenant_id) for tenant_id in {**uses, **renewals}]
            self._client.call_many([*_chunked(("ZADD", keyspace.KEY_USES, "GT"), tenants)])
        except StoreAway:
            self._drop(uses, renewals)
            return
        for command, reply in zip(told, replies, strict=True):
            if isinstance(reply, ShardAway) and command[0] != "EXPIRE":
                self.dropped_total += (len(command) - 2) // 2

    def _taken(self) -> tuple[_Uses, _Renewals]:
        """Empty the notes; the dictionary that everybody writes into stays the same."""
        uses, renewals = dict(self.uses), self.renewals
        self.uses.clear()
        self.renewals = {}
        self._look_ups = 0
        return uses, renewals

    def _drop(self, uses: _Uses, renewals: _Renewals) -> None:
        self.dropped_total += sum(map(len, uses.values())) + sum(map(len, renewals.values()))

    def _flush_forever(self) -> None:
        while True:
            gevent.sleep(FLUSH_S)
            self.flush()


def _commands(uses: _Uses, renewals: _Renewals) -> Iterator[Command]:
    for tenant_id, used in uses.items():
        pairs = [(int(at), key_id) for key_id, at in used.items()]
        yield from _chunked(("ZADD", keyspace.key_uses(tenant_id), "GT"), pairs)
        yield ("EXPIRE", keyspace.key_uses(tenant_id), keyspace.KEY_USES_KEPT_S)
    for tenant_id, seen in renewals.items():
        bodies = [(key_id, messages.encode(renewal)) for key_id, renewal in seen.items()]
        yield from _chunked(("HSET", keyspace.key_renewals(tenant_id)), bodies)
        yield ("EXPIRE", keyspace.key_renewals(tenant_id), keyspace.KEY_USES_KEPT_S)


def _chunked(command: Command, pairs: Sequence[tuple[Word, Word]]) -> Iterator[Command]:
    for start in range(0, len(pairs), _PER_COMMAND):
        yield (*command, *[word for pair in pairs[start : start + _PER_COMMAND] for word in pair])
