"""The arithmetic of the table."""

import pytest

from bench.stats import Spread, median, percentile, ratios, spread, verdict


def test_the_median_of_an_even_number_lies_between_the_two_in_the_middle():
    assert median([4, 1, 3, 2]) == 2.5
    assert median([9, 1, 5]) == 5
    with pytest.raises(ValueError, match="no values"):
        median([])


def test_a_percentile_is_a_value_that_was_measured():
    hundred = [float(number) for number in range(1, 101)]
    assert percentile(hundred, 0.99) == 99
    assert percentile(hundred, 0.5) == 50
    assert percentile(hundred, 1.0) == 100
    assert percentile([7.0], 0.5) == percentile([7.0], 0.0) == 7.0
    assert percentile([1.0, 2.0, 3.0], 0.99) == 3.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_ratio_is_made_within_a_round_before_the_median_is_taken():
    # The machine was twice as slow in the second round, for both. Medians first would say 20 / 10.
    assert ratios([10, 40, 20], [10, 20, 5]) == Spread(median=2.0, low=1.0, high=4.0, rounds=3)
    assert ratios([10, 40, 20], [10, 20, 5]).median != 20 / 20


def test_rounds_that_do_not_pair_are_no_ratio():
    with pytest.raises(ValueError, match="2 rounds against 1"):
        ratios([1, 2], [1])
    with pytest.raises(ValueError, match="not positive"):
        ratios([1.0], [0.0])


def test_a_spread_has_both_ends():
    assert spread([3, 1, 2]) == Spread(2, 1, 3, 3)


@pytest.mark.parametrize(
    ("value", "at_least", "expected"),
    [
        (0.5, False, "goal"), (0.51, False, "first"), (0.85, False, "first"), (0.8504, False, "missed"),
        (0.5, True, "missed"), (0.85, True, "goal"), (0.84, True, "first"),
    ],
)  # fmt: skip
def test_a_value_is_judged_as_it_is_and_not_as_it_is_rounded(value, at_least, expected):
    first, goal = (0.6, 0.85) if at_least else (0.85, 0.5)
    assert verdict(value, first, goal, at_least) == expected


def test_a_budget_without_a_goal_can_only_hold():
    assert verdict(1.0, 2.0, None) == "first"
    assert verdict(2.1, 2.0, None) == "missed"
