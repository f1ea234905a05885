"""A tenant in a migrated database, a Valkey, an origin that obeys, and real workers and beats over them.

Out:   bench (a fresh database and Valkey with alice's tenant), origin, and bench.worker() / bench.beat().
Laws:  1. Each process started here is ended here, by its own handle, and by the kernel if the tests are killed.
       2. A failed wait shows the processes' logs.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import flask_migrate
import pytest
import redis
from flask import Flask
from redis.backoff import NoBackoff
from redis.retry import Retry

from contracts import keyspace, messages, tasks
from devstack import child
from devstack.postgres import Postgres
from devstack.valkey import Valkey
from webapp import extensions, redis_store
from webapp import settings as console_settings
from webapp.extensions import db
from webapp.schemas.origin import OriginNew
from webapp.schemas.tenant import TenantNew
from webapp.services import origins, tenants
from webapp.services.actor import Actor, Caller

ROOT = Path(__file__).parents[2]
_NUMBERS = itertools.count()
_ORG = "org_2demo"


def environment(database_url: str, owner_url: str, redis_url: str) -> dict[str, str]:
    return {
        "VANTAGEEDGE_ENV": "development",
        "DATABASE_URL": database_url,
        "MIGRATION_DATABASE_URL": owner_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": "s" * 40,
        "KEY_PEPPERS": "1:" + "ab" * 32,
        "CLERK_PUBLISHABLE_KEY": "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k",
        "CLERK_SECRET_KEY": "sk_test_x",
        "CLERK_WEBHOOK_SECRET": "whsec_x",
        "CONSOLE_URL": "http://localhost:8080",
        "EDGE_BASE_DOMAIN": "localhost",
        "ALLOWED_PRIVATE_ORIGINS": "127.0.0.0/8",
        "WORKER_PROBE_INTERVAL_S": "0.5",
        "WORKER_PROBE_SHARDS": "2",
        "WORKER_VISIBILITY_TIMEOUT_S": "5",
    }


def flask_app(environ: dict[str, str]) -> Flask:
    made = Flask("webapp")
    extensions.init_app(made, console_settings.load(environ))
    return made


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> str:
    """The name of a template database with the schema."""
    name = postgres.create_database("worker_template")
    app = flask_app(environment(postgres.url("app", name), postgres.url("owner", name), "redis://127.0.0.1:1/0"))
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()
    return name


class Origin:
    """A small HTTP server whose answer can be changed while it runs; remembers the paths it was asked for."""

    def __init__(self) -> None:
        self.status = 200
        self.delay_s = 0.0
        self.asked: list[tuple[str, str]] = []
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers["Host"]))
                time.sleep(outer.delay_s)
                with contextlib.suppress(OSError):
                    self.send_response(outer.status)
                    self.send_header("Location", "/elsewhere")
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.close()


@dataclass
class Process:
    """One worker or beat."""

    popen: subprocess.Popen[bytes]
    log: Path

    def stop(self, number: int = signal.SIGTERM, patience_s: float = 15) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            return self.popen.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def says(self, event: str) -> bool:
        return any(event in str(line.get("event")) for line in self.lines())


@dataclass
class Bench:
    environ: dict[str, str]
    valkey: Valkey
    folder: Path
    app: Flask
    actor: Actor
    processes: list[Process] = field(default_factory=list)

    @property
    def tenant_id(self) -> str:
        return str(self.actor.tenant_id)

    def worker(self, **more: str) -> Process:
        process = self._start(["worker", "-P", "gevent", "-c", "20", "--without-gossip", "--without-mingle"], more)
        self.wait(lambda: process.says("ready"), "the worker to be ready")
        return process

    def beat(self, **more: str) -> Process:
        return self._start(["beat"], more)

    def _start(self, arguments: list[str], more: dict[str, str]) -> Process:
        log = self.folder / f"{arguments[0]}-{len(self.processes)}.log"
        popen = child.spawn(
            [sys.executable, "-m", "celery", "--quiet", "-A", "worker.app", *arguments],
            log=log,
            ends_with=signal.SIGKILL,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environ, **more},
            cwd=ROOT,
        )
        process = Process(popen, log)
        self.processes.append(process)
        return process

    def send(self, task: str, *args: object, task_id: str | None = None, broker: str = "") -> str:
        from celery import Celery

        with Celery("sender", broker=broker or self.valkey.url, set_as_current=False) as celery:
            celery.conf.broker_transport_options = {"global_keyprefix": tasks.BROKER_KEY_PREFIX}
            celery.conf.task_ignore_result = True
            return str(celery.send_task(task, args=args, task_id=task_id, queue=tasks.QUEUE_OF[task], retry=False).id)

    def redis(self) -> redis.Redis:
        return redis_store.connect(self.environ["REDIS_URL"], Retry(NoBackoff(), 1), socket_timeout=5)

    def changes(self, kind: str) -> list[messages.Change]:
        with self.redis() as client:
            entries = client.xrange(keyspace.CHANGES)
        return [c for _, fields in entries if (c := messages.decode_change(fields[messages.FIELD])).kind == kind]

    def make_origin(self, url: str, path: str | None = "/health") -> tuple[str, str]:
        with self.app.app_context():
            view = origins.create(
                self.actor, OriginNew(name=f"o{next(_NUMBERS)}", url=url, health_check_path=path)
            ).view
        return str(view.id), str(view.targets[0].id)

    def health(self, target_id: str) -> messages.TargetHealth | None:
        with self.redis() as client:
            body = client.hget(keyspace.origin_health(self.tenant_id), target_id)
        return None if body is None else messages.decode_health(body)

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(redis.ConnectionError):
                if condition():
                    return
            time.sleep(0.05)
        logs = "\n".join(f"== {p.log.name}\n{p.log.read_text()[-3000:]}" for p in self.processes)
        raise AssertionError(f"waited {timeout_s} s in vain for {what}\n{logs}")


@pytest.fixture
def bench(postgres: Postgres, migrated: str, valkey: Valkey, tmp_path: Path) -> Iterator[Bench]:
    yield from bench_over(postgres, migrated, valkey, tmp_path, valkey.url)


def bench_over(postgres: Postgres, migrated: str, valkey: Valkey, tmp_path: Path, store_url: str) -> Iterator[Bench]:
    """`valkey` is the broker, and the store where `store_url` leads to no cluster."""
    name = postgres.create_database(f"worker_{next(_NUMBERS)}", migrated)
    environ = environment(postgres.url("app", name), postgres.url("owner", name), store_url)
    environ["CELERY_BROKER_URL"] = valkey.url
    app = flask_app(environ)
    caller = Caller(org_id=_ORG, clerk_user_id="user_2alice", role="admin", via="api", request_id="r")
    with app.app_context():
        view = tenants.create(caller, TenantNew(name="demo-company", subdomain="demo", clerk_org_id=_ORG)).view
        actor = tenants.actor_of(caller, view.id, None)
    made = Bench(environ, valkey, tmp_path, app, actor)
    try:
        yield made
    finally:
        for process in made.processes:
            process.kill()
        with app.app_context():
            db.engine.dispose()
            extensions.redis_client().close()
        postgres.drop_database(name)


def rows(bench: Bench, statement: Any) -> list[Any]:
    """Read as the owner of everything would: under the system's scope."""
    with bench.app.app_context(), extensions.system_scope() as session:
        return list(session.execute(statement).all())
