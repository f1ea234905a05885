from __future__ import annotations

import time

import gevent
import pytest

from contracts import keyspace, messages
from edge.errors import StoreAway
from edge.settings import parse_redis_url
from edge.store.cluster import link_to
from edge.store.config_feed import ConfigFeed
from edge.store.wire import Link
from tests.edge.publishing import DEMO, Publisher


class Listening:
    """A subscriber that writes down what it is told."""

    def __init__(self) -> None:
        self.changes = []
        self.resyncs = []
        self.away = 0

    def on_change(self, change) -> None:
        if self.away:
            self.away -= 1
            raise StoreAway("the subscriber cannot reach the store")
        self.changes.append(change)

    def on_resync(self, lost: bool) -> None:
        self.resyncs.append(lost)


@pytest.fixture
def listening():
    return Listening()


@pytest.fixture
def applied():
    return []


@pytest.fixture
def feed(client, address, listening, applied):
    link = link_to(client, address, keyspace.CHANGES, "feed")
    feed = ConfigFeed(link, [listening], lambda: applied.append(feed.applied), lambda: None)
    yield feed
    feed.stop()


def kinds(listening):
    return [change.kind for change in listening.changes]


def test_it_begins_at_the_end_of_the_stream_after_everything_was_reloaded(feed, publisher, listening, eventually):
    entry = publisher.change("config", version=1)
    feed.start()
    eventually(lambda: feed.applied == entry)
    assert listening.resyncs == [False]
    assert listening.changes == []


def test_a_change_is_applied_at_once_and_in_order(feed, publisher, listening, applied, eventually):
    feed.start()
    eventually(lambda: listening.resyncs)
    began = time.monotonic()
    publisher.change("config", version=1)
    last = publisher.change("purge")
    eventually(lambda: feed.applied == last)
    assert time.monotonic() - began < 0.5
    assert kinds(listening) == ["config", "purge"]
    assert applied[-1] == last
    assert feed.age_s() < 1
    assert len(feed.propagation_s) == 2


def test_an_unknown_kind_reloads_all_that_can_be_reloaded(feed, publisher, listening, eventually):
    feed.start()
    eventually(lambda: listening.resyncs)
    last = publisher.change("quota-of-the-future")
    eventually(lambda: feed.applied == last)
    assert kinds(listening) == ["config", "key", "health", "purge"]
    assert {change.tenant_id for change in listening.changes} == {DEMO}


def test_an_entry_that_is_no_change_is_skipped(feed, publisher, listening, eventually):
    feed.start()
    eventually(lambda: listening.resyncs)
    publisher.redis.xadd(keyspace.CHANGES, {messages.FIELD: b"not json"})
    publisher.redis.xadd(keyspace.CHANGES, {b"other": b"field"})
    last = publisher.change("config", version=2)
    eventually(lambda: feed.applied == last)
    assert kinds(listening) == ["config"]


def test_a_subscriber_that_cannot_reach_the_store_makes_it_start_over(feed, publisher, listening, eventually):
    feed.start()
    eventually(lambda: listening.resyncs)
    listening.away = 1
    last = publisher.change("config", version=3)
    eventually(lambda: feed.applied == last)
    assert listening.resyncs == [False, False]


def test_signed_out_sessions_of_the_past_are_recalled_at_start(feed, publisher, listening, eventually):
    publisher.change("session", session_id="sess_old")
    publisher.change("config", version=1)
    feed.start()
    eventually(lambda: listening.resyncs)
    assert [(change.kind, change.session_id) for change in listening.changes] == [("session", "sess_old")]


def test_after_a_restart_of_the_store_it_reloads_and_says_what_was_lost(valkey, listening, eventually):
    publisher = Publisher(valkey.url)
    entry = publisher.change("config", version=1)
    feed = ConfigFeed(Link(parse_redis_url(valkey.url), "feed"), [listening], lambda: None, lambda: None)
    feed.start()
    try:
        eventually(lambda: feed.applied == entry)
        valkey.kill()  # without an append-only file everything is forgotten
        gevent.sleep(0.3)
        assert feed.age_s() > 0.2
        valkey.start()
        eventually(lambda: listening.resyncs == [False, True])
        last = publisher.change("config", version=2)
        eventually(lambda: feed.applied == last)
    finally:
        feed.stop()
        publisher.close()


def test_sessions_signed_out_while_the_stream_was_lost_are_recalled(feed, publisher, listening, eventually):
    first = publisher.change("config", version=1)
    feed.start()
    eventually(lambda: feed.applied == first)
    publisher.redis.client_kill_filter(_type="normal", skipme=True)
    publisher.change("session", session_id="sess_gone")
    last = publisher.change("config", version=2)
    eventually(lambda: feed.applied == last)
    assert [change.session_id for change in listening.changes if change.kind == "session"] == ["sess_gone"]
