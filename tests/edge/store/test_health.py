from __future__ import annotations

import time

import pytest

from contracts import keyspace
from contracts.messages import Change
from edge.store.health import HealthStore
from tests.edge.publishing import DEMO

CHANGED = Change(kind="health", tenant_id=DEMO)


def test_what_the_probes_say_is_known_after_a_change(client, publisher):
    store = HealthStore(client)
    store.load(DEMO)
    assert store.healthy(DEMO, "target-1")
    publisher.health(False)
    store.on_change(CHANGED)
    assert not store.healthy(DEMO, "target-1")
    assert store.healthy(DEMO, "target-2")
    publisher.health(True)
    store.on_change(CHANGED)
    assert store.healthy(DEMO, "target-1")


def test_an_expired_result_is_forgotten(client, publisher):
    publisher.health(False, expires_in_s=10)
    now = [time.time()]
    store = HealthStore(client, wall=lambda: now[0])
    store.load(DEMO)
    assert not store.healthy(DEMO, "target-1")
    assert store.age_s() < 5
    now[0] += 11
    assert store.healthy(DEMO, "target-1")
    assert store.age_s() == 0


def test_a_tenant_that_is_not_held_is_healthy_and_costs_nothing(client, publisher):
    publisher.health(False)
    store = HealthStore(client)
    store.on_change(CHANGED)
    assert store.healthy(DEMO, "target-1")
    store.load(DEMO)
    assert not store.healthy(DEMO, "target-1")
    store.drop(DEMO)
    assert store.healthy(DEMO, "target-1")


def test_what_cannot_be_read_counts_as_unknown(client, publisher):
    publisher.redis.hset(keyspace.origin_health(DEMO), "target-1", b"{}")
    store = HealthStore(client)
    store.load(DEMO)
    assert store.healthy(DEMO, "target-1")


@pytest.mark.parametrize("store_url", ["one server"], indirect=True)
def test_with_the_store_away_nothing_is_known_and_a_resync_learns_it(client, publisher):
    publisher.health(False)
    store = HealthStore(client)
    client.stop()
    store.load(DEMO)
    assert store.healthy(DEMO, "target-1")
    client.start()
    client._first_try_over.clear()
    store.on_resync(lost=False)
    assert not store.healthy(DEMO, "target-1")
