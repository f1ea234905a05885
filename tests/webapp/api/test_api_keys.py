"""API keys at the API's door: settings, many at once, rotation, members' own, and what edges are told of each."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask import Flask
from sqlalchemy import text

from contracts import apikey, keyspace, snapshot
from tests.stored import everything_in
from tests.webapp.cast import Person, session_token
from webapp.extensions import system_scope
from webapp.services.actor import Actor

PEPPER = bytes.fromhex("ab" * 32)
LIMIT = {"requests_per_second": 5, "burst": 10}
MORE = "more are answered 429."
NETWORKS = ["192.0.2.0/24", "2001:db8::/32"]


def record_of(store: redis.Redis, tenant: Actor, key: str) -> snapshot.KeyRecord | None:
    body = store.get(keyspace.api_key(str(tenant.tenant_id), apikey.digest(key.encode(), 1, PEPPER)))
    return None if body is None else snapshot.decode_key(body)


def moment(text_of_it: str) -> datetime:
    return datetime.fromisoformat(text_of_it)


def row_of(app: Flask, key_id: str, **changed: Any) -> None:
    """Change a row behind the API's back."""
    with app.app_context(), system_scope() as session:
        sets = ", ".join(f"{name} = :{name}" for name in changed)
        session.execute(text(f"UPDATE api_keys SET {sets} WHERE id = :id"), {"id": key_id, **changed})
        session.commit()


# --- Networks and limits --------------------------------------------------------------------------------------------


def test_quotas_and_requests_in_flight_of_a_key_reach_the_edges(alice: Person, demo: Actor, store: redis.Redis) -> None:
    policies = [
        {"name": "day", "algorithm": "calendar", "limit": 100, "period": "day"},
        {"name": "month", "algorithm": "calendar", "limit": 1000, "period": "month", "cost": 2},
        {"name": "at once", "algorithm": "concurrency", "limit": 3},
    ]
    made = alice.make("/api-keys", {"name": "k", "rate_limit": {"policies": policies}})
    assert len(made["rate_limit_summary"]) == 3
    record = record_of(store, demo, made["key"])
    assert record is not None
    told = [(policy.algorithm, policy.limit, policy.window_s, policy.cost or 1) for policy in record.policies]
    day, month = snapshot.DAY_S, snapshot.MONTH_S
    assert told == [("calendar", 100, day, 1), ("calendar", 1000, month, 2), ("concurrency", 3, 0, 1)]
    assert len({policy.id for policy in record.policies}) == 3


