from __future__ import annotations

import time

from contracts import keyspace, messages
from edge.store.heartbeat import Heartbeats


def test_a_heartbeat_says_what_is_in_force_and_goes_away_with_the_worker(client, publisher, eventually):
    beats = Heartbeats(client, lambda: ("7-1", 3, {"t": "version 2: bad"}))
    beats.start()
    eventually(lambda: beats.worker_id in publisher.live_on())
    beat = publisher.live_on()[beats.worker_id]
    assert (beat.applied, beat.tenants, beat.rejected) == ("7-1", 3, {"t": "version 2: bad"})
    assert abs(beat.at - time.time()) < 2
    beats.stop()
    assert beats.worker_id not in publisher.live_on()


def test_a_beat_on_demand_does_not_wait_for_the_second(client, publisher, eventually):
    applied = ["1-0"]
    beats = Heartbeats(client, lambda: (applied[0], 0, {}))
    client.call("EXISTS", keyspace.EDGES)
    applied[0] = "2-0"
    beats.beat()
    eventually(lambda: beats.worker_id in publisher.live_on())
    assert publisher.live_on()[beats.worker_id].applied == "2-0"


def test_the_living_are_counted_and_the_long_dead_are_removed(client, publisher, eventually):
    def other(name, silent_s):
        beat = messages.Heartbeat(
            edge="e", worker=name, pid=1, at=time.time() - silent_s, started_at=0.0, applied="0-0", tenants=0
        )
        publisher.redis.hset(keyspace.EDGES, name, messages.encode(beat))

    other("living", 1)
    other("silent", keyspace.HEARTBEAT_STALE_S + 2)
    other("dead", 3_600)
    publisher.redis.hset(keyspace.EDGES, "garbage", b"{")
    beats = Heartbeats(client, lambda: ("0-0", 0, {}))
    beats.start()
    eventually(lambda: beats.live_workers == 2)
    eventually(lambda: publisher.redis.hexists(keyspace.EDGES, "dead") == 0)
    assert publisher.redis.hexists(keyspace.EDGES, "garbage") == 0
    assert publisher.redis.hexists(keyspace.EDGES, "silent") == 1
    beats.stop()


def test_the_count_stays_when_the_store_goes_away(client, publisher, eventually):
    beats = Heartbeats(client, lambda: ("0-0", 0, {}))
    beats.live_workers = 4
    client.stop()
    beats.start()
    beats.stop()
    assert beats.live_workers == 4


def test_before_the_store_was_asked_the_workers_of_our_own_host_count(client):
    assert Heartbeats(client, lambda: ("0-0", 0, {}), workers=4).live_workers == 4


def test_a_clock_that_is_wrong_takes_nobody_off_the_list(client):
    """Whoever goes on writing is alive, however far its clock is from ours; whoever stops is dead by our own."""
    now = [100.0]
    beats = Heartbeats(client, lambda: ("0-0", 0, {}), mono=lambda: now[0])

    def written(at):
        return messages.encode(
            messages.Heartbeat(edge="e", worker="w", pid=1, at=at, started_at=0.0, applied="0-0", tenants=0)
        )

    wrong = time.time() - 3_600
    beats._count([b"ahead", written(time.time() + 3_600), b"behind", written(wrong)])
    now[0] += 1.0
    silent = written(time.time() + 3_601)
    beats._count([b"ahead", silent, b"behind", written(wrong + 1)])
    assert beats.live_workers == 2
    now[0] += keyspace.HEARTBEAT_STALE_S + 1
    beats._count([b"ahead", silent, b"behind", written(wrong + 7)])
    assert beats.live_workers == 1
