"""Limits counted in this worker alone, for as long as Redis is away.

In:    checks, the number of live workers, the time.
Out:   verdicts marked `degraded`.
Laws:  1. `share` counts to limit / live workers, at least one; `open` admits; `closed` refuses. 2. All checks of a
       request are counted or none. 3. What is remembered is bounded. 4. Each outage begins with full quotas: the worst
       overshoot is one share per worker and outage.
Not here: the arithmetic (edge.phases.ratelimit), when Redis counts as away (edge.store.client).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from contracts.snapshot import PolicyConfig
from edge.phases.ratelimit import Bucket, Decision, Window, gcra, quota, sliding_window
from edge.ports import Check, Verdict

_STATES_MAX: Final = 20_000
_Name = tuple[str, bytes]
_State = Bucket | Window


class LocalLimiter:
    def __init__(self) -> None:
        self._states: OrderedDict[_Name, _State] = OrderedDict()

    def clear(self) -> None:
        self._states.clear()

    def admit(self, checks: Sequence[Check], live_workers: int, now: float) -> tuple[Verdict, ...]:
        decisions: list[Decision] = []
        states: dict[_Name, _State] = {}
        for check in checks:
            name = (check.policy.id, check.identifier)
            decision, state = self._decide(check.policy, self._states.get(name), live_workers, now)
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
        self, policy: PolicyConfig, state: _State | None, live_workers: int, now: float
    ) -> tuple[Decision, _State | None]:
        if policy.on_store_failure == "open":
            return Decision(True, quota(policy), 0.0, 0.0), None
        if policy.on_store_failure == "closed":
            return Decision(False, 0, 1.0, 1.0), None
        share = max(1, quota(policy) // live_workers)
        if policy.algorithm == "token_bucket":
            bucket = state if isinstance(state, Bucket) else None
            return gcra(bucket, now, policy.rate_per_second / live_workers, share)
        return sliding_window(state if isinstance(state, Window) else None, now, share, policy.window_s)

    def _keep(self, states: dict[_Name, _State]) -> None:
        self._states.update(states)
        while len(self._states) > _STATES_MAX:
            self._states.popitem(last=False)
