"""A change on its way from PostgreSQL to Redis: order, loss, recovery."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from flask import Flask
from msgspec import UNSET
from sqlalchemy import text

from contracts import apikey, keyspace, messages, snapshot
from devstack.valkey import Valkey
from tests.webapp.cast import Person, a_route, an_origin, found, session_token
from webapp.extensions import db, system_scope
from webapp.services import publishing
from webapp.services.actor import Actor
from webapp.services.errors import StoreUnavailable


def _config(store: redis.Redis, tenant_id: object) -> snapshot.Snapshot:
    held: Any = store.hgetall(keyspace.config(str(tenant_id)))
    return snapshot.decode(held[b"body"], held[b"sha256"].decode())


def _digest(key: str) -> str:
    return apikey.digest(key.encode(), 1, bytes.fromhex("ab" * 32))


def _changes(store: redis.Redis) -> list[messages.Change]:
    return [messages.decode_change(entry[messages.FIELD]) for _, entry in store.xrange(keyspace.CHANGES)]


@pytest.fixture
def lonely(own_app: Flask) -> tuple[Flask, Person, Actor]:
    """Alice's tenant over a store of her own."""
    actor = found(own_app, "alice", "org_demo", "demo-company", "demo")
    return own_app, Person(own_app, lambda: session_token("alice")), actor


def test_a_patch_is_in_redis_when_the_answer_is(alice: Person, demo: Actor, store: redis.Redis) -> None:
    origin = alice.make("/origins", an_origin())["id"]
    route = alice.make("/routes", a_route(origin))["id"]
    answer = alice.patch(f"/routes/{route}", {"auth_mode": "public", "rate_limit": None})
    config = _config(store, demo.tenant_id)
    assert str(config.version) == answer.headers["X-Vantage-Config-Version"] == "4"
    assert (config.routes[0].auth_mode, config.routes[0].policies) == ("public", ())
    last = _changes(store)[-1]
    assert (last.kind, last.version, last.hosts) == ("config", 4, ("demo.edge.test",))


def test_only_enabled_routes_and_their_origins_are_published(alice: Person, demo: Actor, store: redis.Redis) -> None:
    used, unused = (alice.make("/origins", an_origin(name))["id"] for name in ("used", "unused"))
    on = alice.make("/routes", a_route(used))["id"]
    off = alice.make("/routes", a_route(unused, enabled=False))["id"]
    config = _config(store, demo.tenant_id)
    assert ([r.id for r in config.routes], [o.id for o in config.origins]) == ([on], [used])
    alice.patch(f"/routes/{off}", {"enabled": True})
    config = _config(store, demo.tenant_id)
    assert ([r.id for r in config.routes], [o.id for o in config.origins]) == ([on, off], [used, unused])


EVERYTHING = {
    "methods": ["GET", "POST"],
    "priority": 7,
    "required_scopes": ["read"],
    "any_user": True,
    "rate_limit": {
        "policies": [
            {"name": "fast", "requests_per_second": 5, "scope": ["user", "header:X-Team"], "mode": "shadow"},
            {
                "name": "day",
                "algorithm": "sliding_window",
                "limit": 9,
                "window_seconds": 60,
                "on_store_failure": "closed",
                "cost": 9,
                "scope": "ip",
            },
        ]
    },
    "cache_policy": {"cache_key_pattern": "path+query+headers", "key_headers": ["Accept"], "shared": True},
    "rewrite": {"strip_prefix": "/api"},
    "forward_credential": True,
    "preserve_host": True,
    "body_bytes_max": 1,
}


def test_every_field_of_a_route_reaches_the_snapshot(alice: Person, demo: Actor, store: redis.Redis) -> None:
    origin = alice.make(
        "/origins",
        an_origin(
            url=None,
            targets=[{"url": "https://a.example.com/base", "weight": 3}, {"url": "https://b.example.com"}],
            connect_timeout_seconds=2,
        ),
    )
    alice.make("/routes", a_route(origin["id"], **EVERYTHING))
    config = _config(store, demo.tenant_id)
    target = [(t.url, t.weight) for t in config.origins[0].targets]
    assert target == [("https://a.example.com/base", 3), ("https://b.example.com", 1)]
    assert (config.origins[0].connect_timeout_s, config.origins[0].timeout_s) == (2.0, 30.0)
    route = config.routes[0]
    assert (route.methods, route.priority, route.required_scopes, route.any_user) == (
        ("GET", "POST"),
        7,
        ("read",),
        True,
    )
    assert (route.strip_prefix, route.forward_credential, route.preserve_host, route.body_bytes_max) == (
        "/api",
        True,
        True,
        1,
    )
    assert route.cache == snapshot.CacheConfig(
        ttl_s=300, key_pattern="path+query+headers", key_headers=("accept",), shared=True
    )
    fast, day = route.policies
    assert (fast.rate_per_second, fast.burst, fast.scope, fast.mode) == (5.0, 5, ("user", "header:x-team"), "shadow")
    assert (day.algorithm, day.limit, day.window_s, day.burst, day.on_store_failure) == (
        "sliding_window",
        9,
        60,
        0,
        "closed",
    )
    assert (day.cost, day.scope, fast.cost) == (9, ("ip",), UNSET)
    assert fast.id != day.id


