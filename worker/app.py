"""The Celery application: `celery -A worker.app worker -P gevent`, `celery -A worker.app beat`.

In:    the environment (worker.settings).
Out:   app; rules().
Laws:  1. Importing reads no environment and opens nothing; the settings are read when Celery first asks. 2. A job is
       acknowledged after it is done and comes back when its worker dies, so every job may run twice. 3. No result
       backend, JSON only. 4. The gevent pool polls longer than its own sweep for lost jobs (`polling_interval`), or
       they would never come back. 5. A wrong setting ends the program with one line.
Not here: the jobs (worker.tasks), the beat table (worker.schedule).
"""

from __future__ import annotations

import ssl
import sys
import time
from typing import Any

import redis
from celery import Celery, signals
from kombu.entity import Queue

from contracts import tasks
from webapp.settings import SettingsError
from worker import liveness, logs, metrics, schedule, stores
from worker.job import Job
from worker.probes import Rules
from worker.settings import WorkerSettings, refuse_cluster
from worker.stores import settings

JOB_S_MAX = 60
"""A job that runs longer is ended; less than the visibility timeout, or a second copy would begin."""


def configuration(given: WorkerSettings) -> dict[str, Any]:
    """Give Celery's settings."""
    broker_url = given.console.celery_broker_url
    config: dict[str, Any] = {
        "broker_url": broker_url,
        "broker_transport_options": _transport(given),
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": None,
        "task_ignore_result": True,
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_default_queue": tasks.QUEUE_DEFAULT,
        "task_queues": [Queue(name, routing_key=name) for name in tasks.QUEUES],  # type: ignore[no-untyped-call]
        "task_routes": {task: {"queue": queue, "routing_key": queue} for task, queue in tasks.QUEUE_OF.items()},
        "task_create_missing_queues": False,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_time_limit": min(JOB_S_MAX, given.visibility_timeout_s),
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": 20,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_enable_remote_control": False,
        "enable_utc": True,
        "timezone": "UTC",
        "beat_schedule": schedule.table(given.probe_shards),
        "beat_scheduler": "worker.beat:Scheduler",
        "beat_max_loop_interval": schedule.LOOP_S,
        "redbeat_redis_url": broker_url,
        "redbeat_redis_options": {"socket_timeout": 5, "socket_connect_timeout": 2, "retry_period": 2},
        "redbeat_key_prefix": f"{tasks.BROKER_KEY_PREFIX}beat:",
        "redbeat_lock_timeout": schedule.LOCK_S,
    }
    if broker_url.startswith("rediss://") and "ssl_cert_reqs" not in broker_url:
        config["broker_use_ssl"] = config["redbeat_redis_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return config


def _transport(given: WorkerSettings) -> dict[str, Any]:
    return {
        "visibility_timeout": given.visibility_timeout_s,
        "polling_interval": 3,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "global_keyprefix": tasks.BROKER_KEY_PREFIX,
        "socket_keepalive": True,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "health_check_interval": 25,
    }


def _configuration_or_exit() -> dict[str, Any]:
    try:
        return configuration(settings())
    except SettingsError as error:
        raise SystemExit(f"VantageEdge worker: {error}") from None


app = Celery(
    "vantageedge",
    task_cls=Job,
    include=[
        "worker.tasks.publishing",
        "worker.tasks.health",
        "worker.tasks.cache",
        "worker.tasks.keys",
        "worker.tasks.identity_keys",
        "worker.tasks.services",
    ],
)
app.add_defaults(_configuration_or_exit)
_alive: liveness.Liveness | None = None


def rules() -> Rules:
    """Give the rules of health verdicts of this deployment."""
    return Rules(interval_s=settings().probe_interval_s)


@signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _set_up_logs(**_: Any) -> None:
    logs.set_up(settings().log_level, "beat" if "beat" in sys.argv else "worker")


@signals.worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _begin(sender: Any, **_: Any) -> None:
    _refuse_cluster_node(settings().console.celery_broker_url)
    stores.flask_app()
    metrics.serve(settings())
    global _alive
    _alive = liveness.Liveness(str(sender.hostname), stores.store())


@signals.beat_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _begin_beat(**_: Any) -> None:
    _refuse_cluster_node(settings().console.celery_broker_url)


def _refuse_cluster_node(url: str) -> None:
    """End the program when the broker turns out to be a cluster's node. A broker that is away may come later."""
    if not url.startswith(("redis://", "rediss://")):
        return
    client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        answer: Any = client.info("cluster")
    except redis.RedisError:
        return
    finally:
        client.close()
    if answer.get("cluster_enabled"):
        try:
            refuse_cluster("CELERY_BROKER_URL", "redis-cluster://")
        except SettingsError as error:
            raise SystemExit(f"VantageEdge worker: {error}") from None


@signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
def _ready(**_: Any) -> None:
    if _alive is not None:
        _alive.start()


@signals.worker_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
def _end(**_: Any) -> None:
    if _alive is not None:
        _alive.stop()


@signals.task_prerun.connect(weak=False)  # type: ignore[untyped-decorator]
def _job_began(**_: Any) -> None:
    if _alive is not None:
        _alive.began()


@signals.task_postrun.connect(weak=False)  # type: ignore[untyped-decorator]
def _job_ended(**_: Any) -> None:
    if _alive is not None:
        _alive.ended()


@signals.before_task_publish.connect(weak=False)  # type: ignore[untyped-decorator]
def _stamp(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None:
        headers.setdefault(metrics.SENT_AT, time.time())
