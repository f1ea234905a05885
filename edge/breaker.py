"""Whether to ask somebody who keeps failing: closed, open, half-open.

In:    who asks and when, how each call ended; monotonic times, given by the caller.
Out:   a ticket to call, or a refusal and how long it lasts.
Laws:  1. Closed: every call is let through and counted. Failures of a share of at least `failure_share` among at least
       `calls_min` calls within `window_s` open it. 2. Open: nobody calls for `open_s`, twice as long after each probe
       that failed, up to `open_s_max`. 3. Half-open: up to `probes` calls at once; so many successes in a row close
       it, one failure opens it. 4. A call that began before the state changed says nothing about it. 5. Memory and
       time are the same for any number of calls.
Not here: what counts as a failure, clocks, sharing between workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

State = Literal["closed", "open", "half_open"]
_SLICES: Final = 10
PROBE_WAIT_S: Final = 1.0
"""What a caller is told to wait while others probe."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to stop asking, and for how long. Times in seconds."""

    calls_min: int
    open_s: float
    open_s_max: float
    failure_share: float = 0.5
    window_s: float = 10.0
    probes: int = 1


class Breaker:
    """One authority's or one target's. Every ticket that `enter` gives goes back by `leave`, exactly once."""

    __slots__ = (
        "_calls", "_epoch", "_failures", "_open_s", "_policy", "_probing", "_slice", "_slice_s", "_succeeded",
        "_until_mono", "state",
    )  # fmt: skip

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._slice_s = policy.window_s / _SLICES
        self._epoch = 1
        self.state: State = "closed"
        self._open_s = policy.open_s
        self._until_mono = 0.0
        self._probing = self._succeeded = 0
        self._slice = 0
        self._calls = [0] * _SLICES
        self._failures = [0] * _SLICES

    def enter(self, now_mono: float) -> int:
        """Give a ticket for one call; 0: do not call."""
        if self.state == "closed":
            return self._epoch
        if self.state == "open":
            if now_mono < self._until_mono:
                return 0
            self._turn("half_open")
        if self._probing >= self._policy.probes:
            return 0
        self._probing += 1
        return self._epoch

    def leave(self, ticket: int, now_mono: float, *, succeeded: bool | None) -> None:
        """Say how a call ended; None: it was given up for a reason of ours and says nothing about the other side."""
        if ticket != self._epoch:
            return
        if self.state == "half_open":
            self._probing -= 1
            if succeeded:
                self._succeeded += 1
                if self._succeeded >= self._policy.probes:
                    self._close()
            elif succeeded is False:
                self._open_s = min(2 * self._open_s, self._policy.open_s_max)
                self._open(now_mono)
        elif succeeded is not None:
            self._count(now_mono, failed=not succeeded)

    def wait_s(self, now_mono: float) -> float:
        """Give how long a refusal lasts at least. 0 when it is closed."""
        if self.state == "open":
            return max(self._until_mono - now_mono, 0.0)
        return PROBE_WAIT_S if self.state == "half_open" else 0.0

    def _count(self, now_mono: float, failed: bool) -> None:
        slice_ = int(now_mono // self._slice_s)
        passed = min(max(slice_ - self._slice, 0), _SLICES)
        for number in range(slice_ - passed + 1, slice_ + 1):
            self._calls[number % _SLICES] = self._failures[number % _SLICES] = 0
        self._slice = max(slice_, self._slice)
        self._calls[self._slice % _SLICES] += 1
        if not failed:
            return
        self._failures[self._slice % _SLICES] += 1
        calls = sum(self._calls)
        if calls >= self._policy.calls_min and sum(self._failures) >= self._policy.failure_share * calls:
            self._open(now_mono)

    def _open(self, now_mono: float) -> None:
        self._until_mono = now_mono + self._open_s
        self._turn("open")

    def _close(self) -> None:
        self._open_s = self._policy.open_s
        self._calls = [0] * _SLICES
        self._failures = [0] * _SLICES
        self._turn("closed")

    def _turn(self, state: State) -> None:
        self.state = state
        self._epoch += 1
        self._probing = self._succeeded = 0

    def __repr__(self) -> str:
        return f"<Breaker {self.state} {sum(self._failures)} of {sum(self._calls)} failed>"
