import time

import pytest
from sqlalchemy import select, text

from contracts import keyspace, snapshot, tasks
from tests.worker.conftest import rows
from webapp.extensions import system_scope
from webapp.models import OutboxEntry, Tenant
from webapp.schemas.api_key import ApiKeyNew
from webapp.services import api_keys

pytestmark = pytest.mark.system


def is_current(bench):
    """Whether Redis holds the newest version, its host and nothing is owed."""
    [(version,)] = rows(bench, select(Tenant.config_version))
    with bench.redis() as client:
        held = client.hget(keyspace.config(bench.tenant_id), "version")
        host = client.get(keyspace.host("demo.localhost"))
    owed = rows(bench, select(OutboxEntry.id).where(OutboxEntry.published_at.is_(None)))
    return held == str(version).encode() and host == bench.tenant_id.encode() and not owed


def test_what_was_written_while_redis_was_down_is_published_when_it_is_back(bench, origin):
    bench.worker()
    beat = bench.beat()
    bench.wait(lambda: beat.says("lock taken"), "the beat")
    bench.valkey.stop()
    bench.make_origin(origin.url)
    assert rows(bench, select(OutboxEntry.id).where(OutboxEntry.published_at.is_(None)))
    bench.valkey.start()
    bench.wait(lambda: is_current(bench), "the outbox to be drained")
    [stream] = {
        row[0]
        for row in rows(
            bench,
            select(OutboxEntry.stream_id)
            .where(OutboxEntry.stream_id.is_not(None))
            .order_by(OutboxEntry.id.desc())
            .limit(1),
        )
    }
    assert stream


def test_a_wiped_redis_is_rebuilt_without_a_person(bench, origin):
    bench.make_origin(origin.url)
    with bench.app.app_context():
        made = api_keys.create(bench.actor, ApiKeyNew(name="k", scopes=["read"])).view
    bench.worker()
    beat = bench.beat()
    bench.wait(lambda: beat.says("lock taken"), "the beat")
    with bench.redis() as client:
        before = set(client.scan_iter("ve:1:key:*"))
        client.flushall()
    bench.wait(lambda: is_current(bench), "the rebuild")
    with bench.redis() as client:
        [key] = client.scan_iter("ve:1:key:*")
        assert {key} == before
        assert snapshot.decode_key(client.get(key)).id == str(made.id)
        assert client.hlen(keyspace.probe_plan(0)) + client.hlen(keyspace.probe_plan(1)) == 1
    assert beat.popen.poll() is None


def test_a_lost_key_record_is_found_and_mended(bench):
    with bench.app.app_context():
        api_keys.create(bench.actor, ApiKeyNew(name="k", scopes=["read"]))
    with bench.redis() as client:
        [key] = client.scan_iter("ve:1:key:*")
        body = client.get(key)
        client.set(key, b"{}")
    bench.worker(WORKER_RECONCILE_DEEP="1")
    bench.send(tasks.RECONCILE)
    with bench.redis() as client:
        bench.wait(lambda: client.get(key) == body, "the record")


def test_publishing_one_tenant_twice_sends_once(bench, origin):
    bench.valkey.stop()
    bench.make_origin(origin.url)
    bench.valkey.start()
    bench.worker()
    before = len(bench.changes("config"))
    bench.send(tasks.PUBLISH, bench.tenant_id)
    bench.send(tasks.PUBLISH, bench.tenant_id)
    bench.wait(lambda: is_current(bench), "the outbox to be drained")
    time.sleep(0.5)
    assert len(bench.changes("config")) == before + 1


def test_a_tenant_that_cannot_be_compared_does_not_end_the_reconciling(bench, origin):
    bench.make_origin(origin.url)
    with bench.app.app_context():
        api_keys.create(bench.actor, ApiKeyNew(name="k", scopes=["read"]))
        with system_scope() as session:
            session.execute(text("UPDATE api_keys SET expires_at = 'infinity'"))
            session.commit()
    worker = bench.worker(WORKER_RECONCILE_DEEP="1")
    bench.send(tasks.RECONCILE)
    bench.wait(lambda: worker.says("tenant not compared"), "the failure to be told")
    with bench.redis() as client:
        bench.wait(lambda: client.hlen(keyspace.probe_plan(0)) + client.hlen(keyspace.probe_plan(1)) == 1, "the plan")
