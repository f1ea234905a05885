"""The control plane over a Redis Cluster: the tests of publishing once more, and what a part that is away means."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis
from flask import Flask
from redis.backoff import NoBackoff
from redis.retry import Retry

from contracts import keyspace, messages
from devstack.postgres import Postgres
from devstack.valkey import Valkey
from devstack.valkey_cluster import ValkeyCluster
from tests.webapp.cast import Person, an_origin, environment, found
from tests.webapp.services.test_publishing import (  # noqa: F401 - collected here once more
    test_a_key_is_known_disabled_and_gone_in_redis_with_each_answer,
    test_a_moved_tenant_leaves_its_old_host_unless_another_lives_there,
    test_a_patch_is_in_redis_when_the_answer_is,
    test_a_removed_tenant_leaves_nothing_in_redis,
    test_only_enabled_routes_and_their_origins_are_published,
)
from webapp import redis_store
from webapp.app import create_app
from webapp.extensions import db
from webapp.services import propagation, publishing
from webapp.services.actor import Actor
from webapp.services.errors import StoreUnavailable
from webapp.settings import load


def _connect(cluster: ValkeyCluster) -> redis.Redis:
    return redis_store.connect(cluster.url, Retry(NoBackoff(), 1), socket_timeout=5)


def _app(postgres: Postgres, database: str, cluster: ValkeyCluster, broker: Valkey) -> Iterator[Flask]:
    environ = environment(postgres.url("app", database), postgres.url("owner", database), cluster.url)
    made = create_app(load(environ | {"CELERY_BROKER_URL": broker.url}))
    yield made
    with made.app_context():
        db.engine.dispose()
    made.extensions["vantageedge.redis"].close()


@pytest.fixture
def app(postgres: Postgres, database: str, shared_cluster: ValkeyCluster, shared_valkey: Valkey) -> Iterator[Flask]:
    yield from _app(postgres, database, shared_cluster, shared_valkey)


@pytest.fixture
def store(shared_cluster: ValkeyCluster) -> Iterator[redis.Redis]:
    client = _connect(shared_cluster)
    yield client
    client.close()


def test_what_is_lost_in_a_cluster_is_found_and_rebuilt(
    app: Flask, alice: Person, demo: Actor, shared_cluster: ValkeyCluster
) -> None:
    alice.make("/origins", an_origin())
    for number in range(5):
        alice.make("/api-keys", {"name": f"key {number}"})
    with app.app_context():
        assert publishing.drift(demo.tenant_id) == ()
        for node in shared_cluster.primaries:
            shared_cluster.ask(node, "FLUSHALL")
        assert len(publishing.drift(demo.tenant_id)) == 3
        assert publishing.drifted_tenants() == (demo.tenant_id,)
        publishing.rebuild(demo.tenant_id)
        assert publishing.drift(demo.tenant_id) == ()
        assert propagation.current() == ()


def test_the_stream_says_it_only_when_the_truth_is_in_place(
    app: Flask, alice: Person, demo: Actor, shared_cluster: ValkeyCluster
) -> None:
    """The stream, the tenant and the host are on nodes of their own, which keep no order between them: so one that
    refuses the truth leaves nothing in the stream."""
    client = _connect(shared_cluster)
    alice.make("/origins", an_origin("first"))
    before = client.xlen(keyspace.CHANGES)
    client.delete(keyspace.config(str(demo.tenant_id)))
    client.set(keyspace.config(str(demo.tenant_id)), "not a hash")
    alice.make("/origins", an_origin("second"))
    assert client.xlen(keyspace.CHANGES) == before
    client.delete(keyspace.config(str(demo.tenant_id)))
    with app.app_context():
        publishing.publish_pending(demo.tenant_id)
    assert client.xlen(keyspace.CHANGES) == before + 1
    client.close()


@pytest.fixture
def broken(postgres: Postgres, database: str, shared_valkey: Valkey, tmp_path) -> Iterator[tuple[Flask, ValkeyCluster]]:  # type: ignore[no-untyped-def]
    with ValkeyCluster(tmp_path / "own") as cluster:
        for app in _app(postgres, database, cluster, shared_valkey):
            yield app, cluster


def test_a_part_that_is_away_holds_up_its_own_tenants_alone(broken: tuple[Flask, ValkeyCluster]) -> None:
    app, cluster = broken
    stream = cluster.node_of(keyspace.CHANGES)
    victim = next(node for node in cluster.primaries if node is not stream)

    def is_theirs(actor: Actor) -> bool:
        return cluster.node_of(keyspace.config(str(actor.tenant_id))) is victim

    def reachable(actor: Actor, name: str) -> bool:
        return all(
            cluster.node_of(key) is not victim
            for key in (keyspace.config(str(actor.tenant_id)), keyspace.host(f"{name}.edge.test"))
        )

    people = {}
    for number in range(40):
        name = f"ten{number}"
        actor = found(app, "alice", f"org_{number}", f"company-{number}", name)
        if "theirs" not in people and is_theirs(actor):
            people["theirs"] = actor
        elif "ours" not in people and reachable(actor, name):
            people["ours"] = actor
        if len(people) == 2:
            break
    victim.kill()
    with app.app_context():
        began = time.monotonic()
        receipt = publishing.rebuild(people["ours"].tenant_id)
        assert receipt.is_published
        with pytest.raises(StoreUnavailable):
            publishing.rebuild(people["theirs"].tenant_id)
        with pytest.raises(StoreUnavailable):
            publishing.drift(people["theirs"].tenant_id)
        assert publishing.rebuild(people["ours"].tenant_id).is_published
        assert time.monotonic() - began < 6
        victim.start()
        cluster.await_well()
        _eventually(lambda: publishing.rebuild(people["theirs"].tenant_id).is_published)
        assert publishing.drift(people["theirs"].tenant_id) == ()
        last = messages.stream_id(receipt.stream_id or "")
        assert last > (0, 0)


def _eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while True:
        try:
            assert holds()
            return
        except StoreUnavailable:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_cluster_that_is_away_is_said_at_once(shared_valkey: Valkey, free_port: Callable[[], int]) -> None:
    client = redis_store.connect(
        f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}", Retry(NoBackoff(), 1)
    )
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(redis.RedisError):
            client.get("x")
        with pytest.raises(redis.RedisError):
            client.pipeline(transaction=False)
    assert time.monotonic() - began < 3
    client.close()


def test_a_session_is_denied_in_a_cluster(app: Flask, alice: Person, store: redis.Redis) -> None:
    app.extensions["vantageedge.verifier"].deny("sess_gone")
    assert store.exists(keyspace.denied_session("sess_gone"))
    [entry] = store.xrevrange(keyspace.CHANGES, count=1)
    assert messages.decode_change(entry[1][messages.FIELD]).session_id == "sess_gone"
