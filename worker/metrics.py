"""What the worker counts, and the port where it may be read.

Out:   task durations, failures, retries, probes; depth and age of each queue, looked up at each scrape.
Laws:  1. Labels are names of ours (tasks, queues, reasons), never a tenant's. 2. The port is off unless
       WORKER_METRICS_PORT is set. 3. A broker that is away leaves the queue's numbers out, never fails a scrape.
Not here: who counts (worker.job, worker.tasks).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any, Final

import redis
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from contracts import tasks
from worker.settings import WorkerSettings

TASK_SECONDS = Histogram(
    "vantageedge_task_duration_seconds",
    "Time a job took, retries apart.",
    ["task"],
    buckets=(0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
TASK_FAILURES = Counter("vantageedge_task_failures_total", "Jobs that ended with an error for good.", ["task"])
TASK_RETRIES = Counter("vantageedge_task_retries_total", "Times a job was put off because a store was away.", ["task"])
TASK_RECEIVED = Gauge("vantageedge_worker_last_job_timestamp_seconds", "Wall time at which the last job came in.")
PROBES = Counter("vantageedge_probes_total", "Health probes by what they found.", ["reason"])
PROBE_REASONS: Final = frozenset(
    """ok timeout connect-refused connect-failed connection-lost name-unresolved address-forbidden tls-invalid
    tls-failed tls-unusable response-invalid response-incomplete""".split()
)
SENT_AT: Final = "sent_at"
"""Header of each message we send: wall time."""


class Queues(Collector):
    """Depth and age of the oldest job of each queue. Blocks up to 1 s on the broker, at scrapes alone."""

    def __init__(self, broker_url: str) -> None:
        self._client = redis.Redis.from_url(broker_url, socket_timeout=1, socket_connect_timeout=1)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Name what is collected without asking the broker."""
        return _families()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        depth, age = _families()
        try:
            pipe = self._client.pipeline(transaction=False)
            for queue in tasks.QUEUES:
                pipe.llen(tasks.BROKER_KEY_PREFIX + queue)
                pipe.lindex(tasks.BROKER_KEY_PREFIX + queue, -1)  # pushed left, taken right
            answers: list[Any] = pipe.execute()
        except redis.RedisError:
            return []
        for queue, length, oldest in zip(tasks.QUEUES, answers[0::2], answers[1::2], strict=True):
            depth.add_metric([queue], length)
            age.add_metric([queue], _age(oldest))
        return [depth, age]


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily("vantageedge_queue_depth", "Jobs that wait.", labels=["queue"]),
        GaugeMetricFamily("vantageedge_queue_oldest_seconds", "Age of the job that waits longest.", labels=["queue"]),
    )


def _age(message: bytes | None) -> float:
    if message is None:
        return 0.0
    try:
        return max(0.0, time.time() - float(json.loads(message)["headers"][SENT_AT]))
    except (ValueError, KeyError, TypeError):
        return 0.0


def serve(settings: WorkerSettings) -> None:
    """Open the port, if one is set. Raises OSError when it is taken."""
    if not settings.metrics_port:
        return
    if settings.console.celery_broker_url.startswith(("redis://", "rediss://")):
        REGISTRY.register(Queues(settings.console.celery_broker_url))
    start_http_server(settings.metrics_port, addr=settings.metrics_bind)
