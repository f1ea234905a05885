"""Limits counted in this worker alone, for as long as Redis is away.

In:    checks, the number of live workers, the time of a clock that never steps.
Out:   verdicts marked `degraded`.
Laws:  1. `share` counts to limit / live workers; `open` admits; `closed` refuses. All shares together never admit more
       than the limit over time; at once, no more than the limit or one request a worker, whichever is more.
       2. All checks of a request are counted or none. 3. What is remembered is bounded; the longest unused goes first.
       4. It is not emptied when Redis returns: an outage soon after another begins with what the last one left, so
       outages in a row do not add up to one quota each.
Not here: the arithmetic (edge.phases.ratelimit), when Redis counts as away (edge.store.client).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from contracts.snapshot import PolicyConfig
from edge.phases.ratelimit import (
    EXACT_MAX,
    Bucket,
    Decision,
    Marks,
    State,
    Window,
    exact_window,
    gcra,
    quota,
    sliding_window,
)
from edge.ports import Check, Verdict

_STATES_MAX: Final = 50_000
_Name = tuple[str, bytes]


class LocalLimiter:
    def __init__(self) -> None:
        self._states: OrderedDict[_Name, State] = OrderedDict()

    def admit(self, checks: Sequence[Check], live_workers: int, now: float) -> tuple[Verdict, ...]:
        decisions: list[Decision] = []
        states: dict[_Name, State] = {}
        for check in checks:
            name = (check.policy.id, check.identifier)
            decision, state = self._decide(check, self._states.get(name), live_workers, now)
            decisions.append(decision)
            if state is not None and decision.allowed:
                states[name] = state
        verdicts = tuple(
            Verdict(check.policy, d.allowed, d.remaining, d.reset_s, d.retry_after_s, degraded=True)
            for check, d in zip(checks, decisions, strict=True)
        )
        if all(verdict.allowed or verdict.policy.mode != "enforce" for verdict in verdicts):
            self._keep(states)
        return verdicts

    def _decide(
        self, check: Check, state: State | None, live_workers: int, now: float
    ) -> tuple[Decision, State | None]:
        policy, cost = check.policy, check.cost
        if policy.on_store_failure == "open":
            return Decision(True, quota(policy), 0.0, 0.0), None
        if policy.on_store_failure == "closed" or cost > quota(policy):
            return Decision(False, 0, 1.0, 1.0), None
        return _share(policy, cost, state, live_workers, now)

    def _keep(self, states: dict[_Name, State]) -> None:
        for name, state in states.items():
            self._states[name] = state
            self._states.move_to_end(name)
        while len(self._states) > _STATES_MAX:
            self._states.popitem(last=False)


def _share(
    policy: PolicyConfig, cost: int, state: State | None, live_workers: int, now: float
) -> tuple[Decision, State]:
    """Decide by one worker's share. A window of which no whole request falls to each worker becomes a bucket that
    fills in its rate: so each worker admits one now and then, and all together no more than the limit. So does
    a calendar quota, by the length of its period.
    """
    whole = quota(policy)
    if policy.algorithm == "sliding_window" and whole // live_workers >= cost:
        limit = whole // live_workers
        if limit <= EXACT_MAX:
            return exact_window(state if isinstance(state, Marks) else None, now, limit, policy.window_s, cost)
        return sliding_window(state if isinstance(state, Window) else None, now, limit, policy.window_s, cost)
    rate = policy.rate_per_second if policy.algorithm == "token_bucket" else whole / policy.window_s
    bucket = state if isinstance(state, Bucket) else None
    return gcra(bucket, now, rate / live_workers, max(float(cost), whole / live_workers), cost)
