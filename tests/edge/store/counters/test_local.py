from __future__ import annotations

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


def test_a_share_is_at_least_one():
    assert allowed(LocalLimiter(), checks(bucket(rate=1, burst=2)), 10, 100.0, 5) == 1


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
