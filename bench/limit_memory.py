"""What a worker remembers of each caller that is limited: bytes an account.

Run:   python -m bench.limit_memory [CALLERS]     prints bytes per caller, by what is known of it
In:    nothing; the store is a stand-in that answers at once.
Out:   resident memory before and after so many different callers, divided by them.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import gevent
from gevent.hub import get_hub

from contracts.snapshot import PolicyConfig
from edge.ports import Check
from edge.store.counters.distributed import DistributedCounters

CALLERS = 100_000


class _Store:
    """Answers every call at once: `row` for each limit."""

    up = reachable = True

    def __init__(self, row: tuple[int, int, int, int]) -> None:
        self.on_up: list[Callable[[], None]] = []
        self._row = row

    def begin(self, _script: object, keys: list[str], words: tuple[Any, ...], then: Callable[[Any], None]) -> None:
        admitted = min(words[0], self._row[0])
        get_hub().loop.run_callback(then, [admitted, words[1], 100_000, *self._row * len(keys)])


def bytes_per_caller(
    policy: PolicyConfig | Sequence[PolicyConfig], row: tuple[int, int, int, int], times: int, callers: int
) -> float:
    """Ask `times` for each caller. `row`: available, left, reset and wait of the answers. Of several policies the
    callers have one each, in turn: keys with limits of their own."""
    policies = (policy,) if isinstance(policy, PolicyConfig) else tuple(policy)
    counters = DistributedCounters(_Store(row), lambda: 4)  # type: ignore[arg-type]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(callers):
        check = (Check("tenant", policies[number % len(policies)], b"user_%020d" % number),)
        for _ in range(times):
            gevent.spawn(counters.admit, check).join()
    gevent.sleep(0)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(counters.accounts) == callers
    return (after - before) / callers


def main() -> None:
    callers = int(sys.argv[1]) if len(sys.argv) > 1 else CALLERS
    small = PolicyConfig(id="small", name="small", algorithm="token_bucket", rate_per_second=1, burst=10)
    large = PolicyConfig(id="large", name="large", algorithm="token_bucket", rate_per_second=5_000, burst=5_000)
    own = [PolicyConfig(id="own", name="own", algorithm="token_bucket", rate_per_second=n, burst=10) for n in (1, 2, 3)]
    for what, policy, row, times in (
        ("one of three limits of its own", own, (10, 9, 1_000_000, 0), 1),
        ("asked once, a small limit", small, (10, 9, 1_000_000, 0), 1),
        ("refused", small, (0, 0, 9_123_456, 812_345), 1),
        ("asked often, borrows", large, (5_000, 4_321, 654_321, 0), 3),
        ("asked often, borrowed, refused", large, (5_000, 0, 654_321, 9_812_345), 3),
    ):
        print(f"{what:30} {bytes_per_caller(policy, row, times, callers):6.0f} bytes")


if __name__ == "__main__":
    main()
