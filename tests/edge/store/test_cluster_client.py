"""What the cluster's client does more than that of one server: slots that move, nodes that die, and who is told."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import gevent
import pytest

from contracts import keyspace
from devstack.valkey_cluster import ValkeyCluster
from edge.errors import StoreAway
from edge.ports import Check
from edge.settings import RedisAddress, parse_redis_url
from edge.store.cluster import ClusterClient, link_to
from edge.store.config_feed import ConfigFeed
from edge.store.counters.distributed import DistributedCounters
from edge.store.slots import slot_of
from edge.store.tenants import TenantStore
from edge.store.wire import Redirected, Refused, Script, ShardAway
from tests.edge.publishing import DEMO, Publisher, bucket, snapshot_of

ECHO = Script("return {KEYS[1], ARGV[1]}")


@pytest.fixture
def store_url(shared_cluster):
    return shared_cluster.url


@pytest.fixture
def own(tmp_path):
    """A cluster for this test alone."""
    with ValkeyCluster(tmp_path / "own") as cluster:
        yield cluster


@pytest.fixture
def to_own(own):
    client = ClusterClient(parse_redis_url(own.url))
    client.start()
    yield client
    client.stop()


def tag_on(cluster, node):
    """A hash tag whose slot a node serves."""
    return next(tag for tag in (f"tag-{n}" for n in range(1_000)) if cluster.node_of(tag) is node)


def begin(mover, slot, source, target):
    """Put a slot between two nodes: what is not at the first any more is asked of the second."""
    mover.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", mover.id_of(source))
    mover.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", mover.id_of(target))


def carry(mover, slot, source, target):
    """Carry a slot's keys over."""
    while keys := mover.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
        mover.ask(
            source, "MIGRATE", "127.0.0.1", target.port, "", 0, 2_000, "AUTH", mover.password, "KEYS", *keys
        )  # fmt: skip


def settle(mover, slot, target):
    for node in (target, *(node for node in mover.primaries if node is not target)):
        mover.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", mover.id_of(target))


def test_commands_go_to_the_nodes_of_their_slots_and_replies_keep_their_order(client, shared_cluster):
    keys = [f"key-{n}" for n in range(60)]
    assert client.call_many([("SET", key, n) for n, key in enumerate(keys)]) == [b"OK"] * 60
    assert client.call_many([("GET", key) for key in keys]) == [str(n).encode() for n in range(60)]
    held = [int(shared_cluster.ask(node, "DBSIZE")) for node in shared_cluster.primaries]
    assert sum(held) == 60
    assert all(held)


def test_scripts_go_where_their_keys_are_and_are_taught_to_each_node(client):
    answers = []
    for n in range(30):
        key = f"script-{n}"
        assert client.run(ECHO, [key], ["v"]) == [key.encode(), b"v"]
        client.begin(ECHO, [key], ["w"], answers.append)
    end = time.monotonic() + 3
    while len(answers) < 30 and time.monotonic() < end:
        gevent.sleep(0.005)
    assert sorted(answers) == sorted([f"script-{n}".encode(), b"w"] for n in range(30))


def test_a_refused_command_is_refused_and_concerns_no_part(client):
    client.call("SET", "text", "x")
    with pytest.raises(Refused, match="WRONGTYPE"):
        client.call("HGETALL", "text")
    with pytest.raises(Refused, match="WRONGTYPE"):
        client.call_many([("GET", "other"), ("HGETALL", "text")])
    assert client.up


def test_one_seed_that_answers_is_enough(shared_cluster, free_port):
    address = parse_redis_url(shared_cluster.url)
    seeds = (("127.0.0.1", free_port()), address.seeds[1])
    client = ClusterClient(RedisAddress(*seeds[0], False, password=address.password, seeds=seeds))
    client.start()
    try:
        assert client.call_many([("SET", f"key-{n}", n) for n in range(20)]) == [b"OK"] * 20
    finally:
        client.stop()


def test_seeds_that_do_not_answer_are_store_away_and_no_password_is_told(free_port):
    client = ClusterClient(
        RedisAddress("", 0, False, password="hunter2", seeds=(("127.0.0.1", free_port()), ("127.0.0.1", free_port())))
    )
    client.start()
    try:
        with pytest.raises(ShardAway, match="cannot connect") as away:
            client.call("GET", "x")
        assert "hunter2" not in str(away.value) + repr(client)
        assert not client.up
    finally:
        client.stop()


def test_one_server_that_is_no_cluster_says_so(shared_valkey):
    address = parse_redis_url(shared_valkey.url.replace("redis://", "redis+cluster://"))
    client = ClusterClient(address)
    client.start()
    try:
        with pytest.raises(ShardAway, match="cluster support disabled"):
            client.call("GET", "x")
    finally:
        client.stop()


def test_a_node_of_a_cluster_asked_as_one_server_names_the_setting(shared_cluster):
    from edge.store.client import Client

    client = Client(parse_redis_url(shared_cluster.primaries[0].url))
    client.start()
    try:
        with pytest.raises(Redirected, match=r"REDIS_URL names a cluster by redis\+cluster://"):
            for n in range(20):
                client.call("GET", f"key-{n}")
    finally:
        client.stop()


