from __future__ import annotations

import time

import pytest

from contracts import apikey, keyspace, messages
from edge.store import key_uses
from edge.store.key_uses import KeyUses
from edge.store.keys import KeyStore
from tests.edge.publishing import DEMO, KEY, PEPPER

OTHER = "0197a000-0000-7000-8000-0000000000c4"
NEWER = bytes(range(32, 64))
PRESENTED = KEY.encode()


@pytest.fixture
def noted(client):
    return KeyUses(client, lambda: 2_000.5)


@pytest.fixture
def keys(client, noted):
    return KeyStore(client, {2: NEWER, 1: PEPPER}, time.monotonic, noted)


def test_a_flush_tells_each_tenants_uses_to_the_second_and_then_starts_over(noted, publisher):
    uses = noted.uses
    uses[DEMO]["key-1"] = 1_000.9
    uses[OTHER]["key-1"] = 1_001.0
    noted.flush()
    redis = publisher.redis
    assert redis.zrange(keyspace.key_uses(DEMO), 0, -1, withscores=True) == [(b"key-1", 1_000.0)]
    told = dict(redis.zrange(keyspace.KEY_USES, 0, -1, withscores=True))
    assert told == {DEMO.encode(): 2_000.5, OTHER.encode(): 2_000.5}
    assert 0 < redis.ttl(keyspace.key_uses(DEMO)) <= keyspace.KEY_USES_KEPT_S
    assert uses == {}
    uses[DEMO]["key-2"] = 1_002.0
    noted.flush()
    assert redis.zcard(keyspace.key_uses(DEMO)) == 2, "whoever held the dictionary still writes into the notes"


def test_the_newest_of_two_workers_uses_wins_whoever_tells_it_last(noted, client, publisher):
    for other, at in ((noted, 1_005.0), (KeyUses(client), 1_001.0)):
        other.uses[DEMO]["key-1"] = at
        other.flush()
    assert publisher.redis.zscore(keyspace.key_uses(DEMO), "key-1") == 1_005.0


def test_with_nothing_noted_nothing_is_sent(noted, publisher):
    noted.flush()
    assert publisher.redis.keys("*") == []


def test_with_the_store_away_what_was_noted_is_dropped_and_counted(noted, client):
    noted.uses[DEMO] |= {"key-1": 1.0, "key-2": 2.0}
    client.stop()
    noted.flush()
    assert (noted.dropped_total, noted.uses) == (2, {})


def test_more_than_a_batch_is_told_whole(noted, publisher, monkeypatch):
    monkeypatch.setattr(key_uses, "_PER_COMMAND", 3)
    noted.uses[DEMO] |= {f"key-{number}": float(number) for number in range(10)}
    noted.flush()
    assert publisher.redis.zcard(keyspace.key_uses(DEMO)) == 10


def test_what_is_noted_between_two_flushes_is_bounded_by_look_ups(noted, keys, publisher, monkeypatch):
    monkeypatch.setattr(key_uses, "LOOK_UPS_MAX", 10)
    for number in range(25):
        keys.find(DEMO, b"unknown-key-%d" % number)
        keys.uses[DEMO][f"key-{number}"] = 1.0
    assert len(keys.uses[DEMO]) <= 12
    assert noted.dropped_total + len(keys.uses[DEMO]) == 25


def test_it_flushes_by_itself_and_once_more_when_it_ends(noted, publisher, eventually, monkeypatch):
    monkeypatch.setattr(key_uses, "FLUSH_S", 0.02)
    noted.start()
    noted.uses[DEMO]["key-1"] = 1.0
    eventually(lambda: publisher.redis.zcard(keyspace.key_uses(DEMO)) == 1)
    monkeypatch.setattr(key_uses, "FLUSH_S", 60.0)
    noted.uses[DEMO]["key-2"] = 1.0
    noted.stop()
    assert publisher.redis.zcard(keyspace.key_uses(DEMO)) == 2


def test_a_key_found_under_an_older_pepper_is_reported_with_its_proof(noted, keys, publisher):
    publisher.key()
    record = keys.find(DEMO, PRESENTED)
    noted.flush()
    body = publisher.redis.hget(keyspace.key_renewals(DEMO), record.id)
    renewal = messages.decode_renewal(body)
    old, new = apikey.digest(PRESENTED, 1, PEPPER), apikey.digest(PRESENTED, 2, NEWER)
    assert (renewal.old, renewal.new) == (old, new)
    assert apikey.proves_renewal(renewal.proof, NEWER, DEMO, record.id, old, new)
    assert not apikey.proves_renewal(renewal.proof, PEPPER, DEMO, record.id, old, new)
    assert publisher.redis.zscore(keyspace.KEY_USES, DEMO) == 2_000.5


def test_a_key_found_under_the_newest_pepper_is_not_reported(noted, client, publisher):
    publisher.key()
    KeyStore(client, {1: PEPPER}, time.monotonic, noted).find(DEMO, PRESENTED)
    assert noted.renewals == {}
