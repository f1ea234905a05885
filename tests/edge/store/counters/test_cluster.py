"""Workers of one limit in simulated time, over the real script and over a model of it: what all of them admit."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.edge.publishing import Publisher, bucket, window
from tests.edge.store.counters.cluster import Cluster, LuaStore, ModelStore

slow = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
# A stretch of steady demand on one worker, which makes it borrow; a rest; then a crowd at one moment on all of them.
stretches = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(1, 60), st.sampled_from([0.0004, 0.001, 0.004, 0.02]),
        st.sampled_from([1, 1, 4]),
        st.sampled_from([0.0, 0.001, 0.003, 0.008, 0.04, 0.09, 0.4, 1.01]), st.sampled_from([0, 0, 5, 30, 150]),
    ),
    min_size=1,
    max_size=8,
)  # fmt: skip
EPSILON = 1e-4


@pytest.fixture(params=["shared_valkey", "shared_cluster", "a model"])
def stores(request):
    """The script on one server and in a Valkey Cluster, and a model of it."""
    if request.param == "a model":
        yield ModelStore
        return
    publisher = Publisher(request.getfixturevalue(request.param).url)
    yield lambda: LuaStore(publisher.redis)
    publisher.close()


def play(cluster, stretches, policies, cost=1):
    now = cluster.now
    for worker, ticks, every_s, times, rest_s, crowd in stretches:
        for _ in range(ticks):
            now += every_s
            cluster.run(now)
            cluster.ask(worker, policies, times, cost)
        now += rest_s
        cluster.run(now)
        for other in range(4 if crowd else 0):
            cluster.ask((worker + other) % 4, policies, crowd, cost)
    cluster.run(now + 5)


def never_beyond_a_bucket(admitted, rate, burst, cost=1):
    """No interval holds more than burst + rate x its length: a bucket that is filled by what was admitted says so."""
    level, at = 0.0, 0.0
    for now in sorted(admitted):
        level = max(0.0, level - (now - at) * rate) + cost
        at = now
        assert level <= burst + EPSILON + rate * 1e-6  # the store's clock counts whole microseconds


def never_beyond_two_cells(admitted, limit, seconds, cost=1):
    cells: dict[int, int] = {}
    for now in sorted(admitted):
        number = int(now // seconds)
        cells[number] = cells.get(number, 0) + cost
        left_share = 1 - (now - number * seconds) / seconds
        assert cells[number] + cells.get(number - 1, 0) * left_share <= limit + EPSILON


def never_beyond_in_any_stretch(admitted, limit, seconds, cost=1):
    admitted = sorted(admitted)
    for first, start in enumerate(admitted):
        assert cost * sum(at < start + seconds - 1e-6 for at in admitted[first:]) <= limit


@slow
@given(
    stretches, st.integers(0, 99), st.sampled_from([(50, 1), (50, 7), (1000, 100), (5000, 5000), (3, 500)]),
    st.sampled_from([1, 1, 3]),
)  # fmt: skip
def test_all_workers_together_never_exceed_a_bucket_in_any_interval(stores, requests, seed, numbers, cost):
    rate, burst = numbers
    cluster = Cluster(stores(), 4, seed)
    play(cluster, requests, (bucket(rate=rate, burst=burst),), cost)
    never_beyond_a_bucket(cluster.admitted, rate, burst, cost)


@slow
@given(
    stretches, st.integers(0, 99), st.sampled_from([(33, 1), (100, 1), (500, 2), (5000, 1)]), st.sampled_from([1, 1, 3])
)
def test_all_workers_together_never_exceed_a_window_by_its_two_cells(stores, requests, seed, numbers, cost):
    limit, seconds = numbers
    cluster = Cluster(stores(), 4, seed)
    play(cluster, requests, (window(limit=limit, window_s=seconds),), cost)
    never_beyond_two_cells(cluster.admitted, limit, seconds, cost)


@slow
@given(stretches, st.integers(0, 99), st.sampled_from([(1, 1), (10, 1), (32, 2)]))
def test_all_workers_together_never_exceed_a_small_window_in_any_stretch(stores, requests, seed, numbers):
    limit, seconds = numbers
    cluster = Cluster(stores(), 4, seed)
    play(cluster, requests, (window(limit=limit, window_s=seconds),))
    never_beyond_in_any_stretch(cluster.admitted, limit, seconds)


@slow
@given(stretches, st.integers(0, 99))
def test_a_set_of_limits_is_held_by_each_of_them(stores, requests, seed):
    cluster = Cluster(stores(), 4, seed)
    play(cluster, requests, (bucket("b", rate=1_000, burst=200), window("w", limit=400, window_s=1)))
    never_beyond_a_bucket(cluster.admitted, 1_000, 200)
    never_beyond_two_cells(cluster.admitted, 400, 1)


@slow
@given(stretches, st.integers(0, 99), st.lists(st.floats(0.0, 5.0), min_size=3, max_size=3))
def test_steps_back_of_the_stores_clock_give_nobody_a_burst_and_hold_nobody_up(stores, requests, seed, steps):
    policy = bucket(rate=100, burst=80)
    cluster = Cluster(stores(), 4, seed)
    for step in steps:
        play(cluster, requests, (policy,))
        cluster.skew -= step
    never_beyond_a_bucket(cluster.admitted, 100, 80)
    admitted = len(cluster.admitted)
    play(cluster, [(0, 1, 0.1, 1, 0.0, 0)], (policy,))
    assert len(cluster.admitted) == admitted + 1


def admitted_by_the_next(cluster, policy, worker=1):
    before = len(cluster.admitted)
    cluster.ask(worker, (policy,))
    cluster.run(cluster.now + 0.01)
    return len(cluster.admitted) - before


@pytest.mark.parametrize(
    "policy", [bucket(rate=10, burst=1), window(limit=1, window_s=1), window(limit=40, window_s=1)], ids=repr
)
def test_a_clock_that_steps_back_an_hour_is_followed_within_two_windows(stores, policy):
    cluster = Cluster(stores(), 4)
    play(cluster, [(0, 50, 0.001, 4, 0.0, 0)], (policy,))
    cluster.ask(0, (policy,), 50)
    cluster.run(cluster.now + 0.01)
    cluster.skew -= 3_600
    assert admitted_by_the_next(cluster, policy) == 0
    cluster.run(cluster.now + 2)
    assert admitted_by_the_next(cluster, policy) == 1


def test_what_was_borrowed_in_a_window_is_not_used_in_the_next(stores):
    policy = window(limit=1_000, window_s=1)
    cluster = Cluster(stores(), 1)  # its time begins with a window
    play_until = cluster.now + 0.99
    while cluster.now < play_until:
        cluster.run(cluster.now + 0.002)
        cluster.ask(0, (policy,))
    (plan,) = cluster.workers[0].accounts.plans.values()
    lease = plan.young[b"caller"].lease
    assert lease.pot + lease.spare > 0
    cluster.run(play_until + 0.013)
    calls = cluster.calls
    cluster.ask(0, (policy,))
    assert cluster.calls == calls + 1


def test_what_is_refused_costs_no_call_until_the_moment_that_was_named(stores):
    policy = bucket(rate=1, burst=1)
    cluster = Cluster(stores(), 4)
    for worker in range(4):
        cluster.ask(worker, (policy,))
        cluster.run(cluster.now + 0.01)
    calls = cluster.calls
    for _ in range(90):
        for worker in range(4):
            cluster.ask(worker, (policy,), 5)
        cluster.run(cluster.now + 0.01)
    assert (cluster.calls, len(cluster.admitted)) == (calls, 1)
    cluster.run(cluster.now + 0.2)
    assert admitted_by_the_next(cluster, policy, worker=3) == 1


def test_a_steady_demand_is_served_from_what_was_borrowed_before_the_pot_was_empty():
    policy = bucket(rate=5_000, burst=5_000)
    cluster = Cluster(ModelStore(), 1, delay_s=0.001)
    for tick in range(3_000):
        if tick == 1_000:
            calls, waited = cluster.calls, cluster.waited
        cluster.run(cluster.now + 0.001)
        cluster.ask(0, (policy,))
    assert cluster.waited == waited
    assert cluster.calls - calls <= 60


@pytest.mark.parametrize(
    ("policy", "per_s", "seconds"),
    [
        (bucket(rate=1, burst=1), 1, 20),
        (bucket(rate=10, burst=10), 10, 5),
        (bucket(rate=1_000, burst=1_000), 1_000, 3),
        (bucket(rate=1_000, burst=50), 1_000, 2),
        (window(limit=1, window_s=1), 1, 20),
        (window(limit=10, window_s=1), 10, 5),
        (window(limit=100, window_s=1), 100, 5),
        (window(limit=1_000, window_s=1), 1_000, 3),
    ],
    ids=lambda value: f"{value.algorithm}-{value.burst or value.limit}" if hasattr(value, "algorithm") else None,
)
def test_of_an_overloaded_limit_nearly_all_is_given_out_at_few_calls(policy, per_s, seconds):
    """Four workers, each asked for the whole limit, and for 100 a second at least. What the bucket held at first is
    not counted as room for more."""
    cluster = Cluster(ModelStore(), 4, delay_s=0.0005)
    every_s = 1 / max(per_s, 100)
    began = cluster.now
    for tick in range(int(seconds / every_s)):
        cluster.run(began + tick * every_s)
        for worker in range(4):
            cluster.ask(worker, (policy,))
    cluster.run(began + seconds)
    assert len(cluster.admitted) >= (0.95 if per_s >= 10 else 0.9) * per_s * seconds
    if per_s >= 1_000:
        assert cluster.calls <= (0.35 if policy.burst != 50 else 0.6) * cluster.asked
    else:  # each worker asks once for each place that becomes free
        assert cluster.calls <= 4 * len(cluster.admitted) + 4