def test_networks_and_limits_are_shown_and_told_to_the_edges(alice: Person, demo: Actor, store: redis.Redis) -> None:
    made = alice.make("/api-keys", {"name": "k", "addresses": NETWORKS, "rate_limit": LIMIT})
    assert (made["addresses"], made["rate_limit"], made["last_used_at"]) == (NETWORKS, LIMIT, None)
    assert made["rate_limit_summary"] == ["At most 5 requests per second for this key; bursts up to 10; " + MORE]
    record = record_of(store, demo, made["key"])
    assert record is not None
    assert record.addresses == tuple(NETWORKS)
    policies = [record.policies[0]]
    assert [(p.name, p.scope, p.rate_per_second, p.burst) for p in policies] == [("key", ("key",), 5.0, 10)]
    path = f"/api-keys/{made['id']}"
    minute = {"name": "minute", "algorithm": "sliding_window", "limit": 3, "window_seconds": 60}
    alice.patch(path, {"rate_limit": {"policies": [{"requests_per_second": 7, "burst": 10}, minute]}})
    record = record_of(store, demo, made["key"])
    assert record is not None
    assert [policy.name for policy in record.policies] == ["key", "key: minute"]
    assert record.policies[0].id == policies[0].id, "a new rate keeps what was counted"
    other = alice.make("/api-keys", {"name": "other", "rate_limit": LIMIT})
    theirs = record_of(store, demo, other["key"])
    assert theirs is not None
    assert theirs.policies == tuple(policies), "equal limits are told alike; the edge counts each key apart"
    alice.patch(path, {"rate_limit": None, "addresses": []})
    body = store.get(keyspace.api_key(str(demo.tenant_id), apikey.digest(made["key"].encode(), 1, PEPPER)))
    assert set(json.loads(body)) == {"id", "tenant_id", "name", "scopes", "enabled", "expires_at"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:DB8::", "2001:db8::/128"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_is_kept_in_one_form(alice: Person, given: str, kept: str) -> None:
    assert alice.make("/api-keys", {"name": "k", "addresses": [given]})["addresses"] == [kept]


@pytest.mark.parametrize(
    ("body", "location"),
    [
        ({"addresses": ["192.0.2.1/24"]}, "addresses.0"),
        ({"addresses": ["192.0.2.0/24", "example.com"]}, "addresses.1"),
        ({"addresses": ["fe80::1%eth0"]}, "addresses.0"),
        ({"addresses": ["192.0.2.7", "192.0.2.7/32"]}, "addresses"),
        ({"addresses": [f"192.0.2.{n}" for n in range(65)]}, "addresses"),
        ({"addresses": "192.0.2.0/24"}, "addresses"),
        ({"rate_limit": {}}, "rate_limit.requests_per_second"),
        ({"rate_limit": {"policies": [{"requests_per_second": 1, "scope": ["ip"]}]}}, "rate_limit.policies"),
        (
            {"rate_limit": {"policies": [{"name": str(n), "requests_per_second": 1} for n in range(5)]}},
            "rate_limit.policies",
        ),
        ({"rate_limit": {"requests_per_second": 0}}, "rate_limit.requests_per_second"),
        ({"rotate_every_days": 0}, "rotate_every_days"),
        ({"rotate_every_days": 30}, "rotate_every_days"),
    ],
)
@pytest.mark.usefixtures("no_sealing_keys")
def test_what_is_wrong_with_a_key_is_named_when_it_is_made_and_when_it_is_changed(
    alice: Person, body: dict[str, Any], location: str
) -> None:
    """Days are refused too: this deployment has nothing to seal a successor with."""
    made = alice.make("/api-keys", {"name": "k"})
    for answer in (
        alice.post("/api-keys", {"name": "k", **body}),
        alice.post("/api-keys/import", {"name": "k", "key": "k" * 20, **body}),
        alice.patch(f"/api-keys/{made['id']}", body),
    ):
        assert answer.status_code == 422, answer.text
        assert answer.get_json()["errors"][0]["location"] == location


# --- Many at once ---------------------------------------------------------------------------------------------------


def test_a_thousand_keys_are_taken_over_at_once(alice: Person, demo: Actor, store: redis.Redis) -> None:
    keys = [{"name": f"k{n}", "key": f"foreign-key-{n:04d}", "scopes": ["read"]} for n in range(1_000)]
    answer = alice.post("/api-keys/import-many", {"keys": keys})
    assert answer.status_code == 201, answer.text
    items = answer.get_json()["items"]
    assert [item["name"] for item in items] == [key["name"] for key in keys]
    assert "foreign-key" not in answer.text
    for key in (keys[0], keys[999]):
        assert record_of(store, demo, key["key"]) is not None
    too_many = alice.post("/api-keys/import-many", {"keys": [*keys, keys[0]]})
    assert (too_many.status_code, too_many.get_json()["errors"][0]["location"]) == (422, "keys")


@pytest.mark.parametrize(
    ("third", "status", "location"),
    [
        ({"name": "k", "key": "short"}, 422, "keys.2.key"),
        ({"name": "k", "key": "foreign-key-1"}, 422, "keys.2.key"),
        ({"name": "k", "key": "ve_live_" + "0" * 12 + "_" + "0" * 38}, 422, "keys.2.key"),
        ({"name": "k", "key": "foreign-key-3", "expires_at": "2020-01-01T00:00:00Z"}, 422, "keys.2.expires_at"),
        ({"name": "k", "key": "foreign-key-3", "rotate_every_days": 30}, 422, "keys.2.rotate_every_days"),
        ({"name": "k", "key": "held-already-1"}, 409, "keys.2.key"),
    ],
)
@pytest.mark.usefixtures("no_sealing_keys")
def test_one_that_is_wrong_is_named_by_its_place_and_none_is_taken(
    alice: Person, third: dict[str, Any], status: int, location: str
) -> None:
    alice.make("/api-keys/import", {"name": "held", "key": "held-already-1"})
    keys = [{"name": f"k{n}", "key": f"foreign-key-{n}"} for n in range(2)]
    answer = alice.post("/api-keys/import-many", {"keys": [*keys, third]})
    assert (answer.status_code, answer.get_json()["errors"][0]["location"]) == (status, location)
    assert str(third["key"]) not in answer.text
    assert len(alice.get("/api-keys").get_json()["items"]) == 1


# --- Rotation -------------------------------------------------------------------------------------------------------


def test_a_rotation_makes_a_successor_with_the_same_settings_and_lets_the_old_key_go_on(
    alice: Person, demo: Actor, store: redis.Redis
) -> None:
    year = datetime.now(UTC) + timedelta(days=365)
    settings = {
        "name": "billing", "scopes": ["read", "write"], "addresses": NETWORKS, "rate_limit": LIMIT, "mode": "test",
        "expires_at": year.isoformat(),
    }  # fmt: skip
    old = alice.make("/api-keys", settings)
    answer = alice.post(f"/api-keys/{old['id']}/rotate", {"grace_seconds": 3_600})
    new = answer.get_json()
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Location"].endswith(new["id"])
    assert new["key"].startswith("ve_test_")
    assert new["key"] != old["key"]
    same = ("name", "scopes", "addresses", "rate_limit", "enabled")
    assert [new[name] for name in same] == [old[name] for name in same]
    assert new["rotated_from_id"] == old["id"]
    assert abs(moment(new["expires_at"]) - year) < timedelta(minutes=1), "as long a life as the old one was given"
    now = datetime.now(UTC)
    held = alice.get(f"/api-keys/{old['id']}").get_json()
    assert abs(moment(held["deprecated_at"]) - now) < timedelta(seconds=10)
    assert moment(held["expires_at"]) - moment(held["deprecated_at"]) == timedelta(hours=1)
    retired, successor = record_of(store, demo, old["key"]), record_of(store, demo, new["key"])
    assert retired is not None
    assert successor is not None
    assert retired.deprecated_at == pytest.approx(moment(held["deprecated_at"]).timestamp())
    assert retired.expires_at == pytest.approx(moment(held["expires_at"]).timestamp())
    assert successor.scopes == ("read", "write")
    assert (successor.policies, successor.id != retired.id) == (retired.policies, True), "counted by the key's id"
    log = alice.get("/audit-log")
    assert [item["action"] for item in log.get_json()["items"]][:2] == ["api_key.rotated", "api_key.created"]
    assert new["key"] not in log.text
    assert new["key"].encode() not in everything_in(store)


@pytest.mark.parametrize(("asked", "grace_s"), [({}, 86_400), *[({"grace_seconds": s}, s) for s in (0, 60, 604_800)]])
def test_the_grace_is_what_was_asked_for(alice: Person, asked: dict[str, int], grace_s: int) -> None:
    old = alice.make("/api-keys", {"name": "k"})["id"]
    alice.make(f"/api-keys/{old}/rotate", asked)
    held = alice.get(f"/api-keys/{old}").get_json()
    assert (moment(held["expires_at"]) - moment(held["deprecated_at"])).total_seconds() == grace_s
    assert held["state"] == ("active" if grace_s else "expired")


def test_no_grace_reaches_past_the_keys_own_end(alice: Person) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    old = alice.make("/api-keys", {"name": "k", "expires_at": soon})
    alice.make(f"/api-keys/{old['id']}/rotate", {"grace_seconds": 604_800})
    assert alice.get(f"/api-keys/{old['id']}").get_json()["expires_at"] == old["expires_at"]


@pytest.mark.parametrize("grace", [1, -1, 86_401, "60", 60.5, True, None])
def test_another_grace_is_refused(alice: Person, grace: object) -> None:
    old = alice.make("/api-keys", {"name": "k"})["id"]
    answer = alice.post(f"/api-keys/{old}/rotate", {"grace_seconds": grace})
    assert (answer.status_code, answer.get_json()["errors"][0]["location"]) == (422, "grace_seconds")


def test_at_most_two_generations_live(alice: Person, demo: Actor, store: redis.Redis) -> None:
    generations = [alice.make("/api-keys", {"name": "k"})]
    for _ in range(3):
        generations.append(alice.make(f"/api-keys/{generations[-1]['id']}/rotate", {}))
    states = [alice.get(f"/api-keys/{made['id']}").get_json()["state"] for made in generations]
    assert states == ["revoked", "revoked", "active", "active"]
    assert [record_of(store, demo, made["key"]) is not None for made in generations] == [False, False, True, True]


def test_only_an_active_key_that_has_no_successor_is_rotated(app: Flask, alice: Person) -> None:
    rotated, disabled, revoked, expired = (alice.make("/api-keys", {"name": "k"})["id"] for _ in range(4))
    alice.make(f"/api-keys/{rotated}/rotate", {})
    alice.post(f"/api-keys/{disabled}/disable")
    alice.post(f"/api-keys/{revoked}/revoke")
    row_of(app, expired, expires_at=datetime.now(UTC))
    before = len(alice.get("/api-keys").get_json()["items"])
    for key_id in (rotated, disabled, revoked, expired):
        assert alice.post(f"/api-keys/{key_id}/rotate", {}).status_code == 409
    assert len(alice.get("/api-keys").get_json()["items"]) == before
    stale = alice.post(f"/api-keys/{rotated}/rotate", {}, headers={"If-Match": '"r1"'})
    assert stale.status_code == 412


def test_a_rotated_keys_end_may_come_sooner_and_never_later(alice: Person) -> None:
    old = alice.make("/api-keys", {"name": "k"})["id"]
    alice.make(f"/api-keys/{old}/rotate", {})
    for later in (None, (datetime.now(UTC) + timedelta(days=2)).isoformat()):
        answer = alice.patch(f"/api-keys/{old}", {"expires_at": later})
        assert (answer.status_code, answer.get_json()["errors"][0]["location"]) == (422, "expires_at")
    sooner = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    assert alice.patch(f"/api-keys/{old}", {"expires_at": sooner}).status_code == 200
    assert alice.patch(f"/api-keys/{old}", {"name": "renamed"}).status_code == 200


def test_an_imported_key_gets_a_successor_of_our_own(alice: Person) -> None:
    old = alice.make("/api-keys/import", {"name": "demo", "key": "demo_key_abc123", "scopes": ["read"]})
    new = alice.make(f"/api-keys/{old['id']}/rotate", {})
    assert (new["key"][:8], new["imported"], new["scopes"]) == ("ve_live_", False, ["read"])


def test_a_predecessor_may_be_removed(alice: Person) -> None:
    old = alice.make("/api-keys", {"name": "k"})["id"]
    new = alice.make(f"/api-keys/{old}/rotate", {})["id"]
    assert alice.delete(f"/api-keys/{old}").status_code == 204
    assert alice.get(f"/api-keys/{new}").get_json()["rotated_from_id"] is None
    assert alice.make(f"/api-keys/{new}/rotate", {})["rotated_from_id"] == new


# --- Keys of members' own -------------------------------------------------------------------------------------------


def test_a_member_makes_rotates_and_revokes_keys_of_their_own(alice: Person, bob: Person) -> None:
    made = bob.make("/api-keys", {"name": "bobs", "scopes": ["read"]})
    assert made["created_by"] == "user_bob"
    new = bob.make(f"/api-keys/{made['id']}/rotate", {})
    assert new["created_by"] == "user_bob"
    for key_id in (made["id"], new["id"]):
        assert bob.post(f"/api-keys/{key_id}/revoke").get_json()["state"] == "revoked"
    actions = [(item["action"], item["clerk_user_id"]) for item in alice.get("/audit-log").get_json()["items"]]
    assert actions[:2] == [("api_key.revoked", "user_bob")] * 2


def test_a_member_does_nothing_else_to_a_key_of_their_own_and_nothing_to_anothers(
    app: Flask, alice: Person, bob: Person, charlie: Person
) -> None:
    """Walked over every call that takes a key's id."""
    own = bob.make("/api-keys", {"name": "bobs"})["id"]
    alices = alice.make("/api-keys", {"name": "alices"})["id"]
    nobodys = alice.make("/api-keys", {"name": "of nobody"})["id"]
    row_of(app, nobodys, created_by=None)
    foreign = charlie.make("/api-keys", {"name": "charlies"})["id"]
    bodies = {"rotate": {}, "PATCH": {"name": "x"}}
    walked = 0
    for rule in app.url_map.iter_rules():
        if not rule.rule.startswith("/api/v1/api-keys/<uuid:id>"):
            continue
        verb = rule.rule.rpartition("/")[2]
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS", "GET"}:
            body = bodies.get(verb if method == "POST" else method)
            path = rule.rule.removeprefix("/api/v1")
            statuses = [
                bob.call(
                    method, path.replace("<uuid:id>", key_id), **({} if body is None else {"json": body})
                ).status_code
                for key_id in (alices, nobodys, foreign)
            ]
            hides = 404 if verb in ("rotate", "revoke") else 403  # who may never, is told so before any look
            assert statuses == [403, 403, hides], (method, path)
            if verb not in ("rotate", "revoke"):
                mine = bob.call(method, path.replace("<uuid:id>", own), **({} if body is None else {"json": body}))
                assert mine.status_code == 403, (method, path)
            walked += 1
    assert walked == 7
    states = {item["name"]: item["state"] for item in alice.get("/api-keys").get_json()["items"]}
    assert states == {"bobs": "active", "alices": "active", "of nobody": "active"}


def test_what_a_person_made_elsewhere_gives_no_right_here(app: Flask, charlie: Person, alice: Person) -> None:
    """One person, two organisations: admin here, member there."""
    visiting = Person(app, lambda: session_token("charlie", org="org_demo", role="member"))
    theirs = charlie.make("/api-keys", {"name": "charlies"})["id"]
    assert visiting.post(f"/api-keys/{theirs}/revoke").status_code == 404
    assert visiting.post(f"/api-keys/{theirs}/rotate", {}).status_code == 404


# --- Search ---------------------------------------------------------------------------------------------------------


def test_keys_are_found_by_the_beginning_of_the_name_and_of_what_is_shown(alice: Person, charlie: Person) -> None:
    first = alice.make("/api-keys", {"name": "Billing production"})
    alice.make("/api-keys", {"name": "100% load_test"})
    alice.make("/api-keys", {"name": "\u00c4rger"})
    charlie.make("/api-keys", {"name": "Billing of charlie"})
    searches = (
        "Bill",
        "billing p",
        "illing",
        "%",
        "100% l",
        "1___",
        "\u00e4r",
        first["key_prefix"],
        "ve_live_",
        first["key"],
    )
    found = {
        words: [item["name"] for item in alice.get("/api-keys", query_string={"search": words}).get_json()["items"]]
        for words in searches
    }
    billing = ["Billing production"]
    assert found == {
        "Bill": billing, "billing p": billing, "illing": [], "%": [], "100% l": ["100% load_test"], "1___": [],
        "\u00e4r": ["\u00c4rger"], first["key_prefix"]: billing, first["key"]: [],
        "ve_live_": ["Billing production", "100% load_test", "\u00c4rger"],
    }  # fmt: skip
    assert alice.get("/api-keys", query_string={"search": "x" * 121}).status_code == 422
    pages = alice.get("/api-keys", query_string={"search": "ve_", "limit": 1}).get_json()
    assert (pages["items"], pages["next_cursor"]) == ([], None)
    pages = alice.get("/api-keys", query_string={"search": "ve_live_", "limit": 1}).get_json()
    assert pages["next_cursor"]
