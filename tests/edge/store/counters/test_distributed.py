from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import gevent
import msgspec
import pytest
import redis

from contracts import keyspace
from edge.errors import StoreAway
from edge.ports import Check
from edge.settings import parse_redis_url
from edge.store.client import Client
from edge.store.counters.distributed import DistributedCounters
from tests.edge.publishing import DEMO, bucket, window


def check(policy, identifier=b"caller", tenant_id=DEMO):
    return Check(tenant_id, policy, identifier)


@pytest.fixture
def counters(client):
    return DistributedCounters(client, lambda: 1)


def admitted(counters, policy, times, identifier=b"caller"):
    return sum(counters.admit((check(policy, identifier),))[0].allowed for _ in range(times))


@pytest.mark.parametrize("policy", [bucket(rate=0.1, burst=5), window(limit=5, window_s=3600)])
def test_the_quota_passes_and_no_more(counters, publisher, policy):
    assert admitted(counters, policy, 20) == 5
    assert admitted(counters, policy, 20, b"another") == 5


@pytest.mark.parametrize("policy", [bucket(rate=0.1, burst=5), window(limit=5, window_s=3600)])
def test_what_is_left_is_told(counters, publisher, policy):
    told = [counters.admit((check(policy),))[0] for _ in range(6)]
    assert [verdict.remaining for verdict in told] == [4, 3, 2, 1, 0, 0]
    assert told[0].reset_s > 0
    assert told[5].retry_after_s > 0
    assert not told[5].degraded


def test_a_refusal_names_when_to_come_back_and_keeps_its_word(counters, publisher):
    policy = bucket(rate=5, burst=1)
    assert admitted(counters, policy, 1) == 1
    verdict = counters.admit((check(policy),))[0]
    assert not verdict.allowed
    assert 0 < verdict.retry_after_s <= 0.2
    gevent.sleep(verdict.retry_after_s + 0.005)
    assert counters.admit((check(policy),))[0].allowed


def test_a_refused_caller_is_not_asked_about_again_before_its_time(counters, publisher):
    policy = bucket(rate=0.1, burst=1)
    admitted(counters, policy, 2)
    calls = counters.script_calls_total
    assert admitted(counters, policy, 100) == 0
    assert counters.script_calls_total == calls


def test_all_policies_are_counted_or_none(counters, publisher):
    wide, narrow = bucket("wide", rate=0.1, burst=10), window("narrow", limit=2, window_s=3600)
    results = [counters.admit((check(wide), check(narrow))) for _ in range(5)]
    assert [all(v.allowed for v in verdicts) for verdicts in results] == [True, True, False, False, False]
    assert [v.allowed for v in results[2]] == [True, False]
    assert counters.admit((check(wide),))[0].remaining == 7


def test_a_shadow_policy_says_no_and_takes_nothing_from_the_others(counters, publisher):
    shadow, real = bucket("shadow", rate=0.1, burst=1, mode="shadow"), bucket("real", rate=0.1, burst=3)
    results = [counters.admit((check(shadow), check(real))) for _ in range(4)]
    assert [verdicts[0].allowed for verdicts in results] == [True, False, False, False]
    assert [verdicts[1].allowed for verdicts in results] == [True, True, True, False]


def test_requests_that_wait_together_share_a_call(counters, publisher):
    policy = bucket(rate=0.1, burst=30)
    counters.admit((check(policy),))
    calls = counters.script_calls_total
    answers = gevent.joinall([gevent.spawn(counters.admit, (check(policy),)) for _ in range(64)])
    assert sum(one.value[0].allowed for one in answers) == 29
    assert counters.script_calls_total - calls <= 3


def test_a_large_bucket_is_borrowed_from_and_never_exceeded(counters, publisher):
    policy = bucket(rate=0.001, burst=2_000)
    assert admitted(counters, policy, 4_000) in range(1_900, 2_001)
    assert counters.script_calls_total < 1_000


def test_tokens_that_were_borrowed_and_not_used_are_lost_not_used_later(counters, publisher):
    policy = bucket(rate=0.001, burst=2_000)
    admitted(counters, policy, 500)
    (plan,) = counters.accounts.plans.values()
    assert plan.young[b"caller"].lease.pot > 0
    gevent.sleep(0.15)
    calls = counters.script_calls_total
    admitted(counters, policy, 1)
    assert counters.script_calls_total == calls + 1


def test_a_changed_policy_starts_with_its_own_numbers(counters, publisher):
    assert admitted(counters, bucket(rate=0.1, burst=2), 5) == 2
    assert admitted(counters, bucket(rate=0.1, burst=4), 5) == 2


def test_all_keys_of_a_request_live_in_the_tenants_slot(counters, publisher):
    counters.admit((check(bucket(rate=1)), check(window())))
    keys = [key.decode() for key in publisher.redis.scan_iter("*count*")]
    assert len(keys) == 2
    assert all(key.startswith(keyspace.counter(DEMO, "", "")[:20]) and f"{{{DEMO}}}" in key for key in keys)
    assert all(0 < publisher.redis.pttl(key) <= 3_000 for key in keys)


