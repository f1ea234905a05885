"""How often a caller may ask (edge.phases.ratelimit): the arithmetic against models, then the phase as a play."""

import json
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.snapshot import DAY_S, MONTH_S, PolicyConfig
from edge.phases.ratelimit import (
    EXACT_MAX,
    Bucket,
    Marks,
    Window,
    calendar_period,
    calendar_quota,
    exact_window,
    gcra,
    network,
    quota,
    sliding_window,
    window_s,
)
from tests.edge.fakes import OTHER_TENANT, Stage, a_bucket, a_concurrency, a_key_record, a_route, a_snapshot, a_window

NOW = 1_800_000_000.0

gaps = st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60)


# --- Token bucket ---------------------------------------------------------------------------------------------------


def test_a_full_bucket_gives_its_burst_and_then_one_each_interval():
    state, told = None, []
    for _ in range(4):
        decision, state = gcra(state, NOW, rate=10, burst=3)
        told.append((decision.allowed, decision.remaining))
    assert told == [(True, 2), (True, 1), (True, 0), (False, 0)]
    assert gcra(state, NOW + 0.099, 10, 3)[0].allowed is False
    assert gcra(state, NOW + 0.101, 10, 3)[0].allowed is True


def test_a_refusal_tells_when_to_come_back_and_costs_nothing():
    _, state = gcra(None, NOW, rate=2, burst=1)
    decision, after = gcra(state, NOW, rate=2, burst=1)
    assert (decision.allowed, decision.retry_after_s, decision.reset_s) == (False, 0.5, 0.5)
    assert after == state


def test_a_cost_takes_that_many_and_more_than_the_burst_is_never_allowed():
    decision, state = gcra(None, NOW, rate=1, burst=5, cost=3)
    assert (decision.allowed, decision.remaining) == (True, 2)
    assert gcra(state, NOW, 1, 5, cost=3)[0].allowed is False
    assert gcra(None, NOW, 1, 5, cost=6)[0].allowed is False


def test_a_clock_that_steps_back_drains_nothing_and_is_followed():
    _, state = gcra(None, NOW, rate=10, burst=1)
    decision, after = gcra(state, NOW - 3600, rate=10, burst=1)
    assert (decision.allowed, decision.retry_after_s) == (False, 0.1)
    assert after == Bucket(1.0, NOW - 3600)
    assert gcra(after, NOW - 3600 + 0.101, rate=10, burst=1)[0].allowed


def test_a_bucket_that_became_smaller_is_full_and_no_fuller():
    _, state = gcra(None, NOW, rate=1, burst=1_000_000, cost=1_000_000)
    decision, _ = gcra(state, NOW, rate=1, burst=2)
    assert (decision.allowed, decision.remaining, decision.retry_after_s) == (False, 0, 1.0)


def test_a_share_may_be_a_fraction_as_long_as_one_request_fits():
    decision, state = gcra(None, NOW, rate=1, burst=1.75)
    assert (decision.allowed, decision.remaining) == (True, 0)
    assert not gcra(state, NOW + 0.24, rate=1, burst=1.75)[0].allowed
    assert gcra(state, NOW + 0.26, rate=1, burst=1.75)[0].allowed


rates = st.one_of(st.floats(1e-3, 10.0), st.floats(10.0, 1e6))
steps_back = st.lists(st.one_of(st.just(0.0), st.floats(0.0, 1e4)), min_size=60, max_size=60)


@given(gaps, steps_back, rates, st.integers(1, 50), st.lists(st.integers(1, 9), min_size=60, max_size=60))
def test_in_no_interval_does_a_bucket_admit_more_than_burst_plus_rate_times_its_length(gaps, steps, rate, burst, costs):
    """Whatever the requests cost, and however often the clock steps back meanwhile."""
    state, real, clock, admitted = None, 0.0, NOW, []
    for gap, step, cost in zip(gaps, steps, costs, strict=False):
        real += gap
        clock += gap - step
        decision, state = gcra(state, clock, rate, burst, cost)
        if decision.allowed:
            admitted.append((real, cost))
    for first, (start, _) in enumerate(admitted):
        taken = 0
        for at, cost in admitted[first:]:
            taken += cost
            assert taken <= burst + rate * (at - start) + 1e-6 * rate + 1e-6  # wall time in a double


