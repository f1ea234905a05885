"""A control plane on a real database and a real Valkey, with the tenants and the people of tests.webapp.cast.

Out:   settings, app, store; demo and other (the tenants); alice, bob, charlie, nobody (people at the API's door).
Laws:  1. The schema is migrated once into a template; each test gets a copy.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import flask_migrate
import psycopg
import pytest
import redis
from flask import Flask

from devstack.postgres import Postgres
from devstack.valkey import Valkey
from tests.webapp.cast import Person, environment, found, session_token
from webapp.app import create_app
from webapp.extensions import db
from webapp.services.actor import Actor
from webapp.settings import Settings, load

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    name = postgres.create_database("webapp_template")
    url = postgres.url("owner", name)
    app = create_app(load(environment(postgres.url("app", name), url, "redis://127.0.0.1:1/0")))
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
    return name


@pytest.fixture
def database(postgres: Postgres, template: str) -> Iterator[str]:
    """A database for this test alone: do with its schema as you like."""
    name = postgres.create_database(f"webapp_{next(_NUMBERS)}", template)
    yield name
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def _shared_app(postgres: Postgres, template: str, _session_valkey: Valkey) -> Iterator[Flask]:
    name = postgres.create_database("webapp_shared", template)
    yield from _running(load(environment(postgres.url("app", name), postgres.url("owner", name), _session_valkey.url)))


def _running(settings: Settings) -> Iterator[Flask]:
    made = create_app(settings)
    yield made
    with made.app_context():
        db.engine.dispose()
    made.extensions["vantageedge.redis"].close()


@pytest.fixture
def app(_shared_app: Flask, postgres: Postgres, shared_valkey: Valkey) -> Flask:
    """The session's application over empty tables and an empty store."""
    with psycopg.connect(postgres.url("owner", "webapp_shared"), autocommit=True) as connection:
        connection.execute(
            "TRUNCATE tenants, users, origins, targets, routes, issuers, services, identity_keys, api_keys,"
            " config_versions, outbox, audit_log"
        )
    return _shared_app


@pytest.fixture
def no_sealing_keys(app: Flask) -> Iterator[None]:
    """As a deployment that never had SEALING_KEYS."""
    before = app.extensions["vantageedge.settings"]
    app.extensions["vantageedge.settings"] = dataclasses.replace(before, sealing_keys={})
    yield
    app.extensions["vantageedge.settings"] = before


@pytest.fixture
def own_app(postgres: Postgres, database: str, valkey: Valkey) -> Iterator[Flask]:
    """An application with a database and a store of its own: break them as you like."""
    yield from _running(load(environment(postgres.url("app", database), postgres.url("owner", database), valkey.url)))


@pytest.fixture
def store(shared_valkey: Valkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(shared_valkey.url) as client:
        yield client


@pytest.fixture
def demo(app: Flask) -> Actor:
    """Alice, and with her demo-company."""
    return found(app, "alice", "org_demo", "demo-company", "demo")


@pytest.fixture
def other(app: Flask) -> Actor:
    """Charlie, and with him another tenant."""
    return found(app, "charlie", "org_other", "charlies-company", "charlie")


@pytest.fixture
def alice(app: Flask, demo: Actor) -> Person:
    return Person(app, lambda: session_token("alice"))


@pytest.fixture
def bob(app: Flask, demo: Actor) -> Person:
    return Person(app, lambda: session_token("bob", role="member"))


@pytest.fixture
def charlie(app: Flask, other: Actor) -> Person:
    return Person(app, lambda: session_token("charlie", org="org_other"))


@pytest.fixture
def nobody(app: Flask) -> Person:
    return Person(app, None)
