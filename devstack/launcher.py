"""`make demo`: start everything, wait until it really answers, say how to use it, end everything.

In:    devstack.environment, the Procfile.
Out:   a running demo, `.devstack/demo.json`, exit status 0 after Ctrl-C or SIGTERM and 1 when it could not start.
Laws:  1. Ready means ready: a request has gone through the edge to the origin, and the worker takes jobs. 2. Whatever
       fails, every process that was started is ended, and the last line says why. 3. One demo per folder. 4. No
       terminal is needed.
Not here: settings (environment), single processes (processes), what is seeded (seed).
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import IO

import requests

from devstack import environment, seed
from devstack.checks import a_worker_takes_jobs, check_database, check_redis, check_settings, schema_is_newest
from devstack.child import DevstackError, last_lines, lock, require_port
from devstack.environment import PORTS, ROOT, Demo
from devstack.postgres import Postgres
from devstack.processes import Process, end_all, read_procfile
from devstack.valkey import Valkey

READY_S = 90.0
PATIENCE_S = 25.0
RELOADED = ("contracts", "edge", "webapp", "worker", "templates")
_ANY_ANSWER = range(100, 600)


class Ended(BaseException):
    """Somebody asked us to end."""


class Launcher:
    def __init__(self, demo: Demo, say: Callable[[str], None], *, reload: bool = False) -> None:
        self._demo = demo
        self._say = say
        self._reload = reload
        self._lock: IO[str] | None = None
        self._postgres: Postgres | None = None
        self._valkey: Valkey | None = None
        self._processes: list[Process] = []

    # -- start --

    def start(self) -> None:
        """Start everything. Blocks until the demo answers. Raises DevstackError."""
        self._lock = lock(self._demo.folder / "lock", f"the demo of {self._demo.folder.parent}")
        self._require_ports()
        commands = read_procfile(ROOT / "Procfile")
        began_at = time.time()
        self._start_stores()
        check_settings(self._demo.environ)
        ports, python = self._demo.ports, f"exec '{sys.executable}' -m"
        clerk = (
            f"--port {ports['DEVSTACK_CLERK_PORT']} --folder .devstack/clerk --console-url '{self._demo.console_url}'"
        )
        self._start("clerk", f"{python} devstack.clerk {clerk}")
        self._start("origin", f"{python} devstack.origin --port {ports['DEVSTACK_ORIGIN_PORT']}")
        if "edge" in commands:  # needs no database
            self._start("edge", commands.pop("edge"))
        if not schema_is_newest(self._demo.environ):
            self.migrate()
        for name, command in commands.items():
            self._start(name, command)
        self._wait_for("clerk", f"{self._demo.clerk_url}/.well-known/jwks.json")
        self._wait_for("origin", f"{self._demo.origin_url}/health")
        self._wait_for("web", f"{self._local('PORT')}/api/v1/openapi.json")
        seed.seed(self._local("PORT"), self._demo.clerk_url, self._demo.origin_url)
        self._wait_for("edge", f"{self._local('EDGE_METRICS_PORT')}/metrics", expected=_ANY_ANSWER)
        self._wait_for("edge", f"{self._local('EDGE_PORT')}/api/public/posts", host=self._demo.edge_host)
        if "worker" in commands:
            self._wait_for_worker(began_at)
        self._write_record()

    def _local(self, port: str) -> str:
        return f"http://127.0.0.1:{self._demo.ports[port]}"

    def _require_ports(self) -> None:
        for name, (_, what) in PORTS.items():
            if (name == "DEVSTACK_POSTGRES_PORT" and not self._demo.own_postgres) or (
                name == "DEVSTACK_VALKEY_PORT" and not self._demo.own_valkey
            ):
                continue
            require_port(self._demo.ports[name], what, name)

    def _start_stores(self) -> None:
        environ, ports = self._demo.environ, self._demo.ports
        if self._demo.own_valkey:
            folder = self._demo.folder / "valkey"
            self._valkey = Valkey(folder, ports["DEVSTACK_VALKEY_PORT"], setting="DEVSTACK_VALKEY_PORT")
            environ["REDIS_URL"] = self._valkey.start().url
        else:
            check_redis(environ["REDIS_URL"])
        if self._demo.own_postgres:
            self._postgres = own_postgres(self._demo).start()
            environ["DATABASE_URL"] = self._postgres.url("app")
            environ["MIGRATION_DATABASE_URL"] = self._postgres.url("owner")
        else:
            check_database("DATABASE_URL", environ["DATABASE_URL"])
            if environ.get("MIGRATION_DATABASE_URL"):
                check_database("MIGRATION_DATABASE_URL", environ["MIGRATION_DATABASE_URL"])

    def migrate(self) -> None:
        """Bring the schema up to date. Raises DevstackError with the last lines of the log."""
        log = self._demo.logs / "migrate.log"
        argv = [sys.executable, "-m", "flask", "--app", "webapp.app:create_app", "db", "upgrade"]
        with log.open("wb") as output:
            done = subprocess.run(
                argv,
                cwd=ROOT,
                env=self._demo.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        if done.returncode != 0:
            raise DevstackError(f"the migration failed: {last_lines(log, 1)} (whole output: {log})")

    def _start(self, name: str, command: str) -> None:
        log = self._demo.logs / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.old"))
        process = Process(name, command, self._demo.environ, log, ROOT)
        self._processes.append(process)
        process.start()

    def _wait_for(self, name: str, url: str, *, host: str = "", expected: range = range(200, 300)) -> None:
        seen = "no answer"
        deadline_mono = time.monotonic() + READY_S
        with requests.Session() as session:
            session.trust_env = False
            while time.monotonic() < deadline_mono:
                self._require_living()
                try:
                    answer = session.get(url, headers={"Host": host} if host else {}, timeout=5, allow_redirects=False)
                except requests.RequestException as error:
                    seen = type(error).__name__
                else:
                    if answer.status_code in expected:
                        return
                    seen = f"status {answer.status_code}"
                time.sleep(0.05)
        log = self._demo.logs / f"{name}.log"
        raise DevstackError(
            f"{name} was not ready within {READY_S:.0f} s ({url}: {seen}): {last_lines(log)} (log: {log})"
        )

    def _wait_for_worker(self, began_at: float) -> None:
        """It has no port of its own: it says in Redis that it lives."""
        deadline_mono = time.monotonic() + READY_S
        while not a_worker_takes_jobs(self._demo.environ["REDIS_URL"], began_at):
            self._require_living()
            if time.monotonic() > deadline_mono:
                log = self._demo.logs / "worker.log"
                raise DevstackError(f"worker was not ready within {READY_S:.0f} s: {last_lines(log)} (log: {log})")
            time.sleep(0.05)

    def _require_living(self) -> None:
        for process in self._processes:
            how = process.ended()
            if how is not None:
                raise DevstackError(f"{how} (log: {process.log})")

    def _write_record(self) -> None:
        said = {
            "pid": os.getpid(),
            "console_url": self._demo.console_url,
            "api_url": self._local("PORT"),
            "edge_url": self._demo.edge_url,
            "clerk_url": self._demo.clerk_url,
            "origin_url": self._demo.origin_url,
            "metrics_url": f"{self._local('EDGE_METRICS_PORT')}/metrics",
            "processes": {process.name: process.pid for process in self._processes},
        }
        self._demo.record.write_text(json.dumps(said, indent=1) + "\n")

    # -- while it runs --

    def watch(self) -> None:
        """Show warnings and mend what ends, until somebody asks us to end. Does not return."""
        files = newest(RELOADED) if self._reload else 0.0
        while True:
            time.sleep(0.5)
            for process in self._processes:
                for line in process.warnings():
                    self._say(f"{process.name:<7}| {line}")
                mended = process.mend(time.monotonic())
                if mended:
                    self._say(mended)
            if self._reload and newest(RELOADED) > files:
                files = newest(RELOADED)
                self._restart()

    def _restart(self) -> None:
        self._say("a source file changed: restarting web, edge, worker and beat")
        names = read_procfile(ROOT / "Procfile")
        chosen = [process for process in self._processes if process.name in names]
        end_all(chosen, 5.0)
        for process in chosen:
            process.start()

    # -- end --

    def stop(self) -> None:
        """End everything that was started. Blocks until it is gone."""
        if self._lock is None:  # another demo's folder
            return
        self._demo.record.unlink(missing_ok=True)
        stores = ("clerk", "origin")
        end_all([process for process in self._processes if process.name not in stores], PATIENCE_S)
        end_all([process for process in self._processes if process.name in stores], 5.0)
        self._processes.clear()
        for store in (self._valkey, self._postgres):
            if store is not None:
                store.stop()
        self._lock.close()
        self._lock = None


def own_postgres(demo: Demo) -> Postgres:
    port = demo.ports["DEVSTACK_POSTGRES_PORT"]
    return Postgres(demo.folder / "postgres", port, setting="DEVSTACK_POSTGRES_PORT")


def newest(folders: tuple[str, ...]) -> float:
    """Give the time of the last change below these folders."""
    times = (path.stat().st_mtime for name in folders for path in (ROOT / name).rglob("*") if path.suffix != ".pyc")
    return max(times, default=0.0)


def welcome(demo: Demo) -> str:
    edge, console = demo.edge_url, demo.console_url
    return f"""VantageEdge is ready

  Console  {console}   sign in as alice (admin), bob (member) or charlie (a stranger)
  Edge     {edge}
  Logs     {demo.logs}

  curl -i {edge}/api/public/posts
  curl -i -H "Authorization: Bearer $(scripts/demo-token alice)" {edge}/api/users/1
  curl -i -H 'X-API-Key: {seed.DEMO_KEY}' {edge}/api/admin/users
  curl -i {edge}/api/posts/1
  curl -s -H "Authorization: Bearer $(scripts/demo-token alice)" {console}/api/v1/tenants

  scripts/test-requests.sh runs the demo's five requests. Ctrl-C ends everything.
