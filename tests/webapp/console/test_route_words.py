"""webapp.console.route_words: a route in plain words, whole or half typed."""

from __future__ import annotations

from typing import Any

import pytest

from webapp.console.route_words import limits_in_short, steps
from webapp.schemas.route import RateLimit


def _words(route: dict[str, Any], origin: str | None = "backend") -> dict[str, str]:
    return {step.name: step.words for step in steps(route, origin)}


def test_a_whole_route_is_said_in_five_sentences() -> None:
    said = _words(
        {
            "path_pattern": "/api/users/*",
            "methods": ("GET", "HEAD"),
            "auth_mode": "apikey_required",
            "required_scopes": ("read", "write"),
            "rate_limit": {"requests_per_second": 100.0, "burst": 200},
            "cache_policy": {"enabled": True, "ttl_seconds": 300, "cache_key_pattern": "path+query"},
            "rewrite": {"strip_prefix": "/api"},
        }
    )
    assert said == {
        "Match": "GET and HEAD requests to /api/users and everything below it.",
        "Auth": "Callers present one of your API keys; others get 401. They need the scopes read and write; "
        "others get 403.",
        "Limits": "At most 100 requests per second for this route; bursts up to 200; more are answered 429.",
        "Cache": "Answers are stored for 5 minutes, told apart by path and query. Each caller has a copy of their own.",
        "Origin": "The request goes to backend without the leading /api.",
    }


def test_a_window_and_a_shadow_are_said() -> None:
    policy = {"algorithm": "sliding_window", "limit": 5000, "window_seconds": 3600, "scope": ("key",), "mode": "shadow"}
    said = _words({"rate_limit": {"policies": [policy]}})["Limits"]
    assert said == "At most 5,000 requests per hour for each API key; counted only, never refused."


@pytest.mark.parametrize("kept_in", [list, tuple])
def test_policies_are_said_as_the_form_and_as_the_api_hold_them(kept_in: type) -> None:
    bucket = {"name": "burst", "algorithm": "token_bucket", "requests_per_second": 5, "burst": 10, "scope": ["ip"]}
    window = {"name": "day", "algorithm": "sliding_window", "limit": 9, "window_seconds": 86_400, "scope": ["user"]}
    shown = RateLimit.model_validate({"policies": [bucket, window]}).model_dump()
    rate_limit = {"policies": kept_in(shown["policies"])}
    assert _words({"rate_limit": rate_limit})["Limits"] == (
        "At most 5 requests per second for each address; bursts up to 10; more are answered 429. "
        "At most 9 requests per day for each user; more are answered 429."
    )
    assert limits_in_short(rate_limit) == "2 policies"


def test_a_half_typed_route_is_said_as_far_as_it_goes() -> None:
    said = _words({"rate_limit": {"requests_per_second": None}, "cache_policy": {"enabled": True}}, None)
    assert said["Match"] == "Requests of any method to a path you have not typed yet."
    assert said["Limits"].startswith("At most … requests per second")
    assert said["Origin"] == "Choose where the request goes."


OPEN = "Anyone may call it; no credential is asked for."
MEMBER = "Callers present the session token of a signed-in user of your organisation; others get 401."
KEY_OR_APP = "Callers present one of your API keys or an OAuth access token; others get 401."
OF_ONE = "of 1 issuer of your own"
TWO = {"allow_origins": ["https://a.test", "https://b.test"]}
NETWORKS = {"allow": ["10.0.0.0/8"], "deny": ["10.0.0.1/32", "10.0.0.2/32"]}


@pytest.mark.parametrize(
    ("mode", "route", "said"),
    [
        (None, {}, "Choose who may call it."),
        (
            "jwt_required",
            {"any_user": True},
            "Callers present the session token of any signed-in user; others get 401.",
        ),
        ("oauth_required", {}, "Callers present an OAuth access token; others get 401."),
        ("service_required", {}, "Callers present a service's token or signature; others get 401."),
        ("any", {}, "Callers present one of several kinds of credential; others get 401."),
        (
            "any",
            {"accept": ["apikey", "oauth"], "required_scopes": ["read"]},
            f"{KEY_OR_APP} They need the scope read; others get 403.",
        ),
        (
            "any",
            {"accept": ["jwt", "oauth"], "issuers": ["i"]},
            f"Callers present a user's token {OF_ONE} or an OAuth access token {OF_ONE}; others get 401.",
        ),
        (
            "jwt_required",
            {"required_roles": ["org:a", "org:b"], "required_permissions": ["org:c:d"]},
            f"{MEMBER} Users need the role org:a or org:b and the permission org:c:d; others get 403.",
        ),
        (
            "public",
            {"addresses": NETWORKS},
            f"{OPEN} Only clients from 1 network may call it. Clients from 2 networks get 403.",
        ),
        ("public", {"cors": TWO}, f"{OPEN} Pages of https://a.test and https://b.test may call it from a browser."),
        ("public", {"cors": {"allow_origins": ["*"]}}, f"{OPEN} Pages of any site may call it from a browser."),
        ("public", {"cors": {"allow_origins": ["x"] * 4}}, f"{OPEN} Pages of 4 sites may call it from a browser."),
    ],
)
def test_who_may_call_is_said(mode: str | None, route: dict[str, Any], said: str) -> None:
    assert _words({"auth_mode": mode, **route})["Auth"] == said


@pytest.mark.parametrize(
    ("rate_limit", "short"),
    [
        (None, None),
        ({"requests_per_second": 0.5, "burst": 1}, "0.5/s"),
        ({"policies": [{"limit": 100, "window_seconds": 60}]}, "100 per minute"),
        ({"policies": [{}, {}]}, "2 policies"),
    ],
)
def test_a_limit_fits_a_cell(rate_limit: dict[str, Any] | None, short: str | None) -> None:
    assert limits_in_short(rate_limit) == short
