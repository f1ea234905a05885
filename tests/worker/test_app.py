import json
import signal
import subprocess
import sys
import urllib.request

import pytest

from contracts import keyspace, tasks
from devstack import child
from devstack.valkey import Valkey, binary
from tests.worker.conftest import ROOT

pytestmark = pytest.mark.system


def fails_with(bench, variable, **environ):
    process = bench._start(["worker", "-P", "gevent"], environ)
    assert process.popen.wait(60) != 0
    said = process.log.read_text()
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if line.startswith("VantageEdge worker: ")]
    assert variable in line
    return line


def test_a_wrong_setting_ends_the_worker_with_one_line(bench):
    fails_with(bench, "WORKER_METRICS_PORT", WORKER_METRICS_PORT="many")
    assert "Cluster" in fails_with(bench, "CELERY_BROKER_URL", CELERY_BROKER_URL="redis-cluster://h:1")


def test_a_broker_that_turns_out_to_be_a_cluster_s_node_is_refused(bench, tmp_path):
    port = child.free_port()
    argv = [
        str(binary()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--cluster-enabled",
        "yes",
        "--cluster-port",  # else 10,000 above, where the system's clients are
        str(child.free_port()),
        "--dir",
        str(tmp_path),
    ]
    node = child.spawn(argv, log=tmp_path / "node.log", ends_with=signal.SIGKILL)
    try:
        bench.wait(lambda: _answers(port), "the node")
        assert "Cluster" in fails_with(bench, "CELERY_BROKER_URL", CELERY_BROKER_URL=f"redis://127.0.0.1:{port}/0")
    finally:
        child.end(node, signal.SIGTERM)


def _answers(port):
    import redis

    with redis.Redis(port=port) as client:
        return client.ping()


def test_a_worker_says_that_it_lives_what_it_did_and_how_long_its_queues_are(bench):
    port = child.free_port()
    bench.worker(WORKER_METRICS_PORT=str(port))
    bench.send(tasks.RECONCILE)

    def entry():
        with bench.redis() as client:
            return [json.loads(body) for body in client.hvals(keyspace.WORKERS)]

    bench.wait(lambda: entry() and entry()[0]["received_at"] > entry()[0]["started_at"], "the sign of life")

    def scrape():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    bench.wait(lambda: 'task_duration_seconds_count{task="publishing.reconcile"} 1.0' in scrape(), "the count")
    for queue in tasks.QUEUES:
        assert f'vantageedge_queue_depth{{queue="{queue}"}} 0.0' in scrape()
    assert bench.tenant_id not in scrape()


def test_every_line_of_the_log_is_json_and_none_holds_a_password(bench):
    worker, beat = bench.worker(), bench.beat()
    bench.wait(lambda: beat.says("lock taken"), "the beat")
    bench.send(tasks.PUBLISH, "not-a-uuid")
    bench.wait(lambda: worker.says("job failed"), "the failure")
    password = bench.valkey.url.split(":")[2].split("@")[0]
    for process in (worker, beat):
        text = process.log.read_text()
        assert password not in text
        for line in text.splitlines():
            if line.startswith("{"):
                assert {"event", "level", "@timestamp", "program"} <= json.loads(line).keys()
    assert {line["program"] for line in beat.lines()} == {"beat"}


def test_a_job_whose_store_is_away_is_put_off_and_done_when_it_is_back(bench, tmp_path):
    """The broker is a server of its own here, as in production."""
    with Valkey(tmp_path / "broker", aof=False) as broker:
        worker = bench.worker(CELERY_BROKER_URL=broker.url)
        bench.valkey.stop()
        bench.send(tasks.CACHE_PURGE, bench.tenant_id, None, None, broker=broker.url)
        bench.wait(lambda: worker.says("job put off"), "the retry")
        bench.valkey.start()
        with bench.redis() as client:
            generations = keyspace.cache_generations(bench.tenant_id)
            bench.wait(lambda: client.hgetall(generations) == {b"*": b"1"}, "the purge")
        assert bench.changes("purge")
        assert worker.stop() == 0


def test_importing_the_application_reads_no_environment_and_opens_nothing():
    done = subprocess.run(
        [sys.executable, "-c", "import worker.app"], env={}, capture_output=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
