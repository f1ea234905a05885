"""Identity keys through the API: the first, the next, one at once, and where a private half never is."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import redis
from cryptography.hazmat.primitives.serialization import load_der_private_key
from flask import Flask

from contracts import identity, keyspace, sealing, snapshot
from devstack.postgres import Postgres
from tests.stored import everything_in
from tests.webapp.cast import Person, a_route, an_origin
from webapp.services.actor import Actor

ONE, TWO = "1:" + "5a" * 32, "2:" + "6b" * 32
SETTINGS = "vantageedge.settings"


@pytest.fixture
def sealing_with(app: Flask) -> Iterator[Callable[[str], None]]:
    """Give the application other SEALING_KEYS, as a restart would."""
    before = app.extensions[SETTINGS]

    def use(text: str) -> None:
        keys = sealing.parse_keys(text) if text else {}
        app.extensions[SETTINGS] = dataclasses.replace(before, sealing_keys=keys)

    yield use
    app.extensions[SETTINGS] = before


@pytest.fixture
def origin(alice: Person) -> str:
    return str(alice.make("/origins", an_origin())["id"])


def published(store: redis.Redis, actor: Actor) -> snapshot.Snapshot:
    held: Any = store.hgetall(keyspace.config(str(actor.tenant_id)))
    return snapshot.decode(held[b"body"], held[b"sha256"].decode())


def keys_of(person: Person) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = person.get("/identity-keys").get_json()["items"]
    return listed


def opened(config: snapshot.IdentityKeyConfig, tenant_id: object, keys: str = ONE) -> Any:
    place = snapshot.identity_key_place(str(tenant_id), config.id)
    return load_der_private_key(sealing.open_sealed(sealing.parse_keys(keys), config.private_key or "", place), None)


def test_the_first_route_that_asks_makes_a_key_that_signs_at_once_and_others_none(
    alice: Person, demo: Actor, origin: str, store: redis.Redis
) -> None:
    route = alice.make("/routes", a_route(origin))
    assert keys_of(alice) == []
    assert published(store, demo).identity_keys is snapshot.msgspec.UNSET
    assert alice.patch(f"/routes/{route['id']}", {"identity_token": True}).status_code == 200
    alice.make("/routes", a_route(origin, path_pattern="/other", identity_token=True))
    (key,) = keys_of(alice)
    assert (key["state"], key["state_until"], key["algorithm"]) == ("signing", None, "ES256")
    (config,) = published(store, demo).identity_keys or ()
    assert config.id == key["id"] == key["public_jwk"]["kid"]
    private = opened(config, demo.tenant_id)
    assert json.loads(identity.public_jwk(private.public_key(), config.id)) == key["public_jwk"]
    assert [entry["action"] for entry in alice.get("/audit-log").get_json()["items"]].count("identity_key.created") == 1


def test_keys_travel_only_while_an_enabled_route_uses_them(
    alice: Person, demo: Actor, origin: str, store: redis.Redis
) -> None:
    route = alice.make("/routes", a_route(origin, identity_token=True))["id"]
    assert published(store, demo).identity_keys
    for change in ({"enabled": False}, {"enabled": True, "identity_token": False}):
        alice.patch(f"/routes/{route}", change)
        assert published(store, demo).identity_keys is snapshot.msgspec.UNSET
    assert len(keys_of(alice)) == 1


def test_the_next_key_is_published_without_its_private_half_and_there_is_one_next(
    alice: Person, demo: Actor, origin: str, store: redis.Redis
) -> None:
    alice.make("/routes", a_route(origin, identity_token=True))
    answer = alice.post("/identity-keys/rotate")
    assert (answer.status_code, answer.get_json()["state"]) == (201, "next")
    assert answer.headers["X-Vantage-Config-Version"] == str(published(store, demo).version)
    signing, waiting = keys_of(alice)
    assert (signing["state"], waiting["state"]) == ("signing", "next")
    configs = published(store, demo).identity_keys or ()
    assert [(config.id, config.private_key is None) for config in configs] == [
        (signing["id"], False),
        (waiting["id"], True),
    ]
    again = alice.post("/identity-keys/rotate")
    assert (again.status_code, again.get_json()["code"]) == (409, "conflict")
    assert "published already" in again.get_json()["detail"]
    assert len(keys_of(alice)) == 2


def test_rotating_without_any_key_makes_the_first(alice: Person) -> None:
    assert alice.post("/identity-keys/rotate").get_json()["state"] == "signing"


def test_a_key_that_others_know_is_taken_away_at_once(
    alice: Person, demo: Actor, origin: str, store: redis.Redis
) -> None:
    alice.make("/routes", a_route(origin, identity_token=True))
    alice.post("/identity-keys/rotate")
    before = {key["id"] for key in keys_of(alice)}
    made = alice.post("/identity-keys/rotate", {"at_once": True}).get_json()
    assert made["state"] == "signing"
    assert [key["id"] for key in keys_of(alice)] == [made["id"]]
    assert made["id"] not in before
    assert [config.id for config in published(store, demo).identity_keys or ()] == [made["id"]]
    actions = [entry["action"] for entry in alice.get("/audit-log").get_json()["items"]]
    assert actions.count("identity_key.removed") == 2


@pytest.mark.parametrize(
    ("body", "field"), [({"at_once": 1}, "at_once"), ({"at_once": "yes"}, "at_once"), ({"when": "now"}, "when")]
)
def test_a_wrong_wish_is_refused_by_name(alice: Person, body: dict[str, Any], field: str) -> None:
    answer = alice.post("/identity-keys/rotate", body)
    assert (answer.status_code, answer.get_json()["errors"][0]["location"]) == (422, field)


def test_a_member_sees_keys_and_changes_none_and_a_stranger_has_his_own(
    alice: Person, bob: Person, charlie: Person, origin: str
) -> None:
    alice.make("/routes", a_route(origin, identity_token=True))
    assert len(keys_of(bob)) == 1
    assert bob.post("/identity-keys/rotate").status_code == 403
    assert keys_of(charlie) == []
    charlie.post("/identity-keys/rotate", {"at_once": True})
    assert {key["id"] for key in keys_of(charlie)}.isdisjoint({key["id"] for key in keys_of(alice)})
    assert len(keys_of(alice)) == 1


def test_without_sealing_keys_a_token_is_refused_by_name_and_all_else_works(
    alice: Person, origin: str, sealing_with: Callable[[str], None]
) -> None:
    vouched = alice.make("/routes", a_route(origin, identity_token=True))["id"]
    other = alice.make("/routes", a_route(origin, path_pattern="/y"))["id"]
    sealing_with("")
    for answer in (
        alice.post("/routes", a_route(origin, path_pattern="/x", identity_token=True)),
        alice.patch(f"/routes/{other}", {"identity_token": True}),
    ):
        assert answer.status_code == 422
        assert answer.get_json()["errors"] == [
            {"location": "identity_token", "message": "cannot be signed: this deployment has no SEALING_KEYS"}
        ]
    assert alice.patch(f"/routes/{vouched}", {"priority": 5}).status_code == 200
    assert alice.post("/identity-keys/rotate").status_code == 409


def test_a_private_half_is_in_clear_nowhere(
    alice: Person, demo: Actor, origin: str, store: redis.Redis, postgres: Postgres, capfd: pytest.CaptureFixture[str]
) -> None:
    alice.make("/routes", a_route(origin, identity_token=True))
    private = opened((published(store, demo).identity_keys or ())[0], demo.tenant_id).private_numbers().private_value
    secret = private.to_bytes(32, "big")
    forms = (secret, base64.b64encode(secret), base64.urlsafe_b64encode(secret).rstrip(b"="), secret.hex().encode())
    answers = [alice.get(path).data for path in ("/identity-keys", "/audit-log", "/routes", "/openapi.json")]
    in_redis = everything_in(store)
    assert b"s1.1." in in_redis
    with psycopg.connect(postgres.url("owner", "webapp_shared"), autocommit=True) as connection:
        connection.execute("SET app.system = 'on'")
        tables = [
            str(connection.execute(f"SELECT * FROM {table}").fetchall()).encode()
            for table in ("identity_keys", "config_versions", "audit_log", "outbox")
        ]
    assert b"s1.1." in tables[0]
    assert [b"s1." in answer for answer in answers] == [False] * len(answers)
    logged = "".join(capfd.readouterr()).encode()
    places = (*answers, *tables, logged, in_redis)
    assert [place[:80] for place in places for form in forms if form in place] == []


def test_sealing_keys_rotate_without_a_pause(
    app: Flask, alice: Person, demo: Actor, origin: str, store: redis.Redis, sealing_with: Callable[[str], None]
) -> None:
    alice.make("/routes", a_route(origin, identity_token=True))
    alice.post("/identity-keys/rotate")
    before = opened((published(store, demo).identity_keys or ())[0], demo.tenant_id).private_numbers()
    sealing_with(f"{ONE},{TWO}")
    runner = app.test_cli_runner()
    assert runner.invoke(args=["reseal"]).output == "2 secrets sealed anew\n"
    config = (published(store, demo).identity_keys or ())[0]
    assert opened(config, demo.tenant_id, TWO).private_numbers() == before
    assert runner.invoke(args=["reseal"]).output == "0 secrets sealed anew\n"
    sealing_with("3:" + "7c" * 32)
    lost = runner.invoke(args=["reseal"])
    assert (lost.exit_code, lost.output.count("no sealing key that is listed opens it")) == (1, 2)
    assert f"tenant {demo.tenant_id}, identity key {config.id}:" in lost.output


def test_a_sealed_key_that_was_moved_to_another_tenant_does_not_open(
    alice: Person, demo: Actor, other: Actor, origin: str, store: redis.Redis
) -> None:
    alice.make("/routes", a_route(origin, identity_token=True))
    config = (published(store, demo).identity_keys or ())[0]
    with pytest.raises(sealing.SealError):
        opened(config, other.tenant_id)