@given(gaps, steps_back, rates, st.integers(1, 50))
def test_no_step_back_of_the_clock_makes_a_bucket_refuse_for_longer_than_one_request_takes(gaps, steps, rate, burst):
    state, clock = None, NOW
    for gap, step in zip(gaps, steps, strict=False):
        clock += gap - step
        decision, state = gcra(state, clock, rate, burst)
        assert decision.retry_after_s <= 1 / rate + 1e-6


@given(gaps, st.floats(0.1, 1e4), st.integers(1, 50))
def test_whoever_waits_as_told_is_admitted_and_sooner_is_refused(gaps, rate, burst):
    state, now = None, NOW
    for gap in gaps:
        now += gap
        decision, state = gcra(state, now, rate, burst)
        if not decision.allowed:
            assert gcra(state, now + decision.retry_after_s + 1e-6, rate, burst)[0].allowed
            assert not gcra(state, now + decision.retry_after_s * 0.9 - 1e-6, rate, burst)[0].allowed
        assert gcra(state, now + decision.reset_s + 1e-6, rate, burst)[0].remaining == burst - 1


def test_a_fast_bucket_gives_exactly_its_burst_though_wall_time_is_coarse():
    """Seconds since 1970 in a double come in steps of 2.4e-7: adding 1e-6 to them a thousand times loses 5 %."""
    state, admitted = None, 0
    for _ in range(1_500):
        decision, state = gcra(state, NOW, rate=1e6, burst=1_000)
        admitted += decision.allowed
    assert admitted == 1_000


# --- Sliding window -------------------------------------------------------------------------------------------------


def test_a_window_gives_its_limit_and_slides():
    start, state = 1_800_000_000.0, None  # a multiple of 60
    for _ in range(4):
        decision, state = sliding_window(state, start, limit=4, window_s=60)
        assert decision.allowed
    decision, state = sliding_window(state, start + 30, 4, 60)
    assert (decision.allowed, decision.remaining) == (False, 0)
    assert state == Window(30_000_000, 4, 0)
    # a quarter into the next window, three quarters of the four still count
    decision, state = sliding_window(state, start + 75, 4, 60)
    assert (decision.allowed, decision.remaining) == (True, 0)
    assert state == Window(30_000_001, 1, 4)


def test_a_window_long_past_counts_nothing():
    decision, state = sliding_window(Window(1, 99, 99), 300.0, limit=1, window_s=60)
    assert decision.allowed
    assert state == Window(5, 1, 0)


def test_a_clock_that_steps_back_a_little_stays_in_the_newest_window():
    decision, state = sliding_window(Window(10, 2, 0), 60.0 * 9, limit=2, window_s=60)
    assert not decision.allowed
    assert state == Window(10, 2, 0)


def test_a_clock_that_steps_back_far_is_followed_and_nothing_is_forgotten():
    decision, state = sliding_window(Window(1_000, 2, 3), 60.0 * 9, limit=4, window_s=60)
    assert not decision.allowed
    assert state == Window(9, 4, 0)
    assert sliding_window(state, 60.0 * 9 + decision.retry_after_s + 0.001, limit=4, window_s=60)[0].allowed


@given(gaps, steps_back, st.integers(1, 20), st.integers(1, 10))
def test_no_step_back_of_the_clock_gives_a_window_a_burst_or_holds_it_up(gaps, steps, limit, window):
    """Two cells let twice the limit into a stretch of one window at worst, by whatever clock."""
    state, real, clock, admitted = None, 0.0, NOW, []
    for gap, step in zip(gaps, steps, strict=False):
        real += gap
        clock += gap - step
        decision, state = sliding_window(state, clock, limit, window)
        assert decision.retry_after_s <= 2 * window
        if decision.allowed:
            admitted.append(real)
    for start in admitted:
        assert sum(start <= at < start + window for at in admitted) <= 2 * limit


# --- Sliding window, small ------------------------------------------------------------------------------------------


