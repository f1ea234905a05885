"""The life of identity keys (webapp.services.identity_keys): what is due when, and that twice is once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from contracts.identity import LEAD_S, RETIRED_S
from tests.webapp.cast import Person, a_route, an_origin
from webapp.extensions import tenant_scope
from webapp.schemas.identity_key import Rotation
from webapp.services import identity_keys
from webapp.services.actor import Actor

DAYS = timedelta(days=30)
LEAD, RETIRED = timedelta(seconds=LEAD_S), timedelta(seconds=RETIRED_S)


@pytest.fixture
def began(app: Flask, alice: Person) -> datetime:
    """A tenant with its first key; the time it began to sign."""
    alice.make("/routes", a_route(alice.make("/origins", an_origin())["id"], identity_token=True))
    return datetime.now(UTC)


def states(app: Flask, actor: Actor) -> list[str]:
    with app.app_context():
        return [key.state for key in identity_keys.index(actor).items]


def advance(app: Flask, actor: Actor, now: datetime) -> tuple[str, ...]:
    with app.app_context():
        return identity_keys.advance(actor, now, DAYS)


def due(app: Flask, now: datetime) -> list[object]:
    with app.app_context():
        return [tenant_id for tenant_id, _ in identity_keys.due(now, DAYS)]


def versions(app: Flask, actor: Actor) -> int:
    with app.app_context(), tenant_scope(actor.tenant_id) as session:
        return int(session.execute(text("SELECT config_version FROM tenants")).scalar_one())


def test_a_key_signs_its_days_its_successor_waits_its_lead_and_it_stays_until_its_tokens_are_dead(
    app: Flask, demo: Actor, began: datetime
) -> None:
    steps = [
        (DAYS - timedelta(hours=1), (), ["signing"]),
        (DAYS, ("published",), ["signing", "next"]),
        (DAYS + LEAD - timedelta(minutes=1), (), ["signing", "next"]),
        (DAYS + LEAD + timedelta(minutes=1), ("signing",), ["signing", "retired"]),
        (DAYS + LEAD + RETIRED, (), ["signing", "retired"]),
        (DAYS + LEAD + RETIRED + timedelta(minutes=1), ("removed",), ["signing"]),
    ]
    with app.app_context():
        (first,) = identity_keys.index(demo).items
    for after, done, expected in steps:
        assert advance(app, demo, began + after) == done
        assert states(app, demo) == expected
    with app.app_context():
        (last,) = identity_keys.index(demo).items
    assert last.id != first.id


def test_each_step_twice_is_the_step_once(app: Flask, demo: Actor, began: datetime) -> None:
    later = began + DAYS
    assert advance(app, demo, later) == ("published",)
    before = versions(app, demo)
    assert advance(app, demo, later) == ()
    assert versions(app, demo) == before


def test_two_workers_at_once_make_one_successor(app: Flask, demo: Actor, began: datetime) -> None:
    later = began + DAYS
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: advance(app, demo, later), range(4)))
    assert sorted(done) == [(), (), (), ("published",)]
    assert states(app, demo) == ["signing", "next"]


def test_only_tenants_with_something_to_do_are_looked_at(
    app: Flask, demo: Actor, other: Actor, began: datetime
) -> None:
    assert due(app, began + timedelta(days=1)) == []
    assert due(app, began + DAYS) == [demo.tenant_id]
    with app.app_context():
        identity_keys.rotate(other, Rotation())
        identity_keys.rotate(other, Rotation())
    assert due(app, began + timedelta(days=1)) == [other.tenant_id]


def test_while_the_edges_are_owed_a_version_no_lead_and_no_farewell_runs(
    app: Flask, demo: Actor, began: datetime
) -> None:
    with app.app_context():
        identity_keys.rotate(demo, Rotation())
    _owe(app, demo, pending=True)
    late = datetime.now(UTC) + 3 * LEAD
    assert advance(app, demo, late) == ()
    assert states(app, demo) == ["signing", "next"]
    _owe(app, demo, pending=False)
    assert advance(app, demo, late + LEAD - timedelta(seconds=1)) == ()
    assert advance(app, demo, late + LEAD) == ("signing",)
    _owe(app, demo, pending=True)
    later = late + LEAD + 2 * RETIRED
    assert advance(app, demo, later) == ()
    assert states(app, demo) == ["signing", "retired"]
    _owe(app, demo, pending=False)
    assert advance(app, demo, later + RETIRED - timedelta(seconds=1)) == ()
    assert advance(app, demo, later + RETIRED) == ("removed",)


def _owe(app: Flask, actor: Actor, *, pending: bool) -> None:
    at = "NULL" if pending else "clock_timestamp()"
    with app.app_context(), tenant_scope(actor.tenant_id) as session:
        session.execute(text(f"UPDATE outbox SET published_at = {at}"))
        session.commit()


def test_a_retired_key_has_no_private_half_and_nobody_can_give_it_one(app: Flask, demo: Actor, began: datetime) -> None:
    with app.app_context():
        identity_keys.rotate(demo, Rotation())
    advance(app, demo, datetime.now(UTC) + LEAD)
    with app.app_context(), tenant_scope(demo.tenant_id) as session:
        rows = session.execute(text("SELECT state, private_key_sealed IS NULL FROM identity_keys ORDER BY state")).all()
        assert [tuple(row) for row in rows] == [("retired", True), ("signing", False)]
        with pytest.raises(IntegrityError, match="private_key_check"):
            session.execute(text("UPDATE identity_keys SET private_key_sealed = 's' WHERE state = 'retired'"))


@pytest.mark.parametrize("state", ["signing", "next"])
def test_the_database_itself_knows_one_of_each(app: Flask, demo: Actor, began: datetime, state: str) -> None:
    with app.app_context():
        identity_keys.rotate(demo, Rotation())
        with tenant_scope(demo.tenant_id) as session, pytest.raises(IntegrityError, match="state_idx"):
            session.execute(text("UPDATE identity_keys SET state = :state"), {"state": state})
