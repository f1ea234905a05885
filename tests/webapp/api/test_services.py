"""Services through the API: what is made, what is shown once, how a secret is replaced, what the edge is told."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis
from flask import Flask
from msgspec import UNSET
from sqlalchemy import text

from contracts import bounds, keyspace, sealing, snapshot
from devstack.postgres import Postgres
from tests.stored import everything_in
from tests.webapp.cast import Person
from webapp.extensions import db, tenant_scope
from webapp.services.actor import Actor

ONE, TWO = "5a" * 32, "6b" * 32
SETTINGS = "vantageedge.settings"
MACHINE = {"name": "robot", "kind": "clerk_machine", "machine_id": "mch_robot"}


@pytest.fixture(autouse=True)
def sealing_with(app: Flask) -> Iterator[Callable[[str], None]]:
    """Give the application other SEALING_KEYS, as a restart would."""
    before = app.extensions[SETTINGS]

    def use(keys: str) -> None:
        parsed = sealing.parse_keys(keys) if keys else {}
        app.extensions[SETTINGS] = dataclasses.replace(before, sealing_keys=parsed)

    use(f"1:{ONE}")
    yield use
    app.extensions[SETTINGS] = before


def published(store: redis.Redis, demo: Actor) -> tuple[snapshot.ServiceConfig, ...]:
    held: Any = store.hgetall(keyspace.config(str(demo.tenant_id)))
    services = snapshot.decode(held[b"body"], held[b"sha256"].decode()).services
    return () if services is UNSET else services


def opened(config: snapshot.ServiceConfig, demo: Actor, keys: str = f"1:{ONE}") -> list[bytes]:
    place = snapshot.service_secret_place(str(demo.tenant_id), config.id)
    return [sealing.open_sealed(sealing.parse_keys(keys), sealed, place) for sealed in config.secrets]


def secret_of(made: dict[str, Any]) -> bytes:
    return base64.b64decode(made["secret"], validate=True)


def errors(answer: Any) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [item["location"] for item in answer.get_json()["errors"]]


# --- Made -----------------------------------------------------------------------------------------------------------


def test_a_secret_is_shown_once_and_the_edge_gets_it_sealed(alice: Person, demo: Actor, store: redis.Redis) -> None:
    until = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    answer = alice.post(
        "/services",
        {
            "name": "shop",
            "scopes": ["orders:write"],
            "addresses": ["192.0.2.0/24", "2001:DB8::/32", "198.51.100.7"],
            "expires_at": until.isoformat(),
        },
    )
    assert answer.status_code == 201, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    made = answer.get_json()
    assert answer.headers["Location"] == f"/api/v1/services/{made['id']}"
    assert (made["kind"], made["state"], made["enabled"], made["created_by"]) == ("hmac", "active", True, "user_alice")
    assert made["key_id"].startswith("svc_") and made["key_id"][4:].isalnum() and len(made["key_id"]) == 24
    assert len(secret_of(made)) == 32
    shown = alice.get(f"/services/{made['id']}").get_json()
    assert "secret" not in shown
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert alice.get("/services").get_json()["items"] == [shown]
    (config,) = published(store, demo)
    assert opened(config, demo) == [secret_of(made)]
    assert (config.key_id, config.scopes, config.expires_at) == (made["key_id"], ("orders:write",), until.timestamp())
    assert config.addresses == ("192.0.2.0/24", "2001:db8::/32", "198.51.100.7/32")
    assert config.previous_until is None


def test_no_two_services_have_a_secret_or_a_key_id_in_common(alice: Person) -> None:
    made = [alice.make("/services", {"name": "shop"}) for _ in range(5)]
    assert len({one["secret"] for one in made}) == len({one["key_id"] for one in made}) == 5


def test_a_machine_of_clerk_has_no_secret_of_ours(alice: Person, demo: Actor, store: redis.Redis) -> None:
    made = alice.make("/services", MACHINE)
    assert (made["key_id"], made["secret"]) == ("mch_robot", None)
    (config,) = published(store, demo)
    assert (config.kind, config.key_id, config.secrets) == ("clerk_machine", "mch_robot", ())
    again = alice.post("/services", {**MACHINE, "name": "other"})
    assert (again.status_code, again.get_json()["errors"][0]["location"]) == (409, "machine_id")
    rotated = alice.post(f"/services/{made['id']}/rotate", {})
    assert (rotated.status_code, rotated.get_json()["code"]) == (409, "conflict")


def test_a_machine_may_call_two_tenants(alice: Person, charlie: Person) -> None:
    assert alice.make("/services", MACHINE)["id"] != charlie.make("/services", MACHINE)["id"]


def test_a_tenant_without_services_publishes_none(alice: Person, demo: Actor, store: redis.Redis) -> None:
    """An edge of an earlier release refuses what it does not know."""
    made = alice.make("/services", {"name": "shop"})
    assert alice.delete(f"/services/{made['id']}").status_code == 204
    assert b'"services"' not in store.hget(keyspace.config(str(demo.tenant_id)), "body")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changed", "location"),
    [
        ({"surprise": 1}, "surprise"),
        ({"secret": "mine"}, "secret"),
        ({"key_id": "svc_mine"}, "key_id"),
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"kind": "mtls"}, "kind"),
        ({"kind": "clerk_machine"}, "machine_id"),
        ({"kind": "hmac", "machine_id": "mch_x"}, "machine_id"),
        ({"kind": "clerk_machine", "machine_id": "mch_"}, "machine_id"),
        ({"kind": "clerk_machine", "machine_id": "mch_a b"}, "machine_id"),
        ({"kind": "clerk_machine", "machine_id": "svc_a"}, "machine_id"),
        ({"scopes": ["a b"]}, "scopes.0"),
        ({"scopes": ["a", "a"]}, "scopes"),
        ({"scopes": [f"s{n}" for n in range(33)]}, "scopes"),
        ({"addresses": ["10.0.0.1/8"]}, "addresses.0"),
        ({"addresses": ["192.0.2.0/24", "nowhere"]}, "addresses.1"),
        ({"addresses": ["192.0.2.7", "192.0.2.7/32"]}, "addresses"),
        ({"addresses": [f"192.0.2.{n}" for n in range(33)]}, "addresses"),
        ({"addresses": "10.0.0.0/8"}, "addresses"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-01:00"}, "expires_at"),
        ({"tenant_id": "no uuid"}, "tenant_id"),
    ],
)
def test_a_bad_service_is_refused_and_the_field_is_named(alice: Person, changed: dict[str, Any], location: str) -> None:
    assert errors(alice.post("/services", {"name": "shop", **changed})) == [location]


@pytest.mark.parametrize(
    ("patch", "location"),
    [
        ({"kind": "hmac"}, "kind"),
        ({"key_id": "svc_x"}, "key_id"),
        ({"enabled": False}, "enabled"),
        ({"name": None}, "name"),
        ({"scopes": None}, "scopes"),
        ({"addresses": ["x"]}, "addresses.0"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ],
)
def test_a_bad_change_is_refused_and_the_field_is_named(alice: Person, patch: dict[str, Any], location: str) -> None:
    made = alice.make("/services", {"name": "shop"})
    assert errors(alice.patch(f"/services/{made['id']}", patch)) == [location]


@pytest.mark.parametrize("grace", [-1, 604_801, 1.5, "60", None, True])
def test_a_bad_grace_is_refused(alice: Person, grace: Any) -> None:
    made = alice.make("/services", {"name": "shop"})
    assert errors(alice.post(f"/services/{made['id']}/rotate", {"grace_seconds": grace})) == ["grace_seconds"]


def test_without_sealing_keys_no_secret_is_made_and_machines_work(
    alice: Person, sealing_with: Callable[[str], None]
) -> None:
    made = alice.make("/services", {"name": "shop"})
    sealing_with("")
    answer = alice.post("/services", {"name": "second"})
    assert errors(answer) == ["kind"]
    assert "SEALING_KEYS" in answer.get_json()["errors"][0]["message"]
    assert errors(alice.post(f"/services/{made['id']}/rotate", {})) == ["grace_seconds"]
    alice.make("/services", MACHINE)


def test_services_are_bounded_in_number(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SERVICES_PER_TENANT_MAX", 2)
    for number in range(2):
        alice.make("/services", {"name": f"shop {number}"})
    answer = alice.post("/services", {"name": "third"})
    assert (answer.status_code, answer.get_json()["detail"]) == (409, "A tenant has at most 2 services.")


# --- Changed --------------------------------------------------------------------------------------------------------


def test_a_change_reaches_the_edges_and_keeps_the_secret(alice: Person, demo: Actor, store: redis.Redis) -> None:
    made = alice.make("/services", {"name": "shop", "scopes": ["a"]})
    (before,) = published(store, demo)
    answer = alice.patch(f"/services/{made['id']}", {"scopes": ["b"], "addresses": ["192.0.2.0/24"], "name": "store"})
    assert answer.status_code == 200, answer.text
    assert (answer.headers["ETag"], answer.get_json()["name"]) == ('"r2"', "store")
    (after,) = published(store, demo)
    assert (after.scopes, after.addresses, after.secrets) == (("b",), ("192.0.2.0/24",), before.secrets)
    stale = alice.patch(f"/services/{made['id']}", {"name": "x"}, headers={"If-Match": '"r1"'})
    assert stale.status_code == 412


def test_switched_off_it_is_gone_from_the_edge_and_comes_back(alice: Person, demo: Actor, store: redis.Redis) -> None:
    path = f"/services/{alice.make('/services', {'name': 'shop'})['id']}"
    (before,) = published(store, demo)
    assert alice.post(f"{path}/disable").get_json()["state"] == "disabled"
    assert published(store, demo) == ()
    assert alice.post(f"{path}/enable").get_json()["state"] == "active"
    assert published(store, demo) == (before,)


def test_revoked_it_is_gone_for_ever_and_so_are_its_secrets(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis
) -> None:
    path = f"/services/{alice.make('/services', {'name': 'shop'})['id']}"
    alice.post(f"{path}/rotate", {})
    assert alice.post(f"{path}/revoke").get_json()["state"] == "revoked"
    assert alice.post(f"{path}/revoke").status_code == 200
    assert published(store, demo) == ()
    for answer in (
        alice.post(f"{path}/enable"),
        alice.post(f"{path}/disable"),
        alice.post(f"{path}/rotate", {}),
        alice.patch(path, {"name": "x"}),
    ):
        assert (answer.status_code, answer.get_json()["detail"]) == (409, "The service is revoked, for ever.")
    with app.app_context(), tenant_scope(demo.tenant_id):
        row = db.session.execute(text("SELECT secret, previous_secret, previous_until FROM services")).one()
    assert tuple(row) == (None, None, None)


def test_every_change_is_a_line_in_the_audit_log_without_a_secret(alice: Person) -> None:
    path = f"/services/{alice.make('/services', {'name': 'shop'})['id']}"
    alice.patch(path, {"name": "store"})
    alice.post(f"{path}/rotate", {"grace_seconds": 0})
    alice.post(f"{path}/disable")
    alice.post(f"{path}/enable")
    alice.post(f"{path}/revoke")
    alice.delete(path)
    log = alice.get("/audit-log").get_json()["items"]
    assert [entry["action"] for entry in reversed(log)][-7:] == [
        f"service.{verb}" for verb in ("created", "changed", "rotated", "disabled", "enabled", "revoked", "removed")
    ]
    assert "secret" not in json.dumps(log)
    assert alice.get(path).status_code == 404


# --- Replaced -------------------------------------------------------------------------------------------------------


def test_a_replaced_secret_lives_through_its_grace(alice: Person, demo: Actor, store: redis.Redis) -> None:
    made = alice.make("/services", {"name": "shop"})
    answer = alice.post(f"/services/{made['id']}/rotate", {"grace_seconds": 60})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    rotated = answer.get_json()
    assert (rotated["key_id"], rotated["row_version"]) == (made["key_id"], 2)
    left_s = (datetime.fromisoformat(rotated["previous_until"]) - datetime.now(UTC)).total_seconds()
    assert 55 < left_s <= 60
    (config,) = published(store, demo)
    assert opened(config, demo) == [secret_of(rotated), secret_of(made)]
    assert config.previous_until == datetime.fromisoformat(rotated["previous_until"]).timestamp()


def test_the_grace_is_a_day_where_nothing_is_said(alice: Person) -> None:
    made = alice.make("/services", {"name": "shop"})
    rotated = alice.post(f"/services/{made['id']}/rotate", {}).get_json()
    left = datetime.fromisoformat(rotated["previous_until"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(days=1)


def test_without_grace_the_old_secret_ends_at_once(alice: Person, demo: Actor, store: redis.Redis) -> None:
    made = alice.make("/services", {"name": "shop"})
    rotated = alice.post(f"/services/{made['id']}/rotate", {"grace_seconds": 0}).get_json()
    assert rotated["previous_until"] is None
    (config,) = published(store, demo)
    assert opened(config, demo) == [secret_of(rotated)]


def test_there_are_never_more_than_two(alice: Person, demo: Actor, store: redis.Redis) -> None:
    made = alice.make("/services", {"name": "shop"})
    second = alice.post(f"/services/{made['id']}/rotate", {}).get_json()
    third = alice.post(f"/services/{made['id']}/rotate", {}).get_json()
    (config,) = published(store, demo)
    assert opened(config, demo) == [secret_of(third), secret_of(second)]
    last = alice.post(f"/services/{made['id']}/rotate", {"grace_seconds": 0}).get_json()
    (config,) = published(store, demo)
    assert opened(config, demo) == [secret_of(last)], "no grace for anything of before"


def test_a_secret_whose_grace_ended_is_told_to_nobody_and_goes_with_the_next_write(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis
) -> None:
    made = alice.make("/services", {"name": "shop"})
    other = alice.make("/services", {"name": "other"})
    rotated = alice.post(f"/services/{made['id']}/rotate", {}).get_json()

    def held() -> int:
        with app.app_context(), tenant_scope(demo.tenant_id):
            return int(db.session.execute(text("SELECT count(previous_secret) FROM services")).scalar_one())

    with app.app_context(), tenant_scope(demo.tenant_id) as session:
        session.execute(text("UPDATE services SET previous_until = now() WHERE previous_until IS NOT NULL"))
        session.commit()
    assert alice.get(f"/services/{made['id']}").get_json()["previous_until"] is None
    alice.patch(f"/services/{other['id']}", {"name": "x"})
    config = published(store, demo)[0]
    assert (opened(config, demo), config.previous_until, held()) == ([secret_of(rotated)], None, 1)
    alice.patch(f"/services/{made['id']}", {"name": "y"})
    assert held() == 0


# --- Kept -----------------------------------------------------------------------------------------------------------


def test_a_secret_is_in_clear_nowhere(
    alice: Person, store: redis.Redis, postgres: Postgres, capfd: pytest.CaptureFixture[str]
) -> None:
    made = alice.make("/services", {"name": "shop"})
    rotated = alice.post(f"/services/{made['id']}/rotate", {}).get_json()
    answers = [alice.get(path).text for path in ("/services", f"/services/{made['id']}", "/audit-log")]
    in_redis = everything_in(store)
    with psycopg.connect(postgres.url("owner", "webapp_shared"), autocommit=True) as connection:
        connection.execute("SET app.system = 'on'")
        tables = [
            str(connection.execute(f"SELECT * FROM {table}").fetchall())
            for table in ("services", "config_versions", "audit_log", "outbox")
        ]
    assert b"s1.1." in in_redis and "s1.1." in tables[0] and "s1.1." in tables[1]
    logged = "".join(capfd.readouterr())
    assert "request.done" in logged
    places = "\n".join((*answers, *tables, logged, in_redis.decode("latin-1")))
    for one in (made, rotated):
        raw = secret_of(one)
        for form in (one["secret"], raw.hex(), repr(raw)[2:-1], base64.urlsafe_b64encode(raw).decode()):
            assert form not in places


def test_sealing_keys_rotate_without_a_pause(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, sealing_with: Callable[[str], None]
) -> None:
    made = alice.make("/services", {"name": "shop"})
    rotated = alice.post(f"/services/{made['id']}/rotate", {}).get_json()
    alice.make("/services", MACHINE)
    sealing_with(f"1:{ONE},2:{TWO}")
    result = app.test_cli_runner().invoke(args=["reseal"])
    assert (result.exit_code, result.output) == (0, "1 secret sealed anew\n")
    config = published(store, demo)[0]
    assert [sealing.key_id_of(sealed) for sealed in config.secrets] == [2, 2]
    assert opened(config, demo, f"2:{TWO}") == [secret_of(rotated), secret_of(made)]
    assert app.test_cli_runner().invoke(args=["reseal"]).output == "0 secrets sealed anew\n"


def test_a_secret_of_a_lost_sealing_key_is_named_and_can_be_replaced(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, sealing_with: Callable[[str], None]
) -> None:
    made = alice.make("/services", {"name": "shop"})
    sealing_with(f"2:{TWO}")
    result = app.test_cli_runner().invoke(args=["reseal"])
    assert result.exit_code == 1
    assert f"service {made['id']}: no sealing key that is listed opens it" in result.output
    assert alice.patch(f"/services/{made['id']}", {"name": "x"}).status_code == 200
    rotated = alice.post(f"/services/{made['id']}/rotate", {"grace_seconds": 0}).get_json()
    assert opened(published(store, demo)[0], demo, f"2:{TWO}") == [secret_of(rotated)]


def test_of_two_secrets_the_one_that_opens_is_sealed_anew_though_the_other_is_lost(
    app: Flask, alice: Person, demo: Actor, sealing_with: Callable[[str], None]
) -> None:
    """Or it would be lost too, with the sealing key that is taken off the list next."""
    sealing_with(f"1:{TWO}")
    made = alice.make("/services", {"name": "shop"})
    sealing_with(f"2:{TWO}")
    alice.post(f"/services/{made['id']}/rotate", {})
    sealing_with(f"2:{TWO},3:{ONE}")
    result = app.test_cli_runner().invoke(args=["reseal"])
    assert (result.exit_code, "1 secret sealed anew" in result.output) == (1, True)
    assert f"service {made['id']}: no sealing key that is listed opens it" in result.output
    with app.app_context(), tenant_scope(demo.tenant_id) as session:
        row = session.execute(text("SELECT secret, previous_secret FROM services")).one()
    assert [sealing.key_id_of(held) for held in row] == [3, 1]


def test_lists_are_found_by_name_and_cut_into_pages(alice: Person) -> None:
    for name in ("a", "b", "a"):
        alice.make("/services", {"name": name})
    assert [one["name"] for one in alice.get("/services?name=a").get_json()["items"]] == ["a", "a"]
    first = alice.get("/services?limit=2").get_json()
    rest = alice.get(f"/services?limit=2&cursor={first['next_cursor']}").get_json()
    assert [one["name"] for one in (*first["items"], *rest["items"])] == ["a", "b", "a"]
    assert errors(alice.get("/services?kind=hmac")) == ["kind"]


def test_the_openapi_document_shows_a_secret_where_it_is_made_only(nobody: Person) -> None:
    schemas = nobody.get("/openapi.json").get_json()["components"]["schemas"]
    assert "secret" in schemas["ServiceMade"]["properties"]
    for name in ("ServiceView", "ServiceNew", "ServicePatch"):
        assert "secret" not in schemas[name]["properties"]
