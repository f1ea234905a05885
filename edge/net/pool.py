"""The books of the connections to one target: which is used next, which is given up. Pure: no socket, no clock.

In:    connections as opaque values, times.
Out:   decisions; the caller opens and closes.
Laws:  1. Last in, first out: the warmest connection is used, the rest can expire. 2. Bounds hold at all times:
       `idle_max` kept, `connections_max` in all (idle and in use).
Not here: opening, closing, noticing that a peer closed (upstream).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

C = TypeVar("C")


class Books(Generic[C]):
    __slots__ = ("_idle", "connections_max", "idle_max", "idle_timeout_s", "in_use")

    def __init__(self, connections_max: int, idle_max: int, idle_timeout_s: float) -> None:
        self.connections_max: Final = connections_max
        self.idle_max: Final = idle_max
        self.idle_timeout_s: Final = idle_timeout_s
        self.in_use = 0
        self._idle: list[tuple[C, float]] = []

    @property
    def idle(self) -> int:
        return len(self._idle)

    def take(self) -> C | None:
        """Take the connection that came back last, or None when all are in use."""
        if not self._idle:
            return None
        self.in_use += 1
        return self._idle.pop()[0]

    def open(self) -> bool:
        """Reserve a place for a new connection; False when there is none. `lost` gives it back."""
        if self.in_use + len(self._idle) >= self.connections_max:
            return False
        self.in_use += 1
        return True

    def give_back(self, connection: C, now_mono: float) -> bool:
        """Keep a connection that can be used again; False when enough are kept and the caller must close it."""
        self.in_use -= 1
        if len(self._idle) >= self.idle_max:
            return False
        self._idle.append((connection, now_mono))
        return True

    def lost(self) -> None:
        """A connection in use ended."""
        self.in_use -= 1

    def forget(self, connection: C) -> None:
        """An idle connection ended. Complexity: linear in idle_max."""
        self._idle = [entry for entry in self._idle if entry[0] is not connection]

    def expired(self, now_mono: float) -> list[C]:
        """Take out all that were idle for too long."""
        oldest_mono = now_mono - self.idle_timeout_s
        count = 0
        for _, since_mono in self._idle:  # oldest first
            if since_mono > oldest_mono:
                break
            count += 1
        gone = [connection for connection, _ in self._idle[:count]]
        del self._idle[:count]
        return gone

    def weed(self, is_kept: Callable[[C], bool]) -> list[C]:
        """Take out the idle ones that are not to be kept. Complexity: linear in idle_max."""
        gone = [connection for connection, _ in self._idle if not is_kept(connection)]
        self._idle = [entry for entry in self._idle if entry[0] not in gone]
        return gone

    def __repr__(self) -> str:
        return f"<Books {self.in_use} in use, {len(self._idle)} idle of {self.connections_max}>"
