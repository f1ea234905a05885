"""Rate limits counted in Redis, exact over all workers, at far less than a round trip a request (ports.Counters).

In:    the checks of a request.
Out:   verdicts; all checks are counted or none.
Laws:  1. Never more than the limit over all workers while Redis is up: every admitted request was deducted there
       before, and tokens borrowed ahead are charged as if used at the last moment they may be (lua/gcra.lua).
       2. Equal requests that wait share one script call; one call per set of counters is under way at a time.
       3. A refusal holds until the moment the script named: counts only grow, so nobody has to ask again before.
       4. Only buckets large enough are borrowed from, by recent demand, and for HOLD_S at most.
Redis away: local shares (local), decided without waiting.
Not here: which policies a request meets and by which identifier (edge.phases.ratelimit).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import gevent
from gevent.hub import Waiter, get_hub

from contracts import keyspace
from contracts.snapshot import PolicyConfig
from edge.errors import StoreAway
from edge.ports import Check, Verdict
from edge.store.client import Client, Script, Word
from edge.store.counters.local import LocalLimiter

_LUA: Final = Path(__file__).with_name("lua")
ADMIT: Final = Script("\n".join((_LUA / f"{n}.lua").read_text("utf-8") for n in ("gcra", "sliding_window", "admit")))

HOLD_S: Final = 0.1
"""How long borrowed tokens may be used; after that they are lost, which only ever admits less."""
_BORROWED_SHARE: Final = 20
"""At most this fraction (one twentieth) of a bucket is ahead in one worker."""
_BORROWED_MIN: Final = 4
_ACCOUNTS_MAX: Final = 20_000
_Verdicts = tuple[Verdict, ...]


class _Account:
    """One set of counters as this worker sees it: what is borrowed, what is refused until when, who waits."""

    __slots__ = (
        "asked_mono", "borrow_max", "busy", "checks", "demand_per_s", "keys", "left", "policies", "pot",
        "pot_until_mono", "refused", "refused_until_mono", "reset_s", "since", "waiting", "words",
    )  # fmt: skip

    def __init__(self, checks: Sequence[Check]) -> None:
        self.checks = tuple(checks)
        self.policies = tuple(check.policy for check in checks)
        self.keys = [_key(check) for check in checks]
        self.words = [word for policy in self.policies for word in _words(policy)]
        plain = all(p.algorithm == "token_bucket" and p.mode == "enforce" for p in self.policies)
        share = min((p.burst for p in self.policies), default=0) // _BORROWED_SHARE
        self.borrow_max = share if plain and share >= _BORROWED_MIN else 0
        self.pot = 0
        self.pot_until_mono = 0.0
        self.left: list[int] = []
        self.reset_s: list[float] = []
        self.refused: _Verdicts = ()
        self.refused_until_mono = 0.0
        self.demand_per_s = 0.0
        self.since = 0
        self.asked_mono = 0.0
        self.busy = False
        self.waiting: list[Waiter[_Verdicts]] = []


def _key(check: Check) -> str:
    identifier = hashlib.blake2b(check.identifier, digest_size=16).hexdigest()
    return keyspace.counter(check.tenant_id, check.policy.id, identifier)


def _words(policy: PolicyConfig) -> tuple[Word, ...]:
    enforced = 1 if policy.mode == "enforce" else 0
    if policy.algorithm == "token_bucket":
        return ("g", repr(policy.rate_per_second), policy.burst, enforced)
    return ("w", policy.limit, policy.window_s, enforced)


class DistributedCounters:
    def __init__(
        self, client: Client, live_workers: Callable[[], int], mono: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._live_workers = live_workers
        self._mono = mono
        self._run_callback = get_hub().loop.run_callback
        self._local = LocalLimiter()
        self._accounts: dict[object, _Account] = {}
        self.degraded_total = 0
        """Requests decided by local shares."""
        self.script_calls_total = 0
        client.on_up.append(self._local.clear)

    def admit(self, checks: Sequence[Check]) -> Sequence[Verdict]:
        if len(checks) == 1:
            check = checks[0]
            name: object = (check.policy.id, check.identifier)
        else:
            name = tuple([(check.policy.id, check.identifier) for check in checks])
        account = self._accounts.get(name)
        # The first policy is the route's, the last one the caller's own where it has any: either may have been renewed.
        policies = account.policies if account is not None else ()
        if account is None or policies[0] is not checks[0].policy or policies[-1] is not checks[-1].policy:
            account = self._open(name, checks)
        now = self._mono()
        account.since += 1
        if account.pot and now < account.pot_until_mono:
            pot = account.pot = account.pot - 1
            if len(checks) == 1:
                return (Verdict(account.policies[0], True, account.left[0] + pot, account.reset_s[0]),)
            facts = zip(account.policies, account.left, account.reset_s, strict=True)
            return tuple([Verdict(policy, True, left + pot, reset_s) for policy, left, reset_s in facts])
        if now < account.refused_until_mono:
            return _again_refused(account, now)
        return self._ask(account)

    def _open(self, name: object, checks: Sequence[Check]) -> _Account:
        if len(self._accounts) >= _ACCOUNTS_MAX:
            idle = [key for key, account in self._accounts.items() if not account.busy]
            for key in idle[: _ACCOUNTS_MAX // 4]:
                del self._accounts[key]
        account = self._accounts[name] = _Account(checks)
        return account

    # ---- asking Redis

    def _ask(self, account: _Account) -> _Verdicts:
        """Wait for a verdict from Redis. A request that is interrupted while it waits harms no other."""
        waiter: Waiter[_Verdicts] = Waiter()
        account.waiting.append(waiter)
        if not account.busy:
            account.busy = True
            gevent.spawn(self._decide, account)
        verdicts: _Verdicts = waiter.get()
        return verdicts

    def _decide(self, account: _Account) -> None:
        """Ask for all who wait until nobody does. A greenlet of its own, because a request's may end at any moment."""
        while account.waiting:
            waiting, account.waiting = account.waiting, []
            try:
                outcomes = self._call(account, len(waiting))
            except StoreAway:
                outcomes = [self._degraded(account) for _ in waiting]
            for waiter, verdicts in zip(waiting, outcomes, strict=True):
                self._run_callback(waiter.switch, verdicts)
        account.busy = False

    def _degraded(self, account: _Account) -> _Verdicts:
        self.degraded_total += 1
        return self._local.admit(account.checks, self._live_workers(), time.time())

    def _call(self, account: _Account, wanted: int) -> list[_Verdicts]:
        asked_mono = self._mono()
        ahead = self._appetite(account, asked_mono, wanted)
        self.script_calls_total += 1
        words = (wanted, ahead, int(HOLD_S * 1e6), *account.words)
        answer: list[int] = self._client.run(ADMIT, account.keys, words)
        admitted, borrowed = answer[0], answer[1]
        rows = [answer[at : at + 4] for at in range(2, len(answer), 4)]
        account.pot = borrowed
        account.pot_until_mono = asked_mono + HOLD_S
        account.left = [row[1] for row in rows]
        account.reset_s = [row[2] / 1e6 for row in rows]
        outcomes = [self._verdicts(account, rows, turn, admitted) for turn in range(wanted)]
        if admitted < wanted:
            account.refused = outcomes[-1]
            waits = [verdict.retry_after_s for verdict in outcomes[-1] if _refuses(verdict)]
            account.refused_until_mono = asked_mono + max(waits, default=0.0)
        return outcomes

    def _appetite(self, account: _Account, now: float, wanted: int) -> int:
        """Say how many tokens to borrow: what recent demand would use within HOLD_S, within the bucket's bound."""
        elapsed_s = max(now - account.asked_mono, 1e-4)
        weight = 1 - math.exp(-elapsed_s / HOLD_S)
        account.demand_per_s += (account.since / elapsed_s - account.demand_per_s) * weight
        account.since = 0
        account.asked_mono = now
        if not account.borrow_max:
            return 0
        return max(0, min(account.borrow_max, int(account.demand_per_s * HOLD_S * 0.8) - wanted))

    def _verdicts(self, account: _Account, rows: list[list[int]], turn: int, admitted: int) -> _Verdicts:
        """Verdicts for the request that is `turn`-th in its call. Rows: available before, left, reset, wait."""
        verdicts = []
        for policy, (available, left, reset_us, wait_us) in zip(account.policies, rows, strict=True):
            if turn < available:
                remaining = left + max(0, min(admitted, available) - turn - 1) + account.pot
                verdicts.append(Verdict(policy, True, remaining, reset_us / 1e6))
            else:
                verdicts.append(Verdict(policy, False, left, reset_us / 1e6, max(wait_us, 1) / 1e6))
        return tuple(verdicts)


def _refuses(verdict: Verdict) -> bool:
    return not verdict.allowed and verdict.policy.mode == "enforce"


def _again_refused(account: _Account, now: float) -> _Verdicts:
    wait_s = account.refused_until_mono - now
    return tuple(
        verdict if verdict.allowed else Verdict(verdict.policy, False, 0, max(verdict.reset_s, wait_s), wait_s)
        for verdict in account.refused
    )
