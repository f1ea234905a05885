import time

import pytest
from sqlalchemy import select

from contracts import keyspace, tasks
from tests.worker.conftest import rows
from webapp.models import Target

pytestmark = pytest.mark.system


def row_of(bench, target_id):
    statement = select(Target.healthy, Target.health_reason).where(Target.id == target_id)
    return tuple(rows(bench, statement)[0])


def told(bench, target_id, healthy):
    health = bench.health(target_id)
    return health is not None and health.healthy is healthy


def test_an_origin_that_fails_three_times_is_down_and_after_two_successes_up_and_each_is_told_once(bench, origin):
    _, target_id = bench.make_origin(origin.url, "/health?deep=1")
    bench.worker(WORKER_PROBE_INTERVAL_S="1")
    bench.beat()
    bench.wait(lambda: told(bench, target_id, True), "the first verdict")
    bench.wait(lambda: row_of(bench, target_id) == (True, "ok"), "the row")
    assert origin.asked[0] == ("/health?deep=1", f"127.0.0.1:{origin.port}")
    began = len(bench.changes("health"))
    time.sleep(3)
    assert len(bench.changes("health")) == began  # up stays up: nothing to tell

    origin.status, asked = 503, len(origin.asked)
    bench.wait(lambda: told(bench, target_id, False), "the target to be down")
    assert len(origin.asked) - asked >= 3
    assert bench.health(target_id).reason == "status-503"
    assert bench.health(target_id).expires_at > time.time()
    bench.wait(lambda: row_of(bench, target_id) == (False, "status-503"), "the row")
    assert len(bench.changes("health")) == began + 1

    origin.status, asked = 302, len(origin.asked)  # a redirect is an answer, and is not followed
    bench.wait(lambda: told(bench, target_id, True), "the target to be up")
    assert len(origin.asked) - asked >= 2
    assert all(path == "/health?deep=1" for path, _ in origin.asked)
    bench.wait(lambda: row_of(bench, target_id) == (True, "ok"), "the row")


def test_a_check_on_demand_probes_now_and_without_a_beat(bench, origin):
    origin_id, target_id = bench.make_origin(origin.url)
    bench.worker()
    bench.send(tasks.HEALTH_CHECK, bench.tenant_id, origin_id)
    bench.wait(lambda: told(bench, target_id, True), "the verdict")
    assert len(origin.asked) == 1


def test_a_worker_killed_in_the_middle_leaves_its_job_to_the_next(bench, origin):
    origin_id, target_id = bench.make_origin(origin.url)
    origin.delay_s = 1.5
    first = bench.worker()
    bench.send(tasks.HEALTH_CHECK, bench.tenant_id, origin_id)
    bench.wait(lambda: origin.asked, "the probe to begin")
    first.kill()
    assert bench.health(target_id) is None
    origin.delay_s = 0.0
    bench.worker()
    bench.wait(lambda: told(bench, target_id, True), "the job to come back")
    assert len(origin.asked) == 2


def test_sigterm_lets_a_running_job_finish(bench, origin):
    origin_id, target_id = bench.make_origin(origin.url)
    origin.delay_s = 1.5
    worker = bench.worker()
    bench.send(tasks.HEALTH_CHECK, bench.tenant_id, origin_id)
    bench.wait(lambda: origin.asked, "the probe to begin")
    assert worker.stop() == 0
    assert told(bench, target_id, True)
    with bench.redis() as client:
        assert client.hlen(keyspace.WORKERS) == 0
        assert client.hlen(tasks.BROKER_KEY_PREFIX + "unacked") == 0


def test_a_target_that_left_the_plan_is_forgotten(bench, origin):
    from webapp.schemas.origin import OriginPatch
    from webapp.services import origins

    origin_id, target_id = bench.make_origin(origin.url)
    bench.worker()
    bench.send(tasks.RECONCILE)
    bench.send(tasks.HEALTH_CHECK, bench.tenant_id, origin_id)
    bench.wait(lambda: told(bench, target_id, True), "the verdict")
    with bench.app.app_context():
        origins.update(bench.actor, origin_id, OriginPatch(health_check_path=None))
    bench.send(tasks.RECONCILE)
    bench.wait(lambda: bench.health(target_id) is None, "the verdict to go")
    with bench.redis() as client:
        assert not list(client.scan_iter("ve:1:probe:*"))
