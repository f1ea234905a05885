"""What edges say of keys, taken to PostgreSQL: last uses, and digests under a newer pepper."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from flask import Flask
from sqlalchemy import text

from contracts import apikey, keyspace, messages
from tests.webapp.cast import Person
from webapp.extensions import system_scope
from webapp.services import key_uses
from webapp.services.actor import Actor
from webapp.services.errors import NotFound
from webapp.services.key_uses import Taken

SETTINGS = "vantageedge.settings"
OLD, NEW, OTHER = bytes.fromhex("ab" * 32), b"n" * 32, b"o" * 32


@pytest.fixture
def peppers(app: Flask) -> Iterator[Callable[..., None]]:
    """Give the control plane other peppers, as a restart would."""
    before = app.extensions[SETTINGS]

    def use(**versions: bytes) -> None:
        listed = {int(name[1:]): pepper for name, pepper in sorted(versions.items(), reverse=True)}
        app.extensions[SETTINGS] = dataclasses.replace(before, key_peppers=listed)

    yield use
    app.extensions[SETTINGS] = before


def tell(store: redis.Redis, tenant: Actor, uses: dict[str, float], at: float = 1.0) -> None:
    """As an edge's flush does."""
    store.zadd(keyspace.key_uses(str(tenant.tenant_id)), uses, gt=True)
    store.zadd(keyspace.KEY_USES, {str(tenant.tenant_id): at}, gt=True)


def take(app: Flask, tenant: Actor, uses_max: int = key_uses.USES_PER_RUN) -> Taken:
    total = Taken()
    with app.app_context():
        for tenant_id, told_at in key_uses.tenants_told_of():
            total += key_uses.take(dataclasses.replace(tenant, tenant_id=tenant_id), told_at, uses_max)
    return total


def used(person: Person, key_id: str) -> float | None:
    at = person.get(f"/api-keys/{key_id}").get_json()["last_used_at"]
    return None if at is None else datetime.fromisoformat(at).timestamp()


def test_the_newest_use_is_shown_and_taken_once(app: Flask, alice: Person, demo: Actor, store: redis.Redis) -> None:
    key = alice.make("/api-keys", {"name": "k"})
    etag = alice.get(f"/api-keys/{key['id']}").headers["ETag"]
    now = float(int(time.time()))
    tell(store, demo, {key["id"]: now - 60})
    assert take(app, demo) == Taken(uses=1)
    assert used(alice, key["id"]) == now - 60
    tell(store, demo, {key["id"]: now - 600})
    take(app, demo)
    assert used(alice, key["id"]) == now - 60, "an older one, told later, changes nothing"
    tell(store, demo, {key["id"]: now})
    take(app, demo)
    assert used(alice, key["id"]) == now
    assert take(app, demo) == Taken()
    assert store.keys("ve:1:keyuses*") == []
    assert alice.get(f"/api-keys/{key['id']}").headers["ETag"] == etag, "nobody's edit conflicts with a use"


def test_a_use_in_the_future_counts_as_now(app: Flask, alice: Person, demo: Actor, store: redis.Redis) -> None:
    key = alice.make("/api-keys", {"name": "k"})["id"]
    tell(store, demo, {key: time.time() + 1e6})
    take(app, demo)
    assert abs((used(alice, key) or 0) - time.time()) < 10


def test_a_use_told_of_anothers_key_changes_nothing(
    app: Flask, alice: Person, charlie: Person, demo: Actor, store: redis.Redis
) -> None:
    theirs = charlie.make("/api-keys", {"name": "k"})["id"]
    tell(store, demo, {theirs: 1_000.0, str(uuid.uuid4()): 1_000.0, "no id": 1_000.0})
    take(app, demo)
    assert used(charlie, theirs) is None
    assert store.keys("ve:1:keyuses*") == []