def test_a_slot_between_two_nodes_is_asked_at_both(own, to_own):
    source, target, _ = own.primaries
    tag = tag_on(own, source)
    slot = slot_of(tag)
    to_own.call("SET", f"{{{tag}}}:old", "here")
    begin(own, slot, source, target)
    # What is there is answered there; what is not is asked of the other, once, and the map stays as it is.
    assert to_own.call("GET", f"{{{tag}}}:old") == b"here"
    assert to_own.call("SET", f"{{{tag}}}:new", "there") == b"OK"
    assert to_own.call_many([("GET", f"{{{tag}}}:old"), ("GET", f"{{{tag}}}:new")]) == [b"here", b"there"]
    assert to_own.run(ECHO, [f"{{{tag}}}:none"], ["v"]) == [f"{{{tag}}}:none".encode(), b"v"]
    assert own.ask(target, "CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    carry(own, slot, source, target)
    settle(own, slot, target)
    hops, told = [], to_own.redirected
    to_own.redirected = lambda asked, hop: hops.append(hop.asking) or told(asked, hop)
    assert to_own.call("GET", f"{{{tag}}}:old") == b"here"
    assert to_own.call("GET", f"{{{tag}}}:new") == b"there"
    assert hops == [False]  # the first MOVED mended the map


def test_a_slot_that_moves_while_requests_run_loses_no_answer_and_no_count(own, to_own, eventually):
    counters = DistributedCounters(to_own, lambda: 1)
    slot = slot_of(keyspace.counter(DEMO, "p", "i"))
    source = own.node_of(keyspace.counter(DEMO, "p", "i"))
    target = next(node for node in own.primaries if node is not source)
    policy = bucket(rate=0.001, burst=3_000)
    check, redirections, admitted = Check(DEMO, policy, b"caller"), [], [0]
    told = to_own.redirected
    to_own.redirected = lambda asked, hop: redirections.append(hop.asking) or told(asked, hop)
    words: list[float] = []
    eventually(lambda: to_own.up)
    gevent.sleep(0.1)
    to_own.on_up.append(lambda: words.append(time.monotonic()))
    to_own.call("SET", f"{{{DEMO}}}:count", 0)
    stop = []

    def ask() -> None:
        while not stop:
            to_own.call("INCR", f"{{{DEMO}}}:count")
            admitted[0] += sum(verdict.allowed for verdict in counters.admit((check,)))
            gevent.sleep(0.002)

    asking = [gevent.spawn(ask) for _ in range(6)]
    gevent.sleep(0.2)
    begin(own, slot, source, target)
    gevent.sleep(0.1)
    carry(own, slot, source, target)
    gevent.sleep(0.2)  # between: all of it is asked of the other node
    settle(own, slot, target)
    gevent.sleep(1.0)
    stop.append(True)
    gevent.joinall(asking, timeout=5, raise_error=True)
    assert set(redirections) == {True, False}  # ASK and MOVED
    assert counters.degraded_total == 0
    assert admitted[0] <= 3_000 + 1
    counted = to_own.call("GET", f"{{{DEMO}}}:count")
    assert int(counted) > 100
    moved = len(redirections)
    to_own.call("GET", f"{{{DEMO}}}:count")
    assert len(redirections) == moved  # the map knows
    assert words == []  # keys moved along: nothing is worth a word


def test_a_dead_primary_takes_its_own_slots_and_is_found_again(own, to_own, eventually):
    victim = own.primaries[1]
    theirs, ours = tag_on(own, victim), tag_on(own, own.primaries[0])
    words: list[float] = []
    to_own.call("SET", ours, 1)
    eventually(lambda: to_own.up)
    gevent.sleep(0.1)
    to_own.on_up.append(lambda: words.append(time.monotonic()))
    victim.kill()
    eventually(lambda: not to_own.up)
    began = time.monotonic()
    for _ in range(200):
        with pytest.raises(ShardAway):
            to_own.call("GET", theirs)
        assert to_own.call("GET", ours) == b"1"
    assert time.monotonic() - began < 1.0  # refused at once, the others untouched
    replies = to_own.call_each([("GET", theirs), ("GET", ours)])
    assert isinstance(replies[0], ShardAway)
    assert replies[1] == b"1"
    assert to_own.reachable
    gevent.sleep(0.3)
    assert time.monotonic() - to_own.whole_mono > 0.3
    assert words == []
    victim.start()
    own.await_well()
    began = time.monotonic()
    eventually(lambda: to_own.up)
    assert time.monotonic() - to_own.whole_mono < 0.1
    assert to_own.call("GET", theirs) is None
    assert time.monotonic() - began < 2.0
    eventually(lambda: len(words) == 1)


def test_a_node_that_hangs_is_found_without_a_caller(own, to_own, eventually):
    victim = own.primaries[2]
    eventually(lambda: to_own.up)
    os.kill(victim.pid, signal.SIGSTOP)
    try:
        eventually(lambda: not to_own.up, timeout_s=3)
    finally:
        os.kill(victim.pid, signal.SIGCONT)
    eventually(lambda: to_own.up)


def test_a_replica_that_takes_over_is_asked_and_that_is_told(tmp_path, eventually):
    with ValkeyCluster(tmp_path / "own", replicas=True) as cluster:
        client = ClusterClient(parse_redis_url(cluster.url))
        words: list[float] = []
        client.on_up.append(lambda: words.append(time.monotonic()))
        client.start()
        try:
            eventually(lambda: client.up)
            tag = tag_on(cluster, cluster.primaries[0])
            client.call("SET", tag, "kept")
            gevent.sleep(0.3)
            assert len(words) == 1
            cluster.primaries[0].kill()
            answers = []

            def answered() -> bool:
                with contextlib.suppress(StoreAway):
                    answers.append(client.call("GET", tag))
                return bool(answers)

            eventually(lambda: not client.up)
            eventually(answered, timeout_s=15)
            assert answers == [b"kept"]
            assert client.up
            eventually(lambda: len(words) == 2)
        finally:
            client.stop()


def test_limits_of_a_dead_part_are_shared_out_and_all_others_are_counted(own, to_own, eventually):
    counters = DistributedCounters(to_own, lambda: 2)
    victim = own.primaries[0]
    theirs, ours = tag_on(own, victim), tag_on(own, own.primaries[1])

    def admitted(tenant: str, times: int, name: str) -> tuple[int, bool]:
        policy = bucket(f"{name} of {tenant}", rate=0.001, burst=10)
        verdicts = [counters.admit((Check(tenant, policy, b"caller"),))[0] for _ in range(times)]
        return sum(verdict.allowed for verdict in verdicts), any(verdict.degraded for verdict in verdicts)

    eventually(lambda: to_own.up)
    assert admitted(ours, 4, "first") == (4, False)
    victim.kill()
    eventually(lambda: not to_own.up)
    assert admitted(theirs, 20, "second") == (5, True)  # the share of one worker of two
    assert admitted(ours, 20, "second") == (10, False)
    assert counters.overshoot_bound() == 1.0
    victim.start()
    own.await_well()
    began = time.monotonic()
    eventually(lambda: to_own.up)
    assert admitted(theirs, 20, "third") == (10, False)
    assert time.monotonic() - began < 2.0


def test_changes_of_others_go_on_while_a_part_is_away_and_nobody_is_dropped_when_it_returns_empty(
    own, to_own, tmp_path, eventually
):
    from edge.store.state_disk import StateDisk

    stream = own.node_of(keyspace.CHANGES)
    victim = next(node for node in own.primaries if node is not stream)
    publisher = Publisher(own.url)
    tenants = TenantStore(to_own, StateDisk(tmp_path / "state"), "localhost", lambda snapshot: snapshot)
    link = link_to(to_own, parse_redis_url(own.url), keyspace.CHANGES, "feed")
    feed = ConfigFeed(link, [tenants], lambda: None, tenants.poll)
    to_own.on_up.append(feed.start_over)
    theirs = f"0197a000-0000-7000-8000-{_number_on(own, victim):012d}"
    ours = f"0197a000-0000-7000-8000-{_number_on(own, stream):012d}"
    hosts = {theirs: _host_on(own, stream, "a"), ours: _host_on(own, stream, "b")}
    feed.start()
    try:
        for tenant_id, host in hosts.items():
            publisher.config(snapshot_of(1, tenant_id=tenant_id, subdomain=host.split(".")[0]), (host,))
            assert tenants.tenant(host.encode()) is not None
        victim.kill()
        eventually(lambda: not to_own.up)
        publisher.config(snapshot_of(2, tenant_id=ours, subdomain=hosts[ours].split(".")[0]), (hosts[ours],))
        publisher.change("config", theirs, version=2)  # can only wait
        eventually(lambda: tenants.versions().get(ours) == 2)
        feed._link.close()  # the feed itself starts over meanwhile, and comes through
        publisher.config(snapshot_of(3, tenant_id=ours, subdomain=hosts[ours].split(".")[0]), (hosts[ours],))
        eventually(lambda: tenants.versions().get(ours) == 3)
        assert tenants.versions()[theirs] == 1
        victim.start()  # empty: it kept nothing
        own.await_well()
        eventually(lambda: to_own.up)
        gevent.sleep(1.0)
        assert tenants.versions() == {theirs: 1, ours: 3}
        publisher.close()
        publisher = Publisher(own.url)
        publisher.config(snapshot_of(4, tenant_id=theirs, subdomain=hosts[theirs].split(".")[0]), (hosts[theirs],))
        eventually(lambda: tenants.versions()[theirs] == 4)
    finally:
        feed.stop()
        publisher.close()


def _number_on(cluster, node):
    return next(n for n in range(1_000) if cluster.node_of(f"{{0197a000-0000-7000-8000-{n:012d}}}") is node)


def _host_on(cluster, node, letter):
    hosts = (f"{letter}{n}.localhost" for n in range(1_000))
    return next(host for host in hosts if cluster.node_of(keyspace.host(host)) is node)