def test_a_policy_that_holds_for_each_tenant_counts_for_each_apart_and_in_its_slot(counters, publisher):
    policy, other = bucket(rate=0.1, burst=2), "0197a000-0000-7000-8000-0000000000aa"
    publisher.redis.flushdb()
    for tenant_id in (DEMO, other, DEMO, other, DEMO):
        counters.admit((check(policy, tenant_id=tenant_id),))
    keys = sorted(key.decode() for key in publisher.redis.scan_iter("*count*"))
    assert [f"{{{tenant_id}}}" in key for tenant_id, key in zip(sorted([DEMO, other]), keys, strict=True)] == [True] * 2
    assert not counters.admit((check(policy),))[0].allowed
    assert len(counters.accounts) == 2


def test_a_script_the_server_forgot_is_taught_again(counters, publisher):
    policy = bucket(rate=0.1, burst=5)
    admitted(counters, policy, 1)
    publisher.redis.script_flush()
    assert admitted(counters, policy, 10) == 4


def test_while_the_store_is_away_a_worker_admits_its_share_at_once_and_recovers_by_itself(valkey, eventually):
    client = Client(parse_redis_url(valkey.url))
    client.start()
    counters = DistributedCounters(client, lambda: 2)
    shared, opened, closed = (
        bucket(name, rate=0.001, burst=10, on_store_failure=name) for name in ("share", "open", "closed")
    )
    try:
        assert counters.admit((check(shared),))[0].allowed
        os.kill(valkey.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert counters.overshoot_bound() == 0.0
        results = [counters.admit((check(shared),))[0] for _ in range(20)]
        assert time.monotonic() - began < 0.8  # one deadline, then a short circuit
        assert counters.overshoot_bound() == 1.0
        assert sum(verdict.allowed for verdict in results) == 5
        assert all(verdict.degraded for verdict in results)
        assert admitted(counters, opened, 20) == 20
        assert admitted(counters, closed, 20) == 0
        assert counters.degraded_total == 60
        os.kill(valkey.pid, signal.SIGCONT)
        eventually(lambda: client.up)
        verdict = counters.admit((check(shared),))[0]
        assert verdict.allowed
        assert not verdict.degraded
        assert counters.overshoot_bound() == 2.0
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
        client.stop()


def test_a_store_that_is_killed_and_comes_back_empty_counts_again_within_two_seconds(valkey, eventually):
    client = Client(parse_redis_url(valkey.url))
    client.start()
    counters = DistributedCounters(client, lambda: 4)
    policy = bucket(rate=0.001, burst=40)
    try:
        assert admitted(counters, policy, 60) == 40
        valkey.kill()
        eventually(lambda: not client.up)
        assert admitted(counters, policy, 60) == 0  # the refusal still holds: it names its moment
        assert admitted(counters, policy, 60, b"another") == 10
        valkey.start()
        began = time.monotonic()
        eventually(lambda: not counters.admit((check(policy, b"third"),))[0].degraded, timeout_s=3)
        assert time.monotonic() - began < 2.0
        assert admitted(counters, policy, 60) == 40  # one quota more: it has forgotten what it counted
    finally:
        client.stop()


def test_outages_in_a_row_do_not_add_up_to_a_quota_each(valkey, eventually):
    client = Client(parse_redis_url(valkey.url))
    client.start()
    counters = DistributedCounters(client, lambda: 2)
    policy = bucket(rate=0.001, burst=10)
    taken = []
    try:
        for _ in range(2):
            eventually(lambda: client.up)
            os.kill(valkey.pid, signal.SIGSTOP)
            with contextlib.suppress(StoreAway):
                client.call("PING")
            taken.append(admitted(counters, policy, 20))
            os.kill(valkey.pid, signal.SIGCONT)
        assert taken == [5, 0]
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
        client.stop()


def test_a_server_that_was_demoted_is_left_and_found_again_when_it_may_write(valkey, eventually):
    client = Client(parse_redis_url(valkey.url))
    client.start()
    counters = DistributedCounters(client, lambda: 1)
    policy = bucket(rate=0.001, burst=1_000)
    try:
        assert not counters.admit((check(policy),))[0].degraded
        valkey_redis = redis.Redis.from_url(valkey.url)
        valkey_redis.replicaof("127.0.0.1", 1)
        began = time.monotonic()
        verdict = counters.admit((check(policy),))[0]
        assert verdict.degraded
        assert time.monotonic() - began < 0.2
        eventually(lambda: not client.up)
        valkey_redis.replicaof("NO", "ONE")
        valkey_redis.close()
        eventually(lambda: not counters.admit((check(policy),))[0].degraded, timeout_s=2)
    finally:
        client.stop()


def test_a_store_that_takes_a_second_holds_requests_up_once_and_not_at_each_return(valkey, eventually):
    client = Client(parse_redis_url(valkey.url))
    client.start()
    counters = DistributedCounters(client, lambda: 1)
    policy = bucket(rate=1_000, burst=1_000)
    waits = []

    def be_slow():
        while True:
            os.kill(valkey.pid, signal.SIGSTOP)
            gevent.sleep(1.0)
            os.kill(valkey.pid, signal.SIGCONT)
            gevent.sleep(0.002)

    try:
        counters.admit((check(policy),))
        slowing = gevent.spawn(be_slow)
        gevent.sleep(0.01)
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            began = time.monotonic()
            counters.admit((check(policy),))
            waits.append(time.monotonic() - began)
            gevent.sleep(0.01)
        slowing.kill()
        assert max(waits) < 0.5
        assert sum(wait > 0.1 for wait in waits) <= 4
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
        client.stop()


@pytest.mark.parametrize("store_url", ["one server"], indirect=True)
def test_calls_of_one_moment_leave_in_one_write_over_all_counters_and_tenants(counters, publisher, client, monkeypatch):
    counters.admit((check(bucket("first")),))  # the server has learned the script
    writes = []
    submit = client._flush
    monkeypatch.setattr(client, "_flush", lambda: writes.append(len(client._out)) or submit())
    asked = [
        check(bucket(f"policy-{n % 10}"), b"%d" % n, f"0197a000-0000-7000-8000-0000000000{n % 5}") for n in range(40)
    ]
    gevent.joinall([gevent.spawn(counters.admit, (one,)) for one in asked])
    assert writes == [40]


def test_waiting_requests_are_all_answered_when_the_store_dies_under_them(valkey):
    client = Client(parse_redis_url(valkey.url), deadline_s=0.2)
    client.start()
    counters = DistributedCounters(client, lambda: 1)
    policy = bucket(rate=0.001, burst=30)
    try:
        client.call("PING")
        os.kill(valkey.pid, signal.SIGSTOP)
        asking = [gevent.spawn(counters.admit, (check(policy),)) for _ in range(50)]
        gevent.sleep(0.02)
        asking += [gevent.spawn(counters.admit, (check(policy),)) for _ in range(50)]
        gevent.joinall(asking, timeout=3)
        assert sum(one.value[0].allowed for one in asking) == 30
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
        client.stop()


def test_requests_interrupted_while_they_wait_leave_nobody_behind(counters, publisher):
    policy = bucket(rate=0.001, burst=1_000)
    for _ in range(20):
        asking = [gevent.spawn(counters.admit, (check(policy),)) for _ in range(10)]
        gevent.sleep(0)
        gevent.killall(asking)
    with gevent.Timeout(2):
        assert counters.admit((check(policy),))[0].allowed


def hammer(url, policy, seconds):
    argv = [sys.executable, "-m", "tests.edge.store.counters.hammer", url, str(seconds), "8"]
    running = [
        subprocess.Popen([*argv, msgspec.json.encode(policy).decode()], stdout=subprocess.PIPE) for _ in range(2)
    ]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    return sorted(tuple(answer) for result in results for answer in result["answers"]), results


@pytest.mark.parametrize(("rate", "burst"), [(200, 20), (500, 400)], ids=["one-by-one", "borrowed"])
def test_two_processes_never_exceed_a_token_bucket_over_any_interval(store_url, rate, burst):
    answers, _ = hammer(store_url, bucket(rate=rate, burst=burst), 3)
    began, ended = answers[0][0], max(answer[1] for answer in answers)
    assert len(answers) <= burst + rate * (ended - began)
    assert len(answers) >= 0.8 * rate * 3  # and what is allowed does get through
    for start in range(30):
        for length in range(1, 31 - start):
            a, b = began + start / 10, began + (start + length) / 10
            inside = sum(a <= asked and answered <= b for asked, answered, _ in answers)
            assert inside <= burst + rate * (b - a) + 1


@pytest.mark.parametrize("limit", [20, 100, 1_000], ids=["one-by-one", "large", "borrowed"])
def test_two_processes_never_exceed_a_sliding_window(shared_valkey, limit):
    answers, _ = hammer(shared_valkey.url, window(limit=limit, window_s=1), 3.5)
    assert len(answers) >= 2 * limit
    first = int(answers[0][0])
    for second in range(first, first + 6):
        inside = sum(second <= asked and answered < second + 1 for asked, answered, _ in answers)
        assert inside <= limit


def test_a_limit_that_was_changed_counts_at_once_whichever_of_several_it_is(counters, publisher):
    """The last policy may be a key's own: its record is renewed without the route's."""
    route = window("route", limit=100, window_s=3600)
    for limit in (2, 4):
        own = window("own", limit=limit, window_s=3600)
        results = [counters.admit((check(route), check(own)))[1].allowed for _ in range(5)]
        assert sum(results) == 2
