"""What each call answers: good input, bad input, conflicts, versions, pages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Flask

from contracts.problems import MEDIA_TYPE
from tests.webapp.cast import Person, a_route, an_origin


def _errors(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == MEDIA_TYPE
    body = answer.get_json()
    assert body["code"] == "validation-failed"
    return [item["location"] for item in body["errors"]]


@pytest.mark.parametrize(
    ("changed", "location"),
    [
        ({"surprise": 1}, "surprise"),
        ({"name": ""}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": 7}, "name"),
        ({"name": None}, "name"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "https://user:pw@example.com"}, "url"),
        ({"url": "http://127.0.0.1:8082"}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"url": "http://[::ffff:10.0.0.1]"}, "url"),
        ({"url": "http://localhost"}, "url"),
        ({"url": "http://0x7f.1"}, "url"),
        ({"url": None}, "url"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": 301}, "timeout_seconds"),
        ({"timeout_seconds": "30"}, "timeout_seconds"),
        ({"health_check_path": "health"}, "health_check_path"),
        ({"health_check_path": "/a b"}, "health_check_path"),
        ({"load_balancing": "random"}, "load_balancing"),
        ({"tenant_id": "no uuid"}, "tenant_id"),
        ({"url": None, "targets": []}, "targets"),
        ({"url": None, "targets": [{"url": "https://a.example.com", "weight": 0}]}, "targets.0.weight"),
        ({"url": None, "targets": [{"url": "https://a.example.com"}, {"url": "http://10.0.0.1"}]}, "targets.1.url"),
        ({"url": None, "targets": [{"url": "https://a.example.com"}] * 2}, "targets"),
        ({"targets": [{"url": "https://b.example.com"}]}, "url"),
    ],
)
def test_a_bad_origin_is_refused_and_the_field_is_named(alice: Person, changed: dict[str, Any], location: str) -> None:
    assert location in _errors(alice.post("/origins", an_origin(**changed)))


@pytest.mark.parametrize(
    ("changed", "location"),
    [
        ({"path_pattern": "api"}, "path_pattern"),
        ({"path_pattern": "/*/x"}, "path_pattern"),
        ({"auth_mode": "basic"}, "auth_mode"),
        ({"methods": ["FETCH"]}, "methods.0"),
        ({"methods": ["GET", "GET"]}, "methods"),
        ({"priority": 1001}, "priority"),
        ({"priority": True}, "priority"),
        ({"enabled": "yes"}, "enabled"),
        ({"rate_limit": {}}, "rate_limit.requests_per_second"),
        ({"rate_limit": {"requests_per_second": 0}}, "rate_limit.requests_per_second"),
        ({"rate_limit": {"requests_per_second": 1, "burst": 0}}, "rate_limit.burst"),
        ({"rate_limit": {"requests_per_second": 1, "policies": []}}, "rate_limit.policies"),
        (
            {"rate_limit": {"policies": [{"algorithm": "sliding_window", "limit": 5}]}},
            "rate_limit.policies.0.algorithm",
        ),
        (
            {"rate_limit": {"policies": [{"requests_per_second": 1, "scope": ["planet"]}]}},
            "rate_limit.policies.0.scope.0",
        ),
        *[
            ({"rate_limit": {"policies": [policy]}}, f"rate_limit.policies.0.{field}")
            for policy, field in (
                ({"requests_per_second": 1, "scope": []}, "scope"),
                ({"requests_per_second": 1, "scope": ["ip", "ip"]}, "scope"),
                ({"requests_per_second": 1, "scope": ["header:X-A", "header:x-a"]}, "scope"),
                ({"requests_per_second": 1, "scope": "header:"}, "scope.0"),
                ({"requests_per_second": 1, "scope": ["header:a b"]}, "scope.0"),
                ({"requests_per_second": 1, "scope": [f"header:x{n}" for n in range(6)]}, "scope"),
                ({"requests_per_second": 1, "scope": 5}, "scope"),
                ({"requests_per_second": -1}, "requests_per_second"),
                ({"requests_per_second": 1, "burst": 10**9}, "burst"),
                ({"requests_per_second": 0.001, "burst": 10_000}, "burst"),
                ({"requests_per_second": 1, "burst": 5, "cost": 6}, "cost"),
                ({"requests_per_second": 5.9, "cost": 6}, "cost"),
                ({"requests_per_second": 1, "burst": 5, "cost": 0}, "cost"),
                ({"requests_per_second": 1, "limit": 5}, "algorithm"),
                ({"algorithm": "sliding_window", "limit": 5, "window_seconds": 60, "cost": 6}, "cost"),
                ({"algorithm": "sliding_window", "limit": 0, "window_seconds": 60}, "limit"),
                ({"algorithm": "sliding_window", "limit": 5, "window_seconds": 86_401}, "window_seconds"),
                ({"algorithm": "sliding_window", "limit": 5, "window_seconds": 60, "burst": 6}, "algorithm"),
                ({"algorithm": "calendar", "limit": 5, "period": "week"}, "period"),
                ({"algorithm": "calendar", "limit": 5}, "algorithm"),
                ({"algorithm": "calendar", "limit": 5, "period": "day", "cost": 6}, "cost"),
                ({"algorithm": "concurrency"}, "algorithm"),
                ({"algorithm": "concurrency", "limit": 0}, "limit"),
                ({"algorithm": "concurrency", "limit": 5, "cost": 2}, "algorithm"),
                ({"algorithm": "concurrency", "limit": 5, "window_seconds": 60}, "algorithm"),
                ({"algorithm": "leaky", "limit": 5, "window_seconds": 60}, "algorithm"),
            )
        ],
        ({"rate_limit": {"requests_per_second": 0.001, "burst": 10_000}}, "rate_limit.burst"),
        ({"rate_limit": {"policies": [{"requests_per_second": 1}] * 2}}, "rate_limit.policies"),
        ({"rate_limit": {"policies": [{"algorithm": "calendar", "limit": 5, "period": "day"}]}}, "rate_limit.policies"),
        ({"rate_limit": {"policies": [{"requests_per_second": 1, "name": n} for n in "ab"]}}, "rate_limit.policies"),
        (
            {
                "rate_limit": {
                    "policies": [
                        {"algorithm": "sliding_window", "limit": n, "window_seconds": 60, "name": str(n)}
                        for n in (5, 6)
                    ]
                }
            },
            "rate_limit.policies",
        ),
        (
            {"rate_limit": {"policies": [{"requests_per_second": n, "name": str(n)} for n in range(1, 10)]}},
            "rate_limit.policies",
        ),
        ({"cache_policy": {"ttl_seconds": -1}}, "cache_policy.ttl_seconds"),
        ({"cache_policy": {"cache_key_pattern": "host"}}, "cache_policy.cache_key_pattern"),
        ({"cache_policy": {"key_headers": ["accept"]}}, "cache_policy.key_headers"),
        ({"rewrite": {"strip_prefix": "/other"}}, "rewrite.strip_prefix"),
        ({"rewrite": {"strip_prefix": "/api/*"}}, "rewrite.strip_prefix"),
        ({"body_bytes_max": -1}, "body_bytes_max"),
        ({"any_user": True, "auth_mode": "public"}, "any_user"),
        ({"required_scopes": ["read"], "auth_mode": "public"}, "required_scopes"),
        ({"required_scopes": ["a b"]}, "required_scopes.0"),
        ({"origin_id": "x"}, "origin_id"),
    ],
)
def test_a_bad_route_is_refused_and_the_field_is_named(alice: Person, changed: dict[str, Any], location: str) -> None:
    origin = alice.make("/origins", an_origin())["id"]
    assert location in _errors(alice.post("/routes", {**a_route(origin), **changed}))


@pytest.mark.parametrize(
    ("path", "body", "location"),
    [
        ("/api-keys", {"name": "k", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ("/api-keys", {"name": "k", "expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ("/api-keys", {"name": "k", "expires_at": "soon"}, "expires_at"),
        ("/api-keys", {"name": "k", "expires_at": "9999-12-31T23:59:59-12:00"}, "expires_at"),
        ("/api-keys/import", {"name": "k", "key": "x" * 20, "expires_at": "9999-12-31T23:59:59-00:01"}, "expires_at"),
        ("/api-keys", {"name": "k", "scopes": ["x"] * 2}, "scopes"),
        ("/api-keys", {"name": "k", "scopes": [str(n) for n in range(33)]}, "scopes"),
        ("/api-keys", {"name": "k", "mode": "prod"}, "mode"),
        ("/api-keys/import", {"name": "k", "key": "short"}, "key"),
        ("/api-keys/import", {"name": "k", "key": "with a space in it"}, "key"),
        ("/api-keys/import", {"name": "k", "key": "ve_live_" + "0" * 12 + "_" + "0" * 38}, "key"),
        ("/cache/purge", {"url": "https://demo.example.com/x"}, "url"),
        ("/cache/purge", {"url": "/%zz"}, "url"),
        ("/cache/purge", {"url": "/a/../b#c"}, "url"),
        ("/cache/purge", {"url": "/x", "route_id": "4b0b3a4a-93d4-4d0c-8f53-2c3f1f3b5a10"}, "url"),
    ],
)
def test_a_bad_key_or_purge_is_refused_and_the_field_is_named(
    alice: Person, path: str, body: dict[str, Any], location: str
) -> None:
    answer = alice.post(path, body)
    assert location in _errors(answer)
    assert str(body.get("key", "\0")) not in answer.text


@pytest.mark.parametrize(
    "subdomain", ["ab", "A-B", "-ab", "ab-", "a_b", "www", "xn--abc", "a" * 64, "a.b.c", "ab--c", "métro"]
)
def test_a_bad_subdomain_is_refused(alice: Person, demo: Any, subdomain: str) -> None:
    assert "subdomain" in _errors(alice.patch(f"/tenants/{demo.tenant_id}", {"subdomain": subdomain}))


def test_a_list_is_spoken_of_as_json_has_it_and_only_what_is_wrong_is_named(alice: Person) -> None:
    def said(body: dict[str, Any]) -> list[dict[str, str]]:
        errors: list[dict[str, str]] = alice.post("/api-keys/import-many", body).get_json()["errors"]
        return errors

    assert said({"keys": []}) == [{"location": "keys", "message": "has 0 members: at least 1 must be given"}]
    key = {"name": "k", "key": "a-key-of-theirs-1"}
    assert said({"keys": [key] * 1_001}) == [
        {"location": "keys", "message": "has 1001 members: at most 1000 may be given"}
    ]
    assert [error["location"] for error in said({"keys": [{"name": "k", "key": "short"}]})] == ["keys.0.key"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "json-malformed"),
        (b"", 400, "json-malformed"),
        (b"\xff", 400, "json-malformed"),
        (b"[" * 100_000, 400, "json-malformed"),
        (b'{"name": NaN}', 400, "json-malformed"),
        (b"[]", 422, "validation-failed"),
        (b'"{}"', 422, "validation-failed"),
        (b'{"name": "a", "name": "b"}', 422, "validation-failed"),
        (b'{"name": "\\ud800"}', 400, "json-malformed"),
        ('{"name": "x"}'.encode("utf-16"), 400, "json-malformed"),
        (b'{"name": "' + b"x" * 1_100_000 + b'"}', 413, "body-too-large"),
    ],
)
def test_what_is_not_one_json_object_is_refused(alice: Person, body: bytes, status: int, code: str) -> None:
    answer = alice.call("POST", "/origins", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.get_json()["code"]) == (status, code)


def test_an_action_that_needs_nothing_said_takes_no_body_and_a_thing_to_be_made_still_needs_one(alice: Person) -> None:
    key = alice.make("/api-keys", {"name": "k"})
    successor = alice.call("POST", f"/api-keys/{key['id']}/rotate")
    assert successor.status_code == 201 and successor.get_json()["rotated_from_id"] == key["id"]
    assert alice.call("POST", f"/api-keys/{key['id']}/rotate", data=b"x").status_code == 415
    service = alice.make("/services", {"name": "s"})
    assert alice.call("POST", f"/services/{service['id']}/rotate").status_code == 200
    assert alice.call("POST", "/identity-keys/rotate").status_code == 201
    assert alice.call("POST", "/services").status_code == 415
    assert alice.call("PATCH", f"/services/{service['id']}").status_code == 415


def test_another_media_type_another_method_and_another_path_are_problems_too(alice: Person) -> None:
    form = alice.call("POST", "/origins", data={"name": "x"})
    assert (form.status_code, form.get_json()["code"]) == (415, "media-type-unsupported")
    method = alice.call("PUT", "/origins")
    assert (method.status_code, method.headers["Content-Type"]) == (405, MEDIA_TYPE)
    assert "POST" in method.headers["Allow"]
    for path in ("/nothing", "/origins/not-a-uuid"):
        missing = alice.get(path)
        assert (missing.status_code, missing.get_json()["code"]) == (404, "not-found")
    assert "x" in _errors(alice.get("/origins?x=1"))
    assert "limit" in _errors(alice.get("/origins?limit=0"))
    assert "limit" in _errors(alice.get("/origins?limit=1&limit=2"))
    assert "cursor" in _errors(alice.get("/origins?cursor=nonsense"))
    assert "name" in _errors(alice.get("/origins?name=%00"))
    for path in ("/audit-log", "/config/versions"):
        assert "before" in _errors(alice.get(f"{path}?before={2**63}"))
        assert alice.get(f"{path}?before={2**63 - 1}").status_code == 200
    assert "dry_run" in _errors(alice.call("DELETE", "/origins/4b0b3a4a-93d4-4d0c-8f53-2c3f1f3b5a10?dry_run=1"))


def test_the_latest_moment_a_key_may_expire_at_can_be_read_again(alice: Person) -> None:
    made = alice.make("/api-keys", {"name": "k", "expires_at": "9999-12-31T11:59:59-12:00"})
    assert alice.get(f"/api-keys/{made['id']}").get_json()["expires_at"] == "9999-12-31T23:59:59Z"
    refused = alice.patch(f"/api-keys/{made['id']}", {"expires_at": "9999-12-31T12:00:00-12:00"})
    assert _errors(refused) == ["expires_at"]


def test_a_patch_of_the_url_is_refused_under_the_name_it_was_given_by(alice: Person) -> None:
    origin = alice.make("/origins", an_origin())["id"]
    assert _errors(alice.patch(f"/origins/{origin}", {"url": "http://10.0.0.1"})) == ["url"]
    targets = [{"url": "http://10.0.0.1"}]
    assert _errors(alice.patch(f"/origins/{origin}", {"targets": targets})) == ["targets.0.url"]


def test_another_tenants_id_in_a_body_is_a_404_that_names_the_field(alice: Person, charlie: Person) -> None:
    origin, foreign = alice.make("/origins", an_origin())["id"], charlie.make("/origins", an_origin())
    missing = "4b0b3a4a-93d4-4d0c-8f53-2c3f1f3b5a10"
    for field, theirs in (("origin_id", foreign["id"]), ("tenant_id", foreign["tenant_id"])):
        first, second = (alice.post("/routes", {**a_route(origin), field: named}) for named in (theirs, missing))
        assert [(answer.status_code, answer.get_json()["errors"][0]["location"]) for answer in (first, second)] == [
            (404, field)
        ] * 2
        purge = alice.post("/cache/purge", {"route_id": missing})
        assert (purge.status_code, purge.get_json()["errors"][0]["location"]) == (404, "route_id")
        bodies = [{**answer.get_json(), "request_id": ""} for answer in (first, second)]
        assert bodies[0] == bodies[1]


def test_a_name_that_is_taken_is_a_conflict_naming_the_field(alice: Person, charlie: Person) -> None:
    alice.make("/origins", an_origin())
    again = alice.post("/origins", an_origin())
    assert (again.status_code, again.get_json()["errors"][0]["location"]) == (409, "name")
    assert charlie.post("/origins", an_origin()).status_code == 201


def test_an_origin_in_use_is_not_removed_and_its_routes_are_named(alice: Person) -> None:
    origin = alice.make("/origins", an_origin())["id"]
    route = alice.make("/routes", a_route(origin))["id"]
    refused = alice.delete(f"/origins/{origin}")
    assert refused.status_code == 409
    assert refused.get_json()["routes"] == [{"id": route, "path_pattern": "/api/users/*"}]
    assert alice.delete(f"/routes/{route}").status_code == 204
    assert alice.delete(f"/origins/{origin}").status_code == 204
    assert alice.get(f"/origins/{origin}").status_code == 404


def test_a_patch_changes_what_it_names_and_null_clears(alice: Person) -> None:
    origin = alice.make("/origins", an_origin())
    route = alice.make("/routes", a_route(origin["id"], name="users"))
    changed = alice.patch(f"/routes/{route['id']}", {"rate_limit": None, "priority": 5}).get_json()
    kept = {
        **route,
        "rate_limit": None,
        "rate_limit_summary": [],
        "priority": 5,
        "row_version": 2,
        "updated_at": changed["updated_at"],
    }
    assert changed == kept
    assert _errors(alice.patch(f"/routes/{route['id']}", {"auth_mode": None})) == ["auth_mode"]
    assert _errors(alice.patch(f"/routes/{route['id']}", {"tenant_id": origin["tenant_id"]})) == ["tenant_id"]
    # What a create would refuse, a patch does too: the prefix no longer fits the pattern.
    alice.patch(f"/routes/{route['id']}", {"rewrite": {"strip_prefix": "/api"}})
    assert _errors(alice.patch(f"/routes/{route['id']}", {"path_pattern": "/v2/*"})) == ["rewrite.strip_prefix"]


def test_a_patched_url_replaces_the_first_target_and_targets_keep_their_ids(alice: Person) -> None:
    targets = [{"url": "https://a.example.com", "weight": 2}, {"url": "https://b.example.com"}]
    origin = alice.make("/origins", an_origin(url=None, targets=targets))
    path = f"/origins/{origin['id']}"
    changed = alice.patch(path, {"url": "https://c.example.com"}).get_json()
    assert [(t["url"], t["weight"]) for t in changed["targets"]] == [
        ("https://c.example.com", 2),
        ("https://b.example.com", 1),
    ]
    assert changed["url"] == "https://c.example.com"
    swapped = alice.patch(
        path, {"targets": [{"url": "https://b.example.com"}, {"url": "https://c.example.com"}]}
    ).get_json()
    assert swapped["url"] == "https://b.example.com"
    assert {t["url"]: t["id"] for t in swapped["targets"]} == {t["url"]: t["id"] for t in changed["targets"]}
    assert alice.get(path).get_json() == swapped


def test_two_people_editing_one_thing_do_not_overwrite_each_other(alice: Person) -> None:
    origin = alice.make("/origins", an_origin())
    path = f"/origins/{origin['id']}"
    etag = alice.get(path).headers["ETag"]
    assert etag == '"r1"'
    first = alice.patch(path, {"name": "first"}, headers={"If-Match": etag})
    assert (first.status_code, first.headers["ETag"]) == (200, '"r2"')
    second = alice.patch(path, {"name": "second"}, headers={"If-Match": etag})
    assert (second.status_code, second.get_json()["code"]) == (412, "precondition-failed")
    assert alice.delete(path, headers={"If-Match": "nonsense"}).status_code == 412
    assert alice.delete(path, headers={"If-Match": "*"}).status_code == 204


def test_pages_neither_skip_nor_repeat(alice: Person) -> None:
    made = [alice.make("/origins", an_origin(f"origin-{n}"))["id"] for n in range(5)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = alice.get(f"/origins?limit=2{cursor}").get_json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
        alice.delete(f"/origins/{made[0]}")
    assert seen == made
    assert [item["name"] for item in alice.get("/origins?name=origin-3").get_json()["items"]] == ["origin-3"]


def test_a_key_is_shown_once_and_lives_as_it_is_told(alice: Person) -> None:
    made = alice.make("/api-keys", {"name": "production-key", "scopes": ["read"]})
    path = f"/api-keys/{made['id']}"
    assert made["key"].startswith("ve_live_") and made["last_four"] == made["key"][-4:]
    for answer in (alice.get(path), alice.get("/api-keys"), alice.get("/audit-log")):
        assert made["key"] not in answer.text and "digest" not in answer.text
    assert alice.get(path).get_json()["state"] == "active"
    assert alice.call("POST", f"{path}/disable").get_json()["state"] == "disabled"
    assert alice.call("POST", f"{path}/enable").get_json()["state"] == "active"
    assert alice.patch(path, {"scopes": ["write"], "name": "renamed"}).get_json()["scopes"] == ["write"]
    revoked = alice.call("POST", f"{path}/revoke").get_json()
    assert revoked["state"] == "revoked"
    assert alice.call("POST", f"{path}/revoke").get_json() == revoked
    for call in ("enable", "disable"):
        assert alice.call("POST", f"{path}/{call}").status_code == 409
    assert alice.patch(path, {"name": "again"}).status_code == 409
    assert alice.delete(path).status_code == 204


def test_a_foreign_key_is_taken_over_once(alice: Person, charlie: Person) -> None:
    body = {"name": "demo", "key": "demo_key_abc123", "scopes": ["read", "write"]}
    made = alice.make("/api-keys/import", body)
    assert (made["key_prefix"], made["last_four"], made["imported"]) == ("demo", "c123", True)
    again = alice.post("/api-keys/import", body)
    assert (again.status_code, again.get_json()["errors"][0]["location"]) == (409, "key")
    assert "demo_key" not in json.dumps(alice.get("/audit-log").get_json())
    assert charlie.post("/api-keys/import", body).status_code == 201


def test_every_write_is_a_version_and_a_line_in_the_audit_log(alice: Person) -> None:
    origin = alice.make("/origins", an_origin())
    alice.patch(f"/origins/{origin['id']}", {"name": "renamed"}, headers={"X-Request-Id": "request-of-the-test"})
    alice.delete(f"/origins/{origin['id']}")
    versions = alice.get("/config/versions").get_json()["items"]
    assert [item["version"] for item in versions] == [4, 3, 2, 1]
    assert versions[0]["author"] == "user_alice" and len(versions[0]["sha256"]) == 64
    assert [v["version"] for v in alice.get("/config/versions?limit=1&before=3").get_json()["items"]] == [2]
    log = alice.get("/audit-log").get_json()["items"]
    assert [line["action"] for line in log] == ["origin.removed", "origin.changed", "origin.created", "tenant.created"]
    changed = log[1]
    assert (changed["before"]["name"], changed["after"]["name"]) == ("api-backend", "renamed")
    assert (changed["request_id"], changed["config_version"], changed["via"]) == ("request-of-the-test", 3, "api")


def test_a_tenant_is_removed_with_all_that_is_its(alice: Person, demo: Any, app: Flask) -> None:
    alice.make("/routes", a_route(alice.make("/origins", an_origin())["id"]))
    alice.make("/api-keys", {"name": "k"})
    assert alice.delete(f"/tenants/{demo.tenant_id}").status_code == 204
    assert alice.get("/tenants").get_json()["items"] == []
    assert alice.get(f"/tenants/{demo.tenant_id}").status_code == 404


def test_the_openapi_document_names_every_call(app: Flask, nobody: Person) -> None:
    document = nobody.get("/openapi.json").get_json()
    assert document["openapi"] == "3.1.0"
    wanted = {
        (rule.rule.replace("<uuid:id>", "{id}"), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/") and rule.rule != "/api/v1/openapi.json"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    named = {(path, method) for path, item in document["paths"].items() for method in item}
    assert named == wanted
    assert document["paths"]["/api/v1/routes"]["post"]["security"] == [{"clerk": []}]
    assert MEDIA_TYPE in document["paths"]["/api/v1/routes"]["post"]["responses"]["422"]["content"]
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= set(document["components"]["schemas"])
