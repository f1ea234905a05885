"""The product for a browser: console, edge, stores, Clerk stand-in and origin as real processes on free ports.

In:    a PostgreSQL cluster, a Valkey, a folder.
Out:   Stack: addresses, and the JSON API as one of the cast.
Laws:  1. Nothing outlives the `with` block (devstack.leash). 2. The processes are those of the Procfile.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from devstack import child, environment
from devstack.clerk import people
from devstack.postgres import Postgres
from devstack.processes import Process, end_all, read_procfile
from devstack.valkey import Valkey

READY_S = 60.0


class Stack:
    def __init__(self, folder: Path, postgres: Postgres, valkey: Valkey, processes: tuple[str, ...] = ("web", "edge")):
        ports = {name: str(child.free_port()) for name in environment.PORTS}
        self.demo = environment.load(
            {"PATH": os.environ["PATH"], "EDGE_WORKERS": "2", "WEB_WORKERS": "1", **ports}, folder
        )
        self.demo.environ |= {"HOME": str(folder), "LANG": "C.UTF-8"}
        self._postgres, self._valkey, self._names = postgres, valkey, processes
        self._processes: list[Process] = []

    def __enter__(self) -> Stack:
        name = self._postgres.create_database(f"browser_{self.demo.ports['PORT']}")
        environ = self.demo.environ
        environ["DATABASE_URL"] = self._postgres.url("app", name)
        environ["MIGRATION_DATABASE_URL"] = self._postgres.url("owner", name)
        environ["REDIS_URL"] = environ["CELERY_BROKER_URL"] = self._valkey.url
        migrate = [sys.executable, "-m", "flask", "--app", "webapp.app:create_app", "db", "upgrade"]
        done = subprocess.run(migrate, cwd=environment.ROOT, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        ports, python = self.demo.ports, f"exec {sys.executable} -m"
        clerk_options = f"--folder {self.demo.folder}/clerk --console-url {self.console_url}"
        self._start("clerk", f"{python} devstack.clerk --port {ports['DEVSTACK_CLERK_PORT']} {clerk_options}")
        self._start("origin", f"{python} devstack.origin --port {ports['DEVSTACK_ORIGIN_PORT']}")
        commands = read_procfile(environment.ROOT / "Procfile")
        for process in self._names:
            self._start(process, commands[process])
        try:
            self._wait(f"{self.demo.clerk_url}/.well-known/jwks.json")
            self._wait(f"{self.demo.origin_url}/health")
            self._wait(f"http://127.0.0.1:{ports['PORT']}/livez")
            if "edge" in self._names:
                self._wait(f"http://127.0.0.1:{ports['EDGE_METRICS_PORT']}/metrics")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        end_all(self._processes, 10.0)

    @property
    def console_url(self) -> str:
        return self.demo.console_url

    @property
    def edge_url(self) -> str:
        return self.demo.edge_url

    @property
    def origin_url(self) -> str:
        return self.demo.origin_url

    def _start(self, name: str, command: str) -> None:
        process = Process(name, command, self.demo.environ, self.demo.logs / f"{name}.log", environment.ROOT)
        self._processes.append(process)
        process.start()

    def _wait(self, url: str) -> None:
        deadline_mono = time.monotonic() + READY_S
        while True:
            ended = [how for how in (process.ended() for process in self._processes) if how]
            assert not ended, ended
            try:
                requests.get(url, timeout=2)
                return
            except (requests.ConnectionError, requests.Timeout):
                assert time.monotonic() < deadline_mono, f"{url} does not answer"
                time.sleep(0.05)

    def token(self, person: str) -> str:
        answer = requests.post(f"{self.demo.clerk_url}/__dev/tokens", json={"person": person}, timeout=10)
        return str(answer.json()["jwt"])

    def api(self, person: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask the JSON API as one of the cast; gives what it answered."""
        answer = requests.request(
            method,
            f"{self.console_url}/api/v1{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token(person)}"},
            timeout=20,
        )
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def seed(self) -> None:
        """Give alice's organisation its tenant; charlie's gets one in test_onboarding."""
        demo = people.DEMO_COMPANY
        self.api("alice", "POST", "/tenants", {"name": demo.name, "subdomain": "demo", "clerk_org_id": demo.org_id})

    def origin(self, name: str) -> str:
        """Make an origin of alice's that leads to the demo's; give its id."""
        return str(self.api("alice", "POST", "/origins", {"name": name, "url": self.origin_url})["id"])

    def route(self, path_pattern: str, origin_id: str, **fields: Any) -> str:
        body = {"path_pattern": path_pattern, "origin_id": origin_id, "auth_mode": "public", **fields}
        return str(self.api("alice", "POST", "/routes", body)["id"])
