"""webapp.console.rendering: times, durations and sizes in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from webapp.console.rendering import counted, duration, exact, iso, relative, size

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(seconds=59), "59 seconds ago"),
        (timedelta(seconds=61), "1 minute ago"),
        (timedelta(hours=5, minutes=59), "5 hours ago"),
        (timedelta(days=2), "2 days ago"),
        (timedelta(days=45), "1 month ago"),
        (timedelta(days=800), "2 years ago"),
        (timedelta(days=-3), "in 3 days"),
    ],
)
def test_a_moment_is_said_in_its_largest_unit(ago: timedelta, words: str) -> None:
    assert relative(NOW - ago, NOW) == words


def test_the_exact_moment_is_utc() -> None:
    assert exact(NOW) == "2026-05-04 12:00:00 UTC"
    assert iso(NOW) == "2026-05-04T12:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 second"), (0.5, "0.5 seconds"), (90, "90 seconds"), (300, "5 minutes"), (86_400, "1 day")],
)
def test_a_duration_is_said_in_its_largest_whole_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_sizes_and_counts_agree_with_their_nouns() -> None:
    assert (size(10 * 1024 * 1024), size(1_536), size(1), size(0)) == ("10 MiB", "1.5 KiB", "1 byte", "0 bytes")
    assert (counted(1, "policy", "policies"), counted(2_000, "policy", "policies")) == ("1 policy", "2,000 policies")
