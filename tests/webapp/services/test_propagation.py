"""Whether a change is live on the edges, and how long an answer waits for that."""

from __future__ import annotations

import threading
import time

import redis
from flask import Flask

from contracts import keyspace, messages
from tests.webapp.cast import Person, an_origin
from webapp.services import propagation
from webapp.services.actor import Actor


def _beat(store: redis.Redis, worker: str, applied: str, age_s: float = 0.0) -> None:
    beat = messages.Heartbeat(
        edge="edge-1", worker=worker, pid=1, at=time.time() - age_s, started_at=0.0, applied=applied, tenants=1
    )
    store.hset(keyspace.EDGES, worker, messages.encode(beat))


def _newest(store: redis.Redis) -> str:
    return store.xrevrange(keyspace.CHANGES, count=1)[0][0].decode()


def test_a_change_is_live_when_every_live_edge_has_it(alice: Person, store: redis.Redis) -> None:
    _beat(store, "w1", "99999999999999-0")
    _beat(store, "w2", "99999999999999-0")
    _beat(store, "dead", "0-0", age_s=6)
    store.hset(keyspace.EDGES, "garbled", b"{}")
    answer = alice.post("/origins", an_origin(), headers={"Prefer": "respond-async, wait=3"})
    assert answer.headers["X-Vantage-Live"] == "2/2"
    assert answer.headers["Preference-Applied"] == "wait=3"
    assert "X-Vantage-Live" not in alice.post("/origins", an_origin("second")).headers


def test_waiting_ends_when_the_last_edge_follows(app: Flask, alice: Person, store: redis.Redis) -> None:
    _beat(store, "w1", "0-0")
    before = _newest(store)

    def follow() -> None:
        while _newest(store) == before:
            time.sleep(0.01)
        time.sleep(0.2)
        _beat(store, "w1", _newest(store))

    follower = threading.Thread(target=follow)
    follower.start()
    began_mono = time.monotonic()
    answer = alice.post("/origins", an_origin(), headers={"Prefer": "wait=10"})
    follower.join()
    assert answer.headers["X-Vantage-Live"] == "1/1"
    assert time.monotonic() - began_mono < 3


def test_waiting_for_an_edge_that_does_not_follow_is_bounded(alice: Person, store: redis.Redis) -> None:
    _beat(store, "w1", "0-0")
    began_mono = time.monotonic()
    answer = alice.post("/origins", an_origin(), headers={"Prefer": "wait=1"})
    assert answer.headers["X-Vantage-Live"] == "0/1"
    assert 0.9 < time.monotonic() - began_mono < 3


def test_with_no_edge_alive_the_answer_says_none_of_none(alice: Person) -> None:
    answer = alice.post("/origins", an_origin(), headers={"Prefer": "wait=0"})
    assert answer.headers["X-Vantage-Live"] == "0/0"


def test_the_edges_are_listed_with_what_they_have_in_force(
    app: Flask, alice: Person, demo: Actor, store: redis.Redis
) -> None:
    _beat(store, "w2", "0-1")
    _beat(store, "w1", _newest(store))
    listed = alice.get("/propagation").get_json()
    assert (listed["live"], listed["total"]) == (1, 2)
    assert [(edge["worker"], edge["is_current"]) for edge in listed["edges"]] == [("w1", True), ("w2", False)]
    with app.app_context():
        state = propagation.current()[0]
    assert (state.worker, state.pid, state.tenants) == ("w1", 1, 1)
