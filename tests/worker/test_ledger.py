import time

import pytest
from redis.backoff import NoBackoff
from redis.retry import Retry

from contracts import keyspace, messages
from webapp import redis_store
from worker import ledger, plan, probes
from worker.checker import Finding
from worker.plan import Planned
from worker.probes import Rules

TENANT = "0b7e4a52-0000-4000-8000-000000000001"
RULES = Rules(interval_s=10.0)


@pytest.fixture(params=["shared_valkey", "shared_cluster"])
def client(request):
    """The ledger works over one server and over a cluster."""
    url = request.getfixturevalue(request.param).url
    with redis_store.connect(url, Retry(NoBackoff(), 1), socket_timeout=5) as made:
        yield made


def put(client, count):
    for number in range(count):
        item = Planned(tenant_id=TENANT, origin_id="o", target_id=f"t{number}", url="http://h", path="/")
        client.hset(keyspace.probe_plan(0), item.member, plan.encode(item))
        client.zadd(keyspace.probe_due(0), {item.member: 0})


def found(healthy, at=None):
    return Finding(healthy, "ok" if healthy else "timeout", 1.0, at or time.time())


def make_due(client):
    for member in client.zrange(keyspace.probe_due(0), 0, -1):
        client.zadd(keyspace.probe_due(0), {member: 0})


def changes(client):
    entries = client.xrange(keyspace.CHANGES)
    return [messages.decode_change(fields[messages.FIELD]) for _, fields in entries]


def test_what_one_sweep_claims_no_other_gets(client):
    put(client, 5)
    first, second = ledger.claim(client, 0, 3), ledger.claim(client, 0, 3)
    members = [claim.planned.member for claim in (*first, *second)]
    assert (len(first), len(second), len(set(members))) == (3, 2, 5)
    assert ledger.claim(client, 0, 3) == []


def test_what_a_dead_sweep_claimed_comes_back_after_the_lease(client):
    put(client, 1)
    ledger.claim(client, 0, 9)
    due = client.zscore(keyspace.probe_due(0), f"{TENANT}/t0")
    assert time.time() + ledger.LEASE_S - 2 < due <= time.time() + ledger.LEASE_S


def test_a_recorded_target_is_due_again_after_its_interval(client):
    put(client, 1)
    ledger.record(client, [(ledger.claim(client, 0, 9)[0], found(True))], RULES, lambda _: None)
    due = client.zscore(keyspace.probe_due(0), f"{TENANT}/t0")
    assert 8.5 <= due - time.time() <= 11.5


def test_a_late_duplicate_of_a_probe_changes_nothing(client):
    put(client, 1)
    [late] = ledger.claim(client, 0, 9)
    make_due(client)
    [quick] = ledger.claim(client, 0, 9)
    ledger.record(client, [(quick, found(True))], RULES, lambda _: None)
    before = (
        client.hgetall(keyspace.probe_state(0)),
        client.hgetall(keyspace.origin_health(TENANT)),
        len(changes(client)),
    )
    assert ledger.record(client, [(late, found(False))], RULES, lambda _: None) == []
    after = (
        client.hgetall(keyspace.probe_state(0)),
        client.hgetall(keyspace.origin_health(TENANT)),
        len(changes(client)),
    )
    assert after == before


def test_a_flip_whose_telling_broke_is_told_again_by_the_next_probe(client):
    put(client, 1)

    def broken(_):
        raise ConnectionError

    with pytest.raises(ConnectionError):
        ledger.record(client, [(ledger.claim(client, 0, 9)[0], found(True))], RULES, broken)
    make_due(client)
    written = []
    [flipped] = ledger.record(client, [(ledger.claim(client, 0, 9)[0], found(True))], RULES, written.extend)
    assert written == [flipped]
    make_due(client)
    assert ledger.record(client, [(ledger.claim(client, 0, 9)[0], found(True))], RULES, written.extend) == []
    assert len(written) == 1


def test_the_flips_of_a_tenant_in_one_batch_are_one_change(client):
    put(client, 50)
    claims = ledger.claim(client, 0, 99)
    assert len(ledger.record(client, [(claim, found(True)) for claim in claims], RULES, lambda _: None)) == 50
    assert changes(client) == [messages.Change(kind="health", tenant_id=TENANT)]
    assert client.hlen(keyspace.origin_health(TENANT)) == 50


def test_nothing_is_told_of_a_target_without_a_verdict(client):
    put(client, 1)
    ledger.record(client, [(ledger.claim(client, 0, 9)[0], found(False))], RULES, lambda _: None)
    assert not client.exists(keyspace.origin_health(TENANT))
    assert changes(client) == []


def test_a_standing_down_is_told_again_before_the_edges_forget_it(client):
    put(client, 1)
    now = time.time()
    for second in (0, 10, 20, 30, 40, 50, 60):
        make_due(client)
        [claim] = ledger.claim(client, 0, 9)
        ledger.record(client, [(claim, found(False, now + second))], RULES, lambda _: None)
    told = [change.kind for change in changes(client)]
    assert told == ["health"] * 2  # down at 20, again at 50
    assert RULES.verdict_lives_s > 40


def test_a_target_without_a_plan_is_forgotten_when_it_is_due(client):
    put(client, 1)
    client.hset(keyspace.probe_state(0), f"{TENANT}/t0", probes.encode(probes.ProbeState(healthy=True)))
    client.delete(keyspace.probe_plan(0))
    assert ledger.claim(client, 0, 9) == []
    assert not list(client.scan_iter("ve:1:probe:*"))
