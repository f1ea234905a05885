"""What a worker remembers of counters (edge.store.counters.accounts)."""

from __future__ import annotations

import gevent
import pytest

from bench.limit_memory import bytes_per_caller
from edge.ports import Check
from edge.store.counters import accounts
from edge.store.counters.accounts import Accounts, Plan
from tests.edge.publishing import DEMO, bucket, window

OTHER = "0197a000-0000-7000-8000-0000000000aa"


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time():
    return Time()


def plan(held, policy, tenant_id=DEMO):
    return held.plan((tenant_id, policy.id), [Check(tenant_id, policy, b"")])


def seen(held, made, *names):
    for name in names:
        if name not in made.young:
            held.account(made, name)


def test_who_is_asked_for_between_two_sweeps_stays_and_who_is_not_goes(time):
    held = Accounts(time)
    made = plan(held, bucket())
    seen(held, made, b"alice", b"bob")
    for _ in range(3):
        time.now += accounts.SWEEP_S + 1
        held.sweep(time.now)
        seen(held, made, b"alice")
    assert len(held) == 1
    assert list(made.young) == [b"alice"]


def test_callers_whose_policies_have_one_id_and_say_different_things_keep_their_accounts(time):
    """Keys with limits of their own: the id is that of the counter's meaning, the figures are each key's."""
    held = Accounts(time)
    ones, others = [plan(held, bucket(rate=rate)) for rate in (1, 2)]
    seen(held, ones, b"alice")
    seen(held, others, b"bob")
    assert plan(held, bucket(rate=1)) is ones
    assert plan(held, bucket(rate=2)) is others
    assert (list(ones.young), list(others.young)) == ([b"alice"], [b"bob"])
    assert plan(held, bucket(rate=1), OTHER) is not ones


def test_a_plan_that_nobody_needs_is_forgotten(time):
    held = Accounts(time)
    seen(held, plan(held, bucket()), b"alice")
    for _ in range(2):
        time.now += accounts.SWEEP_S + 1
        held.sweep(time.now)
    assert not held.plans


def test_a_crowd_of_one_tenant_costs_no_other_its_memory(time, monkeypatch):
    monkeypatch.setattr(accounts, "ACCOUNTS_MAX", 100)
    held = Accounts(time)
    small, crowded = plan(held, bucket()), plan(held, bucket(), OTHER)
    seen(held, small, b"alice", b"bob")
    for number in range(1_000):
        seen(held, crowded, b"%d" % number)
    assert len(held) <= 100
    assert list(small.young) == [b"alice", b"bob"]
    assert b"999" in crowded.young


def test_a_plan_that_made_room_with_all_it_had_is_forgotten_too(time, monkeypatch):
    monkeypatch.setattr(accounts, "ACCOUNTS_MAX", 100)
    held = Accounts(time)
    for number in range(1_000):  # each caller has a policy of its own
        seen(held, plan(held, bucket(f"own-{number}")), b"")
    assert len(held.plans) <= 100


def test_who_waits_for_an_answer_is_never_forgotten_for_room(time, monkeypatch):
    monkeypatch.setattr(accounts, "ACCOUNTS_MAX", 20)
    held = Accounts(time)
    made = plan(held, bucket())
    held.account(made, b"alice").waiting = []
    for number in range(100):
        seen(held, made, b"%d" % number)
    assert b"alice" in made.young
    assert len(held) <= 20


def test_an_equal_policy_of_a_new_snapshot_keeps_its_accounts_and_another_does_not(time):
    held = Accounts(time)
    made = plan(held, bucket(rate=5))
    seen(held, made, b"alice")
    fresh = bucket(rate=5)
    assert plan(held, fresh) is made
    assert made.policies[0] is fresh
    assert plan(held, bucket(rate=6)) is not made


def test_all_is_forgotten_at_once_and_freed_little_by_little(time):
    held = Accounts(time)
    made = plan(held, bucket())
    seen(held, made, *[b"%d" % number for number in range(2_000)])
    held.forget()
    assert len(held) == 0
    assert len(made.young) == 2_000
    for _ in range(10):
        gevent.sleep(0)
    assert not made.young


@pytest.mark.parametrize(
    ("policy", "borrow_max", "hold_s"),
    [
        (bucket(rate=5_000, burst=5_000), 250, 0.1),
        (bucket(rate=1_000, burst=100), 5, 0.01),
        (bucket(rate=10, burst=10), 0, 0.1),
        (window(limit=5_000, window_s=1), 250, 0.1),
        (window(limit=32, window_s=1), 0, 0.1),
        (bucket(rate=5_000, burst=5_000, mode="shadow"), 0, 0.1),
    ],
)
def test_a_twentieth_of_a_limit_may_be_ahead_for_a_tenth_of_its_time(policy, borrow_max, hold_s):
    made = Plan([Check(DEMO, policy, b"")])
    assert (made.borrow_max, made.hold_s) == (borrow_max, hold_s)


def test_a_set_borrows_as_its_tightest_limit_may_and_by_requests_not_tokens():
    made = Plan([Check(DEMO, bucket(burst=1_000), b"", 5), Check(DEMO, window(limit=5_000), b"")])
    assert made.borrow_max == 10
    assert Plan([Check(DEMO, bucket(burst=1_000), b""), Check(DEMO, window(limit=5), b"")]).borrow_max == 0


def test_a_caller_takes_at_most_500_bytes():
    large = bucket(rate=5_000, burst=5_000)
    assert bytes_per_caller(large, (5_000, 4_321, 654_321, 0), times=3, callers=3_000) <= 500
    assert bytes_per_caller(large, (0, 0, 654_321, 812_345), times=1, callers=3_000) <= 500
