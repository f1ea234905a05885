from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from contracts import keyspace, snapshot, tasks
from tests.worker.conftest import rows
from webapp.extensions import tenant_scope
from webapp.models import ApiKey, AuditEntry
from webapp.schemas.api_key import ApiKeyNew
from webapp.services import api_keys

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
