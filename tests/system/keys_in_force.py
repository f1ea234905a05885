"""How soon a change of a key is in force on every worker of an edge, from the control plane's own call on.

Run:   python -m tests.system.keys_in_force [--times 100] [--without-store]
In:    a real PostgreSQL, Valkey and edge host of two workers, all made here and ended here.
Out:   Stack, Case, CASES, seconds(); as a program, a table of percentiles over both workers together, and with
       --without-store how long a key that was revoked while Redis is dead goes on (about a minute of waiting).
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flask_migrate
import psutil
from flask import Flask

from bench.stats import percentile
from devstack.postgres import Postgres
from devstack.valkey import Valkey
from tests.edge.publishing import HOST
from tests.system.edge_host import EdgeHost, Origin
from tests.worker.conftest import environment, flask_app
from webapp.extensions import db, redis_client
from webapp.schemas.api_key import ApiKeyMade, ApiKeyNew, ApiKeyPatch, ApiKeyRotate
from webapp.schemas.origin import OriginNew
from webapp.schemas.route import RouteNew
from webapp.schemas.tenant import TenantNew
from webapp.services import api_keys, key_rotation, origins, routes, tenants
from webapp.services.actor import Actor, Caller

_NUMBERS = itertools.count()
PEPPERS = "1:" + "ab" * 32


class Connection:
    """A kept connection to one worker."""

    def __init__(self, edge: EdgeHost) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=5)
        self._http.connect()
        self.port = self._http.sock.getsockname()[1]
        self.fields: dict[str, str] = {}

    def ask(self, key: str, path: str = "/x") -> int:
        self._http.request("GET", path, headers={"Host": HOST, "X-API-Key": key})
        answer = self._http.getresponse()
        answer.read()
        self.fields = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status

    def close(self) -> None:
        self._http.close()


class Stack(ExitStack):
    """The control plane's services over real stores, and an edge with one kept connection to each of two workers."""

    def __init__(self, postgres: Postgres, valkey: Valkey, folder: Path) -> None:
        super().__init__()
        self._postgres, self.valkey, self._folder = postgres, valkey, folder

    def __enter__(self) -> Stack:
        super().__enter__()
        name = self._postgres.create_database(f"keys_in_force_{next(_NUMBERS)}")
        self.callback(self._postgres.drop_database, name)
        urls = self._postgres.url("app", name), self._postgres.url("owner", name)
        self.app = flask_app(environment(*urls, self.valkey.url))
        with self.app.app_context():
            flask_migrate.upgrade()
        self.callback(self._close_app, self.app)
        origin = Origin()
        self.callback(origin.close)
        self.actor = self._tenant(origin.url)
        # We are refused again and again, on purpose: a client who is must wait, unless that is switched off.
        self.edge = EdgeHost(self.valkey.url, self._folder, KEY_PEPPERS=PEPPERS, EDGE_AUTH_FAILURES_MAX="0")
        self.enter_context(self.edge)
        self.workers = self._connections()
        return self

    def _close_app(self, app: Flask) -> None:
        with app.app_context():
            db.engine.dispose()
            redis_client().close()

    def _tenant(self, origin_url: str) -> Actor:
        caller = Caller(org_id="org_2demo", clerk_user_id="user_2alice", role="admin", via="api", request_id="r")
        with self.app.app_context():
            tenant = tenants.create(caller, TenantNew(name="demo", subdomain="demo", clerk_org_id="org_2demo")).view
            actor = tenants.actor_of(caller, tenant.id, None)
            origin = origins.create(actor, OriginNew(name="origin", url=origin_url)).view
            routes.create(actor, RouteNew(path_pattern="/*", origin_id=origin.id, auth_mode="apikey_required"))
        return actor

    def _connections(self) -> list[Connection]:
        """One to each worker, told apart by who holds the other end."""
        found: dict[int, Connection] = {}
        while len(found) < self.edge.workers:
            connection = Connection(self.edge)
            self.callback(connection.close)
            connection.ask("nobody-knows-this")
            for pid in self.edge.pids():
                held = psutil.Process(pid).net_connections("tcp")
                if any(item.raddr and item.raddr.port == connection.port for item in held):
                    found.setdefault(pid, connection)
        return list(found.values())

    def key(self, **fields: object) -> ApiKeyMade:
        """Make a key that both workers know."""
        made = api_keys.create(self.actor, ApiKeyNew(name="k", scopes=("read",), **fields)).view
        self.until(made.key, 200)
        return made

    def until(self, key: str, status: int, timeout_s: float = 10.0) -> float:
        """Ask both workers until each has answered so; give the monotonic time of the last first such answer."""
        waiting, end = list(self.workers), time.monotonic() + timeout_s
        while True:
            waiting = [worker for worker in waiting if worker.ask(key) != status]
            now = time.monotonic()
            if not waiting:
                return now
            assert now < end, f"not {status} everywhere within {timeout_s} s"


@dataclass(frozen=True)
class Case:
    """`change` is made to a key that works; it counts as in force when each worker answers `status`."""

    name: str
    change: Callable[[Stack, ApiKeyMade], object]
    status: int = 401
    begins_late_s: float = 0.0
    """The change itself says that it takes effect so much later."""


def _end_soon(stack: Stack, key: ApiKeyMade) -> object:
    at = datetime.now(UTC) + timedelta(seconds=_SOON_S)
    return api_keys.update(stack.actor, key.id, ApiKeyPatch(expires_at=at))


_SOON_S = 0.3
CASES = (
    Case("revoked", lambda stack, key: api_keys.revoke(stack.actor, key.id)),
    Case("disabled", lambda stack, key: api_keys.disable(stack.actor, key.id)),
    Case("scopes taken", lambda stack, key: api_keys.update(stack.actor, key.id, ApiKeyPatch(scopes=())), 403),
    Case("its end comes sooner", _end_soon, begins_late_s=_SOON_S),
    Case("rotated, no grace", lambda s, key: key_rotation.rotate(s.actor, key.id, ApiKeyRotate(grace_seconds=0))),
)


def seconds(stack: Stack, case: Case, times: int) -> list[float]:
    """Give the seconds from each call's beginning (or the moment it named) to the last worker's first refusal."""
    taken = []
    with stack.app.app_context():
        for _ in range(times):
            key = stack.key()
            began = time.monotonic() + case.begins_late_s
            case.change(stack, key)
            taken.append(stack.until(key.key, case.status) - began)
    return taken


def seconds_without_store(stack: Stack) -> float:
    """Give how long a key goes on that is revoked while Redis is dead: until both workers refuse it."""
    with stack.app.app_context():
        key = stack.key()
        stack.valkey.kill()
        began = time.monotonic()
        api_keys.revoke(stack.actor, key.id)
        return stack.until(key.key, 503, timeout_s=90) - began


def main() -> int:
    parser = argparse.ArgumentParser(prog="keys_in_force", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--without-store", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(Postgres(folder / "postgres", durable=False))
        valkey = stack.enter_context(Valkey(folder / "valkey", aof=False))
        running = stack.enter_context(Stack(postgres, valkey, folder))
        print(f"seconds until both workers refuse, {options.times} tries each: p50, p99, worst")
        for case in CASES:
            taken = seconds(running, case, options.times)
            marks = percentile(taken, 0.5), percentile(taken, 0.99), max(taken)
            print(f"{case.name:24}" + "".join(f"{mark:9.3f}" for mark in marks), flush=True)
        if options.without_store:
            print(f"revoked while Redis is dead: refused after {seconds_without_store(running):.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