def test_a_small_window_gives_each_place_back_when_its_request_slides_out():
    state = None
    for at in (100.0, 100.4):
        decision, state = exact_window(state, at, limit=2, window_s=1)
        assert decision.allowed
    decision, state = exact_window(state, 100.9, limit=2, window_s=1)
    assert (decision.allowed, decision.remaining) == (False, 0)
    assert decision.retry_after_s == pytest.approx(0.1)
    assert decision.reset_s == pytest.approx(0.5)
    decision, state = exact_window(state, 101.0, limit=2, window_s=1)
    assert (decision.allowed, decision.remaining) == (True, 0)
    assert state == Marks((100.4, 101.0))


def test_a_window_of_one_admits_one_each_window_and_not_every_other():
    state, admitted = None, 0
    for tick in range(1_000):
        decision, state = exact_window(state, 100.3 + tick / 100, limit=1, window_s=1)
        admitted += decision.allowed
    assert admitted == 10


def test_a_cost_takes_so_many_places_and_waits_for_so_many():
    _, state = exact_window(None, 100.0, limit=5, window_s=10, cost=2)
    _, state = exact_window(state, 101.0, limit=5, window_s=10, cost=2)
    decision, _ = exact_window(state, 102.0, limit=5, window_s=10, cost=2)
    assert (decision.allowed, decision.remaining, decision.retry_after_s) == (False, 1, 8.0)
    assert exact_window(state, 102.0, limit=5, window_s=10, cost=5)[0].retry_after_s == 9.0
    assert exact_window(state, 102.0, limit=5, window_s=10, cost=6)[0].allowed is False
    decision, state = exact_window(None, 100.0, limit=5, window_s=10, cost=6)
    assert (decision.allowed, decision.reset_s, decision.retry_after_s) == (False, 0.0, 10.0)
    assert state == Marks(())


times_and_costs = st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 4)), min_size=1, max_size=60)


@given(times_and_costs, steps_back, st.integers(1, EXACT_MAX), st.integers(1, 10))
def test_no_stretch_of_one_window_holds_more_than_a_small_limit(asked, steps, limit, window):
    state, real, clock, admitted = None, 0.0, 1_000_000.0, []
    for (gap, cost), step in zip(asked, steps, strict=False):
        real += gap
        clock += gap - step
        decision, state = exact_window(state, clock, limit, window, cost)
        assert decision.retry_after_s <= window
        if decision.allowed:
            admitted += [real] * cost
    for start in admitted:
        assert sum(start <= at < start + window - 1e-6 for at in admitted) <= limit


@given(times_and_costs, st.integers(4, EXACT_MAX), st.integers(1, 10))
def test_whoever_waits_out_a_small_window_as_told_is_admitted_and_sooner_is_refused(asked, limit, window):
    state, now = None, 1_000.0
    for gap, cost in asked:
        now += gap
        decision, state = exact_window(state, now, limit, window, cost)
        if not decision.allowed:
            assert exact_window(state, now + decision.retry_after_s + 1e-6, limit, window, cost)[0].allowed
            assert not exact_window(state, now + decision.retry_after_s * 0.9 - 1e-6, limit, window, cost)[0].allowed
        assert exact_window(state, now + decision.reset_s + 1e-6, limit, window)[0].remaining == limit - 1


def test_a_cost_beyond_the_limit_is_refused_from_an_empty_window():
    assert sliding_window(None, NOW, limit=1, window_s=60, cost=2)[0].allowed is False


