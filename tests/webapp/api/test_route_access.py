"""Who may call a route or a tenant, through the API: what fits, what is refused by which name, what the edge gets."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from flask import Flask

from contracts import bounds, keyspace, snapshot
from tests.webapp.cast import Person, a_route, an_issuer, an_origin
from webapp.services.actor import Actor

CORS = {"allow_origins": ["https://app.example.com", "https://*.example.com"]}
MANY = [f"10.0.{n // 256}.{n % 256}" for n in range(bounds.NETWORKS_MAX + 1)]


def published(store: redis.Redis, actor: Actor) -> tuple[bytes, snapshot.Snapshot]:
    held: Any = store.hgetall(keyspace.config(str(actor.tenant_id)))
    return held[b"body"], snapshot.decode(held[b"body"], held[b"sha256"].decode())


@pytest.fixture
def origin(alice: Person) -> str:
    return str(alice.make("/origins", an_origin())["id"])


def test_every_field_goes_in_comes_out_and_reaches_the_edge(
    alice: Person, demo: Actor, origin: str, store: redis.Redis
) -> None:
    issuer = alice.make("/issuers", an_issuer())["id"]
    given = {
        "auth_mode": "any",
        "accept": ["jwt", "apikey"],
        "issuers": [issuer],
        "required_roles": ["org:admin", "org:billing_manager"],
        "required_permissions": ["org:invoices:create"],
        "any_user": True,
        "cors": {
            "allow_origins": ["https://app.example.com"],
            "allow_methods": ["GET", "POST"],
            "allow_headers": ["Content-Type", "X-Api-Key"],
            "expose_headers": ["X-Request-Id"],
            "allow_credentials": True,
            "max_age_seconds": 60,
        },
        "addresses": {"allow": ["::ffff:192.0.2.0/120", "2001:DB8::/32"], "deny": ["192.0.2.7"]},
        "identity_token": True,
    }
    made = alice.make("/routes", a_route(origin, **given))
    assert made["cors"]["allow_headers"] == ["content-type", "x-api-key"]
    assert made["addresses"] == {"allow": ["192.0.2.0/24", "2001:db8::/32"], "deny": ["192.0.2.7/32"]}
    for field in ("accept", "issuers", "required_roles", "required_permissions", "any_user", "identity_token"):
        assert made[field] == given[field]
    assert alice.get(f"/routes/{made['id']}").get_json() == made
    (route,) = published(store, demo)[1].routes
    assert route.access == snapshot.AccessConfig(
        accept=("jwt", "apikey"),
        issuers=(issuer,),
        required_roles=("org:admin", "org:billing_manager"),
        required_permissions=("org:invoices:create",),
        cors=snapshot.CorsConfig(
            origins=("https://app.example.com",),
            methods=("GET", "POST"),
            headers=("content-type", "x-api-key"),
            expose=("x-request-id",),
            credentials=True,
            max_age_s=60,
        ),
        addresses=snapshot.AddressRules(allow=("192.0.2.0/24", "2001:db8::/32"), deny=("192.0.2.7/32",)),
        identity_token=True,
    )


def test_what_is_not_used_is_not_written_so_that_older_edges_keep_up(
    alice: Person, demo: Actor, origin: str, store: redis.Redis
) -> None:
    made = alice.make("/routes", a_route(origin, accept=[], issuers=[], cors=None, addresses={}, identity_token=False))
    assert (made["accept"], made["cors"], made["addresses"], made["identity_token"]) == ([], None, None, False)
    body, _ = published(store, demo)
    assert b'"access"' not in body
    assert b'"addresses"' not in body
    assert b'"issuers"' not in body


def test_a_patch_merges_and_null_clears(alice: Person, demo: Actor, origin: str, store: redis.Redis) -> None:
    path = f"/routes/{alice.make('/routes', a_route(origin, cors=CORS, addresses={'deny': ['192.0.2.7']}))['id']}"
    roles = alice.patch(path, {"required_roles": ["org:admin"]}).get_json()
    assert (roles["cors"]["max_age_seconds"], roles["addresses"]["deny"]) == (600, ["192.0.2.7/32"])
    cleared = alice.patch(path, {"cors": None, "addresses": None}).get_json()
    assert (cleared["cors"], cleared["addresses"], cleared["required_roles"]) == (None, None, ["org:admin"])
    refused = alice.patch(path, {"auth_mode": "public"})
    assert refused.get_json()["errors"][0]["location"] == "required_roles"
    opened = alice.patch(path, {"auth_mode": "public", "required_roles": []})
    assert opened.status_code == 200
    assert b'"access"' not in published(store, demo)[0]


@pytest.mark.parametrize(
    ("given", "location", "word"),
    [
        ({"auth_mode": "any"}, "accept", "at least one"),
        ({"accept": ["jwt"]}, "accept", "goes with auth_mode any"),
        ({"auth_mode": "any", "accept": ["jwt", "jwt"]}, "accept", "twice"),
        ({"auth_mode": "any", "accept": ["basic"]}, "accept.0", "jwt"),
        ({"auth_mode": "mtls"}, "auth_mode", "public"),
        ({"auth_mode": "public", "required_scopes": ["read"]}, "required_scopes", "other than public"),
        ({"auth_mode": "apikey_required", "any_user": True}, "any_user", "jwt_required, oauth_required"),
        ({"auth_mode": "any", "accept": ["apikey"], "any_user": True}, "any_user", "accepts one"),
        ({"auth_mode": "oauth_required", "required_roles": ["org:admin"]}, "required_roles", "need users"),
        ({"auth_mode": "public", "required_permissions": ["org:a:b"]}, "required_permissions", "need users"),
        ({"required_roles": ["admin"]}, "required_roles.0", "org:"),
        ({"required_permissions": ["org:admin"]}, "required_permissions.0", "org:"),
        ({"required_roles": [f"org:r{n}" for n in range(33)]}, "required_roles", "at most 32"),
        ({"auth_mode": "service_required", "issuers": ["0" * 32]}, "issuers", "jwt_required, oauth_required"),
        ({"issuers": ["me"]}, "issuers.0", "UUID"),
        ({"cors": {}}, "cors.allow_origins", "required"),
        ({"cors": {"allow_origins": []}}, "cors.allow_origins", "at least one"),
        (
            {"cors": {"allow_origins": ["https://a.test/"]}},
            "cors.allow_origins.0",
            "as browsers send it: https://a.test",
        ),
        ({"cors": {"allow_origins": ["*", "https://a.test"]}}, "cors.allow_origins", "* alone"),
        ({"cors": {"allow_origins": ["*"], "allow_credentials": True}}, "cors.allow_credentials", "any page can have"),
        ({"cors": {"allow_origins": ["null"], "allow_credentials": True}}, "cors.allow_credentials", "any page can"),
        ({"cors": {**CORS, "allow_methods": ["TRACE"]}}, "cors.allow_methods.0", "GET"),
        ({"cors": {**CORS, "allow_methods": ["PUT"]}, "methods": ["GET"]}, "cors.allow_methods", "names PUT"),
        ({"cors": {**CORS, "allow_headers": ["a b"]}}, "cors.allow_headers.0", "field name"),
        ({"cors": {**CORS, "allow_headers": ["*", "x-a"]}}, "cors.allow_headers", "* alone"),
        (
            {"cors": {**CORS, "expose_headers": ["*"], "allow_credentials": True}},
            "cors.expose_headers",
            "browsers read no",
        ),
        ({"cors": {**CORS, "max_age_seconds": 86_401}}, "cors.max_age_seconds", "86400"),
        ({"cors": {**CORS, "origins": ["*"]}}, "cors.origins", "not permitted"),
        ({"addresses": {"allow": ["192.0.2.1/24"]}}, "addresses.allow.0", "host bits set: write 192.0.2.0/24"),
        ({"addresses": {"deny": ["example.com"]}}, "addresses.deny.0", "must be a network like"),
        ({"addresses": {"deny": ["10.0.0.0/8", "::ffff:10.0.0.0/104"]}}, "addresses.deny", "twice"),
        ({"addresses": {"allow": MANY}}, "addresses.allow", f"at most {bounds.NETWORKS_MAX}"),
        ({"identity_token": "yes"}, "identity_token", "boolean"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_field_is_named(
    alice: Person, origin: str, given: dict[str, Any], location: str, word: str
) -> None:
    answer = alice.post("/routes", a_route(origin, **given))
    assert answer.status_code == 422, answer.text
    errors = answer.get_json()["errors"]
    assert [item["location"] for item in errors] == [location]
    assert word in errors[0]["message"]


def test_head_may_be_named_where_get_may_be_called(alice: Person, origin: str) -> None:
    alice.make("/routes", a_route(origin, methods=["GET"], cors={**CORS, "allow_methods": ["GET", "HEAD"]}))


def test_a_route_names_only_issuers_of_its_own_tenant(alice: Person, charlie: Person, origin: str) -> None:
    foreign = charlie.make("/issuers", an_issuer())["id"]
    unknown = "00000000-0000-4000-8000-000000000000"
    headers = {"X-Request-Id": "request-one"}
    answers = [alice.post("/routes", a_route(origin, issuers=[name]), headers=headers) for name in (foreign, unknown)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].data == answers[1].data
    route = alice.make("/routes", a_route(origin))["id"]
    assert alice.patch(f"/routes/{route}", {"issuers": [foreign]}).status_code == 404


def test_a_route_names_only_issuers_whose_tokens_it_takes(alice: Person, origin: str) -> None:
    jwt = alice.make("/issuers", an_issuer())["id"]
    oauth = alice.make("/issuers", an_issuer("as", kind="oauth", issuer="https://as.example"))["id"]
    answer = alice.post("/routes", a_route(origin, issuers=[jwt, oauth]))
    assert answer.status_code == 422
    assert answer.get_json()["errors"] == [
        {"location": "issuers.1", "message": "is of kind oauth, whose tokens this route does not take"}
    ]
    alice.make("/routes", a_route(origin, auth_mode="oauth_required", issuers=[oauth]))
    alice.make("/routes", a_route(origin, auth_mode="any", accept=["jwt", "oauth"], issuers=[jwt, oauth]))


def test_what_all_routes_ask_is_bounded_together(alice: Person, origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "ACCESS_BYTES_PER_TENANT_MAX", 3_000)
    rules = {"deny": MANY[:100]}
    path = f"/routes/{alice.make('/routes', a_route(origin, addresses=rules))['id']}"
    refused = alice.post("/routes", a_route(origin, addresses=rules))
    assert refused.status_code == 409
    assert "KiB together" in refused.get_json()["detail"]
    alice.make("/routes", a_route(origin))
    assert alice.patch(path, {"addresses": {"deny": MANY[:250]}}).status_code == 409
    assert len(alice.get(path).get_json()["addresses"]["deny"]) == 100


def test_a_tenant_has_addresses_of_its_own(alice: Person, demo: Actor, store: redis.Redis) -> None:
    path = f"/tenants/{demo.tenant_id}"
    assert alice.get(path).get_json()["addresses"] is None
    shown = alice.patch(path, {"addresses": {"deny": ["192.0.2.7", "2001:db8::/32"]}}).get_json()
    assert shown["addresses"] == {"allow": [], "deny": ["192.0.2.7/32", "2001:db8::/32"]}
    assert published(store, demo)[1].tenant.addresses == snapshot.AddressRules(deny=("192.0.2.7/32", "2001:db8::/32"))
    renamed = alice.patch(path, {"name": "renamed"}).get_json()
    assert renamed["addresses"] == shown["addresses"]
    refused = alice.patch(path, {"addresses": {"allow": ["10.1.2.3/8"]}})
    assert (refused.status_code, refused.get_json()["errors"][0]["location"]) == (422, "addresses.allow.0")
    assert alice.patch(path, {"addresses": None}).get_json()["addresses"] is None
    assert b'"addresses"' not in published(store, demo)[0]
    entry = alice.get("/audit-log").get_json()["items"][0]
    assert entry["before"]["addresses"] == shown["addresses"]
    assert entry["after"]["addresses"] is None


def test_a_migration_down_switches_off_what_the_older_release_cannot_say(own_app: Flask) -> None:
    import flask_migrate
    from sqlalchemy import text

    from tests.webapp.cast import found, session_token
    from webapp.extensions import db, system_scope

    found(own_app, "alice", "org_demo", "demo-company", "demo")
    alice = Person(own_app, lambda: session_token("alice"))
    origin = alice.make("/origins", an_origin())["id"]
    alice.make("/routes", a_route(origin, path_pattern="/plain"))
    alice.make("/routes", a_route(origin, path_pattern="/roles", required_roles=["org:admin"]))
    alice.make("/routes", a_route(origin, path_pattern="/oauth", auth_mode="oauth_required"))
    with own_app.app_context():
        flask_migrate.downgrade(revision="0002")
        with system_scope():
            rows = db.session.execute(text("SELECT path_pattern, auth_mode, enabled FROM routes ORDER BY 1")).all()
        assert [tuple(row) for row in rows] == [
            ("/oauth", "apikey_required", False),
            ("/plain", "jwt_required", True),
            ("/roles", "jwt_required", False),
        ]
        flask_migrate.upgrade()
