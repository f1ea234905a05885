"""webapp.console.route_form: between the editor's controls and the API's shape, without loss."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from contracts.bounds import BODY_BYTES_MAX
from webapp.console import route_form
from webapp.console.curl import curl_for_route, example_path
from webapp.console.forms import Form, without_nones
from webapp.schemas.route import RouteNew, RouteView

ORIGIN_ID = uuid4()
CORS = {"allow_origins": ["https://app.example.com"], "allow_credentials": True, "max_age_seconds": 5}
RULES = {"allow": ["192.0.2.0/24"], "deny": ["192.0.2.7/32"]}


def _view(**fields: Any) -> RouteView:
    new = RouteNew.model_validate({"path_pattern": "/a/*", "origin_id": ORIGIN_ID, "auth_mode": "public", **fields})
    now = datetime(2026, 1, 1, tzinfo=UTC)
    rest = {"id": uuid4(), "tenant_id": uuid4(), "row_version": 3, "created_at": now, "updated_at": now}
    return RouteView.model_validate({**new.model_dump(), **rest})


def _bucket(**fields: Any) -> dict[str, Any]:
    return {"algorithm": "token_bucket", "requests_per_second": 5, "burst": 10, **fields}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "n", "methods": ["GET", "POST"], "priority": -3, "enabled": False, "preserve_host": True},
        {"auth_mode": "jwt_required", "any_user": True, "required_scopes": ["a", "b:c"], "forward_credential": True},
        {"rate_limit": {"requests_per_second": 0.5}},
        {"rate_limit": {"requests_per_second": 100, "burst": 200}},
        {"rate_limit": {"policies": [_bucket(scope=["ip"], on_store_failure="closed")]}},
        {
            "rate_limit": {
                "policies": [{"algorithm": "sliding_window", "limit": 9, "window_seconds": 60, "scope": ["key"]}]
            }
        },
        {"rate_limit": {"policies": [_bucket(scope=["header:x-team"])]}},
        {"rate_limit": {"policies": [_bucket(cost=2, burst=9)]}},
        {"rate_limit": {"policies": [{"algorithm": "concurrency", "limit": 5}]}},
        {"rate_limit": {"policies": [_bucket(name="a"), _bucket(name="b", mode="shadow")]}},
        {"cache_policy": {"ttl_seconds": 0, "cache_key_pattern": "path"}},
        {"cache_policy": {"cache_key_pattern": "path+query+headers", "key_headers": ["accept", "x-a"]}},
        {"auth_mode": "apikey_required", "cache_policy": {"shared": True}},
        {"rewrite": {"strip_prefix": "/a"}, "body_bytes_max": 1_234_567},
        {"auth_mode": "oauth_required", "any_user": True, "issuers": [str(ORIGIN_ID)]},
        {"auth_mode": "service_required", "required_scopes": ["orders:write"], "identity_token": True},
        {"auth_mode": "any", "accept": ["jwt", "apikey"], "any_user": True, "required_roles": ["org:admin"]},
        {
            "auth_mode": "jwt_required",
            "required_permissions": ["org:invoices:create"],
            "cors": CORS,
            "addresses": RULES,
        },
    ],
)
def test_a_form_filled_from_a_route_and_sent_back_gives_the_same_route(fields: dict[str, Any]) -> None:
    route = _view(**fields)
    form = route_form.filled(route)
    sent = RouteNew.model_validate(without_nones(route_form.payload(form, route)))
    assert form.errors == {}
    kept = RouteNew.model_validate(route.model_dump(include=set(RouteNew.model_fields) - {"tenant_id"}))
    assert _meaning(sent) == _meaning(kept)


def _meaning(route: RouteNew) -> dict[str, Any]:
    shown = route.model_dump(exclude={"rate_limit"})
    return {**shown, "policies": route.rate_limit.all_policies if route.rate_limit else ()}


def test_another_auth_mode_drops_what_it_does_not_read_and_keeps_the_rest() -> None:
    route = _view(
        auth_mode="any",
        accept=["jwt", "oauth"],
        issuers=[str(ORIGIN_ID)],
        required_roles=["org:admin"],
        required_permissions=["org:a:b"],
        any_user=True,
        cors=CORS,
        addresses=RULES,
        identity_token=True,
    )
    form = route_form.filled(route)
    for mode in ("public", "jwt_required", "apikey_required", "oauth_required", "service_required"):
        payload = route_form.payload(Form({**form.raw(), "auth_mode": mode}), route)
        sent = RouteNew.model_validate(without_nones(payload))
        for field in ("cors", "addresses", "identity_token"):
            assert sent.model_dump()[field] == route.model_dump()[field]
        assert sent.accept == ()
        assert bool(sent.required_roles) == bool(sent.required_permissions) == (mode == "jwt_required")
        assert bool(sent.issuers) == sent.any_user == (mode in ("jwt_required", "oauth_required"))


def test_a_limit_without_its_figure_is_refused_on_its_control() -> None:
    form = route_form.blank(str(ORIGIN_ID))
    form = type(form)({**form.raw(), "limit_kind": ["token_bucket"]})
    route_form.payload(form)
    assert form.errors == {"requests_per_second": "must be given for this kind of limit"}


def test_a_body_size_beyond_all_numbers_is_one_for_the_rules_to_refuse() -> None:
    form = route_form.filled(_view())
    for typed in ("1e308", "-1e308"):
        body_bytes = route_form.payload(Form({**form.raw(), "body_mib_max": typed}))["body_bytes_max"]
        assert not 0 <= body_bytes <= BODY_BYTES_MAX


def test_routes_stand_in_the_order_in_which_the_edge_tries_them() -> None:
    first = _view(path_pattern="/*", priority=5)
    exact, named, rest = _view(path_pattern="/a/b"), _view(path_pattern="/a/{id}"), _view(path_pattern="/a/*")
    twin = _view(path_pattern="/a/b")
    assert route_form.in_match_order([rest, named, exact, twin, first]) == [first, exact, twin, named, rest]


@pytest.mark.parametrize(
    ("mode", "accept", "shown"),
    [
        ("public", [], ""),
        ("oauth_required", [], ' -H "Authorization: Bearer $TOKEN"'),
        ("service_required", [], ' -H "Authorization: Bearer $TOKEN"'),
        ("any", ["jwt", "apikey"], " -H 'X-API-Key: YOUR_API_KEY'"),
        ("any", ["jwt", "oauth"], ' -H "Authorization: Bearer $TOKEN"'),
    ],
)
def test_the_curl_line_has_a_credential_that_the_route_takes(mode: str, accept: list[str], shown: str) -> None:
    line = curl_for_route("http://demo.localhost:8000", _view(auth_mode=mode, accept=accept))
    assert line == "curl -i http://demo.localhost:8000/a" + shown


def test_the_curl_line_is_quoted_and_fits_its_pattern() -> None:
    assert example_path("/users/{id}/*") == "/users/1"
    assert example_path("/*") == "/"
    route = _view(path_pattern="/it's/*", auth_mode="apikey_required", methods=["POST"])
    line = curl_for_route("http://demo.localhost:8000", route)
    assert line == "curl -i -X POST 'http://demo.localhost:8000/it'\"'\"'s' -H 'X-API-Key: YOUR_API_KEY'"
