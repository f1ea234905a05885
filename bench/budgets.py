"""The rows of the table: what is measured, in which unit, and what it may come to.

In:    nothing.
Out:   Budget values, in the order of the table.
Laws:  1. A budget is written once, here. 2. `first` is what must hold, `goal` what tuning is for. 3. A cost row names
       the two figures it divides, as gateway and what.
Not here: how a row is measured (bench.rows).
"""

from __future__ import annotations

from dataclasses import dataclass

OURS = "VantageEdge"


@dataclass(frozen=True)
class Budget:
    """`group`: what measures it. `ours` and `theirs` (gateway, what): what a ratio of costs divides."""

    id: str
    text: str
    group: str
    unit: str
    first: float
    goal: float | None
    at_least: bool = False
    ours: str = ""
    theirs: tuple[str, str] = ("", "")


def _cost(row: str, text: str, first: float, goal: float, ours: str, gateway: str, theirs: str) -> Budget:
    return Budget(row, text, "cost", "×", first, goal, ours=ours, theirs=(gateway, theirs))


FULL = "full chain"
PLAIN = "plain proxy"
CACHED = "cache hit"
KEYED = "key, no limit"
JWT = "full chain, session token"
FEW, MANY = "10 routes", "1,000 routes"
ECHO = "WebSocket echo"

BUDGETS: tuple[Budget, ...] = (
    _cost("full-envoy", "full chain vs Envoy, full chain", 0.85, 0.5, FULL, "Envoy", FULL),
    _cost("full-traefik", "full chain vs Traefik, full chain (no key check)", 0.5, 0.3, FULL, "Traefik", FULL),
    _cost("full-nginx", "full chain vs nginx, plain proxy", 4.0, 2.5, FULL, "nginx", PLAIN),
    _cost("cache-nginx", "cache hit, full chain, vs nginx proxy_cache hit", 1.8, 1.0, CACHED, "nginx", CACHED),
    _cost("jwt-key", "full chain, session token seen before vs API key", 1.1, 1.05, JWT, OURS, FULL),
    _cost("limit-none", "distributed limit (never exceeded) vs no limit", 1.35, 1.1, FULL, OURS, KEYED),
    _cost("routes", "1,000 routes in one tenant vs 10", 1.15, 1.03, MANY, OURS, FEW),
    _cost("websocket", "WebSocket echo through the tunnel vs HAProxy", 2.5, 1.5, ECHO, "HAProxy", ECHO),
    Budget("latency-p50", "added latency at 30 % load, p50, full chain vs nginx plain", "latency", "×", 3.0, 1.5),
    Budget("latency-p99", "added latency at 30 % load, p99, full chain vs nginx plain", "latency", "×", 3.0, 1.5),
    Budget("slow-heads", "healthy p99 beside 1,000 slow-header clients vs quiet", "slow", "×", 2.0, None),
    Budget("upload-rss", "1 GiB upload: peak RSS growth", "bodies", "MiB", 16.0, 4.0),
    Budget("download-rss", "1 GiB download: peak RSS growth", "bodies", "MiB", 16.0, 4.0),
    Budget("idle", "idle keep-alive connection, 5,000 of them", "memory", "KiB", 32.0, 12.0),
    Budget("start-rss", "worker RSS at start", "memory", "MiB", 90.0, 60.0),
    Budget("workers", "two workers vs one on two free cores, requests/s", "workers", "×", 1.7, 1.9, at_least=True),
    Budget("change", "config change in Redis → in force on every worker, p99", "change", "ms", 500.0, 100.0),
    Budget("tenants-rss", "10,000 tenants of 20 routes in Redis, 100 active: RSS growth", "tenants", "MiB", 60.0, 20.0),
    Budget("tenants-cost", "100 active of 10,000 tenants vs one tenant", "tenants", "×", 1.15, 1.03),
)  # fmt: skip
GROUPS = tuple(dict.fromkeys(budget.group for budget in BUDGETS))
QUICK_GATEWAYS = ("edge", "envoy", "nginx")
