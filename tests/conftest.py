"""Fixtures every test may build on: a real PostgreSQL and a real Valkey, started once, and free ports.

Out:   postgres (session), valkey (one server per test), shared_valkey (one per session, emptied per test), free_port.
Laws:  1. Nothing is started until a test asks for it. 2. Nothing outlives the session (devstack.leash).
Not here: schemas, tenants, people (each part's own conftest).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from devstack import child
from devstack.postgres import Postgres
from devstack.valkey import Valkey


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One cluster for the session; make databases of your own with create_database(name, template)."""
    with Postgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server for this test alone: stop, kill and start it as you like."""
    with Valkey(tmp_path / "valkey", aof=False) as server:
        yield server


@pytest.fixture(scope="session")
def _session_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey"), aof=False) as server:
        yield server


@pytest.fixture
def shared_valkey(_session_valkey: Valkey) -> Valkey:
    """The session's server, empty."""
    with redis.Redis.from_url(_session_valkey.url) as client:
        client.flushall()
    return _session_valkey


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that gives a port of 127.0.0.1 that was free a moment ago."""
    return child.free_port