@given(gaps, st.integers(1, 20), st.integers(1, 10))
def test_no_aligned_window_admits_more_than_its_limit(gaps, limit, window):
    state, now, admitted = None, NOW, {}
    for gap in gaps:
        now += gap
        decision, state = sliding_window(state, now, limit, window)
        admitted[now // window] = admitted.get(now // window, 0) + decision.allowed
    assert max(admitted.values()) <= limit


@given(gaps, st.integers(1, 20), st.integers(1, 10))
def test_whoever_waits_out_a_window_as_told_is_admitted(gaps, limit, window):
    state, now = None, NOW
    for gap in gaps:
        now += gap
        decision, state = sliding_window(state, now, limit, window)
        if not decision.allowed:
            assert 0.0 <= decision.retry_after_s <= 2 * window
            assert sliding_window(state, now + decision.retry_after_s + 1e-3, limit, window)[0].allowed
        assert sliding_window(state, now + decision.reset_s + 1e-3, limit, window)[0].remaining == limit - 1


# --- The phase ------------------------------------------------------------------------------------------------------


def test_the_request_beyond_the_burst_is_429_with_retry_after_and_the_policy_it_broke():
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.5, burst=2, name="free tier"),)))
    assert [stage.get("/").status for _ in range(2)] == [200, 200]
    answer = stage.get("/")
    assert (answer.status, answer["Retry-After"]) == (429, "2")
    body = json.loads(answer.body)
    assert body["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert body["violated-policies"] == ["free tier"]
    assert len(stage.origin.requests) == 2
    stage.clock.passes(2.0)
    assert stage.get("/").status == 200


def test_answers_say_what_is_left_of_the_tightest_policy():
    stage = Stage(a_route("/*", policies=(a_bucket(rate=10, burst=5, name="burst"), a_window(limit=3, window_s=60))))
    answer = stage.get("/")
    assert answer["RateLimit-Policy"] == '"burst";q=5;w=1, "minute";q=3;w=60'
    assert answer["RateLimit"] == '"burst";r=4;t=1, "minute";r=2;t=120'
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
    assert [answer[name] for name in names] == ["3", "2", "120"]


def test_an_origins_own_limit_fields_do_not_mix_with_ours():
    stage = Stage(a_route("/*", policies=(a_bucket(burst=5),)))
    stage.origin.answers(200, X_RateLimit_Limit="999", RateLimit='"x";r=1')
    assert stage.get("/")["X-RateLimit-Limit"] == "5"


def test_a_denied_request_costs_nothing_in_any_of_its_policies():
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.001, burst=1), a_window(limit=10))))
    stage.get("/")
    for _ in range(5):
        assert stage.get("/").status == 429
    assert next(state for state in stage.counters.states.values() if isinstance(state, Window)).current == 1


def test_a_shadow_policy_never_refuses_and_is_not_shown():
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.001, burst=1, mode="shadow"),)))
    answers = [stage.get("/") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert answers[2]["RateLimit"] is None
    assert answers[2].exchange.verdicts[0].allowed is False, "but it is recorded"


@pytest.mark.parametrize(
    ("scope", "same"),
    [(("ip",), False), (("route",), True), (("tenant",), True), (("route", "ip"), False)],
)
def test_the_scope_says_who_shares_a_bucket(scope, same):
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.001, burst=1, scope=scope),)))
    stage.get("/", client_ip="192.0.2.1")
    assert stage.get("/", client_ip="192.0.2.1").status == 429
    assert stage.get("/", client_ip="192.0.2.2").status == (429 if same else 200)


def test_each_key_has_a_bucket_of_its_own():
    stage = Stage(a_route("/*", "apikey_required", policies=(a_bucket(rate=0.001, burst=1, scope=("key",)),)))
    stage.knows_key("first_key_0001", id="key-1")
    stage.knows_key("second_key_002", id="key-2")
    assert stage.get("/", ("X-API-Key", "first_key_0001")).status == 200
    assert stage.get("/", ("X-API-Key", "first_key_0001")).status == 429
    assert stage.get("/", ("X-API-Key", "second_key_002")).status == 200


def test_callers_without_the_identifier_share_one_bucket():
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.001, burst=1, scope=("user",)),)))
    assert stage.get("/", client_ip="192.0.2.1").status == 200
    assert stage.get("/", client_ip="192.0.2.2").status == 429


def test_a_key_is_no_user_and_a_policy_by_user_puts_all_keys_together():
    stage = Stage(a_route("/*", "apikey_required", policies=(a_bucket(rate=0.001, burst=1, scope=("user",)),)))
    stage.knows_key("first_key_0001", id="key-1")
    stage.knows_key("second_key_002", id="key-2")
    assert stage.get("/", ("X-API-Key", "first_key_0001")).status == 200
    assert stage.get("/", ("X-API-Key", "second_key_002")).status == 429


