"""What a worker remembers of counters: who is refused until when, what is borrowed, who waits for an answer.

In:    checks; the time.
Out:   Plan (what callers of the same policies share) and Account (one set of counters).
Laws:  1. An account takes at most 500 bytes, and there are ACCOUNTS_MAX at most. 2. One that nobody asked for between
       two sweeps is forgotten; when there are too many, those of the tenant that has most go first, the longest unused
       before others: a crowd of one tenant costs no other its memory. 3. One that waits for an answer stays. 4. To
       forget is safe: Redis has the count, so all it costs is one more call.
Not here: what is asked and answered (distributed).
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import gevent
from gevent.hub import Waiter

from contracts import keyspace
from contracts.snapshot import PolicyConfig
from edge.phases.ratelimit import EXACT_MAX
from edge.ports import Check, Verdict
from edge.store.wire import Word

HOLD_S: Final = 0.1
"""How long borrowed tokens may be used at most; after that they are lost, which only ever admits less."""
ACCOUNTS_MAX: Final = 100_000
SWEEP_S: Final = 30.0
_BORROWED_SHARE: Final = 20
"""At most this fraction (one twentieth) of a limit is ahead in one worker."""
_BORROWED_MIN: Final = 2
_HOLD_SHARE: Final = 10
"""Borrowed tokens are held for at most this fraction of the time in which the limit comes back."""
_PAUSE_S: Final = 0.005
_PAUSE_SHARE: Final = 40
"""A refusal by a limit one can borrow from holds so long at least, or this fraction of the time in which the limit
comes back: tokens gather meanwhile and are fetched together."""
_SHED_AT_ONCE: Final = 500
Verdicts = tuple[Verdict, ...]
Name = bytes | tuple[bytes, ...]
"""An identifier, or those of a set in order."""


class Plan:
    """One set of policies, and all callers it counts. `young` and `older`: asked for since the last sweep, or only
    before it."""

    __slots__ = ("borrow_max", "costs", "hold_s", "older", "pause_s", "policies", "tenant_id", "words", "young")

    def __init__(self, checks: Sequence[Check]) -> None:
        self.tenant_id = checks[0].tenant_id
        self.policies = tuple(check.policy for check in checks)
        self.costs = tuple(check.cost for check in checks)
        self.words: tuple[Word, ...] = tuple(word for check in checks for word in _words(check.policy, check.cost))
        ahead = [_ahead(check.policy) for check in checks]
        self.borrow_max = min(most // check.cost for check, (most, _) in zip(checks, ahead, strict=True))
        if self.borrow_max < _BORROWED_MIN:
            self.borrow_max = 0
        back_s = min(seconds for _, seconds in ahead)
        self.hold_s = min(HOLD_S, back_s / _HOLD_SHARE)
        self.pause_s = min(_PAUSE_S, back_s / _PAUSE_SHARE) if self.borrow_max else 0.0
        self.young: dict[Name, Account] = {}
        self.older: dict[Name, Account] = {}


class Lease:
    """What an account that asks often has borrowed: `pot`, and `spare` that came before the pot was empty.

    `low`: at so many left in the pot more are asked for; below zero: not now.
    """

    __slots__ = (
        "asked_mono", "demand_per_s", "left", "low", "pot", "reset_s", "since", "spare", "spare_until_mono",
        "until_mono",
    )  # fmt: skip

    def __init__(self, asked_mono: float) -> None:
        self.asked_mono = asked_mono
        self.since = 0
        self.demand_per_s = 0.0
        self.pot = self.spare = 0
        self.until_mono = self.spare_until_mono = 0.0
        self.low = -1
        self.left: tuple[int, ...] = ()
        self.reset_s: tuple[float, ...] = ()


class Account:
    """One set of counters as this worker sees it. `waiting` is None when no call is under way or due.

    `refused`: left, reset and wait in microseconds of each policy, in force until `refused_until_mono`.
    """

    __slots__ = ("asked_mono", "lease", "name", "plan", "refused", "refused_until_mono", "waiting")

    def __init__(self, plan: Plan, name: Name) -> None:
        self.plan = plan
        self.name = name
        self.lease: Lease | None = None
        self.asked_mono = 0.0
        self.refused: tuple[int, ...] = ()
        self.refused_until_mono = 0.0
        self.waiting: list[Waiter[Verdicts]] | None = None

    def identifiers(self) -> tuple[bytes, ...]:
        return self.name if isinstance(self.name, tuple) else (self.name,)

    def keys(self) -> list[str]:
        """Name its counters in Redis. All are in the tenant's slot."""
        plan = self.plan
        return [
            keyspace.counter(plan.tenant_id, policy.id, hashlib.blake2b(identifier, digest_size=16).hexdigest())
            for policy, identifier in zip(plan.policies, self.identifiers(), strict=True)
        ]

    def checks(self) -> list[Check]:
        plan = self.plan
        facts = zip(plan.policies, self.identifiers(), plan.costs, strict=True)
        return [Check(plan.tenant_id, policy, identifier, cost) for policy, identifier, cost in facts]


