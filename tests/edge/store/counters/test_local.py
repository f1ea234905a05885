from __future__ import annotations

import pytest

from contracts.snapshot import PolicyConfig
from edge.ports import Check
from edge.store.counters.local import LocalLimiter
from tests.edge.publishing import DEMO, bucket, window


def checks(*policies):
    return [Check(DEMO, policy, b"caller") for policy in policies]


def allowed(limiter, asked, workers, now, times):
    verdicts = [limiter.admit(asked, workers, now) for _ in range(times)]
    return sum(all(v.allowed or v.policy.mode == "shadow" for v in each) for each in verdicts)


def test_each_worker_admits_its_share_of_burst_and_rate():
    limiter = LocalLimiter()
    asked = checks(bucket(rate=8, burst=20))
    assert allowed(limiter, asked, 4, 100.0, 30) == 5
    assert allowed(limiter, asked, 4, 101.0, 30) == 2


def test_each_worker_admits_its_share_of_a_window():
    limiter = LocalLimiter()
    asked = checks(window(limit=10, window_s=10))
    assert allowed(limiter, asked, 2, 100.0, 30) == 5
    assert allowed(limiter, asked, 2, 120.0, 30) == 5


def test_a_share_is_at_least_one_request():
    assert allowed(LocalLimiter(), checks(bucket(rate=1, burst=2)), 10, 100.0, 5) == 1
    assert allowed(LocalLimiter(), checks(window(limit=2, window_s=1)), 10, 100.0, 5) == 1


@pytest.mark.parametrize(
    ("policy", "per_s", "at_once"),
    [
        (bucket(rate=1, burst=1), 1, 4),
        (bucket(rate=10, burst=10), 10, 10),
        (bucket(rate=100, burst=7), 100, 7),
        (window(limit=1, window_s=1), 1, 4),
        (window(limit=3, window_s=10), 0.3, 4),
        (window(limit=7, window_s=1), 7, 7),
        (window(limit=200, window_s=1), 200, 200),
    ],
    ids=lambda value: f"{value.algorithm}-{value.burst or value.limit}" if hasattr(value, "algorithm") else None,
)
def test_all_shares_together_are_the_limit_and_at_once_one_request_a_worker_at_most(policy, per_s, at_once):
    """Four workers that are asked all the time, for 40 s: a limit of 1 must not become one of 4."""
    workers = [LocalLimiter() for _ in range(4)]
    admitted = 0
    for tick in range(2_000):
        now = 100.0 + tick / 50
        admitted += sum(allowed(worker, checks(policy), 4, now, 4 if per_s > 10 else 1) for worker in workers)
    assert admitted <= at_once + per_s * 40
    assert admitted >= per_s * 40 * 0.55  # what a share leaves over of a window is lost


def test_a_request_that_costs_more_than_a_share_gets_through_now_and_then():
    limiter, asked = LocalLimiter(), [Check(DEMO, window(limit=8, window_s=10), b"caller", 4)]
    assert [limiter.admit(asked, 4, 100.0 + second)[0].allowed for second in range(0, 41, 10)] == [
        True, False, True, False, True,
    ]  # fmt: skip
    assert not limiter.admit([Check(DEMO, bucket(burst=3), b"caller", 4)], 1, 100.0)[0].allowed


def test_a_closed_policy_refuses_and_costs_the_others_nothing():
    limiter = LocalLimiter()
    shared, closed = bucket("shared", rate=1, burst=3), bucket("closed", on_store_failure="closed")
    assert allowed(limiter, checks(shared, closed), 1, 100.0, 10) == 0
    assert allowed(limiter, checks(shared), 1, 100.0, 10) == 3


def test_a_shadow_policy_never_refuses():
    limiter = LocalLimiter()
    assert allowed(limiter, checks(bucket(burst=1, mode="shadow"), bucket("b", rate=1, burst=5)), 1, 100.0, 10) == 5


def test_every_verdict_says_that_it_is_degraded():
    (verdict,) = LocalLimiter().admit(checks(bucket(on_store_failure="open")), 1, 100.0)
    assert verdict.degraded
    assert verdict.allowed


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("edge.store.counters.local._STATES_MAX", 10)
    limiter = LocalLimiter()
    for number in range(50):
        limiter.admit([Check(DEMO, bucket(), b"%d" % number)], 1, 100.0)
    assert len(limiter._states) == 10


def test_who_asks_all_the_time_is_not_forgotten_for_a_crowd(monkeypatch):
    monkeypatch.setattr("edge.store.counters.local._STATES_MAX", 10)
    limiter, policy = LocalLimiter(), bucket(rate=0.001, burst=30)
    for number in range(50):
        limiter.admit([Check(DEMO, bucket(), b"%d" % number)], 1, 100.0)
        assert limiter.admit([Check(DEMO, policy, b"steady")], 1, 100.0)[0].allowed == (number < 30)
        if number >= 29:
            break
    assert not limiter.admit([Check(DEMO, policy, b"steady")], 1, 100.0)[0].allowed


def test_a_calendar_quota_is_shared_out_like_any_limit():
    quota = PolicyConfig(id="quota", name="quota", algorithm="calendar", limit=100, window_s=86_400)
    local = LocalLimiter()
    told = [local.admit((Check(DEMO, quota, b"caller"),), 4, 1_000.0)[0].allowed for _ in range(60)]
    assert sum(told) == 25
