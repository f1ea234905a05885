from __future__ import annotations

import os
import signal
import time

import gevent
import pytest

from edge.errors import StoreAway
from edge.settings import RedisAddress, parse_redis_url
from edge.store.client import Client
from edge.store.wire import Link, Script


@pytest.fixture
def store_url(shared_valkey):
    """One server: what a cluster's client does more is in test_cluster_client."""
    return shared_valkey.url


def test_the_first_call_waits_for_the_connection(client):
    assert client.call("PING") == b"PONG"


def test_several_commands_are_answered_in_order(client):
    assert client.call_many([("SET", "a", 1), ("INCR", "a"), ("GET", "a")]) == [b"OK", 2, b"2"]


def test_each_of_many_greenlets_gets_its_own_answer(client):
    answers = gevent.joinall([gevent.spawn(client.call, "ECHO", str(n)) for n in range(500)])
    assert [one.value for one in answers] == [str(n).encode() for n in range(500)]


def test_a_large_value_survives_partial_writes_and_reads(client):
    big = os.urandom(8 << 20)
    client.call("SET", "big", big)
    assert client.call("GET", "big") == big


def test_a_refused_command_is_store_away_and_the_connection_goes_on(client):
    client.call("SET", "text", "x")
    with pytest.raises(StoreAway, match="WRONGTYPE"):
        client.call("HGETALL", "text")
    assert client.call("PING") == b"PONG"


def test_a_script_is_taught_to_a_server_that_does_not_know_it(client):
    script = Script("return {KEYS[1], ARGV[1]}")
    for _ in range(2):
        assert client.run(script, ["k"], ["v"]) == [b"k", b"v"]
    client.call("SCRIPT", "FLUSH")
    assert client.run(script, ["k"], ["v"]) == [b"k", b"v"]


def test_a_command_nobody_waits_for_is_carried_out(client, eventually):
    client.call("PING")
    client.send("SET", "sent", "yes")
    eventually(lambda: client.call("GET", "sent") == b"yes")


def test_a_killed_server_refuses_at_once_and_is_found_again(valkey, eventually):
    client = Client(parse_redis_url(valkey.url))
    ups: list[float] = []
    client.on_up.append(lambda: ups.append(time.monotonic()))
    client.start()
    try:
        client.call("PING")
        valkey.kill()
        with pytest.raises(StoreAway):
            client.call("PING")
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreAway):
                client.call("PING")
        assert time.monotonic() - began < 0.2
        valkey.start()
        eventually(lambda: client.up)
        assert client.call("PING") == b"PONG"
        eventually(lambda: len(ups) == 2)
    finally:
        client.stop()


def test_a_server_that_stops_answering_costs_one_deadline_and_then_nothing(valkey):
    client = Client(parse_redis_url(valkey.url), deadline_s=0.2)
    client.start()
    try:
        client.call("PING")
        os.kill(valkey.pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(StoreAway, match="no answer within"):
            client.call("PING")
        assert 0.15 < time.monotonic() - began < 1.0
        began = time.monotonic()
        with pytest.raises(StoreAway):
            client.call("PING")
        assert time.monotonic() - began < 0.1
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
        client.stop()


def test_a_wrong_password_is_store_away_and_is_never_in_the_message(address):
    client = Client(RedisAddress(address.host, address.port, False, password="wrong-secret"))
    client.start()
    try:
        with pytest.raises(StoreAway) as refused:
            client.call("PING")
        assert "WRONGPASS" in str(refused.value)
        assert "wrong-secret" not in str(refused.value) + repr(client)
    finally:
        client.stop()


def test_a_port_where_nobody_listens_is_store_away(free_port):
    client = Client(RedisAddress("127.0.0.1", free_port(), False))
    client.start()
    try:
        with pytest.raises(StoreAway, match="cannot connect"):
            client.call("PING")
    finally:
        client.stop()


def test_a_link_blocks_its_own_greenlet_only(address, client):
    link = Link(address, "test")
    link.open()
    blocked = gevent.spawn(link.request, "BLPOP", "list", 5, timeout_s=6.0)
    gevent.sleep(0.05)
    assert not blocked.ready()
    client.call("RPUSH", "list", "x")
    assert blocked.get(timeout=2) == [b"list", b"x"]
    link.close()


def test_a_link_gives_up_after_its_timeout(address):
    link = Link(address, "test")
    link.open()
    with pytest.raises(StoreAway):
        link.request("BLPOP", "nothing", 5, timeout_s=0.1)
    with pytest.raises(StoreAway, match="not connected"):
        link.request("PING", timeout_s=0.1)
