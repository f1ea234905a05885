"""Documents that the gateway answers itself (edge.phases.wellknown)."""

import json

import pytest

from contracts.identity import JWKS_PATH
from tests.edge.fakes import OTHER_TENANT, Stage, a_head, a_route, a_snapshot, an_identity_key, with_keys

PATH = JWKS_PATH.decode()
KEYS = (an_identity_key("signs"), an_identity_key("retired", None))


def test_a_tenants_public_keys_are_its_key_set_whatever_its_routes():
    stage = Stage(snapshot=with_keys(a_route("/*", "jwt_required"), keys=KEYS))
    answer = stage.get(PATH)
    assert (answer.status, [key["kid"] for key in json.loads(answer.body)["keys"]]) == (200, ["signs", "retired"])
    assert answer["Content-Type"] == "application/jwk-set+json"
    assert answer["Cache-Control"] == "public, max-age=300"
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert answer["X-Request-Id"]
    assert b"sealed" not in answer.body
    assert stage.origin.requests == []


def test_a_tenant_without_keys_has_an_empty_key_set():
    assert Stage(a_route("/x")).get(PATH).body == b'{"keys":[]}'


def test_head_says_what_get_would_without_the_body():
    stage = Stage(snapshot=with_keys(a_route(), keys=KEYS))
    got, asked = stage.get(PATH), stage.send("HEAD", PATH)
    assert (asked.status, asked.body, asked.reply.announced_length) == (200, b"", len(got.body))
    assert asked["ETag"] == got["ETag"]


def test_who_holds_it_already_is_told_so_and_of_another_version_gets_the_other():
    stage = Stage(snapshot=with_keys(a_route(), keys=KEYS))
    etag = stage.get(PATH)["ETag"]
    held = stage.get(PATH, ("If-None-Match", f'"x", W/{etag}'))
    assert (held.status, held.body, held["ETag"], held["Content-Type"]) == (304, b"", etag, None)
    stage.publish(with_keys(a_route(), keys=KEYS[:1]))
    changed = stage.get(PATH, ("If-None-Match", etag))
    assert changed.status == 200
    assert changed["ETag"] != etag


@pytest.mark.parametrize(
    ("pattern", "methods", "whose"),
    [
        ("/*", (), "ours"),
        ("/.well-known/*", (), "ours"),
        ("/.well-known/{file}", (), "ours"),
        ("/{folder}/jwks.json", (), "ours"),
        (PATH, (), "theirs"),
        (PATH, ("GET",), "theirs"),
        (PATH, ("POST",), "ours"),
    ],
)
def test_the_path_is_ours_unless_a_route_names_it_without_captures(pattern, methods, whose):
    stage = Stage(snapshot=with_keys(a_route(pattern, methods=methods), keys=KEYS))
    for method in ("GET", "HEAD"):
        assert stage.send(method, PATH).status == 200
    assert len(stage.origin.requests) == {"ours": 0, "theirs": 2}[whose]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", PATH), ("OPTIONS", PATH), ("GET", "/.well-known/%6awks.json"), ("GET", PATH + "/")],
)
def test_other_methods_and_spellings_go_to_routes(method, path):
    stage = Stage(snapshot=with_keys(a_route(), keys=KEYS))
    assert stage.send(method, path).status == 200
    assert len(stage.origin.requests) == 1


def test_a_query_changes_nothing():
    assert Stage(a_route()).get(PATH + "?x=1").body == b'{"keys":[]}'


def test_each_tenant_has_its_own():
    stage = Stage(snapshot=with_keys(a_route(), keys=KEYS))
    stage.publish(a_snapshot(a_route(), id=OTHER_TENANT, subdomain="other"), "other.example.com")
    head = a_head("GET", PATH)
    other = a_head("GET", PATH, host="other.example.com")
    assert stage.take(head).body != stage.take(other).body == b'{"keys":[]}'


def test_a_suspended_tenant_has_none():
    assert Stage(snapshot=with_keys(a_route(), keys=KEYS, status="suspended")).get(PATH).status == 403