def test_a_scope_by_header_counts_each_value_and_those_without_together():
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.001, burst=1, scope=("header:x-customer",)),)))
    assert stage.get("/", ("X-Customer", "acme")).status == 200
    assert stage.get("/", ("x-customer", "acme")).status == 429
    assert stage.get("/", ("X-Customer", "Acme")).status == 200
    assert stage.get("/").status == 200
    assert stage.get("/", ("X-Customer", "")).status == 429, "an empty value names nobody"
    assert stage.get("/", client_ip="192.0.2.9").status == 429


def test_several_lines_of_a_header_count_as_the_one_list_they_are():
    """RFC 9110 section 5.3: the values in order, separated by comma."""
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.001, burst=1, scope=("header:x-team",)),)))
    assert stage.get("/", ("X-Team", "a"), ("X-Team", "b")).status == 200
    assert stage.get("/", ("X-Team", "a, b")).status == 429
    assert stage.get("/", ("X-Team", "b"), ("X-Team", "a")).status == 200


def test_a_header_s_value_is_kept_as_a_digest_of_a_bounded_part():
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.001, burst=1, scope=("header:x-token",)),)))
    assert stage.get("/", ("X-Token", "s3cr3t" * 2_000)).status == 200
    assert stage.get("/", ("X-Token", "s3cr3t" * 2_000 + "more")).status == 429, "behind 8 KiB they are one"
    assert stage.get("/", ("X-Token", "s3cr3t" * 1_000)).status == 200
    for (check,) in stage.counters.asked:
        assert b"s3cr3t" not in check.identifier
        assert len(check.identifier) < 32


def test_several_scopes_together_count_each_combination():
    stage = Stage(a_route("/*", policies=(a_bucket(rate=0.001, burst=1, scope=("ip", "header:x-customer")),)))
    told = [
        stage.get("/", ("X-Customer", name), client_ip=ip).status
        for name, ip in (("a", "192.0.2.1"), ("a", "192.0.2.2"), ("b", "192.0.2.1"), ("a", "192.0.2.1"))
    ]
    assert told == [200, 200, 200, 429]


def test_whatever_a_request_costs_is_taken_of_the_limit_and_said():
    stage = Stage(a_route("/*", policies=(a_bucket(rate=1, burst=10, cost=4),)))
    answers = [stage.get("/") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer["RateLimit"] for answer in answers[:2]] == ['"default";r=6;t=4', '"default";r=2;t=8']
    assert answers[2]["Retry-After"] == "2", "two more must come back before four fit"


def test_a_limit_of_the_whole_tenant_is_one_over_its_routes():
    shared = a_bucket(rate=0.001, burst=1, scope=("tenant",))
    stage = Stage(a_route("/a", policies=(shared,)), a_route("/b", policies=(a_bucket(**AS_SHARED),)))
    assert [stage.get(path).status for path in ("/a", "/b", "/a")] == [200, 429, 429]
    (one,), (two,), _ = stage.counters.asked
    assert one.policy is two.policy, "told apart by identity, so equal ones must be one object"


AS_SHARED = {"rate": 0.001, "burst": 1, "scope": ("tenant",)}


def test_ipv6_clients_count_by_their_64_and_mapped_ipv4_by_itself():
    assert network("2001:db8:1:2::1") == network("2001:db8:1:2:ffff::9")
    assert network("2001:db8:1:2::1") != network("2001:db8:1:3::1")
    assert network("::ffff:192.0.2.1") == network("192.0.2.1") == b"192.0.2.1"
    assert network("fe80::1%eth0") == network("fe80::2")


def test_an_equal_request_is_asked_with_the_very_same_checks():
    """What depends on fields, route and principal alone is made once per header block the parser remembers."""
    stage = Stage(a_route("/*", "apikey_required", policies=(a_bucket(burst=9, scope=("key", "ip")),)))
    stage.keys.records[a_key_record().tenant_id, b"demo_key_abc123"] = a_key_record()
    first = stage.get("/", ("X-API-Key", "demo_key_abc123"))
    again = stage.serve(same_head(first, "192.0.2.7"))
    elsewhere = stage.serve(same_head(first, "192.0.2.8"))
    assert (first.status, again.status, elsewhere.status) == (200, 200, 200)
    one, two, three = stage.counters.asked
    assert one is two
    assert three is not two
    assert three[0].identifier != two[0].identifier


