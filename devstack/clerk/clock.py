"""The instance's clock, which a test may set wrong: skewed against the machine's, or standing still.

In:    the machine's clock.
Out:   wall seconds as this instance believes them.
Laws:  1. Everything the instance says about time, it takes from here.
Not here: how long an answer is delayed (outages).
"""

from __future__ import annotations

import time


class Clock:
    """Right until it is set."""

    __slots__ = ("frozen_at", "skew_s")

    def __init__(self) -> None:
        self.skew_s = 0.0
        self.frozen_at: float | None = None

    def now(self) -> float:
        """Give wall seconds."""
        return (time.time() if self.frozen_at is None else self.frozen_at) + self.skew_s

    def set(self, *, skew_s: float = 0.0, frozen_at: float | None = None) -> None:
        """Go wrong by `skew_s`, or stand still at `frozen_at` (wall seconds); neither is right again."""
        self.skew_s, self.frozen_at = skew_s, frozen_at