"""


@contextlib.contextmanager
def ending_by_signal() -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into Ended, once; what comes later cannot interrupt the clearing up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Ended

    for each in numbers:
        if not (each == signal.SIGHUP and signal.getsignal(each) == signal.SIG_IGN):  # nohup make demo
            signal.signal(each, end)
    if os.environ.get("MAKELEVEL") and sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # a killed make takes us with it
    yield


def say(line: str) -> None:
    with contextlib.suppress(OSError):  # a closed terminal must not end the demo
        print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="devstack.launcher", description="Start the demo.")
    parser.add_argument("--reload", action="store_true", help="restart processes when a source file changes")
    parser.add_argument("--migrate", action="store_true", help="bring the database to the newest schema, then end")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    launcher: Launcher | None = None
    try:
        with ending_by_signal():
            demo = environment.load()
            launcher = Launcher(demo, say, reload=chosen.reload)
            if chosen.migrate:
                return migrate_alone(demo, launcher)
            say("Starting PostgreSQL, Valkey, the console, the edge, the worker")
            launcher.start()
            say(welcome(demo))
            launcher.watch()
    except Ended:
        say("Ending the demo")
    except DevstackError as error:
        print(f"make demo: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        if launcher is not None:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            launcher.stop()
    return 0


def migrate_alone(demo: Demo, launcher: Launcher) -> int:
    """Migrate the given database, or the demo's own, whether the demo runs or not."""
    environ = demo.environ
    if not demo.own_postgres or environ.get("MIGRATION_DATABASE_URL"):
        check_database("MIGRATION_DATABASE_URL", environ.get("MIGRATION_DATABASE_URL") or environ["DATABASE_URL"])
        launcher.migrate()
        return 0
    server = own_postgres(demo)
    running = is_open(server.port)
    if running:
        server.attach()
    else:
        server.start()
    try:
        environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")  # a migration publishes nothing
        environ["DATABASE_URL"], environ["MIGRATION_DATABASE_URL"] = server.url("app"), server.url("owner")
        launcher.migrate()
    finally:
        if not running:
            server.stop()
    say("The database has the newest schema")
    return 0


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