def same_head(answer, client_ip):
    from edge.exchange import Exchange

    return Exchange(answer.exchange.head, None, client_ip, b"http", b"id", NOW, 0.0)


def test_two_tenants_with_the_same_policy_id_never_share_a_bucket():
    route = a_route("/*", policies=(a_bucket(rate=0.001, burst=1),))
    stage = Stage(route)
    stage.publish(a_snapshot(route, id=OTHER_TENANT, subdomain="other"), "other.example.com")
    assert stage.get("/").status == 200
    assert stage.get("/", host="other.example.com").status == 200
    assert stage.get("/").status == 429


def test_quota_and_window_of_both_algorithms():
    assert (quota(a_bucket(rate=10, burst=25)), window_s(a_bucket(rate=10, burst=25))) == (25, 3)
    assert (quota(a_window(limit=7)), window_s(a_window(window_s=90))) == (7, 90)


def test_a_policys_name_cannot_break_out_of_its_header():
    stage = Stage(a_route("/*", policies=(a_bucket(burst=9, name='a"b\\c\r\né%d'),)))
    answer = stage.get("/")
    assert answer["RateLimit"].endswith(";r=8;t=1")
    assert answer["RateLimit-Policy"] == '"a\\"b\\\\c___%d";q=9;w=1'


# --- A key's own limits ---------------------------------------------------------------------------------------------


def keyed_stage(*policies, own=()):
    stage = Stage(
        a_route("/a/*", "apikey_required", policies=policies), a_route("/b/*", "apikey_required"), a_route("/c/*"),
    )  # fmt: skip
    stage.knows_key("key-of-alice", id="key-1", policies=tuple(own))
    stage.knows_key("key-of-bob-1", id="key-2")
    return stage


def test_a_keys_own_limit_is_one_over_all_routes_and_nobody_elses():
    stage = keyed_stage(own=[a_bucket(rate=0.1, burst=3, id="own", name="key")])
    told = [stage.get(path, ("X-API-Key", "key-of-alice")) for path in ("/a/1", "/b/1", "/a/2", "/b/2")]
    assert [answer.status for answer in told] == [200, 200, 200, 429]
    assert [answer["RateLimit"] for answer in told] == [f'"key";r={left};t={t}' for left, t in
        ((2, 10), (1, 20), (0, 30), (0, 30))]  # fmt: skip
    assert told[0]["RateLimit-Policy"] == '"key";q=3;w=30'
    assert told[3]["Retry-After"] == "10"
    assert json.loads(told[3].body)["violated-policies"] == ["key"]
    assert stage.get("/b/1", ("X-API-Key", "key-of-bob-1")).status == 200
    assert stage.get("/c/1", ("X-API-Key", "key-of-alice"))["RateLimit"] is None


def test_a_routes_and_a_keys_limits_are_decided_together_all_or_nothing():
    stage = keyed_stage(a_window(limit=2, window_s=3600, name="route"), own=[a_bucket(0.001, 5, id="own", name="key")])
    told = [stage.get("/a/1", ("X-API-Key", "key-of-alice")) for _ in range(4)]
    assert [answer.status for answer in told] == [200, 200, 429, 429]
    assert told[0]["RateLimit-Policy"] == '"route";q=2;w=3600, "key";q=5;w=5000'
    assert told[0]["RateLimit"].startswith('"route";r=1;t=')
    assert told[0]["RateLimit"].endswith(', "key";r=4;t=1000')
    assert told[0]["X-RateLimit-Remaining"] == "1"
    assert json.loads(told[2].body)["violated-policies"] == ["route"]
    assert [len(checks) for checks in stage.counters.asked] == [2] * 4
    assert stage.get("/b/1", ("X-API-Key", "key-of-alice"))["RateLimit"] == '"key";r=2;t=3000', "the refused cost none"


