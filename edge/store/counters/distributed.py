"""Rate limits counted in Redis, exact over all workers, at far less than a round trip a request (ports.Counters).

In:    the checks of a request.
Out:   verdicts; all checks are counted or none.
Laws:  1. Never more than the limit over all workers while Redis is up: every admitted request was deducted there
       before, and tokens borrowed ahead are charged as if used at the last moment they may be (lua/gcra.lua), or are
       good in their own window only (lua/sliding_window.lua).
       2. Equal requests that wait share one script call; one call per set of counters is under way at a time; all calls
       of a moment, over whatever counters and tenants, leave in one write (store.client).
       3. A refusal holds until the moment the script named, and is known beforehand when the script gave the last
       token away: counts only grow, so nobody has to ask again before. After REFUSAL_S_MAX it is asked again all the
       same, and when Redis was away: it may have lost its counts.
       4. Only limits large enough are borrowed from, by recent demand, before the pot is empty, for HOLD_S at most.
Redis away: local shares (local), decided without waiting.
Bounds: each time Redis is away, one quota more than the limit may be admitted by all workers together, in shares of
       limit / live workers (a share is at least one request); one more when Redis comes back empty, or when its clock
       steps forward. A step back never admits more and never refuses for longer than two windows. docs/operating.md.
Not here: which policies a request meets and by which identifier (edge.phases.ratelimit), what is remembered (accounts).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from gevent.hub import Waiter, get_hub

from edge.errors import StoreAway
from edge.ports import Check, Verdict
from edge.store.counters.accounts import HOLD_S, Account, Accounts, Lease, Plan, Verdicts
from edge.store.counters.local import LocalLimiter
from edge.store.counters.slots import Slots
from edge.store.wire import Reply, Script, Store

LUA: Final = Path(__file__).with_name("lua")
PARTS: Final = ("store", "gcra", "sliding_window", "exact_window", "calendar", "admit")
ADMIT: Final = Script("\n".join((LUA / f"{part}.lua").read_text("utf-8") for part in PARTS))

REFUSAL_S_MAX: Final = 60.0
_OFTEN_S: Final = 1.0
"""Who asks again within this time may borrow."""
_APPETITE: Final = 0.6
"""How much of what recent demand would use within the hold is borrowed."""
_Waiters = list["Waiter[Verdicts]"]


class DistributedCounters:
    def __init__(
        self, client: Store, live_workers: Callable[[], int], mono: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._live_workers = live_workers
        self._mono = mono
        self._run_callback = get_hub().loop.run_callback
        self._local = LocalLimiter()
        self.slots = Slots(client, live_workers, mono)
        self.enter, self.leave = self.slots.enter, self.slots.leave
        self.accounts = Accounts(mono)
        self._plans = self.accounts.plans
        self._due: list[Account] = []
        self.degraded_total = 0
        """Requests decided by local shares."""
        self.script_calls_total = 0
        self._been_up = False
        self._exceeded_until_mono = 0.0
        client.on_up.append(self._returned)

    def admit(self, checks: Sequence[Check]) -> Sequence[Verdict]:
        if len(checks) == 1:
            check = checks[0]
            plan = self._plans.get(check.policy.id if check.cost == 1 else (check.policy.id, check.cost))
            name: bytes | tuple[bytes, ...] = check.identifier
        else:
            plan = self._plans.get(_plan_name(checks))
            name = tuple([check.identifier for check in checks])
        # The first policy is the route's, the last one the caller's own where it has any: either may have been renewed.
        first = checks[0]
        if (
            plan is None
            or plan.policies[0] is not first.policy
            or plan.policies[-1] is not checks[-1].policy
            or plan.tenant_id != first.tenant_id
        ):
            plan = self.accounts.plan(_plan_name(checks), checks)
        account = plan.young.get(name)
        if account is None:
            account = self.accounts.account(plan, name)
        now = self._mono()
        lease = account.lease
        if lease is not None:
            lease.since += 1
            if (lease.pot and now < lease.until_mono) or (lease.spare and _turn(lease, now)):
                pot = lease.pot = lease.pot - 1
                if pot <= lease.low and account.waiting is None and now >= account.refused_until_mono:
                    self._call_for(account, [])
                return _from_pot(plan, lease, pot)
        if now < account.refused_until_mono:
            return _again_refused(account, now)
        if not self._client.reachable:
            return self._degraded(account)
        waiter: Waiter[Verdicts] = Waiter()
        if account.waiting is None:
            self._call_for(account, [waiter])
        else:
            account.waiting.append(waiter)
        verdicts: Verdicts = waiter.get()  # a request that is interrupted here harms no other
        return verdicts

    def overshoot_bound(self) -> float:
        """Say how many quotas beyond its limit a counter may have admitted lately: 1 while Redis is away, 2 in the
        minute after it, because it may have come back empty, else 0."""
        if not self._client.up:
            return 1.0
        return 2.0 if self._mono() < self._exceeded_until_mono else 0.0

    # ---- asking Redis

    def _call_for(self, account: Account, waiting: _Waiters) -> None:
        """Let an account ask, together with all others of this turn of the hub."""
        account.waiting = waiting
        if not self._due:
            self._run_callback(self._ask)
        self._due.append(account)

    def _ask(self) -> None:
        """Ask for all that is due; runs in the hub."""
        due, self._due = self._due, []
        now = self._mono()
        self.accounts.sweep(now)
        for account in due:
            waiters = account.waiting or []
            ahead = _appetite(account, now, len(waiters))
            if not waiters and not ahead:
                account.waiting = None
                continue
            account.waiting = []
            plan = account.plan
            self.script_calls_total += 1
            words = (len(waiters), ahead, int(plan.hold_s * 1e6), *plan.words)
            self._client.begin(ADMIT, account.keys(), words, partial(self._answered, account, waiters, now))

    def _answered(self, account: Account, waiters: _Waiters, asked_mono: float, reply: Reply | StoreAway) -> None:
        """Take an answer and wake who waited for it; runs in the hub."""
        later, account.waiting = account.waiting or [], None
        rows = _rows(reply, len(account.plan.policies))
        if rows is None or isinstance(reply, StoreAway):
            for waiter in (*waiters, *later):
                waiter.switch(self._degraded(account))
            return
        admitted, borrowed, hold_us = reply[:3]
        now = self._mono()
        _remember_refusal(account, rows, asked_mono, now)
        if borrowed:
            _bank(account, borrowed, asked_mono + hold_us / 1e6, rows, now)
        elif account.lease is not None:
            account.lease.low = -1
        outcomes = [(waiter, _verdict(account, rows, turn, admitted)) for turn, waiter in enumerate(waiters)]
        for at, waiter in enumerate(later):
            known = _known(account, now)
            if known is None:
                self._call_for(account, later[at:])
                break
            outcomes.append((waiter, known))
        for waiter, verdicts in outcomes:
            waiter.switch(verdicts)

    # ---- Redis away

    def _degraded(self, account: Account) -> Verdicts:
        self.degraded_total += 1
        return self._local.admit(account.checks(), self._live_workers(), self._mono())

    def _returned(self) -> None:
        """Redis is here again, with or without what it had counted."""
        if self._been_up:
            self._exceeded_until_mono = self._mono() + REFUSAL_S_MAX
        self._been_up = True
        self.accounts.forget()


def _plan_name(checks: Sequence[Check]) -> object:
    if len(checks) == 1:
        check = checks[0]
        return check.policy.id if check.cost == 1 else (check.policy.id, check.cost)
    return tuple([(check.policy.id, check.cost) for check in checks])


# ---- what a worker may decide alone


def _turn(lease: Lease, now: float) -> bool:
    """Go on with the spare tokens. Says whether there are any that are still good."""
    lease.pot, lease.spare = lease.spare, 0
    lease.until_mono = lease.spare_until_mono
    lease.low = lease.pot // 4
    return now < lease.until_mono


def _from_pot(plan: Plan, lease: Lease, pot: int) -> Verdicts:
    policies, costs, left, reset_s = plan.policies, plan.costs, lease.left, lease.reset_s
    if len(policies) == 1:
        return (Verdict(policies[0], True, left[0] + pot * costs[0], reset_s[0]),)
    return tuple([Verdict(policies[n], True, left[n] + pot * costs[n], reset_s[n]) for n in range(len(policies))])


def _again_refused(account: Account, now: float) -> Verdicts:
    wait_s = account.refused_until_mono - now
    refused, verdicts = account.refused, []
    for at, policy in enumerate(account.plan.policies):
        left, reset_us, wait_us = refused[3 * at : 3 * at + 3]
        if wait_us:
            verdicts.append(Verdict(policy, False, left, max(reset_us / 1e6, wait_s), wait_s))
        else:
            verdicts.append(Verdict(policy, True, left, reset_us / 1e6))
    return tuple(verdicts)


def _known(account: Account, now: float) -> Verdicts | None:
    """Decide one more request by what an answer has just brought; None: it must be asked for."""
    lease = account.lease
    if lease is not None and lease.pot and now < lease.until_mono:
        lease.pot -= 1
        return _from_pot(account.plan, lease, lease.pot)
    return _again_refused(account, now) if now < account.refused_until_mono else None


# ---- what an answer says


def _appetite(account: Account, now: float, wanted: int) -> int:
    """Say how many requests to borrow for: what recent demand would use within the hold, within the plan's bound."""
    plan, lease = account.plan, account.lease
    if not plan.borrow_max:
        return 0
    if lease is None:
        if now - account.asked_mono < _OFTEN_S:
            account.lease = Lease(now)
        account.asked_mono = now
        return 0
    elapsed_s = max(now - lease.asked_mono, 1e-4)
    weight = 1 - math.exp(-elapsed_s / HOLD_S)
    lease.demand_per_s += (lease.since / elapsed_s - lease.demand_per_s) * weight
    lease.since = 0
    lease.asked_mono = now
    return max(0, min(plan.borrow_max, int(lease.demand_per_s * plan.hold_s * _APPETITE) - wanted))