class Accounts:
    """All of them. `plans`: by the id of the only policy, or what distributed._plan_name gives; whoever has policies of
    the same ids that say something else (keys with limits of their own): by that and their policies."""

    def __init__(self, mono: Callable[[], float]) -> None:
        self._mono = mono
        self.plans: dict[object, Plan] = {}
        self._held = 0
        self._sweep_at_mono = mono() + SWEEP_S

    def __len__(self) -> int:
        return sum(len(plan.young) + len(plan.older) for plan in self.plans.values())

    def plan(self, name: object, checks: Sequence[Check]) -> Plan:
        """Give the plan for checks whose policies are new here, or new objects: what is equal keeps its accounts."""
        policies = tuple([check.policy for check in checks])
        tenant_id = checks[0].tenant_id
        plan = self.plans.get(name)
        if plan is not None and (plan.policies != policies or plan.tenant_id != tenant_id):
            name = (tenant_id, name, policies)
            plan = self.plans.get(name)
        if plan is None:
            plan = self.plans[name] = Plan(checks)
        else:
            plan.policies = policies
        return plan

    def account(self, plan: Plan, name: Name) -> Account:
        """Give the account of a caller that is not among the young."""
        account = plan.older.pop(name, None)
        if account is None:
            if self._held >= ACCOUNTS_MAX:
                self._make_room(plan)
            account = Account(plan, name)
            self._held += 1
        plan.young[name] = account
        return account

    def sweep(self, now: float) -> None:
        """Forget whom nobody asked for lately, when it is time to. Takes no longer than there are plans."""
        if now < self._sweep_at_mono:
            return
        self._sweep_at_mono = now + SWEEP_S
        idle = []
        for name, plan in list(self.plans.items()):
            idle.append(plan.older)
            plan.older, plan.young = plan.young, {}
            if not plan.older:
                del self.plans[name]
        self._held = len(self)
        _shed(idle)

    def forget(self) -> None:
        """Forget all: what was counted may be gone."""
        plans = list(self.plans.values())
        self.plans.clear()
        self._held = 0
        _shed([part for plan in plans for part in (plan.older, plan.young)])

    def _make_room(self, asking: Plan) -> None:
        """Take a sixteenth from the tenant that has most. `asking` stays, though it may be empty."""
        held: Counter[str] = Counter()
        for plan in self.plans.values():
            held[plan.tenant_id] += len(plan.young) + len(plan.older)
        ((largest, _),) = held.most_common(1)
        theirs = [plan for plan in self.plans.values() if plan.tenant_id == largest]
        parts = [plan.older for plan in theirs] + [plan.young for plan in theirs]
        rest = max(1, ACCOUNTS_MAX // 16)
        for part in parts:
            if not rest:
                break
            idle = [name for name, account in part.items() if account.waiting is None]
            for name in itertools.islice(idle, rest):
                del part[name]
                rest -= 1
        for of, plan in list(self.plans.items()):  # a key's own policy makes a plan of its own
            if plan.tenant_id == largest and plan is not asking and not plan.young and not plan.older:
                del self.plans[of]
        self._held = len(self)


def _shed(parts: list[dict[Name, Account]]) -> None:
    """Free accounts a few at a time: a hundred thousand at once would hold up the hub for some 20 ms."""
    parts = [part for part in parts if part]
    if sum(map(len, parts)) > _SHED_AT_ONCE:
        gevent.spawn(_shed_slowly, parts)


def _shed_slowly(parts: list[dict[Name, Account]]) -> None:
    while parts:
        part = parts.pop()
        while part:
            for _ in range(min(_SHED_AT_ONCE, len(part))):
                part.popitem()
            gevent.sleep(0)


def _words(policy: PolicyConfig, cost: int) -> tuple[Word, ...]:
    enforced = 1 if policy.mode == "enforce" else 0
    if policy.algorithm == "token_bucket":
        return ("g", repr(policy.rate_per_second), policy.burst, cost, enforced)
    if policy.algorithm == "calendar":
        return ("c", policy.limit, policy.window_s, cost, enforced)
    return ("x" if policy.limit <= EXACT_MAX else "w", policy.limit, policy.window_s, cost, enforced)


def _ahead(policy: PolicyConfig) -> tuple[int, float]:
    """Say how much of a limit one worker may hold ahead, and in how many seconds the whole limit comes back."""
    bucket = policy.algorithm == "token_bucket"
    whole, back_s = (
        (policy.burst, policy.burst / policy.rate_per_second) if bucket else (policy.limit, float(policy.window_s))
    )
    window = policy.algorithm == "sliding_window" and policy.limit > EXACT_MAX
    may = policy.mode == "enforce" and (bucket or window)
    return (whole // _BORROWED_SHARE if may else 0), back_s
