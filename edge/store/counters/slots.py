"""Requests in flight, counted over all workers (ports.Counters.enter and leave).

In:    checks of algorithm `concurrency`.
Out:   verdicts; a slot of each for as long as the request lives.
Laws:  1. Never more than the limit in flight over all workers while Redis is up: a worker lets in as many as it holds
       slots for, and Redis gives no slot away twice. 2. What a worker holds ends LEASE_S after it last said so: one
       that was killed is forgotten by itself. 3. A worker keeps a few slots ahead where the limit is large (all workers
       together at most an eighth), and gives back what it no longer needs. 4. One call per counter is under way at a
       time; who waits is served by its answer. 5. A counter without requests is forgotten.
Redis away: limit / live workers, at least one, in each worker; per policy `open` lets in and `closed` refuses instead.
Bounds: a worker that cannot reach Redis for LEASE_S while others can goes on with its share beside them; Redis coming
       back empty hears of all requests in flight at once, and until then may let in one limit more.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import gevent
from gevent.hub import Waiter

from contracts import keyspace
from edge.errors import StoreAway
from edge.ports import Check, Verdict
from edge.store.wire import Reply, Script, Store

HOLD: Final = Script(Path(__file__).with_name("lua").joinpath("slots.lua").read_text("utf-8"))
LEASE_S: Final = 8.0
"""After a worker was killed its slots are free again after so long at most."""
RENEW_S: Final = 2.0
_AHEAD_SHARE: Final = 16
_REFUSAL_S: Final = 0.01
"""A refusal holds so long, or until a request here ends: a flood does not become a flood at Redis."""
_RETRY_S: Final = 1.0
"""Nobody knows when a request ends."""
_Name = tuple[str, str, bytes]


class _Counter:
    """One limit of one identifier as this worker sees it. `held`: slots that are ours; `used`: those in use."""

    __slots__ = ("again", "asking", "check", "held", "key", "refused_until_mono", "until_mono", "used", "waiting")

    def __init__(self, check: Check) -> None:
        digest = hashlib.blake2b(check.identifier, digest_size=16).hexdigest()
        self.key = keyspace.slots(check.tenant_id, check.policy.id, digest)
        self.check = check
        self.held = self.used = 0
        self.waiting: list[Waiter[bool | None]] = []
        self.asking = self.again = False
        self.refused_until_mono = self.until_mono = 0.0


class Slots:
    def __init__(
        self, client: Store, live_workers: Callable[[], int], mono: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._live_workers = live_workers
        self._mono = mono
        self._worker = secrets.token_hex(8)
        self._counters: dict[_Name, _Counter] = {}
        self._renewer: gevent.Greenlet[[], None] | None = None
        self.degraded_total = 0
        """Requests decided by local shares."""
        client.on_up.append(self.renew)

    def __len__(self) -> int:
        return len(self._counters)

    def enter(self, checks: Sequence[Check]) -> tuple[Verdict, ...]:
        """Take a slot of each, or of none when one that is enforced has none. May block on Redis."""
        verdicts: list[Verdict] = []
        taken: list[Check] = []
        for check in checks:
            try:
                verdict = self._enter(check)
            except BaseException:
                self.leave(taken)
                raise
            verdicts.append(verdict)
            if verdict.allowed:
                taken.append(check)
            elif check.policy.mode == "enforce":
                self.leave(taken)
                return tuple(verdicts)
        return tuple(verdicts)

    def leave(self, checks: Sequence[Check]) -> None:
        """Give the slots back; of those that were let in, and once. Never blocks."""
        for check in checks:
            counter = self._counters[check.tenant_id, check.policy.id, check.identifier]
            counter.used -= 1
            counter.refused_until_mono = 0.0
            if counter.held - counter.used > 2 * self._ahead(counter):
                self._ask(counter)
            elif not counter.used and not counter.held:
                self._forget(counter)

    def renew(self) -> None:
        """Say again what is held; what is not needed goes back."""
        for counter in list(self._counters.values()):
            self._ask(counter)

    # ---- one slot

    def _enter(self, check: Check) -> Verdict:
        name = (check.tenant_id, check.policy.id, check.identifier)
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = _Counter(check)
            if self._renewer is None:
                self._renewer = gevent.spawn(self._keep)
        counter.check = check  # the limit may be another one by now
        limit = check.policy.limit
        if not self._client.reachable:
            return self._degraded(counter)
        now = self._mono()
        if counter.used < min(counter.held, limit) and now < counter.until_mono and not counter.waiting:
            counter.used += 1
            return Verdict(check.policy, True, limit - counter.used, 0.0)
        if now < counter.refused_until_mono:
            return _refused(check)
        waiter: Waiter[bool | None] = Waiter()
        counter.waiting.append(waiter)
        self._ask(counter)
        try:
            answer = waiter.get()
        except BaseException:
            if waiter in counter.waiting:
                counter.waiting.remove(waiter)
            raise
        if answer is None:
            return self._degraded(counter)
        return Verdict(check.policy, True, max(0, limit - counter.used), 0.0) if answer else _refused(check)

    def _degraded(self, counter: _Counter) -> Verdict:
        self.degraded_total += 1
        policy = counter.check.policy
        share = max(1, policy.limit // max(1, self._live_workers()))
        failure = policy.on_store_failure
        if failure == "open" or (failure == "share" and counter.used < share):
            counter.used += 1
            return Verdict(policy, True, max(0, share - counter.used), 0.0, degraded=True)
        self._forget(counter)
        return Verdict(policy, False, 0, _RETRY_S, _RETRY_S, degraded=True)

    # ---- asking Redis

    def _ahead(self, counter: _Counter) -> int:
        return counter.check.policy.limit // (_AHEAD_SHARE * max(1, self._live_workers()))

    def _ask(self, counter: _Counter) -> None:
        """Hold as many slots as are in use and waited for, and a few more."""
        if counter.asking:
            counter.again = True
            return
        waiting = len(counter.waiting)
        wanted = counter.used + waiting
        wanted += self._ahead(counter) if wanted else 0
        counter.held = min(counter.held, wanted)  # what is given back is not ours from the moment we say so
        counter.asking, counter.again = True, False
        limit = max(0, counter.check.policy.limit)
        words = (limit, self._worker, wanted, int(LEASE_S * 1e6))
        self._client.begin(HOLD, [counter.key], words, partial(self._answered, counter, wanted, self._mono()))

    def _answered(self, counter: _Counter, wanted: int, asked_mono: float, reply: Reply | StoreAway) -> None:
        """Let in who waited, as far as there are slots; runs in the hub."""
        counter.asking = False
        waiting, counter.waiting = counter.waiting, []
        if not isinstance(reply, list) or len(reply) != 2:
            for waiter in waiting:
                waiter.switch(None)
            return
        counter.held, counter.until_mono = reply[0], asked_mono + LEASE_S
        let_in = max(0, min(len(waiting), counter.held - counter.used))
        counter.used += let_in
        if counter.held >= wanted:  # who came after the question is asked for now
            waiting, counter.waiting = waiting[:let_in], waiting[let_in:]
        elif let_in < len(waiting):
            counter.refused_until_mono = self._mono() + _REFUSAL_S
        if counter.again or counter.waiting:
            self._ask(counter)
        elif not counter.used and not counter.held:
            self._forget(counter)
        for turn, waiter in enumerate(waiting):
            waiter.switch(turn < let_in)

    def _forget(self, counter: _Counter) -> None:
        if not counter.used and not counter.waiting and not counter.asking:
            check = counter.check
            self._counters.pop((check.tenant_id, check.policy.id, check.identifier), None)

    def _keep(self) -> None:
        while True:
            gevent.sleep(RENEW_S)
            self.renew()


def _refused(check: Check) -> Verdict:
    return Verdict(check.policy, False, 0, _RETRY_S, _RETRY_S)