def test_equal_limits_of_the_whole_tenant_are_one_over_its_routes(
    alice: Person, demo: Actor, store: redis.Redis
) -> None:
    origin = alice.make("/origins", an_origin())["id"]
    shared = {"requests_per_second": 5, "burst": 9, "scope": ["tenant"]}
    for number, policy in enumerate((shared, shared, {**shared, "burst": 8}, {**shared, "scope": ["tenant", "route"]})):
        alice.make("/routes", a_route(origin, path_pattern=f"/{number}", rate_limit={"policies": [policy]}))
    one, two, smaller, own = [route.policies[0].id for route in _config(store, demo.tenant_id).routes]
    assert one == two
    assert len({one, smaller, own}) == 3


def test_a_policy_keeps_its_counter_while_its_meaning_stays(alice: Person, demo: Actor, store: redis.Redis) -> None:
    route = alice.make("/routes", a_route(alice.make("/origins", an_origin())["id"]))["id"]
    before = _config(store, demo.tenant_id).routes[0].policies[0].id
    alice.patch(f"/routes/{route}", {"rate_limit": {"requests_per_second": 1, "burst": 1}})
    assert _config(store, demo.tenant_id).routes[0].policies[0].id == before
    window = {"policies": [{"algorithm": "sliding_window", "limit": 1, "window_seconds": 60}]}
    alice.patch(f"/routes/{route}", {"rate_limit": window})
    assert _config(store, demo.tenant_id).routes[0].policies[0].id != before


def test_a_key_is_known_disabled_and_gone_in_redis_with_each_answer(
    alice: Person, demo: Actor, store: redis.Redis
) -> None:
    made = alice.make("/api-keys", {"name": "k", "scopes": ["read"]})
    held = keyspace.api_key(str(demo.tenant_id), _digest(made["key"]))

    def record() -> snapshot.KeyRecord:
        body: Any = store.get(held)
        return snapshot.decode_key(body)

    assert (record().id, record().enabled, record().scopes) == (made["id"], True, ("read",))
    alice.call("POST", f"/api-keys/{made['id']}/disable")
    assert record().enabled is False
    alice.call("POST", f"/api-keys/{made['id']}/enable")
    alice.patch(f"/api-keys/{made['id']}", {"scopes": ["write"]})
    assert (record().enabled, record().scopes) == (True, ("write",))
    alice.call("POST", f"/api-keys/{made['id']}/revoke")
    assert store.get(held) is None
    assert [change.digests for change in _changes(store) if change.kind == "key"] == [(_digest(made["key"]),)] * 5
    assert made["key"].encode() not in b"".join(store.scan_iter())


def test_a_moved_tenant_leaves_its_old_host_unless_another_lives_there(
    alice: Person, demo: Actor, other: Actor, store: redis.Redis
) -> None:
    alice.patch(f"/tenants/{demo.tenant_id}", {"subdomain": "moved"})
    assert store.get(keyspace.host("demo.edge.test")) is None
    assert store.get(keyspace.host("moved.edge.test")) == str(demo.tenant_id).encode()
    assert _changes(store)[-1].hosts == ("moved.edge.test", "demo.edge.test")
    store.set(keyspace.host("moved.edge.test"), str(other.tenant_id))
    alice.patch(f"/tenants/{demo.tenant_id}", {"subdomain": "third"})
    assert store.get(keyspace.host("moved.edge.test")) == str(other.tenant_id).encode()


def test_a_removed_tenant_leaves_nothing_in_redis(alice: Person, demo: Actor, store: redis.Redis) -> None:
    key = alice.make("/api-keys", {"name": "k"})
    tenant = str(demo.tenant_id)
    store.zadd(keyspace.key_uses(tenant), {key["id"]: 5})
    store.hset(keyspace.key_renewals(tenant), key["id"], b"{}")
    store.hset(keyspace.cache_generations(tenant), "*", 2)
    store.hset(keyspace.origin_health(tenant), "a target", b"{}")
    alice.delete(f"/tenants/{demo.tenant_id}")
    left = [key for key in store.scan_iter() if str(demo.tenant_id).encode() in key or b"host" in key]
    assert left == []
    assert _changes(store)[-1].hosts == ("demo.edge.test",)


