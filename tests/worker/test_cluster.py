"""Real workers over a Redis Cluster, with a broker of one server: the tests of their jobs once more."""

from __future__ import annotations

import pytest

from devstack.valkey_cluster import ValkeyCluster
from tests.worker.conftest import bench_over
from tests.worker.test_cache import (  # noqa: F401 - collected here once more
    test_a_purge_advances_generations_once_per_call_however_often_it_is_delivered,
    test_what_the_console_asks_for_is_what_is_purged,
)
from tests.worker.test_publishing import is_current
from webapp.schemas.api_key import ApiKeyNew
from webapp.services import api_keys

pytestmark = pytest.mark.system


@pytest.fixture
def cluster(tmp_path):
    with ValkeyCluster(tmp_path / "own") as cluster:
        yield cluster


@pytest.fixture
def bench(postgres, migrated, valkey, cluster, tmp_path):
    yield from bench_over(postgres, migrated, valkey, tmp_path, cluster.url)


def test_what_a_cluster_lost_is_filled_in_again_and_probes_tell_their_verdicts(bench, cluster, origin):
    _, target_id = bench.make_origin(origin.url)
    with bench.app.app_context():
        api_keys.create(bench.actor, ApiKeyNew(name="k", scopes=["read"]))
    worker = bench.worker()
    beat = bench.beat()
    bench.wait(lambda: beat.says("lock taken"), "the beat")
    bench.wait(lambda: bench.health(target_id) is not None and bench.health(target_id).healthy, "a verdict")
    for node in cluster.primaries:
        cluster.ask(node, "FLUSHALL")
    bench.wait(lambda: is_current(bench), "the rebuild")
    origin.status = 500
    bench.wait(lambda: bench.health(target_id) is not None and not bench.health(target_id).healthy, "the flip")
    assert bench.changes("health")
    assert not worker.says("Traceback")
