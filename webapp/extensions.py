"""The database session and the row scope under which each of its transactions runs.

In:    the Flask application and its Settings; whose rows the caller may see.
Out:   db, migrate, redis_client, current_settings; tenant_scope, org_scope, system_scope.
Laws:  1. Outside a scope a query sees no row of any tenant: row-level security reads transaction-local settings that
       only this module sets. 2. A scope owns the session: it begins clean, and what was not committed when it ends is
       rolled back. 3. Scopes do not nest, except a scope inside the very same one.
Not here: the policies themselves (migrations/), who is who (webapp.auth).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson
import redis
from flask import Flask, current_app
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from webapp import redis_store
from webapp.settings import Settings

MIGRATIONS: Final = Path(__file__).resolve().parent.parent / "migrations"
STATEMENT_TIMEOUT_MS: Final = 10_000
REDIS_TIMEOUT_S: Final = 1.0

db = SQLAlchemy(session_options={"expire_on_commit": False})
migrate = Migrate()


class _Scope(NamedTuple):
    tenant_id: str = ""
    org_id: str = ""
    system: str = ""


_current: ContextVar[_Scope | None] = ContextVar("row_scope", default=None)
_SET: Final = text(
    "SELECT set_config('app.tenant_id', :tenant_id, true), set_config('app.org_id', :org_id, true),"
    " set_config('app.system', :system, true)"
)


def init_app(app: Flask, settings: Settings) -> None:
    """Bind the stores to an application. Connects to nothing yet."""
    app.extensions["vantageedge.settings"] = settings
    app.extensions["vantageedge.redis"] = redis_store.connect(
        settings.redis_url,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        health_check_interval=30,
        # A lost store is said at once; what is owed to it waits in the outbox.
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1),
    )
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["MIGRATION_DATABASE_URL"] = settings.migration_database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options()
    db.init_app(app)
    migrate.init_app(app, db, directory=str(MIGRATIONS))
    with app.app_context():
        engine = db.engine
    event.listen(engine, "connect", _refuse_unbound_role)


def current_settings() -> Settings:
    """Give the settings of the application in context."""
    settings: Settings = current_app.extensions["vantageedge.settings"]
    return settings


def redis_client() -> redis.Redis:
    """Give the client of the application in context. It blocks at most REDIS_TIMEOUT_S per attempt."""
    client: redis.Redis = current_app.extensions["vantageedge.redis"]
    return client


def engine_options() -> dict[str, Any]:
    """Give SQLAlchemy's engine options: bounded waits everywhere, so that a lost database is an error, not a hang."""
    return {
        "json_deserializer": orjson.loads,
        "pool_size": 10,
        "max_overflow": 10,
        "pool_timeout": 5,
        "pool_pre_ping": True,
        "pool_recycle": 1_800,
        "connect_args": {
            "connect_timeout": 3,
            "client_encoding": "utf8",
            "application_name": "vantageedge",
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout=5000 -c timezone=UTC",
        },
    }


def _refuse_unbound_role(connection: Any, _record: object) -> None:
    """Refuse a role on which row-level security does not bind."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = current_user")
        row = cursor.fetchone()
    connection.rollback()
    if row is None or row[0]:
        raise RuntimeError("DATABASE_URL names a role that bypasses row-level security; use one that does not")


@event.listens_for(Session, "after_begin")
def _put_in_force(_session: Session, _transaction: object, connection: Any) -> None:
    connection.execute(_SET, (_current.get() or _Scope())._asdict())


@contextmanager
def tenant_scope(tenant_id: UUID) -> Iterator[Session]:
    """See and write the rows of one tenant."""
    with _scoped(_Scope(tenant_id=str(tenant_id))) as session:
        yield session


@contextmanager
def org_scope(org_id: str) -> Iterator[Session]:
    """See and write the one row of `tenants` that belongs to a Clerk organisation, and nothing else."""
    with _scoped(_Scope(org_id=org_id)) as session:
        yield session


@contextmanager
def system_scope() -> Iterator[Session]:
    """See every tenant's rows: for jobs that look across tenants, never for a request."""
    with _scoped(_Scope(system="on")) as session:
        yield session


@contextmanager
def _scoped(scope: _Scope) -> Iterator[Session]:
    session: Session = db.session()
    outer = _current.get()
    if outer == scope:
        yield session
        return
    if outer is not None:
        raise RuntimeError("a row scope is already in force")
    session.rollback()
    token = _current.set(scope)
    try:
        yield session
    finally:
        _current.reset(token)
        session.close()
