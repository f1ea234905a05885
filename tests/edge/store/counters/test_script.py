"""The script (edge/store/counters/lua) against the arithmetic of edge.phases.ratelimit, on histories by chance."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contracts.snapshot import DAY_S, MONTH_S, PolicyConfig
from edge.phases.ratelimit import calendar_period
from edge.ports import Check
from edge.store.counters.accounts import Plan
from tests.edge.publishing import DEMO, bucket, window
from tests.edge.store.counters.cluster import LuaStore, ModelStore

TICK_US = 15_625
"""1/64 s: with rates that are powers of two both sides add up without rounding."""


def quota(limit: int, window_s: int) -> PolicyConfig:
    return PolicyConfig(id="quota", name="quota", algorithm="calendar", limit=limit, window_s=window_s)


rates = st.sampled_from([2**-10, 0.5, 8.0, 1024.0, 2.0**20])
policies = st.one_of(
    st.builds(lambda rate, burst: bucket(rate=rate, burst=burst), rates, st.integers(1, 200)),
    st.builds(quota, st.integers(1, 100), st.sampled_from([DAY_S, MONTH_S])),
    st.builds(lambda limit, s: window(limit=limit, window_s=s), st.integers(1, 100), st.sampled_from([1, 4, 64])),
)
calls = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 70), st.integers(0, 10_000), st.integers(-300, 0), st.integers(-(10**6), 10**6)),
        st.integers(0, 12),
        st.integers(0, 8),
        st.sampled_from([6_250, 100_000]),
    ),
    min_size=1,
    max_size=30,
)
compared = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def replies(store, plan, asked):
    keys = [f"{{t}}:{number}" for number in range(len(plan.policies))]
    now_us, told = 2**40, []
    now_us -= now_us % TICK_US
    for ticks, wanted, ahead, lead_us in asked:
        now_us = max(now_us + ticks * TICK_US, 2**20)
        reply = store.run(keys, (wanted, ahead, lead_us, *plan.words), now_us)
        rows = [reply[at : at + 4] for at in range(3, len(reply), 4)]
        told.append((reply[:3], [(min(available, wanted), left, wait) for available, left, _, wait in rows]))
    return told


def close(one, other):
    (head, rows), (other_head, other_rows) = one, other
    return head == other_head and all(
        a[:2] == b[:2] and abs(a[2] - b[2]) <= 2 + 1e-6 * b[2] for a, b in zip(rows, other_rows, strict=True)
    )


@pytest.fixture
def store_url(shared_valkey):
    """One server: in a cluster the script is the same (test_cluster)."""
    return shared_valkey.url


@compared
@given(st.lists(policies, min_size=1, max_size=3), st.lists(st.integers(1, 5), min_size=3, max_size=3), calls)
@example([window(limit=33, window_s=1)], [1, 1, 1], [(0, 12, 8, 100_000), (63, 12, 8, 100_000), (2, 12, 8, 100_000)])
def test_the_script_decides_as_the_arithmetic_does(publisher, limits, costs, asked):
    plan = Plan([Check(DEMO, policy, b"", cost) for policy, cost in zip(limits, costs, strict=False)])
    by_script, by_model = replies(LuaStore(publisher.redis), plan, asked), replies(ModelStore(), plan, asked)
    for number, (one, other) in enumerate(zip(by_script, by_model, strict=True)):
        assert close(one, other), (number, asked[number], one, other)


@pytest.mark.parametrize("window_s", [DAY_S, MONTH_S])
def test_a_quota_ends_with_its_period_in_any_month_and_leap_year(publisher, window_s):
    """2027 has no leap day, 2028 has one, 2000 had, 2100 has none."""
    store, plan = LuaStore(publisher.redis), a_plan(quota(1, window_s))
    firsts = [
        datetime(year, month, day, tzinfo=UTC)
        for year in (2000, 2027, 2028, 2100)
        for month in range(1, 13)
        for day in ((1,) if window_s == MONTH_S else (1, 28))
    ]
    for first in firsts:
        begins = int(first.timestamp())
        for second, left in ((begins - 1, 0), (begins, 0), (begins, None)):
            if second == begins - 1:
                publisher.redis.flushdb()
            reply = store.run(["k"], (1, 0, 0, *plan.words), second * 10**6)
            assert (reply[0], reply[4]) == (1 if left == 0 else 0, 0), first
            assert reply[5] == (calendar_period(second, window_s)[1] - second) * 10**6, first


def test_a_quota_outlives_its_period_by_a_day_and_goes_then(publisher, client):
    from edge.store.counters.distributed import ADMIT

    publisher.redis.flushdb()
    client.run(ADMIT, ["quota"], (1, 0, 0, *a_plan(quota(5, DAY_S)).words))
    rest_ms = publisher.redis.pttl("quota") - DAY_S * 1000
    assert 0 < rest_ms <= DAY_S * 1000 + 2


def a_plan(policy: PolicyConfig) -> Plan:
    return Plan([Check(DEMO, policy, b"")])


@pytest.mark.parametrize(("before", "after"), [(20, 50), (50, 20)], ids=["small to large", "large to small"])
def test_a_window_whose_limit_crosses_the_bound_of_small_ones_keeps_what_it_counted(publisher, before, after):
    store, now_us = LuaStore(publisher.redis), 10**9
    assert store.run(["k"], (15, 0, 0, *a_plan(window(limit=before)).words), now_us)[0] == 15
    reply = store.run(["k"], (40, 0, 0, *a_plan(window(limit=after)).words), now_us + 1000)
    assert reply[0] == after - 15


def test_a_bucket_that_became_smaller_is_usable_after_one_request_s_time(publisher):
    store, now_us = LuaStore(publisher.redis), 10**9
    store.run(["k"], (1_000, 0, 0, *a_plan(bucket(rate=1, burst=1_000)).words), now_us)
    reply = store.run(["k"], (1, 0, 0, *a_plan(bucket(rate=1, burst=2)).words), now_us)
    assert (reply[0], reply[-1]) == (0, 1_000_000)


def test_a_fast_bucket_gives_exactly_its_burst_one_by_one_by_the_clock_of_today(publisher):
    """Microseconds since 1970 in a double come in steps of 0.25: a state kept in them loses a token in each few."""
    store, plan, now_us = LuaStore(publisher.redis), a_plan(bucket(rate=900_000, burst=500)), 1_800_000_000_000_000
    assert sum(store.run(["k"], (1, 0, 0, *plan.words), now_us)[0] for _ in range(700)) == 500


def test_every_key_expires_and_none_holds_more_than_a_few_bytes(publisher, client):
    from edge.store.counters.distributed import ADMIT

    publisher.redis.flushdb()
    for name, policy in (
        ("bucket", bucket(rate=0.5, burst=1)),
        ("large", window(limit=1_000, window_s=3_600)),
        ("small", window(limit=32, window_s=3_600)),
    ):
        client.run(ADMIT, [name], (32, 0, 0, *a_plan(policy).words))
    ttls = {key: publisher.redis.pttl(key) for key in ("bucket", "large", "small")}
    assert 1_900 < ttls["bucket"] <= 2_002
    assert 3_600_000 < ttls["large"] <= 7_200_002
    assert 3_500_000 < ttls["small"] <= 3_600_002
    assert publisher.redis.memory_usage("large") < 150
    assert publisher.redis.memory_usage("small") < 700
