"""Who gets in, and what each is told: walked over the URL map, so that no endpoint can be forgotten."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.routing import Rule

from contracts.problems import MEDIA_TYPE
from tests.webapp.cast import Person, a_route, an_issuer, an_origin, session_token

OPEN = {"/api/v1/openapi.json"}
A_MACHINE = {"name": "shop", "kind": "clerk_machine", "machine_id": "mch_shop"}


def _rules(app: Flask) -> Iterator[tuple[str, Rule]]:
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/") and rule.rule not in OPEN:
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield method, rule


def _path(rule: Rule, thing_id: str) -> str:
    return rule.rule.removeprefix("/api/v1").replace("<uuid:id>", thing_id)


def _bodies(own_tenant: str) -> dict[str, Any]:
    return {
        "/tenants/<uuid:id>": {"name": "renamed"},
        "/origins/<uuid:id>": {"name": "renamed"},
        "/routes/<uuid:id>": {"priority": 1},
        "/issuers/<uuid:id>": {"name": "renamed"},
        "/api-keys/<uuid:id>": {"name": "renamed"},
        "/api-keys/<uuid:id>/rotate": {"grace_seconds": 0},
        "/services/<uuid:id>": {"name": "renamed"},
        "/services/<uuid:id>/rotate": {},
    }


def _things(person: Person, tenant_id: str) -> dict[str, str]:
    origin = person.make("/origins", an_origin())["id"]
    return {
        "tenants": tenant_id,
        "origins": origin,
        "routes": person.make("/routes", a_route(origin))["id"],
        "issuers": person.make("/issuers", an_issuer())["id"],
        "api-keys": person.make("/api-keys", {"name": "production-key"})["id"],
        "services": person.make("/services", A_MACHINE)["id"],
    }


def test_without_a_token_every_call_is_challenged(app: Flask, nobody: Person) -> None:
    walked = 0
    for method, rule in _rules(app):
        answer = nobody.call(method, _path(rule, str(uuid.uuid4())))
        assert answer.status_code == 401, (method, rule)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="vantageedge"'
        assert answer.headers["Content-Type"] == MEDIA_TYPE
        walked += 1
    assert walked >= 25


def test_a_stranger_is_told_of_a_foreign_thing_what_he_is_told_of_a_missing_one(
    app: Flask, alice: Person, charlie: Person, demo: Any
) -> None:
    things = _things(alice, str(demo.tenant_id))
    bodies = _bodies(str(demo.tenant_id))
    walked = 0
    for method, rule in _rules(app):
        if "<uuid:id>" not in rule.rule:
            continue
        path = rule.rule.removeprefix("/api/v1")
        options: dict[str, Any] = {"headers": {"X-Request-Id": "request-one"}}
        if path in bodies and method in ("POST", "PATCH"):
            options["json"] = bodies[path]
        foreign = charlie.call(method, _path(rule, things[path.split("/")[1]]), **options)
        missing = charlie.call(method, _path(rule, str(uuid.uuid4())), **options)
        assert foreign.status_code == 404, (method, rule, foreign.text)
        assert foreign.data == missing.data, (method, rule)
        assert sorted(foreign.headers) == sorted(missing.headers), (method, rule)
        walked += 1
    assert walked >= 15
    assert alice.get(f"/routes/{things['routes']}").get_json()["priority"] == 0


def test_a_member_reads_everything_and_changes_nothing_but_keys_of_their_own(
    app: Flask, alice: Person, bob: Person, demo: Any
) -> None:
    things = _things(alice, str(demo.tenant_id))
    bodies: dict[str, Any] = {
        **_bodies(str(demo.tenant_id)),
        "/tenants": {"name": "x", "subdomain": "another", "clerk_org_id": "org_demo"},
        "/origins": an_origin("second"),
        "/routes": a_route(things["origins"]),
        "/issuers": an_issuer("second"),
        "/api-keys": {"name": "second"},
        "/api-keys/import": {"name": "imported", "key": "demo_key_abc123"},
        "/api-keys/import-many": {"keys": [{"name": "imported", "key": "demo_key_abc123"}]},
        "/services": {"name": "second"},
        "/cache/purge": {},
        "/identity-keys/rotate": {},
    }
    own = {("POST", "/api-keys")}  # tests/webapp/api/test_api_keys.py
    for method, rule in _rules(app):
        path = rule.rule.removeprefix("/api/v1")
        if (method, path) in own:
            continue
        options = {"json": bodies[path]} if path in bodies and method in ("POST", "PATCH") else {}
        answer = bob.call(method, _path(rule, things.get(path.split("/")[1], "")), **options)
        assert answer.status_code == (200 if method == "GET" else 403), (method, rule, answer.text)


def test_a_body_that_names_another_tenant_is_404(alice: Person, other: Any) -> None:
    foreign = str(other.tenant_id)
    origin = alice.make("/origins", an_origin())["id"]
    for path, body in (
        ("/origins", an_origin("second", tenant_id=foreign)),
        ("/routes", a_route(origin, tenant_id=foreign)),
        ("/issuers", an_issuer(tenant_id=foreign)),
        ("/api-keys", {"name": "k", "tenant_id": foreign}),
        ("/api-keys/import", {"name": "k", "key": "demo_key_abc123", "tenant_id": foreign}),
        ("/api-keys/import-many", {"keys": [{"name": "k", "key": "demo_key_abc123", "tenant_id": foreign}]}),
        ("/services", {"name": "s", "tenant_id": foreign}),
        ("/cache/purge", {"tenant_id": foreign}),
    ):
        assert alice.post(path, body).status_code == 404, path


def test_a_route_cannot_lead_to_another_tenants_origin(alice: Person, charlie: Person) -> None:
    foreign = charlie.make("/origins", an_origin())["id"]
    assert alice.post("/routes", a_route(foreign)).status_code == 404
    route = alice.make("/routes", a_route(alice.make("/origins", an_origin())["id"]))["id"]
    assert alice.patch(f"/routes/{route}", {"origin_id": foreign}).status_code == 404
    purge = alice.post("/cache/purge", {"route_id": charlie.make("/routes", a_route(foreign))["id"]})
    assert purge.status_code == 404


def test_the_cookie_never_opens_the_api(app: Flask, alice: Person) -> None:
    client = app.test_client()
    client.set_cookie("__session", session_token("alice"))
    assert client.get("/api/v1/routes").status_code == 401


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iss": "https://evil.example"}, "token-invalid-issuer"),
        ({"azp": "https://evil.example"}, "token-invalid-authorized-parties"),
        (
            {"exp": int(time.time()) - 600, "iat": int(time.time()) - 660, "nbf": int(time.time()) - 660},
            "session-token-expired",
        ),
        ({"sts": "pending"}, "session-pending"),
        ({"sub": "mch_machine"}, "token-type-mismatch"),
        ({"sid": None}, "token-invalid"),
        ({"cnf": {"jkt": "x"}}, "token-invalid"),
    ],
)
def test_a_token_that_is_not_believed_is_refused_with_its_reason(
    app: Flask, alice: Person, changed: dict[str, Any], reason: str
) -> None:
    answer = Person(app, lambda: session_token("alice", **changed)).get("/routes")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].endswith(f'error="invalid_token", error_description="{reason}"')
    assert answer.get_json()["code"] == "unauthenticated"


def test_two_credentials_or_another_scheme_are_refused(app: Flask, alice: Person) -> None:
    client = app.test_client()
    token = session_token("alice")
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    assert client.get("/api/v1/routes", headers=twice).status_code == 401
    assert client.get("/api/v1/routes", headers={"Authorization": f"Basic {token}"}).status_code == 401
    assert client.get("/api/v1/routes", headers={"Authorization": "Bearer"}).status_code == 401
    assert client.get(f"/api/v1/routes?access_token={token}").status_code == 401


def test_without_an_organisation_or_a_tenant_one_is_told_so(app: Flask, alice: Person) -> None:
    alone = Person(app, lambda: session_token("dora", org=None)).get("/routes")
    assert (alone.status_code, alone.get_json()["code"]) == (403, "forbidden")
    new = Person(app, lambda: session_token("dora", org="org_new"))
    assert new.get("/routes").status_code == 403
    assert new.get("/tenants").get_json() == {"items": [], "next_cursor": None}
    assert new.get(f"/tenants/{uuid.uuid4()}").status_code == 404


def test_a_tenant_is_made_for_ones_own_organisation_only(app: Flask, alice: Person) -> None:
    dora = Person(app, lambda: session_token("dora", org="org_new"))
    body = {"name": "n", "subdomain": "newcomer", "clerk_org_id": "org_demo"}
    assert dora.post("/tenants", body).status_code == 403
    taken = dora.post("/tenants", {"name": "n", "subdomain": "demo", "clerk_org_id": "org_new"})
    assert (taken.status_code, taken.get_json()["errors"][0]["location"]) == (409, "subdomain")
    again = alice.post("/tenants", {"name": "n", "subdomain": "second", "clerk_org_id": "org_demo"})
    assert (again.status_code, again.get_json()["errors"][0]["location"]) == (409, "clerk_org_id")


def test_a_person_is_a_member_on_first_sight_and_their_role_follows_the_token(app: Flask, bob: Person) -> None:
    from sqlalchemy import text

    from webapp.extensions import db, system_scope

    bob.get("/routes")
    with app.app_context(), system_scope():
        rows = db.session.execute(text("SELECT clerk_user_id, email, role FROM users ORDER BY 1")).all()
    assert [tuple(row) for row in rows] == [
        ("user_alice", None, "admin"),
        ("user_bob", "bob@example.com", "member"),
    ]


def test_a_signed_out_session_is_not_believed_any_more(app: Flask, alice: Person) -> None:
    assert alice.get("/routes").status_code == 200
    app.extensions["vantageedge.verifier"].deny("sess_alice")
    assert alice.get("/routes").status_code == 401


def test_an_impersonators_name_is_in_the_audit_log(app: Flask, alice: Person) -> None:
    acting = Person(app, lambda: session_token("alice", act={"sub": "user_support", "iss": "x", "sid": "sess_s"}))
    acting.make("/origins", an_origin())
    entry = alice.get("/audit-log").get_json()["items"][0]
    assert (entry["action"], entry["clerk_user_id"], entry["impersonator"]) == (
        "origin.created",
        "user_alice",
        "user_support",
    )
