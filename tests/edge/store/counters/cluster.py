"""A cluster of workers in simulated time, over the real script on a real server or over a model of it.

In:    requests to workers; how long calls and answers travel.
Out:   when each admitted request was deducted or, if borrowed for, used.
Laws:  1. Workers are DistributedCounters as they are; only their client and clock are simulated. 2. ModelStore rests on
       the arithmetic of edge.phases.ratelimit alone, one request at a time; it shares no line with the script.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import gevent
from gevent.hub import get_hub

from edge.phases.ratelimit import Bucket, Marks, Window, calendar_quota, exact_window, gcra, sliding_window
from edge.ports import Check
from edge.store.counters.distributed import LUA, PARTS, DistributedCounters
from tests.edge.publishing import DEMO

SIMULATED = """
local function store_now() return tonumber(ARGV[#ARGV]) end
local function store_keep(key, value) redis.call('SET', key, value) end
"""
SCRIPT = "\n".join([SIMULATED, *((LUA / f"{part}.lua").read_text("utf-8") for part in PARTS[1:])])


class LuaStore:
    """The script on a real server; only its clock and the expiry of keys are ours."""

    def __init__(self, redis: Any) -> None:
        redis.flushdb()
        self._script = redis.register_script(SCRIPT)

    def run(self, keys: list[str], words: tuple[Any, ...], now_us: int) -> list[int]:
        return self._script(keys=keys, args=[*words, now_us])


class ModelStore:
    def __init__(self) -> None:
        self.states: dict[str, Any] = {}

    def run(self, keys: list[str], words: tuple[Any, ...], now_us: int) -> list[int]:
        wanted, ahead, lead_us = words[:3]
        now, lead_s = now_us / 1e6, lead_us / 1e6
        limits = [
            _Limit(words[at : at + 5], self.states.get(key))
            for key, at in zip(keys, itertools.count(3, 5), strict=False)
        ]
        available = [limit.fitting(now, wanted) for limit in limits]
        enforced = [count for count, limit in zip(available, limits, strict=True) if limit.enforced]
        admitted = min([wanted, *enforced])
        good_s = lead_s
        for limit, count in zip(limits, available, strict=True):
            limit.take(now, min(admitted, count))
        borrowed = ahead if admitted == wanted else 0
        for limit in limits:
            if borrowed:
                borrowed, good = limit.fitting_ahead(now, borrowed, lead_s)
                good_s = min(good_s, good)
        answer = [admitted, borrowed, int(good_s * 1e6 + 1e-3)]
        for key, limit, count in zip(keys, limits, available, strict=True):
            limit.take_ahead(now, borrowed, lead_s)
            self.states[key] = limit.state
            decision, _ = limit.one(limit.state, now)
            left = limit.left(now)
            answer += [count, left, 0, round(decision.retry_after_s * 1e6)]
        return answer


class _Limit:
    def __init__(self, words: tuple[Any, ...], state: Any) -> None:
        self.kind, first, self.second, self.cost, self.enforced = words
        self.first = float(first)
        self.state = state

    def one(self, state: Any, now: float, cost: int | None = None) -> Any:
        cost = self.cost if cost is None else cost
        if self.kind == "g":
            return gcra(state, now, self.first, self.second, cost)
        if self.kind == "c":
            return calendar_quota(state, now, int(self.first), self.second, cost)
        decide = sliding_window if self.kind == "w" else exact_window
        return decide(state, now, int(self.first), self.second, cost)

    def fitting(self, now: float, most: int) -> int:
        state = self.state
        for count in range(most):
            decision, state = self.one(state, now)
            if not decision.allowed:
                return count
        return most

    def take(self, now: float, count: int) -> None:
        for _ in range(count):
            self.state = self.one(self.state, now)[1]
        if not count and self.stepped(now):  # a refused question writes only to follow a clock that stepped back
            self.state = self.looked(now)

    def looked(self, now: float) -> Any:
        """The state as of now, with nothing taken."""
        return self.one(self.state, now, 10**12)[1]

    def stepped(self, now: float) -> bool:
        state = self.state
        if isinstance(state, Bucket):
            return now < state.at
        if isinstance(state, Window):
            return state.number > now // self.second + 1
        return isinstance(state, Marks) and any(at > now for at in state.at)

    def fitting_ahead(self, now: float, ahead: int, lead_s: float) -> tuple[int, float]:
        if self.kind in "cx":
            return 0, lead_s
        if self.kind == "w":
            number = self.looked(now).number
            rest_s = max(0.0, (number + 1) * self.second - max(now, number * self.second))
            if rest_s < lead_s:
                ahead, lead_s = int(ahead * rest_s / lead_s + 1e-9), rest_s
            return self.fitting(now, ahead), lead_s
        late = _Limit((self.kind, self.first, self.second, self.cost, 1), self._late(now, lead_s))
        return late.fitting(now, ahead), lead_s

    def take_ahead(self, now: float, count: int, lead_s: float) -> None:
        if count:
            if self.kind == "g":
                self.state = self._late(now, lead_s)
            self.take(now, count)

    def left(self, now: float) -> int:
        return max(0, self.one(self.state, now, 0)[0].remaining)

    def _late(self, now: float, lead_s: float) -> Bucket:
        return Bucket(max(self.looked(now).level, lead_s * self.first), now)


class _SimulatedClient:
    up = reachable = True

    def __init__(self, cluster: Cluster) -> None:
        self.on_up: list[Callable[[], None]] = []
        self._cluster = cluster

    def begin(self, _script: object, keys: list[str], words: tuple[Any, ...], then: Any) -> None:
        self._cluster.travel(keys, words, then)


class Cluster:
    def __init__(self, store: LuaStore | ModelStore, workers: int, seed: int = 0, delay_s: float = 0.002) -> None:
        self.now = 10_000.0
        self.skew = 0.0
        """What the store's clock is ahead of real time."""
        self.store = store
        self.calls = 0
        self.asked = 0
        self.refused = 0
        self.waited = 0
        """Requests that were not decided at once."""
        self.admitted: list[float] = []
        self._delay_s = delay_s
        self._chance = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._allowed = 0
        self.workers = [
            DistributedCounters(_SimulatedClient(self), lambda: 4, lambda: self.now) for _ in range(workers)
        ]

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), act))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            when, _, act = heapq.heappop(self._events)
            self.now = max(self.now, when)
            act()
        self.now = max(self.now, until)

    def ask(self, worker: int, policies: tuple[Any, ...], times: int = 1, cost: int = 1) -> None:
        checks = tuple(Check(DEMO, policy, b"caller", cost) for policy in policies)

        def one() -> None:
            verdicts = self.workers[worker].admit(checks)
            if all(verdict.allowed for verdict in verdicts):
                self._allowed += 1
            else:
                self.refused += 1

        self.asked += times
        before = self._allowed
        for _ in range(times):
            gevent.spawn(one)
        decided = self._allowed + self.refused
        self._settle()
        self.waited += times - (self._allowed + self.refused - decided)
        self.admitted += [self.now] * (self._allowed - before)

    def travel(self, keys: list[str], words: tuple[Any, ...], then: Any) -> None:
        self.calls += 1
        there = self.now + self._chance.uniform(0.0, self._delay_s)

        def run() -> None:
            reply = self.store.run(keys, words, int((self.now + self.skew) * 1e6))
            self.admitted += [self.now] * reply[0]
            self.at(self.now + self._chance.uniform(0.0, self._delay_s), lambda: deliver(reply))

        def deliver(reply: list[int]) -> None:
            before = self._allowed
            get_hub().loop.run_callback(then, reply)
            self._settle()
            self.admitted += [self.now] * (self._allowed - before - reply[0])

        self.at(there, run)

    def _settle(self) -> None:
        for _ in range(4):
            gevent.sleep(0)
