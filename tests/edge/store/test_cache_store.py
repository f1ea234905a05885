from __future__ import annotations

import time

import pytest

from contracts import keyspace
from contracts.messages import Change
from edge.ports import CacheKey, StoredResponse
from edge.store.cache_store import STALE_KEPT_S, CacheStore
from tests.edge.publishing import DEMO

PURGED = Change(kind="purge", tenant_id=DEMO)


def key(number: int = 1, route: str = "route-1") -> CacheKey:
    return CacheKey(DEMO, route, f"digest-{number}", f"url-{number}")


def answer(body: bytes = b"hello", lifetime_s: float = 60.0, at: float | None = None) -> StoredResponse:
    stored_at = time.time() if at is None else at
    return StoredResponse(200, b"OK", b"Content-Type: text/plain\r\n", body, stored_at, 0.0, lifetime_s)


def store_of(client, **more) -> CacheStore:
    store = CacheStore(client, more.pop("bytes_max", 1 << 20), **more)
    store.load(DEMO)
    return store


@pytest.fixture
def store(client, publisher):
    return store_of(client)


def test_what_is_kept_is_found_in_memory_and_by_another_worker_through_redis(store, client):
    store.keep(key(), answer())
    assert store.find(key()).body == b"hello"
    client.call("EXISTS", keyspace.cache_generations(DEMO))  # behind it, at the same node
    other = store_of(client)
    assert other.find(key()) == store.find(key())
    assert other.find(key(2)) is None


def test_memory_answers_while_redis_is_away(store, client):
    store.keep(key(), answer())
    client.stop()
    assert store.find(key()).body == b"hello"
    assert store.find(key(2)) is None
    assert store.errors_total == 1


@pytest.mark.parametrize(("field", "purges"), [("*", True), ("r:route-1", True), ("u:url-1", True), ("u:url-2", False)])
def test_a_purge_hides_what_it_names_in_both_tiers_and_nothing_else(store, client, publisher, field, purges):
    store.keep(key(), answer())
    client.call("EXISTS", keyspace.cache_generations(DEMO))  # behind it, at the same node
    publisher.purge(field)
    store.on_change(PURGED)
    assert (store.find(key()) is None) == purges
    assert (store_of(client).find(key()) is None) == purges


def test_an_answer_under_way_when_the_purge_comes_is_not_kept(store, publisher):
    began_at = time.time()
    assert store.find(key()) is None
    publisher.purge("*")
    store.on_change(PURGED)
    store.keep(key(), answer(b"old", at=began_at))
    assert store.find(key()) is None


def test_what_is_kept_after_the_purge_is_found(store, publisher):
    store.keep(key(), answer(b"old"))
    publisher.purge("*")
    store.on_change(PURGED)
    assert store.find(key()) is None
    store.keep(key(), answer(b"new"))
    assert store.find(key()).body == b"new"


def test_an_entry_ends_some_time_after_its_lifetime_in_both_tiers(client, publisher):
    now = [time.time()]
    store = store_of(client, wall=lambda: now[0])
    store.keep(key(), answer(lifetime_s=10, at=now[0]))
    client.call("EXISTS", keyspace.cache_generations(DEMO))  # behind it, at the same node
    ttl_s = publisher.redis.pttl(keyspace.cache_entry(DEMO, "digest-1")) / 1000
    assert 30 < ttl_s <= 10 + STALE_KEPT_S
    now[0] += 69
    assert store.find(key()) is not None
    now[0] += 2
    publisher.redis.flushall()
    assert store.find(key()) is None


def test_memory_is_bounded_by_bytes_and_the_least_recently_used_goes(client, publisher):
    store = store_of(client, bytes_max=10_000)
    for number in range(3):
        store.keep(key(number), answer(bytes(2_500)))
    client.stop()
    assert store.find(key(0)) is not None
    store.keep(key(3), answer(bytes(2_500)))
    assert store.bytes_held <= 10_000
    assert [number for number in range(4) if store.find(key(number)) is not None] == [0, 2, 3]


def test_what_is_too_large_is_not_kept(store):
    store.keep(key(), answer(bytes((1 << 20) + 1)))
    assert store.find(key()) is None


def test_an_entry_that_cannot_be_read_is_not_there(store, publisher):
    publisher.redis.set(keyspace.cache_entry(DEMO, "digest-1"), b"\x93garbage")
    assert store.find(key()) is None


def test_while_the_generations_are_not_known_nothing_is_kept(client, publisher):
    client.stop()
    store = store_of(client)
    store.keep(key(), answer())
    assert store.find(key()) is None
    assert store.bytes_held == 0


def test_a_store_that_lost_its_numbers_empties_the_memory(store, publisher):
    publisher.purge("*")
    store.on_resync(lost=False)
    store.keep(key(), answer())
    publisher.redis.flushall()
    store.on_resync(lost=True)
    assert store.find(key()) is None
    assert store.bytes_held == 0


def test_a_tenant_that_is_dropped_has_no_cache(store):
    store.keep(key(), answer())
    store.drop(DEMO)
    assert store.find(key()) is None


def test_a_twin_request_or_one_that_did_not_look_is_not_kept_past_a_purge_either(store, publisher):
    began_at = time.time()
    assert store.find(key()) is store.find(key()) is None
    store.keep(key(), answer(b"first", at=began_at))
    publisher.purge("*")
    store.on_change(PURGED)
    store.keep(key(), answer(b"twin of the first", at=began_at))
    store.keep(key(2), answer(b"asked with no-cache", at=began_at))
    assert store.find(key()) is store.find(key(2)) is None


def test_a_purge_that_came_while_the_tenant_was_not_held_counts(store, publisher):
    store.keep(key(), answer(b"old"))
    store.drop(DEMO)
    publisher.purge("*")
    store.load(DEMO)
    assert store.find(key()) is None
