"""How slow a client may be: whoever makes us wait pays with credit, and earns it by octets.

In:    octets that a client sent or took, seconds spent waiting for it.
Out:   how much longer it may keep us waiting.
Laws:  1. Only time spent waiting for the client counts. 2. It starts with GRACE_S; each octet earns 1/rate seconds, up
       to a cap, so that a fast beginning does not pay for a stall without end.
Not here: waiting (wire, downstream).
"""

from __future__ import annotations

from typing import Final

GRACE_S: Final = 5.0


class Pace:
    """Units: octets per second, seconds. `credit_s` at or below zero: too slow."""

    __slots__ = ("_cap_s", "_rate", "credit_s")

    def __init__(self, rate: float, cap_s: float) -> None:
        self._rate = rate
        self._cap_s = max(cap_s, GRACE_S)
        self.credit_s = GRACE_S

    def account(self, octets: int, waited_s: float) -> None:
        """`octets` moved during or before a wait of `waited_s`."""
        self.credit_s = min(self.credit_s + octets / self._rate, self._cap_s) - waited_s

    def __repr__(self) -> str:
        return f"<Pace {self._rate:g} octets/s, {self.credit_s:.1f} s left>"
