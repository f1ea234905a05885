"""VantageEdge: one host of so many workers, as `python -m edge` starts it; tenants go straight into Redis."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass

from bench import publish
from bench.budgets import CACHED, ECHO, FEW, FULL, JWT, KEYED, MANY, OURS, PLAIN
from bench.lab import GATEWAY_CORE, HOST, Ask, BenchError, Lab
from bench.procfs import family
from devstack.child import free_port

HOSTS = {number: f"bench{number}.localhost" for number in (10, 1_000)}
VARIED_PATHS = 1_000
_WORKERS = re.compile(rb"^vantageedge_workers(?:{[^}]*})? (\S+)$", re.MULTILINE)
_KEYED = (f"Host: {HOST}", f"X-API-Key: {publish.KEY}")
_WRONG = (f"Host: {HOST}", f"X-API-Key: {publish.WRONG_KEY}")


@dataclass(frozen=True)
class Host:
    """A running edge host."""

    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def workers(self) -> list[int]:
        """Give the process ids of the workers."""
        return family(self.pid)[1:]


def launch(lab: Lab, name: str = "edge", workers: int = 1, core: int | set[int] = GATEWAY_CORE) -> Host:
    """Start a host over the lab's Redis and wait until all its workers serve. Raises BenchError."""
    port, metrics_port = free_port(), free_port()
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "REDIS_URL": lab.valkey.url,
        "KEY_PEPPERS": "1:" + publish.PEPPER.hex(),
        "EDGE_BASE_DOMAIN": "localhost",
        "CLERK_ISSUER": publish.ISSUER,
        "CLERK_JWT_KEY": publish.jwt_key(),
        "CONSOLE_URL": publish.PARTY,
        "EDGE_BIND": "127.0.0.1",
        "EDGE_PORT": str(port),
        "EDGE_METRICS_PORT": str(metrics_port),
        "EDGE_WORKERS": str(workers),
        "EDGE_STATE_DIR": str(lab.folder / f"{name}-state"),
        "EDGE_ACCESS_LOG": str(lab.access_log(f"{name}-access.log")),
        "ALLOWED_PRIVATE_ORIGINS": "127.0.0.0/8",
    }
    process = lab.spawn(name, [sys.executable, "-m", "edge"], port, core, environ)
    _await_ready(metrics_port, workers)  # the parent listens before its workers serve
    return Host(process, port, metrics_port)


def publish_tenants(lab: Lab, bodies_port: int = 0, echo_port: int = 0) -> None:
    """Publish the tenant of the chains and the two of few and many routes. Port 0: nobody asks for it."""
    ports = {"origin": lab.origin_port, "bodies": bodies_port or lab.origin_port, "echo": echo_port or lab.origin_port}
    publish.publish(lab.valkey.url, publish.chains(ports), HOST, (publish.KEY,))
    for number, host in HOSTS.items():
        publish.publish(lab.valkey.url, publish.many_routes(lab.origin_port, number), host, ())


def asks(lab: Lab, host: Host) -> list[Ask]:
    """Give what a host is asked, once `publish_tenants` was called."""

    def ask(what: str, path: str, fields: tuple[str, ...], refusal: tuple[str, ...] = (), script: str = "") -> Ask:
        return Ask(OURS, what, host.pid, host.port, path, fields, refusal, script)

    token = (f"Host: {HOST}", f"Authorization: Bearer {publish.session_token()}")
    varied = []
    for number, name in HOSTS.items():
        script = lab.data(f"routes-{number}.lua", "routes.lua", {"ROUTES": number, "PATHS": VARIED_PATHS})
        what = {10: FEW, 1_000: MANY}[number]
        varied.append(ask(what, "/r/0/0", (f"Host: {name}",), script=str(script)))
    return [
        ask(FULL, "/full/posts/1", _KEYED, _WRONG),
        ask(KEYED, "/keyed/posts/1", _KEYED, _WRONG),
        ask(PLAIN, "/plain/posts/1", (f"Host: {HOST}",)),
        ask(JWT, "/session/posts/1", token, (f"Host: {HOST}", "Authorization: Bearer e30.e30.AAAA")),
        ask(CACHED, "/cached/posts/1", _KEYED, _WRONG),
        *varied,
        ask(ECHO, "/echo/1", (f"Host: {HOST}",)),
    ]


def start(lab: Lab, echo_port: int = 0) -> list[Ask]:
    """Raises BenchError."""
    publish_tenants(lab, echo_port=echo_port)
    return asks(lab, launch(lab))


def _await_ready(metrics_port: int, workers: int) -> None:
    until_mono = time.monotonic() + 30
    while time.monotonic() < until_mono:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/readyz", timeout=5):
                pass
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=5) as answer:
                found = _WORKERS.search(answer.read())
                if found and float(found[1]) == workers:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise BenchError("the edge did not become ready")
