"""The arithmetic of the table: medians, percentiles, ratios of rounds, budgets.

In:    numbers.
Out:   numbers; a Verdict.
Laws:  1. A ratio is made within a round, of runs that lay next to each other, and only then is the median taken. 2. No
       interpolation in percentiles: the figure is one that was measured (nearest rank). 3. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Word = Literal["goal", "first", "missed", "not judged"]


@dataclass(frozen=True)
class Spread:
    """The middle of several rounds and how far they lie apart."""

    median: float
    low: float
    high: float
    rounds: int


def median(values: Sequence[float]) -> float:
    """Give the middle; of an even number, the mean of the two in the middle. Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that at least `share` of all do not exceed (nearest rank). Raises ValueError for none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values), len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Divide round by round. Raises ValueError when the rounds do not pair or a peer's figure is not positive."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds against {len(theirs)}")
    if any(value <= 0 for value in theirs):
        raise ValueError("a figure to divide by is not positive")
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def verdict(value: float, first: float, goal: float | None, at_least: bool = False) -> Word:
    """Judge a value as it is, not as it is rounded for the table. `at_least`: more is better."""
    sign = -1.0 if at_least else 1.0
    if goal is not None and value * sign <= goal * sign:
        return "goal"
    return "first" if value * sign <= first * sign else "missed"