def test_a_key_without_limits_meets_the_routes_as_before():
    stage = keyed_stage(a_window(limit=2, window_s=3600, name="route"), own=[a_bucket(0.001, 1, id="own", name="key")])
    assert stage.get("/a/1", ("X-API-Key", "key-of-alice"))["RateLimit-Policy"].endswith('"key";q=1;w=1000')
    assert stage.get("/a/1", ("X-API-Key", "key-of-bob-1"))["RateLimit-Policy"] == '"route";q=2;w=3600'


def test_a_keys_shadow_limit_refuses_nothing_and_is_not_shown():
    stage = keyed_stage(own=[a_bucket(0.001, 1, id="own", name="key", mode="shadow")])
    told = [stage.get("/b/1", ("X-API-Key", "key-of-alice")) for _ in range(3)]
    assert [(answer.status, answer["RateLimit"], answer["RateLimit-Policy"]) for answer in told] == [
        (200, None, None)
    ] * 3
    assert [verdict.allowed for verdict in told[2].exchange.verdicts] == [False]


# --- Requests in flight ---------------------------------------------------------------------------------------------


class OneInside:
    """A stage whose first request is still in flight: the origin asks again before it answers."""

    def __init__(self, *policies, inner=(), auth="public"):
        self.stage = Stage(a_route("/*", auth, policies=policies))
        self.inner = []
        upstream = self.stage.pipeline._ports.upstream
        answer = upstream.send

        def send(request):
            if not self.inner:
                self.inner.append(None)
                self.inner[0] = self.stage.get("/", *inner)
            return answer(request)

        upstream.send = send


def test_a_request_beyond_those_in_flight_is_429_and_the_next_one_after_them_passes():
    play = OneInside(a_concurrency(1, name="at once"))
    outer = play.stage.get("/")
    (inner,) = play.inner
    assert (outer.status, inner.status) == (200, 429)
    body = json.loads(inner.body)
    assert (body["code"], body["violated-policies"]) == ("quota-exceeded", ["at once"])
    assert body["detail"] == "Too many requests at once: try again in 1 s."
    assert inner["Retry-After"] == "1"
    assert inner["RateLimit"] == '"at once";r=0'
    assert outer["RateLimit-Policy"] == '"at once";q=1;qu="concurrent-requests"'
    assert play.stage.get("/").status == 200
    assert set(play.stage.counters.in_flight.values()) == {0}


def test_a_place_is_given_back_whatever_becomes_of_the_request():
    stage = Stage(a_route("/*", policies=(a_concurrency(1),)))
    stage.origin.script = [RuntimeError("a bug")]
    assert [stage.get("/").status for _ in range(3)] == [500, 500, 500]
    assert set(stage.counters.in_flight.values()) == {0}


def test_who_is_refused_by_another_limit_holds_no_place_and_who_gets_no_place_costs_nothing():
    limits = a_concurrency(1), a_bucket(rate=0.001, burst=2)
    play = OneInside(*limits)
    assert play.stage.get("/").status == 200
    assert play.inner[0].status == 429
    assert [play.stage.get("/").status for _ in range(2)] == [200, 429], "the one without a place took nothing"
    assert set(play.stage.counters.in_flight.values()) == {0}


def test_answers_name_both_kinds_of_limits():
    stage = Stage(a_route("/*", policies=(a_concurrency(3), a_bucket(rate=1, burst=9))))
    answer = stage.get("/")
    assert answer["RateLimit-Policy"] == '"at once";q=3;qu="concurrent-requests", "default";q=9;w=9'
    assert answer["RateLimit"] == '"default";r=8;t=1, "at once";r=2'


def test_a_shadow_limit_of_requests_in_flight_refuses_nobody():
    play = OneInside(a_concurrency(1, mode="shadow"))
    assert (play.stage.get("/").status, play.inner[0].status) == (200, 200)
    assert set(play.stage.counters.in_flight.values()) == {0}


