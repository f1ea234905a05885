"""webapp.schemas.limit_words: a limit in plain words, whole or half typed."""

from __future__ import annotations

from typing import Any

import pytest

from webapp.schemas.limit_words import in_short, policies_of, summary

MORE = "more are answered 429."
THEIRS = "value of the header x-team and tenant; each request counts as 5; more are answered 429."
ROUTE = f"for this route; {MORE}"
BUCKET = {"requests_per_second": 5, "burst": 20}
MINUTE = {"limit": 100, "window_seconds": 60}


@pytest.mark.parametrize(
    ("rate_limit", "said"),
    [
        (None, []),
        (BUCKET, [f"At most 5 requests per second for this route; bursts up to 20; {MORE}"]),
        ({"requests_per_second": 0.5}, [f"At most 30 requests per minute {ROUTE}"]),
        ({"requests_per_second": 1 / 60}, [f"At most 1 request per minute {ROUTE}"]),
        ({"requests_per_second": 1 / 3600}, [f"At most 1 request per hour {ROUTE}"]),
        ({"requests_per_second": 0.123}, [f"At most 0.123 requests per second {ROUTE}"]),
        ({"requests_per_second": 1}, [f"At most 1 request per second {ROUTE}"]),
        (
            {"policies": [{**MINUTE, "scope": ("key",)}, {**BUCKET, "scope": "ip", "mode": "shadow"}]},
            [
                f"At most 100 requests per minute for each API key; {MORE}",
                "At most 5 requests per second for each address; bursts up to 20; counted only, never refused.",
            ],
        ),
        (
            {"policies": [{**MINUTE, "scope": ["user", "header:x-team", "tenant"], "cost": 5}]},
            [f"At most 100 requests per minute for each combination of user, {THEIRS}"],
        ),
        (
            {"policies": [{"limit": 1, "window_seconds": 90}]},
            [f"At most 1 request per 90 seconds {ROUTE}"],
        ),
        ({"policies": [{"limit": None, "window_seconds": -1}]}, [f"At most … requests per … {ROUTE}"]),
        (
            {"policies": [{"limit": 5, "scope": [], "burst": True}, "x"]},
            [f"At most 5 requests per … {ROUTE}"],
        ),
        ({"policies": [{"limit": 5, "scope": {}}]}, [f"At most 5 requests per … {ROUTE}"]),
    ],
)
def test_each_limit_is_a_sentence(rate_limit: dict[str, Any] | None, said: list[str]) -> None:
    assert list(summary(rate_limit)) == said


def test_requests_at_the_same_time_are_a_sentence() -> None:
    limit = {"algorithm": "concurrency", "limit": 20, "scope": ["key"]}
    assert summary({"policies": [limit]}) == (f"At most 20 requests at the same time for each API key; {MORE}",)


def test_a_quota_is_a_sentence() -> None:
    quota = {"algorithm": "calendar", "limit": 10_000, "period": "month"}
    assert summary({"policies": [quota]}, "this key") == (
        f"At most 10,000 requests in each calendar month (UTC) for this key; {MORE}",
    )


def test_a_limit_without_a_scope_counts_whom_it_is_said_to() -> None:
    assert summary(MINUTE, "this key") == (f"At most 100 requests per minute for this key; {MORE}",)


def test_a_limit_in_short() -> None:
    assert in_short({"algorithm": "concurrency", "limit": 20}) == "20 at once"
    assert [in_short(policy) for policy in policies_of({"policies": [MINUTE, BUCKET, {}]})] == [
        "100 per minute",
        "5/s",
        "…/s",
    ]
