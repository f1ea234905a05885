"""When somebody who keeps failing is not asked any more (edge.breaker)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.breaker import PROBE_WAIT_S, Breaker, BreakerPolicy

POLICY = BreakerPolicy(calls_min=10, open_s=5.0, open_s_max=60.0)


def calls(breaker, now, *outcomes):
    """One call after the other, each ended at once; gives how many were let through."""
    entered = 0
    for succeeded in outcomes:
        ticket = breaker.enter(now)
        if ticket:
            entered += 1
            breaker.leave(ticket, now, succeeded=succeeded)
    return entered


@pytest.fixture
def opened():
    breaker = Breaker(POLICY)
    calls(breaker, 100.0, *[False] * 10)
    return breaker


def test_it_opens_at_half_of_ten_and_not_below():
    breaker = Breaker(POLICY)
    assert calls(breaker, 0.0, *[True] * 6, *[False] * 5) == 11
    assert breaker.state == "closed", "5 of 11 are less than half"
    calls(breaker, 0.0, False)
    assert breaker.state == "open"
    assert repr(breaker) == "<Breaker open 6 of 12 failed>"


def test_nine_failures_are_too_few_to_judge():
    breaker = Breaker(POLICY)
    assert calls(breaker, 0.0, *[False] * 9) == 9
    assert breaker.state == "closed"


def test_only_the_last_ten_seconds_count():
    breaker = Breaker(POLICY)
    calls(breaker, 0.5, *[False] * 5)
    calls(breaker, 9.9, *[False] * 4)
    calls(breaker, 10.5, False)
    assert breaker.state == "closed", "the five of the first second have left the window"
    calls(breaker, 10.6, *[False] * 5)
    assert breaker.state == "open"


def test_a_long_silence_empties_the_window():
    breaker = Breaker(POLICY)
    calls(breaker, 0.0, *[False] * 9)
    calls(breaker, 1_000.0, False)
    assert repr(breaker) == "<Breaker closed 1 of 1 failed>"


def test_open_refuses_at_once_and_says_for_how_long(opened):
    assert opened.enter(104.0) == 0
    assert opened.wait_s(104.0) == 1.0
    assert opened.wait_s(200.0) == 0.0
    assert Breaker(POLICY).wait_s(0.0) == 0.0


def test_behind_the_wait_one_probe_goes_and_everybody_else_waits_for_it(opened):
    ticket = opened.enter(105.0)
    assert ticket
    assert opened.state == "half_open"
    assert [opened.enter(105.0) for _ in range(5)] == [0] * 5
    assert opened.wait_s(105.0) == PROBE_WAIT_S
    opened.leave(ticket, 105.1, succeeded=True)
    assert opened.state == "closed"
    assert repr(opened) == "<Breaker closed 0 of 0 failed>"


def test_each_failed_probe_doubles_the_wait_up_to_a_minute_and_a_success_forgets_that(opened):
    now, waits = 105.0, []
    for _ in range(6):
        ticket = opened.enter(now)
        opened.leave(ticket, now, succeeded=False)
        waits.append(opened.wait_s(now))
        now += waits[-1]
    assert waits == [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]
    opened.leave(opened.enter(now), now, succeeded=True)
    calls(opened, now, *[False] * 10)
    assert opened.wait_s(now) == 5.0


def test_a_probe_that_was_given_up_makes_room_for_the_next(opened):
    opened.leave(opened.enter(105.0), 105.0, succeeded=None)
    assert opened.state == "half_open"
    assert opened.enter(105.0)


def test_a_call_that_was_given_up_counts_for_nothing():
    breaker = Breaker(POLICY)
    calls(breaker, 0.0, *[None] * 50)
    assert repr(breaker) == "<Breaker closed 0 of 0 failed>"


def test_a_call_from_before_says_nothing_about_now(opened):
    """A slow failure of the flood that opened it must not answer for the probe, nor a late success close it."""
    breaker = Breaker(POLICY)
    late = [breaker.enter(0.0) for _ in range(3)]
    calls(breaker, 0.0, *[False] * 10)
    breaker.leave(late[0], 1.0, succeeded=True)
    assert breaker.state == "open"
    probe = breaker.enter(5.0)
    breaker.leave(late[1], 5.0, succeeded=False)
    assert breaker.state == "half_open"
    breaker.leave(probe, 5.1, succeeded=True)
    breaker.leave(late[2], 5.2, succeeded=False)
    assert repr(breaker) == "<Breaker closed 0 of 0 failed>"


def test_several_probes_must_all_succeed():
    breaker = Breaker(BreakerPolicy(calls_min=1, open_s=1.0, open_s_max=4.0, probes=2))
    calls(breaker, 0.0, False)
    first, second = breaker.enter(1.0), breaker.enter(1.0)
    assert first and second and breaker.enter(1.0) == 0
    breaker.leave(first, 1.0, succeeded=True)
    assert breaker.state == "half_open"
    breaker.leave(second, 1.0, succeeded=True)
    assert breaker.state == "closed"


def test_a_clock_that_seems_to_step_back_breaks_nothing():
    breaker = Breaker(POLICY)
    calls(breaker, 100.0, *[False] * 5)
    calls(breaker, 99.0, *[False] * 5)
    assert breaker.state == "open"


@given(st.lists(st.tuples(st.floats(0, 3, allow_nan=False), st.sampled_from([True, False, None])), max_size=200))
def test_whatever_happens_it_lets_somebody_through_again(story):
    breaker, now = Breaker(POLICY), 0.0
    for passes, outcome in story:
        now += passes
        calls(breaker, now, outcome)
    now += POLICY.open_s_max
    assert calls(breaker, now, True) == 1
    assert breaker.state == "closed"
