"""Identity keys moved on by real workers and beats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from contracts import keyspace, sealing, snapshot, tasks
from contracts.identity import LEAD_S, RETIRED_S
from tests.worker.conftest import Bench, rows
from webapp import settings as console_settings
from webapp.extensions import system_scope
from webapp.models import AuditEntry, IdentityKey
from webapp.schemas.route import RouteNew
from webapp.services import routes

pytestmark = pytest.mark.system
KEYS = "1:" + "5a" * 32


@pytest.fixture
def vouching(bench: Bench) -> Bench:
    """A tenant with a route that sends identity tokens."""
    bench.environ["SEALING_KEYS"] = KEYS
    bench.app.extensions["vantageedge.settings"] = console_settings.load(bench.environ)
    origin_id, _ = bench.make_origin("http://127.0.0.1:8999")
    with bench.app.app_context():
        routes.create(
            bench.actor, RouteNew(path_pattern="/*", origin_id=origin_id, auth_mode="public", identity_token=True)
        )
    return bench


def states(bench: Bench) -> list[str]:
    return [row[0] for row in rows(bench, select(IdentityKey.state).order_by(IdentityKey.created_at))]


def grow_older(bench: Bench, by: timedelta) -> None:
    """As if the last step had been so long ago."""
    with bench.app.app_context(), system_scope() as session:
        session.execute(update(IdentityKey).values(state_since=datetime.now(UTC) - by - timedelta(seconds=5)))
        session.commit()


def published(bench: Bench) -> list[tuple[str, bool]]:
    """Of each key that the edges know: its id, and whether they can sign with it."""
    with bench.redis() as client:
        held: Any = client.hgetall(keyspace.config(bench.tenant_id))
    configs = snapshot.decode(held[b"body"], held[b"sha256"].decode()).identity_keys or ()
    for config in configs:
        if config.private_key is not None:
            place = snapshot.identity_key_place(bench.tenant_id, config.id)
            assert sealing.open_sealed(sealing.parse_keys(KEYS), config.private_key, place)
    return [(config.id, config.private_key is not None) for config in configs]


def test_a_worker_takes_a_key_through_its_life_and_the_edges_are_told_each_step(vouching: Bench) -> None:
    worker = vouching.worker(IDENTITY_KEY_DAYS="7")
    (first,) = published(vouching)
    assert first[1]
    vouching.send(tasks.ROTATE_IDENTITY_KEYS)
    grow_older(vouching, timedelta(days=7))
    vouching.send(tasks.ROTATE_IDENTITY_KEYS)
    vouching.wait(lambda: len(published(vouching)) == 2, "the next key to be published")
    assert published(vouching)[0] == first
    second = published(vouching)[1][0]
    assert not published(vouching)[1][1]

    grow_older(vouching, timedelta(seconds=LEAD_S))
    for _ in range(3):
        vouching.send(tasks.ROTATE_IDENTITY_KEYS)
    vouching.wait(lambda: published(vouching) == [(second, True), (first[0], False)], "the next key to sign")

    grow_older(vouching, timedelta(seconds=RETIRED_S))
    vouching.send(tasks.ROTATE_IDENTITY_KEYS)
    vouching.wait(lambda: published(vouching) == [(second, True)], "the old key to be forgotten")
    actions = [row[0] for row in rows(vouching, select(AuditEntry.action).order_by(AuditEntry.id))]
    assert [action for action in actions if action.startswith("identity_key.")] == [
        "identity_key.created",
        "identity_key.created",
        "identity_key.retired",
        "identity_key.signing",
        "identity_key.removed",
    ]
    assert worker.stop() == 0


def test_two_workers_and_two_beats_make_one_successor(vouching: Bench) -> None:
    grow_older(vouching, timedelta(days=30))
    for _ in range(2):
        vouching.worker()
        vouching.beat()
    for _ in range(6):
        vouching.send(tasks.ROTATE_IDENTITY_KEYS)
    vouching.wait(lambda: states(vouching) == ["signing", "next"], "one successor")
    for _ in range(6):
        vouching.send(tasks.ROTATE_IDENTITY_KEYS)
    vouching.wait(lambda: not _queued(vouching), "the queue to be empty")
    assert states(vouching) == ["signing", "next"]
    lines = [line for process in vouching.processes for line in process.lines()]
    assert [line["done"] for line in lines if line.get("event") == "identity keys moved on"] == [["published"]]


def _queued(bench: Bench) -> int:
    with bench.redis() as client:
        return int(client.llen(tasks.BROKER_KEY_PREFIX + tasks.QUEUE_MAINTENANCE))


def test_a_tenant_whose_keys_cannot_be_sealed_does_not_keep_others_waiting(vouching: Bench) -> None:
    """A worker without SEALING_KEYS cannot make a successor; it says so, and goes on to what needs none."""
    grow_older(vouching, timedelta(days=30))
    worker = vouching.worker(SEALING_KEYS="")
    vouching.send(tasks.ROTATE_IDENTITY_KEYS)
    vouching.wait(lambda: worker.says("identity keys not moved on"), "the worker to say it")
    assert states(vouching) == ["signing"]