def _rows(reply: Reply | StoreAway, policies: int) -> list[list[int]] | None:
    """Give of each policy what was available before, left, reset and wait; None when it is no answer."""
    if not isinstance(reply, list) or len(reply) != 3 + 4 * policies:
        return None
    return [reply[at : at + 4] for at in range(3, len(reply), 4)]


def _remember_refusal(account: Account, rows: list[list[int]], asked_mono: float, now: float) -> None:
    plan = account.plan
    waits = [row[3] for policy, row in zip(plan.policies, rows, strict=True) if row[3] and policy.mode == "enforce"]
    if not waits:
        account.refused_until_mono = 0.0
        return
    # Redis looked at its clock between the question and the answer.
    wait_s = min(max(max(waits) / 1e6, plan.pause_s), REFUSAL_S_MAX)
    account.refused_until_mono = (asked_mono + now) / 2 + wait_s
    account.refused = tuple([value for row in rows for value in row[1:]])


def _bank(account: Account, borrowed: int, until_mono: float, rows: list[list[int]], now: float) -> None:
    lease = account.lease
    assert lease is not None
    if lease.pot and now < lease.until_mono:
        lease.spare, lease.spare_until_mono, lease.low = borrowed, until_mono, -1
    else:
        lease.pot, lease.until_mono, lease.low = borrowed, until_mono, borrowed // 4
    lease.left = tuple([row[1] for row in rows])
    lease.reset_s = tuple([row[2] / 1e6 for row in rows])


def _verdict(account: Account, rows: list[list[int]], turn: int, admitted: int) -> Verdicts:
    """Give the verdicts for the request that is `turn`-th in its call."""
    plan, lease = account.plan, account.lease
    pot = lease.pot if lease is not None else 0
    verdicts = []
    for policy, cost, (available, left, reset_us, wait_us) in zip(plan.policies, plan.costs, rows, strict=True):
        if turn < available:
            behind = max(0, min(admitted, available) - turn - 1)
            verdicts.append(Verdict(policy, True, left + (behind + pot) * cost, reset_us / 1e6))
        else:
            verdicts.append(Verdict(policy, False, left, reset_us / 1e6, max(wait_us, 1) / 1e6))
    return tuple(verdicts)
