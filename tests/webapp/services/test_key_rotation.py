"""Rotation by a key's policy: sealed, revealed once, the old key's grace, what is overdue and what is ended."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask import Flask
from msgspec import UNSET
from sqlalchemy import text

from contracts import apikey, keyspace, sealing, snapshot
from tests.stored import everything_in
from tests.webapp.cast import Person
from webapp.extensions import db, system_scope
from webapp.services import key_rotation, publishing
from webapp.services.actor import Actor
from webapp.services.key_rotation import Advanced

SETTINGS = "vantageedge.settings"
DAY = timedelta(days=1)
PEPPER = bytes.fromhex("ab" * 32)


@pytest.fixture
def sealed(app: Flask) -> Iterator[None]:
    before = app.extensions[SETTINGS]
    app.extensions[SETTINGS] = dataclasses.replace(before, sealing_keys=sealing.parse_keys("1:" + "cd" * 32))
    yield
    app.extensions[SETTINGS] = before


@pytest.fixture
def old(alice: Person, sealed: None) -> dict[str, Any]:
    return alice.make("/api-keys", {"name": "billing", "scopes": ["read"], "rotate_every_days": 30})


def advance(app: Flask, tenant: Actor, days: float = 0.0) -> Advanced:
    """Look at the policies as the worker does, so many days from now."""
    now = datetime.now(UTC) + timedelta(days=days)
    with app.app_context():
        total = Advanced()
        for tenant_id, _ in key_rotation.tenants_with_work(now):
            total += key_rotation.advance(dataclasses.replace(tenant, tenant_id=tenant_id), now)
        return total


def keys(alice: Person) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = alice.get("/api-keys").get_json()["items"]
    return items


def execute(app: Flask, statement: str, **values: Any) -> list[Any]:
    with app.app_context(), system_scope() as session:
        result = session.execute(text(statement), values)
        rows = list(result) if result.returns_rows else []
        session.commit()
        return rows


def known(store: redis.Redis, tenant: Actor, key: str) -> snapshot.KeyRecord | None:
    body = store.get(keyspace.api_key(str(tenant.tenant_id), apikey.digest(key.encode(), 1, PEPPER)))
    return None if body is None else snapshot.decode_key(body)


def test_a_key_whose_days_are_over_gets_one_sealed_successor_however_often_one_looks(
    app: Flask, alice: Person, demo: Actor, old: dict[str, Any], store: redis.Redis
) -> None:
    assert advance(app, demo, 29.9) == Advanced()
    assert advance(app, demo, 30.1) == Advanced(made=1)
    assert advance(app, demo, 30.1) == Advanced()
    first, second = keys(alice)
    assert (first["state"], first["deprecated_at"]) == ("active", None)
    assert (second["state"], second["rotated_from_id"], second["scopes"]) == ("waiting", old["id"], ["read"])
    ((sealed_key, digest),) = execute(app, "SELECT sealed_key, digest FROM api_keys WHERE sealed_key IS NOT NULL")
    place = snapshot.successor_place(str(demo.tenant_id), second["id"])
    plain = sealing.open_sealed(sealing.parse_keys("1:" + "cd" * 32), sealed_key, place).decode()
    assert apikey.digest(plain.encode(), 1, PEPPER) == digest
    assert known(store, demo, plain) is None, "no edge knows it before somebody does"
    for place_to_look in (everything_in(store).decode("latin-1"), alice.get("/audit-log").text, str(second)):
        assert plain not in place_to_look
        assert sealed_key not in place_to_look
    with app.app_context():
        publishing.rebuild(demo.tenant_id)
        assert publishing.drift(demo.tenant_id) == ()
    assert known(store, demo, plain) is None, "and no rebuilt store either"


def test_it_is_revealed_once_and_then_the_old_keys_grace_begins(
    app: Flask, alice: Person, bob: Person, demo: Actor, old: dict[str, Any], store: redis.Redis
) -> None:
    advance(app, demo, 30.1)
    path = f"/api-keys/{keys(alice)[1]['id']}/reveal"
    assert bob.post(path).status_code == 403
    assert known(store, demo, old["key"]).deprecated_at is UNSET, "it goes on as if nothing were"
    answer = alice.post(path)
    revealed = answer.get_json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert (revealed["state"], revealed["reveal_until"]) == ("active", None)
    assert known(store, demo, revealed["key"]) is not None
    again = alice.post(path)
    assert again.status_code == 409
    assert revealed["key"] not in again.text
    held = keys(alice)[0]
    grace = datetime.fromisoformat(held["expires_at"]) - datetime.fromisoformat(held["deprecated_at"])
    assert grace == key_rotation.GRACE_AFTER_REVEAL
    assert known(store, demo, old["key"]).expires_at is not None
    assert execute(app, "SELECT count(*) FROM api_keys WHERE sealed_key IS NOT NULL")[0][0] == 0
    assert revealed["key"] not in alice.get("/audit-log").text


def test_what_is_not_revealed_in_time_is_destroyed_and_the_rotation_is_overdue(
    app: Flask, alice: Person, demo: Actor, old: dict[str, Any]
) -> None:
    advance(app, demo, 30)
    waiting = keys(alice)[1]["id"]
    assert advance(app, demo, 37.1) == Advanced(made=1, lapsed=1)
    first, lapsed, next_one = keys(alice)
    assert (first["state"], first["rotation_overdue_at"] is not None) == ("active", True)
    assert (lapsed["id"], lapsed["state"], next_one["state"]) == (waiting, "revoked", "waiting")
    assert execute(app, "SELECT count(*) FROM api_keys WHERE sealed_key IS NOT NULL")[0][0] == 1
    assert alice.post(f"/api-keys/{waiting}/reveal").status_code == 409
    alice.post(f"/api-keys/{next_one['id']}/reveal")
    assert keys(alice)[0]["rotation_overdue_at"] is None
    actions = [item["action"] for item in alice.get("/audit-log").get_json()["items"]]
    assert {"api_key.lapsed", "api_key.rotation_overdue", "api_key.revealed", "api_key.rotated"} <= set(actions)


def test_too_late_is_too_late_though_no_job_has_looked_yet(
    app: Flask, alice: Person, demo: Actor, old: dict[str, Any]
) -> None:
    advance(app, demo, 30)
    execute(app, "UPDATE api_keys SET reveal_until = now() - interval '1 second' WHERE sealed_key IS NOT NULL")
    assert alice.post(f"/api-keys/{keys(alice)[1]['id']}/reveal").status_code == 409


def test_a_replaced_key_is_revoked_at_its_deadline(app: Flask, alice: Person, demo: Actor, old: dict[str, Any]) -> None:
    advance(app, demo, 30)
    alice.post(f"/api-keys/{keys(alice)[1]['id']}/reveal")
    execute(app, "UPDATE api_keys SET last_used_at = now() + interval '100 days'")
    assert advance(app, demo, 6.9) == Advanced()
    assert advance(app, demo, 7.1) == Advanced(ended=1)
    assert [item["state"] for item in keys(alice)] == ["revoked", "active"]


def test_a_replaced_key_that_nobody_used_for_a_day_since_the_reveal_is_revoked_sooner(
    app: Flask, alice: Person, demo: Actor, old: dict[str, Any]
) -> None:
    advance(app, demo, 30)
    alice.post(f"/api-keys/{keys(alice)[1]['id']}/reveal")
    use = "UPDATE api_keys SET last_used_at = now() + make_interval(hours => :hours) WHERE id = :id"
    execute(app, use, hours=2, id=old["id"])
    assert advance(app, demo, 0.9) == Advanced(), "a day since the reveal must pass"
    assert advance(app, demo, 25 / 24) == Advanced(), "and a day since its last use"
    assert advance(app, demo, 27 / 24) == Advanced(ended=1)
    assert keys(alice)[0]["state"] == "revoked"


def test_a_key_rotated_by_hand_keeps_its_whole_grace_though_unused(app: Flask, alice: Person, demo: Actor) -> None:
    made = alice.make("/api-keys", {"name": "k"})
    alice.make(f"/api-keys/{made['id']}/rotate", {"grace_seconds": 604_800})
    assert advance(app, demo, 6.9) == Advanced()
    assert advance(app, demo, 7.1) == Advanced(ended=1)


def test_rotating_by_hand_ends_the_successor_that_waits(
    app: Flask, alice: Person, demo: Actor, old: dict[str, Any]
) -> None:
    advance(app, demo, 30)
    waiting = keys(alice)[1]["id"]
    assert alice.post(f"/api-keys/{waiting}/rotate", {}).status_code == 409
    alice.make(f"/api-keys/{old['id']}/rotate", {})
    assert [item["state"] for item in keys(alice)] == ["active", "revoked", "active"]
    assert alice.post(f"/api-keys/{waiting}/reveal").status_code == 409


def test_disabled_expired_and_revoked_keys_get_no_successor(
    app: Flask, alice: Person, demo: Actor, sealed: None
) -> None:
    made = [alice.make("/api-keys", {"name": "k", "rotate_every_days": 1})["id"] for _ in range(3)]
    alice.post(f"/api-keys/{made[0]}/disable")
    alice.post(f"/api-keys/{made[1]}/revoke")
    execute(app, "UPDATE api_keys SET expires_at = now() WHERE id = :id", id=made[2])
    assert advance(app, demo, 2) == Advanced()


def test_more_than_one_batch_is_done(app: Flask, alice: Person, demo: Actor, sealed: None) -> None:
    execute(
        app,
        "INSERT INTO api_keys (tenant_id, name, key_prefix, last_four, digest, rotate_every_days)"
        " SELECT :tenant, 'k' || n, 've_live_', 'four', 'v1:' || n, 1 FROM generate_series(1, 250) n",
        tenant=demo.tenant_id,
    )
    assert advance(app, demo, 2) == Advanced(made=250)
    assert advance(app, demo, 2) == Advanced()


def test_a_successor_whose_sealing_key_is_lost_says_what_to_do(
    app: Flask, alice: Person, demo: Actor, old: dict[str, Any]
) -> None:
    advance(app, demo, 30)
    app.extensions[SETTINGS] = dataclasses.replace(app.extensions[SETTINGS], sealing_keys={})
    answer = alice.post(f"/api-keys/{keys(alice)[1]['id']}/reveal")
    assert (answer.status_code, "rotate its predecessor by hand" in answer.text) == (409, True)
    assert keys(alice)[0]["deprecated_at"] is None


def test_a_key_that_lives_as_long_as_there_are_years_is_rotated_like_any_other(
    app: Flask, alice: Person, demo: Actor, sealed: None
) -> None:
    """Its successor's life would end where no date can be written; that one key kept its whole tenant waiting."""
    by_hand, by_policy = (
        alice.make("/api-keys", {"name": "far", "expires_at": "9999-12-31T23:59:59Z", **more})
        for more in ({}, {"rotate_every_days": 30})
    )
    execute(app, "UPDATE api_keys SET created_at = created_at - interval '31 days'")
    successor = alice.post(f"/api-keys/{by_hand['id']}/rotate", {})
    assert (successor.status_code, successor.get_json()["expires_at"]) == (201, "9999-12-31T23:59:59Z")
    assert advance(app, demo, 0) == Advanced(made=1)
    waiting = next(key for key in keys(alice) if key["rotated_from_id"] == by_policy["id"])
    assert waiting["expires_at"] == "9999-12-31T23:59:59Z"


def test_of_two_who_reveal_at_once_one_sees_the_key(
    app: Flask, alice: Person, demo: Actor, old: dict[str, Any]
) -> None:
    advance(app, demo, 30.1)
    path = f"/api-keys/{keys(alice)[1]['id']}/reveal"
    start, seen = threading.Barrier(4), []

    def reveal() -> None:
        start.wait()
        answer = alice.post(path)
        seen.append((answer.status_code, "key" in answer.get_json()))
        with app.app_context():
            db.session.remove()

    threads = [threading.Thread(target=reveal) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [(200, True), (409, False), (409, False), (409, False)]