def test_a_key_may_have_its_own_requests_in_flight_limited_on_a_route_that_has_a_limit():
    key = ("X-API-Key", "demo_key_abc123")
    play = OneInside(a_bucket(burst=9), inner=(key,), auth="apikey_required")
    play.stage.knows_key("demo_key_abc123", policies=(a_concurrency(1, name="key: at once", scope=("key",)),))
    assert play.stage.get("/", key).status == 200
    inner = play.inner[0]
    assert inner.status == 429
    assert inner["RateLimit"] == '"key: at once";r=0'
    assert inner["X-RateLimit-Limit"] == "1"


def test_of_two_limits_of_requests_in_flight_none_is_held_when_one_refuses():
    play = OneInside(a_concurrency(5, id="wide", name="wide"), a_concurrency(1))
    assert (play.stage.get("/").status, play.inner[0].status) == (200, 429)
    assert set(play.stage.counters.in_flight.values()) == {0}


# --- Calendar quotas ------------------------------------------------------------------------------------------------


def moment(*parts):
    return datetime(*parts, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "window", "start", "end"),
    [
        ((2027, 1, 15, 23, 59, 59), DAY_S, (2027, 1, 15), (2027, 1, 16)),
        ((2027, 1, 15, 8), MONTH_S, (2027, 1, 1), (2027, 2, 1)),
        ((2028, 2, 29), MONTH_S, (2028, 2, 1), (2028, 3, 1)),
        ((2027, 12, 31, 23, 59, 59), MONTH_S, (2027, 12, 1), (2028, 1, 1)),
    ],
)
def test_a_period_is_a_day_or_a_month_of_utc(now, window, start, end):
    assert calendar_period(moment(*now), window) == (moment(*start), moment(*end))


@given(st.integers(0, 2_900_000))
def test_months_are_those_of_the_calendar(day):
    of = date(1970, 1, 1) + timedelta(days=day)
    start, end = calendar_period(day * DAY_S + 7, MONTH_S)
    first = of.replace(day=1)
    assert start == (first - date(1970, 1, 1)).days * DAY_S
    assert end - start == monthrange(of.year, of.month)[1] * DAY_S


def test_a_quota_is_whole_again_when_its_period_ends_and_not_before():
    last = moment(2027, 1, 31, 23, 59, 59)
    decision, state = calendar_quota(None, last, 5, MONTH_S, cost=3)
    assert decision == (True, 2, 1.0, 0.0)
    refused, same = calendar_quota(state, last, 5, MONTH_S, cost=3)
    assert (refused, same) == ((False, 2, 1.0, 1.0), state)
    assert calendar_quota(state, last + 1, 5, MONTH_S, cost=5)[0].allowed


def test_a_lowered_quota_that_is_overdrawn_has_nothing_left():
    _, state = calendar_quota(None, NOW, 5, DAY_S, cost=5)
    assert calendar_quota(state, NOW, 2, DAY_S)[0].remaining == 0


spans = st.lists(st.tuples(st.integers(-400_000, 900_000), st.integers(1, 5)), min_size=1, max_size=80)


@given(spans, st.integers(1, 9), st.sampled_from([DAY_S, MONTH_S]))
def test_no_period_s_quota_is_given_twice_however_the_clock_steps(steps, limit, window):
    """Who stepped back is still counted in the newest period that was seen."""
    state, clock, used, newest = None, NOW, {}, 0
    for step, cost in steps:
        clock += step
        decision, after = calendar_quota(state, clock, limit, window, cost)
        if decision.allowed:
            state = after
            newest = max(newest, calendar_period(clock, window)[0])
            assert state.start == newest
            used[newest] = used.get(newest, 0) + cost
            assert used[newest] <= limit


def test_a_keys_quota_is_shown_and_ends_with_the_day():
    stage = Stage(a_route("/*", "apikey_required"))
    day = PolicyConfig(
        id="day", name="key: day", algorithm="calendar", limit=2, window_s=DAY_S, scope=("key",), cost=msgspec.UNSET
    )
    stage.knows_key("demo_key_abc123", policies=(day,))
    answers = [stage.get("/", ("X-API-Key", "demo_key_abc123")) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[0]["RateLimit-Policy"] == '"key: day";q=2;w=86400'
    assert answers[0]["RateLimit"] == '"key: day";r=1;t=57600', "it is 08:00 UTC"
    assert answers[2]["Retry-After"] == "57600"
