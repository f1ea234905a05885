"""To whom a request goes: the order in which an origin's targets are tried.

In:    the origin, what the probes say of its targets.
Out:   an iterator of candidates, at most one per attempt.
Laws:  1. Smooth weighted round robin: in any run of sum(weights) requests each target gets its weight's share, spread
       out. 2. What is remembered survives config changes that leave the origin's targets as they are. 3. Less than half
       of the weight healthy is panic: all targets are used, because probes are then likelier to be wrong than all
       targets. 4. A request is retried on another target where there is one.
Not here: probing (worker), whether another attempt is safe (phases.forward).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice, repeat
from typing import Final

from edge.ports import HealthView
from edge.snapshot import Origin, Target, Tenant

ATTEMPTS_MAX: Final = 3
"""The first try and at most two retries."""
ORIGINS_MAX: Final = 10_000
"""Round-robin states a worker remembers; beyond it they start over."""


class _Turns:
    """The running weights of one origin's targets, by target id."""

    __slots__ = ("shape", "weights")

    def __init__(self, origin: Origin) -> None:
        self.shape = origin.shape
        self.weights = dict.fromkeys((target.id for target in origin.targets), 0)


class Balancer:
    """The phase; holds whose turn it is at each origin with more than one target."""

    __slots__ = ("_health", "_turns")

    def __init__(self, health: HealthView) -> None:
        self._health = health
        self._turns: dict[tuple[str, str], _Turns] = {}

    def candidates(self, tenant: Tenant, origin: Origin) -> Iterator[Target]:
        """Give the targets to try, ATTEMPTS_MAX in all; a lone target is its own alternative, healthy or not."""
        targets = origin.targets
        if len(targets) == 1:
            return repeat(targets[0], ATTEMPTS_MAX)
        usable = self._usable(tenant, targets)
        weights = self._weights(tenant, origin)
        total = 0
        for target in usable:
            weights[target.id] += target.weight
            total += target.weight
        ordered = sorted(usable, key=lambda target: -weights[target.id])
        weights[ordered[0].id] -= total
        return islice(cycle(ordered), ATTEMPTS_MAX)

    def _usable(self, tenant: Tenant, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        healthy = tuple(target for target in targets if self._health.healthy(tenant.id, target.id))
        if 2 * sum(target.weight for target in healthy) < sum(target.weight for target in targets):
            return targets
        return healthy

    def _weights(self, tenant: Tenant, origin: Origin) -> dict[str, int]:
        key = (tenant.id, origin.id)
        turns = self._turns.get(key)
        if turns is None or turns.shape != origin.shape:
            if len(self._turns) >= ORIGINS_MAX:
                self._turns.clear()
            turns = self._turns[key] = _Turns(origin)
        return turns.weights
