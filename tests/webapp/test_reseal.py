"""`flask reseal`: every noun that holds a sealed secret, in every column there is, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from flask import Flask

from contracts import sealing
from devstack.postgres import Postgres
from tests.origins.authority import Authority
from tests.webapp.cast import Person, a_route, an_issuer, an_origin
from webapp.services import identity_keys, key_rotation
from webapp.services.actor import Actor

OLD, NEW = "1:" + "5a" * 32, "2:" + "6b" * 32
HISTORY = {"config_versions"}
"""Versions are what they were; nobody opens a secret of one that is not the newest."""


@pytest.fixture
def sealing_with(app: Flask) -> Iterator[Callable[[str], None]]:
    """Give the application other SEALING_KEYS, as a restart would."""
    before = app.extensions["vantageedge.settings"]

    def use(keys: str) -> None:
        parsed = sealing.parse_keys(keys)
        app.extensions["vantageedge.settings"] = dataclasses.replace(before, sealing_keys=parsed)

    use(OLD)
    yield use
    app.extensions["vantageedge.settings"] = before


def _one_of_each(app: Flask, alice: Person, demo: Actor) -> None:
    client = Authority().issue("gateway.test")
    origin = alice.make(
        "/origins", an_origin(tls={"client_certificate": client.certificate, "client_key": client.key})
    )["id"]
    alice.make("/routes", a_route(origin, identity_token=True))
    opaque = {"introspection_url": "https://as.example/introspect", "client_id": "us", "client_secret": "their-secret"}
    alice.make("/issuers", an_issuer(kind="introspection", jwks_uri=None, **opaque))
    service = alice.make("/services", {"name": "shop"})["id"]
    alice.post(f"/services/{service}/rotate", {})
    alice.make("/api-keys", {"name": "k", "rotate_every_days": 1})
    now = datetime.now(UTC)
    with app.app_context():
        key_rotation.advance(demo, now + timedelta(days=1.1))
        identity_keys.advance(demo, now + timedelta(days=31), timedelta(days=30))


def _holding(postgres: Postgres, mark: str) -> set[tuple[str, str]]:
    """Give the tables and columns in which a text is found."""
    found = set()
    with psycopg.connect(postgres.url("super", "webapp_shared"), autocommit=True) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        ).fetchall()
        for table, column in columns:
            query = f'SELECT count(*) FROM {table} WHERE "{column}"::text LIKE %s'
            if table not in HISTORY and connection.execute(query, (f"%{mark}%",)).fetchone() != (0,):
                found.add((table, column))
    return found


def test_every_sealed_secret_of_every_noun_is_sealed_anew_and_none_twice(
    app: Flask, alice: Person, demo: Actor, postgres: Postgres, sealing_with: Callable[[str], None]
) -> None:
    _one_of_each(app, alice, demo)
    sealed = _holding(postgres, "s1.1.")
    assert sealed == {
        ("origins", "tls"),
        ("issuers", "client_secret_sealed"),
        ("services", "secret"),
        ("services", "previous_secret"),
        ("identity_keys", "private_key_sealed"),
        ("api_keys", "sealed_key"),
    }
    sealing_with(f"{OLD},{NEW}")
    result = app.test_cli_runner().invoke(args=["reseal"])
    assert (result.exit_code, result.output) == (0, "6 secrets sealed anew\n")
    assert (_holding(postgres, "s1.1."), _holding(postgres, "s1.2.")) == (set(), sealed)
    sealing_with(NEW)  # and the old key is needed for none of them
    again = app.test_cli_runner().invoke(args=["reseal"])
    assert (again.exit_code, again.output) == (0, "0 secrets sealed anew\n")
