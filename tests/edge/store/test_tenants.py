from __future__ import annotations

import gevent
import pytest

from contracts import keyspace, snapshot
from contracts.messages import Change
from edge.errors import GatewayError
from edge.settings import parse_redis_url
from edge.snapshot import compile_snapshot
from edge.store.client import Client
from edge.store.state_disk import StateDisk
from edge.store.tenants import TenantStore
from tests.edge.publishing import DEMO, HOST, Publisher, route, snapshot_of


def make_disk(folder):
    for part in ("tenants", "hosts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return StateDisk(folder)


@pytest.fixture
def disk(tmp_path):
    return make_disk(tmp_path)


@pytest.fixture
def compiled():
    return []


@pytest.fixture
def tenants(client, disk, compiled):
    def counting(published):
        compiled.append(published.version)
        return compile_snapshot(published)

    return TenantStore(client, disk, "localhost", counting)


def changed(version=0, hosts=(), tenant_id=DEMO):
    return Change(kind="config", tenant_id=tenant_id, version=version, hosts=hosts)


def test_a_tenant_is_loaded_on_its_first_request_by_one_greenlet(tenants, publisher, compiled):
    publisher.config(snapshot_of())
    found = gevent.joinall([gevent.spawn(tenants.tenant, HOST.encode()) for _ in range(20)])
    assert {one.value.subdomain for one in found} == {"demo"}
    assert compiled == [1]


def test_a_first_request_that_is_interrupted_leaves_nobody_behind(tenants, publisher):
    publisher.config(snapshot_of())
    first = gevent.spawn(tenants.tenant, HOST.encode())
    second = gevent.spawn(tenants.tenant, HOST.encode())
    gevent.sleep(0)
    first.kill()
    assert second.get(timeout=2).subdomain == "demo"


@pytest.mark.parametrize(
    "host",
    [b"", b"localhost", b".localhost", b"a.b.localhost", b"demo.localhost.evil", b"d{m.localhost", b"-x.localhost"],
)
def test_a_host_that_cannot_be_a_tenants_is_unknown_and_costs_no_question(tenants, client, host):
    client.stop()
    assert tenants.tenant(host) is None


def test_an_unknown_host_is_remembered_until_a_change_names_it(tenants, publisher):
    assert tenants.tenant(HOST.encode()) is None
    publisher.config(snapshot_of())
    assert tenants.tenant(HOST.encode()) is None
    tenants.on_change(changed(1, (HOST,)))
    assert tenants.tenant(HOST.encode()).version == 1


def test_a_change_of_a_held_tenant_swaps_it(tenants, publisher):
    publisher.config(snapshot_of(1))
    before = tenants.tenant(HOST.encode())
    publisher.config(snapshot_of(2, (route(1, "/new"),)))
    tenants.on_change(changed(2))
    after = tenants.tenant(HOST.encode())
    assert (before.version, len(before.routes)) == (1, 0)
    assert (after.version, len(after.routes)) == (2, 1)


def test_a_change_of_a_tenant_nobody_asked_for_loads_nothing(tenants, publisher, compiled):
    publisher.config(snapshot_of())
    tenants.on_change(changed(1))
    assert compiled == []
    assert len(tenants) == 0


def test_a_version_never_goes_back(tenants, publisher):
    publisher.config(snapshot_of(5))
    tenants.tenant(HOST.encode())
    publisher.config(snapshot_of(4, (route(1, "/old"),)))
    tenants.on_change(changed(0))
    tenants.on_resync(lost=False)
    assert tenants.tenant(HOST.encode()).version == 5


def test_a_snapshot_with_a_wrong_digest_is_refused_and_the_last_good_one_stays(tenants, publisher):
    publisher.config(snapshot_of(1))
    tenants.tenant(HOST.encode())
    body, _ = snapshot.encode(snapshot_of(2))
    publisher.raw_config(DEMO, 2, "0" * 64, body)
    tenants.on_change(changed(2))
    assert tenants.tenant(HOST.encode()).version == 1
    assert "version 2" in tenants.rejected[DEMO]
    publisher.config(snapshot_of(3))
    tenants.on_change(changed(3))
    assert tenants.tenant(HOST.encode()).version == 3
    assert tenants.rejected == {}


def test_a_snapshot_that_does_not_compile_is_refused(tenants, publisher):
    publisher.config(snapshot_of(1))
    tenants.tenant(HOST.encode())
    publisher.config(snapshot_of(2, (route(1, "no-slash"),)))
    tenants.on_change(changed(2))
    assert tenants.tenant(HOST.encode()).version == 1
    assert "route-1" in tenants.rejected[DEMO]


def test_another_tenants_snapshot_under_this_key_is_refused(tenants, publisher):
    body, sha256 = snapshot.encode(snapshot_of(1, tenant_id="0197a000-0000-7000-8000-000000000bad"))
    publisher.raw_config(DEMO, 1, sha256, body, (HOST,))
    with pytest.raises(GatewayError) as refused:
        tenants.tenant(HOST.encode())
    assert refused.value.problem.slug == "config-unavailable"


def test_a_removed_tenant_goes_when_a_change_says_so(tenants, publisher):
    publisher.config(snapshot_of())
    tenants.tenant(HOST.encode())
    publisher.redis.delete(keyspace.config(DEMO), keyspace.host(HOST))
    tenants.on_change(changed(0, (HOST,)))
    assert len(tenants) == 0
    assert tenants.tenant(HOST.encode()) is None


def test_a_renamed_tenant_leaves_its_old_host(tenants, publisher):
    publisher.config(snapshot_of())
    tenants.tenant(HOST.encode())
    publisher.redis.delete(keyspace.host(HOST))
    publisher.config(snapshot_of(2, subdomain="shop"), ("shop.localhost",))
    tenants.on_change(changed(2, (HOST, "shop.localhost")))
    assert tenants.tenant(HOST.encode()) is None
    assert tenants.tenant(b"shop.localhost").version == 2


def test_a_store_that_lost_everything_takes_no_tenant_away(tenants, publisher):
    publisher.config(snapshot_of())
    tenants.tenant(HOST.encode())
    publisher.redis.flushall()
    tenants.on_resync(lost=True)
    tenants.poll()
    assert tenants.tenant(HOST.encode()).version == 1


def test_a_tenant_missing_after_a_reconnection_that_lost_nothing_goes(tenants, publisher):
    publisher.config(snapshot_of())
    tenants.tenant(HOST.encode())
    publisher.redis.delete(keyspace.config(DEMO), keyspace.host(HOST))
    tenants.on_resync(lost=False)
    assert tenants.tenant(HOST.encode()) is None


def test_the_poll_finds_what_the_stream_did_not_say(tenants, publisher):
    publisher.config(snapshot_of())
    tenants.tenant(HOST.encode())
    publisher.config(snapshot_of(2))
    assert tenants.poll() == 1
    assert tenants.tenant(HOST.encode()).version == 2
    assert tenants.poll() == 0


def test_the_least_recently_used_tenant_makes_room(client, disk, publisher):
    dropped = []
    tenants = TenantStore(client, disk, "localhost", compile_snapshot, tenants_max=2)
    tenants.on_drop.append(dropped.append)
    for name in ("one", "two", "three"):
        publisher.config(snapshot_of(tenant_id=name, subdomain=name), (f"{name}.localhost",))
    for name in ("one", "two"):
        tenants.tenant(f"{name}.localhost".encode())
    tenants._tenants["one"].used = True
    tenants._tenants["two"].used = False
    tenants.tenant(b"three.localhost")
    assert dropped == ["two"]
    assert set(tenants.versions()) == {"one", "three"}
    assert tenants.tenant(b"two.localhost").subdomain == "two"


def test_a_big_snapshot_is_compiled_off_the_hub_and_served(tenants, publisher):
    publisher.config(snapshot_of(1, tuple(route(n, f"/r/{n}/*") for n in range(1_000))))
    assert len(tenants.tenant(HOST.encode()).routes) == 1_000


def test_a_cold_start_with_the_store_away_serves_the_copy_on_disk(valkey, tmp_path):
    publisher = Publisher(valkey.url)
    publisher.config(snapshot_of(7))
    publisher.close()
    folder = tmp_path / "state"
    first = Client(parse_redis_url(valkey.url))
    first.start()
    disk = make_disk(folder)
    assert TenantStore(first, disk, "localhost", compile_snapshot).tenant(HOST.encode()).version == 7
    disk.stop()
    first.stop()
    valkey.kill()

    second = Client(parse_redis_url(valkey.url))
    second.start()
    try:
        tenants = TenantStore(second, make_disk(folder), "localhost", compile_snapshot)
        assert tenants.tenant(HOST.encode()).version == 7
        with pytest.raises(GatewayError) as refused:
            tenants.tenant(b"other.localhost")
        assert refused.value.problem.slug == "config-unavailable"
    finally:
        second.stop()


def test_a_damaged_copy_on_disk_is_as_good_as_none(valkey, tmp_path):
    disk = make_disk(tmp_path / "state")
    (tmp_path / "state" / "hosts" / HOST).write_text(DEMO)
    (tmp_path / "state" / "tenants" / DEMO).write_bytes(b"half")
    valkey.kill()
    client = Client(parse_redis_url(valkey.url))
    client.start()
    try:
        with pytest.raises(GatewayError):
            TenantStore(client, disk, "localhost", compile_snapshot).tenant(HOST.encode())
    finally:
        client.stop()


def test_a_host_that_changed_hands_while_the_stream_was_lost_is_its_new_tenants(tenants, publisher):
    publisher.config(snapshot_of())
    assert tenants.tenant(HOST.encode()).id == DEMO
    publisher.config(snapshot_of(2, subdomain="renamed"), ("renamed.localhost",))
    other = "0197a000-0000-7000-8000-00000000cafe"
    publisher.config(snapshot_of(tenant_id=other))
    tenants.on_resync(lost=False)
    assert tenants.tenant(HOST.encode()).id == other
    assert tenants.tenant(b"renamed.localhost").id == DEMO
