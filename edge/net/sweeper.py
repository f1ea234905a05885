"""One clock for all deadlines of a worker: four times a second it looks at every connection and ends overdue waits.

In:    connections, each with a `deadline_mono` and maybe a greenlet that waits on it.
Out:   TimedOut thrown into the waiting greenlet; chores (idle pools) run.
Laws:  1. Nobody pays for a timer per request: setting a deadline is one attribute. 2. A wait ends at most 0.25 s
       late, never early: time in which the loop stood still (a stopped process, a paused machine) counts for nobody.
       3. It runs in the hub, so it may throw.
Not here: what a timeout means (downstream, upstream).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import gevent

if TYPE_CHECKING:
    from edge.net.wire import Wire

_PERIOD_S: Final = 0.25
_ATTRIBUTE: Final = "vantageedge_sweeper"


class Sweeper:
    """`now_mono` is coarse: at most one period ahead of the clock, so that deadlines made from it are never early.
    `awake_s` is as coarse, and stands still while the loop does: what waiting is measured by.
    """

    __slots__ = ("_due_mono", "_timer", "awake_s", "chores", "now_mono", "wires")

    def __init__(self) -> None:
        self.wires: set[Wire] = set()
        self.chores: list[Callable[[float], None]] = []
        self.awake_s = 0.0
        self.now_mono = self._due_mono = time.monotonic() + _PERIOD_S
        loop: Any = gevent.get_hub().loop
        self._timer = loop.timer(_PERIOD_S, _PERIOD_S, ref=False)
        self._timer.start(self._sweep, update=True)

    @staticmethod
    def of_this_hub() -> Sweeper:
        """Give the sweeper of the calling thread's hub, made on first use."""
        hub = gevent.get_hub()
        sweeper: Sweeper | None = getattr(hub, _ATTRIBUTE, None)
        if sweeper is None:
            sweeper = Sweeper()
            setattr(hub, _ATTRIBUTE, sweeper)
        return sweeper

    def _sweep(self) -> None:
        now = time.monotonic()
        late_s = now - self._due_mono
        self.now_mono = self._due_mono = now + _PERIOD_S
        self.awake_s += _PERIOD_S + (late_s if late_s <= _PERIOD_S else 0.0)
        if late_s > _PERIOD_S:  # peers may have answered meanwhile: give everybody the time back
            for wire in self.wires:
                wire.deadline_mono += late_s
        for wire in [wire for wire in self.wires if wire.deadline_mono < now]:
            if wire.deadline_mono < now:  # who was woken before may have begun another wait on it
                wire.expire()
        for chore in tuple(self.chores):
            chore(now)

    def __repr__(self) -> str:
        return f"<Sweeper {len(self.wires)} connections>"
