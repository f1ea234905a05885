from hypothesis import given
from hypothesis import strategies as st

from worker import probes
from worker.probes import ProbeState, Rules

RULES = Rules()
ANSWERS = st.lists(st.booleans(), max_size=60)


def after(answers, state=None, rules=RULES, step_s=10.0):
    state = state or ProbeState()
    for index, success in enumerate(answers):
        state = probes.observe(state, success, 1_000.0 + index * step_s, rules)
    return state


def test_three_failures_take_a_target_down_and_two_successes_bring_it_back():
    up = after([True])
    assert after([False, False], up).healthy
    down = after([False, False, False], up)
    assert down.healthy is False
    assert after([True], down).healthy is False
    assert after([True, True], down).healthy


def test_one_answer_of_the_other_kind_starts_the_count_anew():
    up = after([True])
    assert after([False, False, True, False, False], up).healthy
    down = after([False] * 3, up)
    assert after([True, False, True], down).healthy is False


def test_a_target_never_seen_is_up_at_its_first_success_and_down_only_at_its_third_failure():
    assert after([True]).healthy
    assert after([False, False]).healthy is None
    assert after([False, False, False]).healthy is False


@given(ANSWERS)
def test_a_verdict_changes_only_after_enough_answers_against_it_in_a_row(answers):
    state = ProbeState()
    for index, success in enumerate(answers):
        before, state = state, probes.observe(state, success, index * 1_000.0, RULES)
        if state.healthy != before.healthy and before.healthy is not None:
            needed = RULES.up_after if success else RULES.down_after
            assert answers[index + 1 - needed : index + 1] == [success] * needed
            assert state.since == index * 1_000.0


@given(ANSWERS)
def test_enough_equal_answers_always_decide(answers):
    state = after(answers, step_s=1_000.0)
    assert after([False] * 3, state).healthy is False
    assert after([True] * RULES.up_after_max, state).healthy is True


@given(ANSWERS)
def test_a_state_survives_its_wire_form(answers):
    state = probes.announced(after(answers), 7.0)
    assert probes.decode(probes.encode(state)) == state


def test_a_state_that_cannot_be_read_is_a_target_never_seen():
    assert probes.decode(b"") == probes.decode(None) == probes.decode(b"{nonsense") == ProbeState()


def test_a_target_that_keeps_changing_must_stay_well_for_longer():
    state = after([True])
    for _ in range(4):
        state = after([False] * 3 + [True] * 16, state, step_s=0.1)
    assert probes.successes_needed(state, 1_010.0, RULES) > RULES.up_after
    assert probes.successes_needed(state, 1_010.0, RULES) <= RULES.up_after_max
    assert probes.successes_needed(state, 1_000_000.0, RULES) == RULES.up_after


def test_going_down_is_never_delayed_by_changes():
    state = after([True])
    for _ in range(8):
        state = after([False] * 3 + [True] * 16, state, step_s=0.1)
    assert after([False] * 3, state).healthy is False


def test_a_new_verdict_is_told_and_a_standing_down_told_again_before_its_life_ends():
    unknown = ProbeState()
    assert not probes.must_tell(unknown, 0.0, RULES)
    up = after([True])
    assert probes.must_tell(up, 1_000.0, RULES)
    told = probes.announced(up, 1_000.0)
    assert not probes.must_tell(told, 9_000.0, RULES)
    down = probes.announced(after([False] * 3, told), 1_000.0)
    assert not probes.must_tell(down, 1_001.0, RULES)
    assert probes.must_tell(down, 1_000.0 + RULES.verdict_lives_s * 0.6, RULES)


@given(st.floats(0, 1, exclude_max=True))
def test_the_next_probe_is_due_within_the_jitter_of_the_interval(chance):
    assert 9.0 <= probes.next_due(0.0, RULES, chance) <= 11.0
    assert 0.0 <= probes.first_due(0.0, RULES, chance) <= 1.0