def test_with_redis_away_a_write_answers_and_its_outbox_is_drained_later(
    lonely: tuple[Flask, Person, Actor], valkey: Valkey
) -> None:
    app, alice, demo = lonely
    valkey.stop()
    origin = alice.post("/origins", an_origin())
    assert (origin.status_code, origin.headers["X-Vantage-Change"]) == (201, "pending")
    assert origin.headers["X-Vantage-Config-Version"] == "2"
    key = alice.post("/api-keys", {"name": "k"}, headers={"Prefer": "wait=1"})
    assert (key.status_code, key.headers["X-Vantage-Live"]) == (201, "unknown")
    with app.app_context():
        assert publishing.pending_tenants() == (demo.tenant_id,)
        with pytest.raises(StoreUnavailable):
            publishing.publish_pending(demo.tenant_id)
        with system_scope() as session:
            row = session.execute(text("SELECT count(*), min(attempts) FROM outbox WHERE published_at IS NULL")).one()
        assert row[0] == 2 and row[1] >= 2
    valkey.start()
    with app.app_context(), redis.Redis.from_url(valkey.url) as store:
        receipts = publishing.publish_pending(demo.tenant_id)
        assert [receipt.version for receipt in receipts] == [2]
        assert publishing.pending_tenants() == ()
        assert publishing.publish_pending(demo.tenant_id) == ()
        assert _config(store, demo.tenant_id).version == 2
        assert store.exists(keyspace.api_key(str(demo.tenant_id), _digest(key.get_json()["key"])))


def test_a_wiped_redis_is_rebuilt_from_postgresql_alone(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis
) -> None:
    alice.make("/routes", a_route(alice.make("/origins", an_origin())["id"]))
    keys = [alice.make("/api-keys", {"name": f"k{n}"})["key"] for n in range(3)]
    with app.app_context():
        assert publishing.drift(demo.tenant_id) == ()
        assert publishing.drifted_tenants() == ()
        store.flushall()
        assert len(publishing.drift(demo.tenant_id)) == 3
        assert publishing.drifted_tenants() == (demo.tenant_id,)
        receipt = publishing.rebuild(demo.tenant_id)
        assert receipt.is_published and receipt.version == 3
        assert publishing.drift(demo.tenant_id) == ()
        assert publishing.drifted_tenants() == ()
        store.delete(keyspace.api_key(str(demo.tenant_id), _digest(keys[1])))
        assert publishing.drift(demo.tenant_id) == ("keys: 1 records missing, out of date or left over",)
    assert _changes(store)[-1].kind == "config"


def test_a_revoked_key_that_redis_knows_again_is_found_and_forgotten(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis
) -> None:
    """As after a failover to a replica that had not heard of it, or a start from an old dump."""
    made = alice.make("/api-keys", {"name": "k"})
    held = keyspace.api_key(str(demo.tenant_id), _digest(made["key"]))
    record: Any = store.get(held)
    alice.post(f"/api-keys/{made['id']}/revoke")
    store.set(held, record)
    with app.app_context():
        assert publishing.drift(demo.tenant_id) == ("keys: 1 records missing, out of date or left over",)
        publishing.rebuild(demo.tenant_id)
        assert publishing.drift(demo.tenant_id) == ()
    assert store.get(held) is None


def test_a_write_after_a_wipe_does_not_hide_that_the_keys_are_gone(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis
) -> None:
    alice.make("/api-keys", {"name": "k"})
    with app.app_context():
        assert publishing.drifted_tenants() == ()
        store.flushall()
        alice.make("/origins", an_origin())
        assert publishing.drifted_tenants() == (demo.tenant_id,)
        publishing.rebuild(demo.tenant_id)
        assert publishing.drift(demo.tenant_id) == ()
        assert publishing.drifted_tenants() == ()


def test_an_older_version_never_replaces_a_newer_one(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis
) -> None:
    alice.make("/origins", an_origin())
    newest = store.hgetall(keyspace.config(str(demo.tenant_id)))
    store.hset(keyspace.config(str(demo.tenant_id)), "version", "99")
    with app.app_context():
        publishing.rebuild(demo.tenant_id)
    assert store.hgetall(keyspace.config(str(demo.tenant_id))) == {**newest, b"version": b"99"}


def test_publishing_of_nobody_does_nothing(app: Flask, demo: Actor) -> None:
    with app.app_context():
        assert publishing.publish_pending(uuid4()) == ()
        owed = publishing.Owed(demo.tenant_id, 1, ())
        assert publishing.publish_now(owed).is_published is False


def test_two_writers_make_two_versions_and_the_last_is_in_force(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis
) -> None:
    import threading

    origin = alice.make("/origins", an_origin())["id"]
    answers: list[int] = []

    def write(number: int) -> None:
        answers.append(alice.post("/routes", a_route(origin, priority=number)).status_code)
        with app.app_context():
            db.session.remove()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [201] * 6
    config = _config(store, demo.tenant_id)
    assert config.version == 8 and len(config.routes) == 6
    with app.app_context():
        assert publishing.drift(UUID(str(demo.tenant_id))) == ()
