import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, text, update

from contracts import keyspace, snapshot, tasks
from tests.worker.conftest import rows
from webapp.extensions import system_scope, tenant_scope
from webapp.models import ApiKey, AuditEntry
from webapp.schemas.api_key import ApiKeyNew
from webapp.services import api_keys, key_uses

pytestmark = pytest.mark.system


def test_a_key_past_its_deadline_is_switched_off_told_to_the_edges_and_written_down(bench):
    soon = datetime.now(UTC) + timedelta(hours=1)
    with bench.app.app_context():
        old = api_keys.create(bench.actor, ApiKeyNew(name="old", scopes=["read"], expires_at=soon)).view
        api_keys.create(bench.actor, ApiKeyNew(name="young", scopes=["read"], expires_at=soon))
        with tenant_scope(bench.actor.tenant_id) as session:
            session.execute(
                update(ApiKey).where(ApiKey.id == old.id).values(expires_at=datetime.now(UTC) - timedelta(seconds=1))
            )
            session.commit()
    bench.worker()
    bench.send(tasks.EXPIRE_KEYS)
    enabled = select(ApiKey.name, ApiKey.enabled, ApiKey.digest).order_by(ApiKey.name)
    bench.wait(lambda: [row[1] for row in rows(bench, enabled)] == [False, True], "the key to be off")
    digest = rows(bench, enabled)[0][2]

    def known():
        with bench.redis() as client:
            return snapshot.decode_key(client.get(keyspace.api_key(bench.tenant_id, digest))).enabled

    bench.wait(lambda: not known(), "the edges' record")
    bench.send(tasks.EXPIRE_KEYS)
    bench.send(tasks.EXPIRE_KEYS)
    entries = rows(bench, select(AuditEntry.noun_id, AuditEntry.via).where(AuditEntry.action == "api_key.expired"))
    assert [tuple(entry) for entry in entries] == [(str(old.id), "worker")]


def test_what_edges_said_of_keys_is_written_down(bench):
    with bench.app.app_context():
        key = api_keys.create(bench.actor, ApiKeyNew(name="k")).view
    now = int(time.time())
    with bench.redis() as client:
        client.zadd(keyspace.key_uses(bench.tenant_id), {str(key.id): now})
        client.zadd(keyspace.KEY_USES, {bench.tenant_id: now, str(uuid.uuid4()): now})
    bench.worker()
    bench.send(tasks.KEY_USES)
    used = select(ApiKey.last_used_at)
    bench.wait(lambda: rows(bench, used)[0][0] == datetime.fromtimestamp(now, UTC), "the use")
    with bench.redis() as client:
        bench.wait(lambda: not client.exists(keyspace.KEY_USES), "an empty queue")


SEALING = {"SEALING_KEYS": "1:" + "cd" * 32}
DUE = 1_500


def test_a_rotation_whose_worker_is_killed_in_the_middle_makes_one_successor_each(bench):
    """Whatever was not committed is done again, whatever was is not."""
    with bench.app.app_context(), system_scope() as session:
        session.execute(
            text(
                "INSERT INTO api_keys (tenant_id, name, key_prefix, last_four, digest, rotate_every_days, created_at)"
                " SELECT :tenant, 'k' || n, 've_live_', 'four', 'v1:' || n, 30, now() - interval '31 days'"
                " FROM generate_series(1, :due) n"
            ),
            {"tenant": bench.actor.tenant_id, "due": DUE},
        )
        session.commit()
    waiting = select(func.count(), func.count(ApiKey.rotated_from_id.distinct())).where(ApiKey.sealed_key.is_not(None))
    worker = bench.worker(**SEALING)
    bench.send(tasks.ROTATE_KEYS)
    bench.wait(lambda: rows(bench, waiting)[0][0] > 0, "the first batch")
    worker.kill()
    done = rows(bench, waiting)[0][0]
    assert 0 < done < DUE
    bench.worker(**SEALING)
    sent_at = [0.0]

    def is_done() -> bool:
        if time.time() - sent_at[0] > 6:  # as the beat does: a job that met its time limit left the rest to the next
            bench.send(tasks.ROTATE_KEYS)
            sent_at[0] = time.time()
        return tuple(rows(bench, waiting)[0]) == (DUE, DUE)

    bench.wait(is_done, "one successor each", 90)
    bench.send(tasks.ROTATE_KEYS)
    bench.send(tasks.EXPIRE_KEYS)
    bench.wait(lambda: bench.redis().llen(tasks.BROKER_KEY_PREFIX + tasks.QUEUE_MAINTENANCE) == 0, "an empty queue")
    time.sleep(1)
    assert tuple(rows(bench, waiting)[0]) == (DUE, DUE)
    made = rows(bench, select(func.count()).where(AuditEntry.action == "api_key.created"))
    assert made[0][0] == DUE
    with bench.redis() as client:
        assert list(client.scan_iter(keyspace.api_key(bench.tenant_id, "*"))) == []


def test_a_key_in_use_is_not_ended_as_unused_though_its_use_was_not_written_down_yet(bench):
    day = timedelta(days=1)
    with bench.app.app_context(), tenant_scope(bench.actor.tenant_id) as session:
        now = datetime.now(UTC)
        for name in ("used", "unused"):
            old = ApiKey(
                tenant_id=bench.actor.tenant_id, name=name, key_prefix="ve_live_", last_four="four",
                digest=f"v1:{name}", deprecated_at=now - 2 * day, expires_at=now + 5 * day,
            )  # fmt: skip
            session.add(old)
            session.flush()
            session.add(
                ApiKey(
                    tenant_id=bench.actor.tenant_id, name=f"successor of {name}", key_prefix="ve_live_",
                    last_four="four", digest=f"v1:{name}2", rotated_from_id=old.id, revealed_at=now - 2 * day,
                )
            )  # fmt: skip
            if name == "used":
                with bench.redis() as client:
                    client.zadd(keyspace.key_uses(bench.tenant_id), {str(old.id): time.time()})
                    waiting = {str(uuid.uuid4()): 1.0 + n for n in range(key_uses.TENANTS_PER_RUN)}
                    client.zadd(keyspace.KEY_USES, {bench.tenant_id: time.time(), **waiting})
        session.commit()
    bench.worker()
    bench.send(tasks.ROTATE_KEYS)
    ended = select(ApiKey.name).where(ApiKey.revoked_at.is_not(None))
    bench.wait(lambda: rows(bench, ended), "the unused one's end")
    assert [name for (name,) in rows(bench, ended)] == ["unused"]
