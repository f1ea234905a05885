import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from contracts import keyspace, sealing, snapshot, tasks
from tests.worker.conftest import rows
from webapp.extensions import tenant_scope
from webapp.models import AuditEntry, Service
from webapp.schemas.service import ServiceNew, ServiceRotation
from webapp.services import services

pytestmark = pytest.mark.system


def test_a_secret_whose_grace_ended_is_taken_away_from_the_table_and_from_the_edges(bench):
    settings = bench.app.extensions["vantageedge.settings"]
    keys = sealing.parse_keys(f"1:{'5a' * 32}")
    bench.app.extensions["vantageedge.settings"] = dataclasses.replace(settings, sealing_keys=keys)
    with bench.app.app_context():
        old = services.create(bench.actor, ServiceNew(name="old")).view
        young = services.create(bench.actor, ServiceNew(name="young")).view
        for made in (old, young):
            services.rotate(bench.actor, made.id, ServiceRotation())
        with tenant_scope(bench.actor.tenant_id) as session:
            past = datetime.now(UTC) - timedelta(seconds=1)
            session.execute(update(Service).where(Service.id == old.id).values(previous_until=past))
            session.commit()

    def published():
        with bench.redis() as client:
            held = client.hgetall(keyspace.config(bench.tenant_id))
        document = snapshot.decode(held[b"body"], held[b"sha256"].decode())
        return {service.name: len(service.secrets) for service in document.services}

    assert published() == {"old": 2, "young": 2}
    bench.worker()
    bench.send(tasks.EXPIRE_SECRETS)
    held = select(Service.name, Service.previous_secret.is_not(None)).order_by(Service.name)
    bench.wait(
        lambda: [tuple(row) for row in rows(bench, held)] == [("old", False), ("young", True)], "the secret gone"
    )
    bench.wait(lambda: published() == {"old": 1, "young": 2}, "the edges' snapshot")
    bench.send(tasks.EXPIRE_SECRETS)
    bench.send(tasks.EXPIRE_SECRETS)
    entries = rows(bench, select(AuditEntry.noun_id, AuditEntry.via).where(AuditEntry.action == "service.secret_ended"))
    assert [tuple(entry) for entry in entries] == [(str(old.id), "worker")]
