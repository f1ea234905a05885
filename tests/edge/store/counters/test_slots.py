"""Requests in flight over all workers (edge.store.counters.slots) against a real Valkey."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import gevent
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.snapshot import PolicyConfig
from edge.ports import Check
from edge.settings import parse_redis_url
from edge.store.cluster import client_for
from edge.store.counters import slots
from edge.store.counters.slots import Slots
from tests.edge.publishing import DEMO


def at_once(limit: int, policy_id: str = "at-once", **more) -> PolicyConfig:
    return PolicyConfig(id=policy_id, name=policy_id, algorithm="concurrency", limit=limit, **more)


def check(policy, identifier=b"caller"):
    return Check(DEMO, policy, identifier)


@pytest.fixture
def workers(publisher, address):
    """Four workers, each with a connection of its own."""
    publisher.redis.flushdb()
    clients = [client_for(address) for _ in range(4)]
    for client in clients:
        client.start()
    held = [Slots(client, lambda: 4) for client in clients]
    yield held
    for client in clients:
        client.stop()


def entered(worker, policy, times, identifier=b"caller"):
    asked = [gevent.spawn(worker.enter, (check(policy, identifier),)) for _ in range(times)]
    gevent.joinall(asked, raise_error=True)
    return sum(one.value[0].allowed for one in asked)


@pytest.mark.parametrize("limit", [1, 3, 10, 200])
def test_no_more_than_the_limit_are_let_in_over_all_workers(workers, limit):
    policy = at_once(limit)
    asked = [gevent.spawn(worker.enter, (check(policy),)) for worker in workers for _ in range(limit)]
    gevent.joinall(asked, raise_error=True)
    let_in = sum(one.value[0].allowed for one in asked)
    assert limit * 7 // 8 <= let_in <= limit
    if limit < 64:
        assert let_in == limit, "too small to hold anything ahead"


def test_who_leaves_makes_room_for_whoever_asks_next_on_whichever_worker(workers):
    policy, (first, second, *_) = at_once(1), workers
    for worker, other in ((first, second), (second, first)) * 5:
        assert entered(worker, policy, 1) == 1
        assert entered(other, policy, 1) == 0
        worker.leave((check(policy),))
        gevent.sleep(0.03)
    assert entered(first, policy, 1) == 1


def test_each_caller_has_places_of_its_own(workers):
    policy = at_once(2)
    assert entered(workers[0], policy, 5) == 2
    assert entered(workers[1], policy, 5, b"another") == 2


def test_of_several_limits_all_are_entered_or_none(workers):
    wide, narrow = at_once(5, "wide"), at_once(1, "narrow")
    both = (check(wide), check(narrow))
    assert [verdict.allowed for verdict in workers[0].enter(both)] == [True, True]
    assert [verdict.allowed for verdict in workers[0].enter(both)] == [True, False]
    assert entered(workers[1], wide, 9) == 4, "the refused one holds no place"


def test_a_shadow_limit_lets_everybody_in(workers):
    shadow = at_once(1, mode="shadow")
    own = (check(shadow), check(at_once(3, "other")))
    told = [[verdict.allowed for verdict in workers[0].enter(own)] for _ in range(2)]
    assert told == [[True, True], [False, True]]


def test_a_large_limit_costs_far_less_than_a_call_a_request(workers, publisher):
    policy, worker = at_once(10_000), workers[0]
    entered(worker, policy, 100)
    before = publisher.redis.info("stats")["total_commands_processed"]
    for _ in range(1_000):
        assert worker.enter((check(policy),))[0].allowed
        worker.leave((check(policy),))
    assert publisher.redis.info("stats")["total_commands_processed"] - before < 20


def test_a_lowered_limit_holds_for_whoever_comes_next(workers):
    assert entered(workers[0], at_once(6), 6) == 6
    assert entered(workers[0], at_once(2), 3) == 0
    assert entered(workers[1], at_once(2), 3) == 0
    workers[0].leave((check(at_once(6)),) * 5)
    gevent.sleep(0.05)
    assert entered(workers[1], at_once(2), 3) == 1


def test_nothing_is_remembered_of_who_left(workers, publisher, eventually, monkeypatch):
    monkeypatch.setattr(slots, "RENEW_S", 0.05)
    for limit in (2, 1_000):
        policy = at_once(limit, f"limit {limit}")
        entered(workers[0], policy, 2)
        workers[0].leave((check(policy),) * 2)
    eventually(lambda: not len(workers[0]))
    assert publisher.redis.keys("*slots*") == []


def test_a_request_that_is_interrupted_while_it_waits_keeps_no_place(workers):
    policy = at_once(1)
    asked = gevent.spawn(workers[0].enter, (check(policy),))
    gevent.sleep(0)
    asked.kill()
    gevent.sleep(0.1)
    assert entered(workers[0], policy, 3) == 1


steps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["enter", "enter", "leave", "renew"])), max_size=60)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.sampled_from([1, 2, 7, 64, 130]), st.integers(1, 40))
def test_whatever_workers_do_in_turn_never_more_than_the_limit_are_in(workers, publisher, asked, limit, crowd):
    publisher.redis.flushdb()
    policy, inside = at_once(limit, f"{time.time()}"), [0, 0, 0, 0]
    for number, act in asked:
        worker = workers[number]
        if act == "enter":
            inside[number] += entered(worker, policy, crowd)
        elif act == "leave" and inside[number]:
            worker.leave((check(policy),))
            inside[number] -= 1
        else:
            worker.renew()
        assert sum(inside) <= limit
    for worker, count in zip(workers, inside, strict=True):
        worker.leave((check(policy),) * count)
        worker.renew()
    gevent.sleep(0.02)
    for worker in workers:
        worker.renew()
    gevent.sleep(0.02)
    assert entered(workers[0], policy, limit) == limit, "everything came back"
    workers[0].leave((check(policy),) * limit)
    workers[0].renew()


# --- Redis away, and workers that die -------------------------------------------------------------------------------


@pytest.mark.parametrize(("on_failure", "let_in"), [("share", 2), ("open", 20), ("closed", 0)])
def test_with_redis_away_each_worker_lets_in_its_share(on_failure, let_in):
    client = client_for(parse_redis_url("redis://127.0.0.1:9"))
    worker = Slots(client, lambda: 4)
    policy = at_once(8, on_store_failure=on_failure)
    told = [worker.enter((check(policy),))[0] for _ in range(20)]
    assert sum(verdict.allowed for verdict in told) == let_in
    assert all(verdict.degraded for verdict in told)
    worker.leave((check(policy),) * let_in)
    assert worker.enter((check(policy),))[0].allowed is (let_in > 0)


def test_a_killed_worker_s_places_are_free_again_within_ten_seconds(workers, publisher, store_url):
    policy = at_once(3)
    command = [sys.executable, "-m", "tests.edge.store.counters.holder", store_url, "3"]
    holder = subprocess.Popen([*command, msgspec.json.encode(policy).decode()], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"3\n"
        gevent.sleep(slots.LEASE_S + 1)
        assert entered(workers[0], policy, 3) == 0, "it lives, so it holds its places"
        os.kill(holder.pid, signal.SIGKILL)
        killed = time.monotonic()
        while entered(workers[0], policy, 1) == 0:
            assert time.monotonic() - killed < 10
            gevent.sleep(0.05)
        assert entered(workers[1], policy, 5) == 2
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
