from __future__ import annotations

import msgspec
import pytest

from contracts import apikey, keyspace, snapshot
from contracts.messages import Change
from edge.errors import GatewayError
from edge.store.key_uses import KeyUses
from edge.store.keys import KNOWN_MAX, KeyStore
from tests.edge.publishing import DEMO, KEY, PEPPER

PRESENTED = KEY.encode()
NEWER = bytes(range(32, 64))


class Time:
    """A clock to turn, and a feed that is as fresh as it is told to be."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.fresh = 1_000.0

    def move(self, seconds: float, feed: bool = True) -> None:
        self.now += seconds
        if feed:
            self.fresh = self.now


@pytest.fixture
def at():
    return Time()


@pytest.fixture
def keys(client, at):
    return KeyStore(client, {2: NEWER, 1: PEPPER}, lambda: at.fresh, KeyUses(client), lambda: at.now)


def changed(text=KEY):
    return Change(kind="key", tenant_id=DEMO, digests=(apikey.digest(text.encode(), 1, PEPPER),))


def test_a_key_is_found_by_the_digest_of_any_living_pepper(keys, publisher):
    publisher.key()
    assert keys.find(DEMO, PRESENTED).name == KEY
    assert keys.find(DEMO, b"another-key-1") is None


def test_a_key_of_another_tenant_is_unknown(keys, publisher):
    publisher.key()
    assert keys.find("0197a000-0000-7000-8000-0000000000c4", PRESENTED) is None


def test_a_record_that_names_another_tenant_is_no_record(keys, publisher):
    publisher.key(tenant_id="0197a000-0000-7000-8000-0000000000c4")
    digest = apikey.digest(PRESENTED, 1, PEPPER)
    body = publisher.redis.get(keyspace.api_key("0197a000-0000-7000-8000-0000000000c4", digest))
    publisher.redis.set(keyspace.api_key(DEMO, digest), body)
    assert keys.find(DEMO, PRESENTED) is None


def test_a_known_key_asks_redis_once_and_is_never_kept_in_clear(keys, publisher, client):
    publisher.key()
    keys.find(DEMO, PRESENTED)
    client.stop()
    assert keys.find(DEMO, PRESENTED).name == KEY
    assert KEY not in repr(vars(keys))


def test_a_revoked_key_is_refused_after_its_change(keys, publisher):
    publisher.key()
    keys.find(DEMO, PRESENTED)
    publisher.revoke()
    assert keys.find(DEMO, PRESENTED) is not None
    keys.on_change(changed())
    assert keys.find(DEMO, PRESENTED) is None


def test_a_key_made_after_it_was_unknown_works_after_its_change(keys, publisher):
    assert keys.find(DEMO, PRESENTED) is None
    publisher.key()
    assert keys.find(DEMO, PRESENTED) is None
    keys.on_change(changed())
    assert keys.find(DEMO, PRESENTED) is not None


def test_an_unknown_key_is_asked_for_again_after_seconds(keys, publisher, at):
    assert keys.find(DEMO, PRESENTED) is None
    publisher.key()
    at.move(6)
    assert keys.find(DEMO, PRESENTED) is not None


def test_a_change_without_digests_forgets_the_tenants_keys(keys, publisher):
    publisher.key()
    keys.find(DEMO, PRESENTED)
    publisher.revoke()
    keys.on_change(Change(kind="key", tenant_id=DEMO))
    assert keys.find(DEMO, PRESENTED) is None


def test_while_the_feed_is_silent_a_known_key_is_checked_again(keys, publisher, at):
    publisher.key()
    keys.find(DEMO, PRESENTED)
    publisher.revoke()
    at.move(5, feed=False)
    assert keys.find(DEMO, PRESENTED) is None


def test_with_the_store_away_known_keys_live_sixty_seconds_and_unknown_ones_are_refused(keys, publisher, client, at):
    publisher.key()
    keys.find(DEMO, PRESENTED)
    client.stop()
    at.move(59, feed=False)
    assert keys.find(DEMO, PRESENTED) is not None
    with pytest.raises(GatewayError) as refused:
        keys.find(DEMO, b"another-key-1")
    assert refused.value.problem.slug == "identity-unavailable"
    at.move(2, feed=False)
    with pytest.raises(GatewayError):
        keys.find(DEMO, PRESENTED)
    assert keys.errors_total == 3


def test_a_reconnection_believes_nothing_that_was_known(keys, publisher):
    publisher.key()
    keys.find(DEMO, PRESENTED)
    publisher.revoke()
    keys.on_resync(lost=False)
    assert keys.find(DEMO, PRESENTED) is None


def test_after_a_loss_what_was_known_lives_its_last_sixty_seconds(keys, publisher, at):
    publisher.key()
    keys.find(DEMO, PRESENTED)
    at.move(1)
    publisher.redis.flushall()
    keys.on_resync(lost=True)
    assert keys.find(DEMO, PRESENTED) is not None
    at.move(61)
    assert keys.find(DEMO, PRESENTED) is None


def test_a_look_up_that_overlaps_a_change_is_not_remembered(keys, publisher, client):
    publisher.key()
    original = client.call

    def overlapping(*command):
        answers = original(*command)
        publisher.revoke()
        keys.on_change(changed())
        return answers

    client.call = overlapping
    assert keys.find(DEMO, PRESENTED) is not None
    client.call = original
    assert keys.find(DEMO, PRESENTED) is None


def test_what_is_remembered_is_bounded(keys, publisher, monkeypatch):
    monkeypatch.setattr("edge.store.keys.UNKNOWN_MAX", 10)
    for number in range(50):
        keys.find(DEMO, b"unknown-key-%d" % number)
    assert len(keys._unknown) == 10
    assert len(keys._by_mark) == 20


def test_a_key_that_moves_to_another_digest_is_known_at_every_moment(keys, publisher, client):
    """What is written is written before the other is taken away, and both are asked for at once."""
    publisher.key()
    old, new = apikey.digest(PRESENTED, 1, PEPPER), apikey.digest(PRESENTED, 2, NEWER)
    names = [keyspace.api_key(DEMO, item) for item in (old, new)]
    body = publisher.redis.get(names[0])
    original = client.call

    def moves_between_any_two_commands(*command):
        answer = original(*command)
        source, target = names if publisher.redis.exists(names[0]) else reversed(names)
        publisher.redis.set(target, body)
        publisher.redis.delete(source)
        return answer

    client.call = moves_between_any_two_commands
    for _ in range(6):
        keys.on_change(Change(kind="key", tenant_id=DEMO, digests=(old, new)))
        assert keys.find(DEMO, PRESENTED) is not None


def test_as_many_known_keys_as_there_may_be_take_less_than_ten_megabytes(keys, publisher, monkeypatch):
    import tracemalloc

    some = 2_000
    record = {"scopes": ["read", "write"], "name": "one of a hundred thousand", "expires_at": 1.9e9}
    bodies = {}

    def answer(_, first, *rest):
        number = len(bodies)
        ids = {"id": f"0197a000-0000-7000-8000-{number:012d}", "tenant_id": DEMO}
        bodies[first] = snapshot.encode_key(msgspec.convert(record | ids, snapshot.KeyRecord))
        return [bodies[first], None]

    monkeypatch.setattr(keys._client, "call", answer)
    tracemalloc.start()
    for number in range(some):
        keys.find(DEMO, b"known-key-%d" % number)
        keys.uses[DEMO][f"0197a000-0000-7000-8000-{number:012d}"] = 1.9e9
    bodies.clear()
    per_key = tracemalloc.get_traced_memory()[0] / some
    tracemalloc.stop()
    print("octets per known key:", per_key)
    assert per_key * KNOWN_MAX < 10 * 2**20
