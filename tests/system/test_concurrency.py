"""Limits of requests in flight over the workers of a running edge host, one of which is killed."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import time

import pytest

from contracts.snapshot import PolicyConfig
from devstack.valkey import Valkey
from tests.edge.publishing import Publisher, route, snapshot_of
from tests.system.edge_host import EdgeHost, Origin

pytestmark = pytest.mark.system

LIMIT = 4


@pytest.fixture
def host(tmp_path):
    origin = Origin()
    limited = PolicyConfig(id="at-once", name="at once", algorithm="concurrency", limit=LIMIT)
    with Valkey(tmp_path / "store") as store:
        publisher = Publisher(store.url)
        publisher.config(snapshot_of(1, (route(1, "/*", policies=(limited,)),), origin.url))
        with EdgeHost(store.url, tmp_path) as edge:
            yield edge
        publisher.close()
    origin.close()


def statuses(edge, path, times):
    with concurrent.futures.ThreadPoolExecutor(times) as pool:
        return sorted(status for status, _ in pool.map(edge.get, [path] * times))


def test_workers_together_let_in_the_limit_and_a_killed_one_s_places_come_back_within_ten_seconds(host):
    statuses(host, "/warm", 20)  # both workers know the tenant
    assert statuses(host, "/?ms=700", 24) == [200] * LIMIT + [429] * (24 - LIMIT)
    assert host.get("/")[0] == 200, "the last byte gave the place back"
    with concurrent.futures.ThreadPoolExecutor(LIMIT) as pool:
        held = [pool.submit(host.get, "/?ms=9000") for _ in range(LIMIT)]
        time.sleep(0.5)
        assert host.get("/")[0] == 429
        for pid in host.pids():
            os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        for request in held:
            with pytest.raises(OSError):
                request.result(5)
    host.eventually(lambda: set(statuses(host, "/", 2)) <= {200, 429}, 5)
    while statuses(host, "/?ms=300", LIMIT + 1) != [200] * LIMIT + [429]:
        assert time.monotonic() - killed < 11
