"""Fixtures every test may build on: a real PostgreSQL and a real Valkey, started once, and free ports.

Out:   postgres (session), valkey (one server per test), shared_valkey (one per session, emptied per test),
       shared_cluster (the same of three nodes), free_port, chromium and real_browser (session).
Laws:  1. Nothing is started until a test asks for it. 2. Nothing outlives the session (devstack.leash). 3. Without
       Chromium the browser tests are skipped and say so; with CI=true they fail.
Not here: schemas, tenants, people (each part's own conftest).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright

from devstack import child
from devstack.postgres import Postgres
from devstack.valkey import Valkey
from devstack.valkey_cluster import ValkeyCluster

# How fast a machine is that does other things too is no property of the code under test.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


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


@pytest.fixture(scope="session")
def _session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def shared_cluster(_session_cluster: ValkeyCluster) -> ValkeyCluster:
    """The session's cluster of three primaries, empty."""
    for node in _session_cluster.primaries:
        _session_cluster.ask(node, "FLUSHALL")
    return _session_cluster


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that gives a port of 127.0.0.1 that was free a moment ago."""
    return child.free_port


CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --no-proxy-server "
    "--disable-component-update --disable-sync --disable-default-apps --disable-extensions"
).split()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's Chromium, never one that a package fetched."""
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name) if name else None
        if found:
            return found
    reason = "no Chromium on this machine (Debian: apt-get install chromium)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def real_browser(chromium: str) -> Iterator[Browser]:
    """One browser for all tests: two event loops of it cannot live in one process."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield launched
        launched.close()
