"""Row-level security and the migrations, on a real PostgreSQL, for every table there is."""

from __future__ import annotations

import uuid

import flask_migrate
import psycopg
import pytest
from flask import Flask
from sqlalchemy import MetaData, text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from devstack.postgres import Postgres
from tests.webapp.cast import Person, a_route, an_issuer, an_origin, environment, found, session_token
from webapp.app import create_app
from webapp.extensions import db, org_scope, system_scope, tenant_scope
from webapp.models import Base
from webapp.services.actor import Actor
from webapp.settings import load

OWN = {"alembic_version"}
FAR = "2100-01-01T00:00:00Z"
HEAD = "0006"


def _tables(app: Flask) -> list[str]:
    with app.app_context(), db.engine.connect() as connection:
        rows = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"))
        return [name for (name,) in rows if name not in OWN]


def _fill(alice: Person) -> None:
    origin = alice.make("/origins", an_origin())
    alice.make("/routes", a_route(origin["id"], identity_token=True))
    alice.make("/api-keys", {"name": "production-key"})
    alice.make("/issuers", an_issuer())
    alice.make("/services", {"name": "shop", "kind": "clerk_machine", "machine_id": "mch_shop"})


def _count(table: str) -> int:
    return int(db.session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_every_table_shows_a_tenant_its_own_rows_and_a_stranger_none(
    app: Flask, alice: Person, demo: Actor, other: Actor
) -> None:
    _fill(alice)
    tables = _tables(app)
    assert len(tables) >= 9
    with app.app_context():
        for table in tables:
            key = "id" if table == "tenants" else "tenant_id"
            with tenant_scope(demo.tenant_id) as session:
                own = _count(table)
                foreign = session.execute(
                    text(f"SELECT count(*) FROM {table} WHERE {key} <> :own"), {"own": demo.tenant_id}
                ).scalar_one()
            with tenant_scope(uuid.uuid4()):
                as_stranger = _count(table)
            as_nobody = _count(table)
            db.session.rollback()
            with system_scope():
                everything = _count(table)
            assert own > 0, table
            assert (foreign, as_stranger, as_nobody) == (0, 0, 0), table
            assert everything >= own


def test_every_table_forces_its_policy_on_its_owner_too(app: Flask, postgres: Postgres, template: str) -> None:
    with psycopg.connect(postgres.url("owner", template)) as connection:
        for table in _tables(app):
            row = connection.execute(
                "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = %s::regclass", (table,)
            ).fetchone()
            assert row == (True, True), table


def test_a_tenant_cannot_give_a_row_to_another(app: Flask, alice: Person, demo: Actor, other: Actor) -> None:
    _fill(alice)
    with app.app_context():
        for table in set(_tables(app)) - {"tenants", "config_versions", "audit_log"}:
            with tenant_scope(demo.tenant_id) as session, pytest.raises(ProgrammingError, match="row-level security"):
                session.execute(text(f"UPDATE {table} SET tenant_id = :other"), {"other": other.tenant_id})


def test_a_route_cannot_point_across_tenants_even_by_hand(
    app: Flask, alice: Person, charlie: Person, demo: Actor
) -> None:
    _fill(alice)
    foreign = charlie.make("/origins", an_origin())["id"]
    with app.app_context(), system_scope() as session, pytest.raises(IntegrityError, match="origin_id_fkey"):
        session.execute(
            text("UPDATE routes SET origin_id = :foreign WHERE tenant_id = :own"),
            {"foreign": foreign, "own": demo.tenant_id},
        )


def test_an_organisation_sees_its_tenant_and_nothing_below_it(app: Flask, demo: Actor, other: Actor) -> None:
    with app.app_context(), org_scope("org_demo"):
        assert db.session.execute(text("SELECT clerk_org_id FROM tenants")).scalars().all() == ["org_demo"]
        assert _count("users") == 0


@pytest.mark.parametrize("table", ["audit_log", "config_versions"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET tenant_id = tenant_id", "TRUNCATE {}"])
def test_history_cannot_be_rewritten(app: Flask, demo: Actor, table: str, statement: str) -> None:
    refused = pytest.raises(ProgrammingError, match="permission denied")
    with app.app_context(), tenant_scope(demo.tenant_id) as session, refused:
        session.execute(text(statement.format(table)))


def test_a_scope_does_not_nest_in_another(app: Flask) -> None:
    refused = pytest.raises(RuntimeError, match="already in force")
    with app.app_context(), tenant_scope(uuid.uuid4()), refused, system_scope():
        pass


def test_what_a_scope_did_not_commit_is_gone(app: Flask, demo: Actor) -> None:
    with app.app_context():
        with tenant_scope(demo.tenant_id) as session:
            session.execute(text("UPDATE tenants SET name = 'changed'"))
        with tenant_scope(demo.tenant_id) as session:
            assert session.execute(text("SELECT name FROM tenants")).scalar_one() == "demo-company"


def test_a_role_that_bypasses_the_policies_is_refused(postgres: Postgres, template: str) -> None:
    superuser = postgres.url("super", template)
    made = create_app(load(environment(superuser, superuser, "redis://127.0.0.1:1/0")))
    with made.app_context():
        with pytest.raises(RuntimeError, match="bypasses row-level security"):
            db.session.execute(text("SELECT 1"))
        db.engine.dispose()


def test_the_migrations_and_the_models_say_the_same(postgres: Postgres, template: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    engine = create_engine(
        load(environment(postgres.url("owner", template), "postgresql://x", "redis://x")).database_url
    )
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        differences = [
            found for found in compare_metadata(context, Base.metadata) if "alembic_version" not in str(found)
        ]
        reflected = MetaData()
        reflected.reflect(connection)
        for name, table in Base.metadata.tables.items():
            for column in table.columns:
                assert column.nullable == reflected.tables[name].columns[column.name].nullable, (name, column.name)
    engine.dispose()
    assert differences == []


def test_the_migrations_run_down_and_up_again(own_app: Flask) -> None:
    found(own_app, "alice", "org_demo", "demo-company", "demo")
    before = _tables(own_app)
    with own_app.app_context():
        flask_migrate.downgrade(revision="base")
        assert _tables(own_app) == []
        flask_migrate.upgrade()
        assert _tables(own_app) == before
        with system_scope():
            assert _count("tenants") == 0


def test_migrations_take_the_rows_that_are_there_down_and_up_again(own_app: Flask) -> None:
    """Down switches off what the older release cannot say, and all that stays is what it was."""
    found(own_app, "alice", "org_demo", "demo-company", "demo")
    alice = Person(own_app, lambda: session_token("alice"))
    origin = alice.make("/origins", an_origin())["id"]
    alice.make("/routes", a_route(origin))
    for name, more in (("plain", {}), ("narrow", {"addresses": ["10.0.0.0/8"]}), ("limited", {"expires_at": FAR})):
        alice.make("/api-keys", {"name": name, **more})
    with own_app.app_context():
        flask_migrate.downgrade(revision="0002")
        assert _all("SELECT path_pattern, enabled FROM routes") == [("/api/users/*", True)]
        keys = [("limited", True), ("narrow", False), ("plain", True)]
        assert _all("SELECT name, enabled FROM api_keys ORDER BY 1") == keys
        before = _all("SELECT id, digest, scopes, created_at FROM api_keys ORDER BY 1")
        flask_migrate.upgrade()
        assert _all("SELECT name, enabled FROM api_keys ORDER BY 1") == keys
        assert _all("SELECT id, digest, scopes, created_at FROM api_keys ORDER BY 1") == before
        assert _all("SELECT count(*) FROM api_keys WHERE addresses = '{}' AND rotated_from_id IS NULL") == [(3,)]
    assert alice.patch(f"/origins/{origin}", {"timeout_seconds": 5}).status_code == 200
    assert alice.make("/services", {"name": "shop"})["state"] == "active"


def test_a_migration_down_opens_no_route_of_a_tenant_that_not_everybody_may_speak_to(own_app: Flask) -> None:
    tenant = found(own_app, "alice", "org_demo", "demo-company", "demo").tenant_id
    alice = Person(own_app, lambda: session_token("alice"))
    alice.make("/routes", a_route(alice.make("/origins", an_origin())["id"], auth_mode="public"))
    alice.patch(f"/tenants/{tenant}", {"addresses": {"allow": ["10.0.0.0/8"]}})
    with own_app.app_context():
        flask_migrate.downgrade(revision="0002")
        assert _all("SELECT path_pattern, enabled FROM routes") == [("/api/users/*", False)]
        flask_migrate.upgrade()


def test_a_migration_that_a_dump_interrupted_may_be_repeated(own_app: Flask, postgres: Postgres, database: str) -> None:
    """An index that is built without a lock waits for every older transaction, and gives up."""
    with own_app.app_context():
        flask_migrate.downgrade(revision="0005")
        with psycopg.connect(postgres.url("owner", database)) as dump:
            dump.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            dump.execute("SELECT count(*) FROM alembic_version")
            with pytest.raises(OperationalError, match="lock timeout"):
                flask_migrate.upgrade()
        assert _all("SELECT version_num FROM alembic_version") == [("0005",)]
        flask_migrate.upgrade()
        invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
        assert _all(invalid) == []
        assert _all("SELECT version_num FROM alembic_version") == [(HEAD,)]


def _all(statement: str) -> list[tuple[object, ...]]:
    with system_scope() as session:
        return [tuple(row) for row in session.execute(text(statement)).all()]