def test_what_comes_between_reading_and_removing_stays(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = alice.make("/api-keys", {"name": "k"})["id"]
    write = key_uses._write_uses
    now = float(int(time.time()))

    def used_meanwhile(*arguments: Any) -> None:
        write(*arguments)
        tell(store, demo, {key: now}, at=2.0)

    monkeypatch.setattr(key_uses, "_write_uses", used_meanwhile)
    tell(store, demo, {key: now - 5})
    take(app, demo, uses_max=1)
    assert used(alice, key) == now - 5
    monkeypatch.setattr(key_uses, "_write_uses", write)
    take(app, demo)
    assert used(alice, key) == now


def test_interrupted_before_it_is_removed_it_is_told_again(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = alice.make("/api-keys", {"name": "k"})["id"]
    tell(store, demo, {key: 1_000.0})
    monkeypatch.setattr(key_uses, "_REMOVE_SCORED", "return redis.error_reply('ERR killed')")
    with pytest.raises(Exception, match="away"):
        take(app, demo)
    monkeypatch.undo()
    assert take(app, demo) == Taken(uses=1)
    assert used(alice, key) == 1_000.0


def test_a_run_is_bounded_and_whoever_has_more_waits_behind_the_others(
    app: Flask, alice: Person, demo: Actor, other: Actor, store: redis.Redis
) -> None:
    tell(store, demo, {str(uuid.uuid4()): 1.0 for _ in range(25)}, at=1.0)
    tell(store, other, {str(uuid.uuid4()): 1.0}, at=2.0)
    with app.app_context():
        (first, told_at), _ = key_uses.tenants_told_of()
        assert first == demo.tenant_id
        assert key_uses.take(demo, told_at, 10) == Taken(uses=10)
        assert [tenant_id for tenant_id, _ in key_uses.tenants_told_of()] == [other.tenant_id, demo.tenant_id]
    assert store.zcard(keyspace.key_uses(str(demo.tenant_id))) == 15


# --- Digests --------------------------------------------------------------------------------------------------------


def renewal(tenant: Actor, key: dict[str, Any], *, version: int = 2, pepper: bytes = NEW, **changed: str) -> bytes:
    """As an edge reports it that has the newer pepper."""
    said = {
        "tenant_id": str(tenant.tenant_id),
        "key_id": key["id"],
        "old": apikey.digest(key["key"].encode(), 1, OLD),
        "new": apikey.digest(key["key"].encode(), version, pepper),
    } | changed
    proof = apikey.renewal_proof(pepper, **said)
    return messages.encode(messages.KeyRenewal(old=said["old"], new=said["new"], proof=proof))


def report(store: redis.Redis, tenant: Actor, key_id: str, body: bytes) -> None:
    store.hset(keyspace.key_renewals(str(tenant.tenant_id)), key_id, body)
    store.zadd(keyspace.KEY_USES, {str(tenant.tenant_id): 1.0})


def digest_in(app: Flask, key_id: str) -> str:
    with app.app_context(), system_scope() as session:
        return str(session.execute(text("SELECT digest FROM api_keys WHERE id = :id"), {"id": key_id}).scalar_one())


def names(store: redis.Redis) -> set[bytes]:
    return {name.rpartition(b"}:")[2][:2] for name in store.keys("ve:1:key:*")}


def test_a_reported_digest_takes_the_place_of_the_old_one_and_edges_are_told_of_both(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, peppers: Callable[..., None]
) -> None:
    key = alice.make("/api-keys", {"name": "k", "scopes": ["read"]})
    peppers(v1=OLD, v2=NEW)
    body = renewal(demo, key)
    report(store, demo, key["id"], body)
    assert take(app, demo) == Taken(renewals=1)
    old, new = (apikey.digest(key["key"].encode(), version, pepper) for version, pepper in ((1, OLD), (2, NEW)))
    assert digest_in(app, key["id"]) == new
    assert names(store) == {b"v2"}
    change = messages.decode_change(store.xrevrange(keyspace.CHANGES, count=1)[0][1][messages.FIELD])
    assert (change.kind, set(change.digests)) == ("key", {old, new})
    assert store.exists(keyspace.key_renewals(str(demo.tenant_id)), keyspace.KEY_USES) == 0
    report(store, demo, key["id"], body)
    assert take(app, demo) == Taken(), "told again it changes nothing"
    alice.post(f"/api-keys/{key['id']}/revoke")
    assert names(store) == set()


def test_the_new_record_is_there_before_the_old_one_goes(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, peppers: Callable[..., None]
) -> None:
    """Watched by somebody who sees every command the store gets."""
    key = alice.make("/api-keys", {"name": "k"})
    peppers(v1=OLD, v2=NEW)
    report(store, demo, key["id"], renewal(demo, key))
    with store.monitor() as monitor:
        take(app, demo)
        store.echo("the end")
        seen = []
        for command in monitor.listen():
            if "the end" in command["command"]:
                break
            seen.append(command["command"].split(" ")[:2])
    verbs = [verb for verb, name in (words for words in seen if len(words) == 2) if name.startswith("ve:1:key:")]
    assert verbs == ["SET", "DEL"]


@pytest.mark.parametrize(
    "forged",
    [
        {"pepper": OTHER},
        {"key_id": "7b1f4bd0-0000-4000-8000-000000000000"},
        {"tenant_id": "7b1f4bd0-0000-4000-8000-000000000000"},
        {"old": "v1:" + "00" * 32},
    ],
    ids=lambda forged: next(iter(forged)),
)
def test_nobody_without_the_pepper_can_plant_a_digest(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, peppers: Callable[..., None], forged: dict[str, Any]
) -> None:
    key = alice.make("/api-keys", {"name": "k"})
    before = digest_in(app, key["id"])
    peppers(v1=OLD, v2=NEW)
    report(store, demo, key["id"], renewal(demo, key, **forged))
    assert take(app, demo) == Taken()
    assert digest_in(app, key["id"]) == before
    assert store.exists(keyspace.key_renewals(str(demo.tenant_id))) == 0


def test_a_genuine_report_moves_no_other_key(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, peppers: Callable[..., None]
) -> None:
    """One who can write to Redis and holds a key of his own files its report under another's id."""
    own, victim = (alice.make("/api-keys", {"name": name}) for name in ("own", "victim"))
    peppers(v1=OLD, v2=NEW)
    report(store, demo, victim["id"], renewal(demo, own))
    assert take(app, demo) == Taken()
    assert digest_in(app, victim["id"]).startswith("v1:")


@pytest.mark.parametrize("body", [b"", b"{", b'{"old":"v1:\xc3\xa9","new":"v2:\xc3\xa9","proof":"\xc3\xa9"}'])
def test_garbage_is_thrown_away(
    app: Flask, demo: Actor, store: redis.Redis, peppers: Callable[..., None], body: bytes
) -> None:
    peppers(v1=OLD, v2=NEW)
    report(store, demo, str(uuid.uuid4()), body)
    report(store, demo, "no id", body)
    assert take(app, demo) == Taken()
    assert store.exists(keyspace.key_renewals(str(demo.tenant_id))) == 0


def test_a_report_under_a_pepper_that_is_not_known_here_yet_waits_for_it(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, peppers: Callable[..., None]
) -> None:
    """Edges get a new pepper first. While one without it may live, no digest moves."""
    key = alice.make("/api-keys", {"name": "k"})
    report(store, demo, key["id"], renewal(demo, key))
    assert take(app, demo) == Taken()
    assert digest_in(app, key["id"]).startswith("v1:")
    peppers(v1=OLD, v2=NEW)
    assert take(app, demo) == Taken(renewals=1)
    assert digest_in(app, key["id"]).startswith("v2:")


def test_more_than_a_batch_of_reports_is_taken_in_one_run(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, peppers: Callable[..., None]
) -> None:
    keys = [{"name": "k", "key": f"foreign-key-{n:04d}"} for n in range(450)]
    made = alice.post("/api-keys/import-many", {"keys": keys}).get_json()["items"]
    peppers(v1=OLD, v2=NEW)
    for view, key in zip(made, keys, strict=True):
        report(store, demo, view["id"], renewal(demo, {"id": view["id"], "key": key["key"]}))
    assert take(app, demo) == Taken(renewals=450)
    assert names(store) == {b"v2"}


def test_an_operator_sees_who_still_needs_which_pepper(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, peppers: Callable[..., None]
) -> None:
    first, second = (alice.make("/api-keys", {"name": name}) for name in ("first", "second"))
    run = app.test_cli_runner()
    assert run.invoke(args=["keys", "peppers"]).output == "pepper 1: 2 keys (current)\n"
    peppers(v1=OLD, v2=NEW)
    tell(store, demo, {first["id"]: datetime(2026, 1, 2, 3, 4, tzinfo=UTC).timestamp()})
    report(store, demo, second["id"], renewal(demo, second))
    take(app, demo)
    assert run.invoke(args=["keys", "peppers"]).output == (
        "pepper 2: 1 key (current)\npepper 1: 1 key, last used 2026-01-02 03:04 UTC (still needed)\n"
    )
    peppers(v2=NEW)
    lost = run.invoke(args=["keys", "peppers"])
    assert (lost.exit_code, "NOT LISTED" in lost.output) == (1, True)
    alice.post(f"/api-keys/{first['id']}/revoke")
    peppers(v1=OLD, v2=NEW)
    assert run.invoke(args=["keys", "peppers"]).output.endswith("pepper 1: 0 keys (may be retired)\n")


def test_what_was_said_of_a_tenant_that_is_gone_goes_too(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis, peppers: Callable[..., None]
) -> None:
    key = alice.make("/api-keys", {"name": "k"})
    peppers(v1=OLD, v2=NEW)
    assert alice.delete(f"/tenants/{demo.tenant_id}").status_code == 204
    report(store, demo, key["id"], renewal(demo, key))  # an edge that had not heard of it
    tell(store, demo, {key["id"]: 1.0})
    with app.app_context(), pytest.raises(NotFound):
        key_uses.take(demo, 1.0)
    assert [name for name in store.keys("ve:1:key*") if not name.startswith(b"ve:1:key:")] == []
