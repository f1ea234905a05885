"""10,000 tenants with 20 routes each in Redis, of which 100 are asked for: what the worker holds, what a request costs.

Laws:  1. A fresh host that finds the tenants in Redis when it starts. 2. The same script asks one tenant or a hundred
       in turn, by as many different paths, so that only the number of tenants differs.
"""

from __future__ import annotations

import time

from bench import publish
from bench.budgets import OURS
from bench.closedloop import Cost, http_cost
from bench.lab import Ask
from bench.peers import edge
from bench.procfs import memory
from bench.rows import Plan, Row, budget
from bench.stats import ratios, spread

TENANTS, ROUTES, ACTIVE = 10_000, 20, 100


def run(plan: Plan) -> list[Row]:
    """Raises BenchError."""
    lab = plan.lab
    publish.publish_many(lab.valkey.url, publish.tenants(lab.origin_port, TENANTS, ROUTES))
    host = edge.launch(lab, "edge-tenants")
    time.sleep(1)
    worker = host.workers()[0]
    at_start = memory(worker).rss
    asks = []
    for number in (1, ACTIVE):
        script = lab.data(
            f"tenants-{number}.lua", "tenants.lua", {"TENANTS": number, "ROUTES": ROUTES, "CALLERS": ACTIVE}
        )
        fields = (f"Host: {publish.tenant_host(0)}",)
        asks.append(Ask(OURS, f"{number} tenants", host.pid, host.port, "/r/0/1", fields, script=str(script)))
    made: dict[str, list[Cost]] = {ask.what: [] for ask in asks}
    for ask in asks:
        http_cost(ask, 1)
    growth = memory(worker).rss - at_start
    for number in range(plan.rounds):
        for ask in asks:
            made[ask.what].append(http_cost(ask, plan.seconds))
        lab.empty_logs()
        plan.say(f"tenants: round {number + 1} of {plan.rounds}")
    growth = max(growth, memory(worker).rss - at_start)
    lab.end(host.process)
    one, many = ([cost.total_us for cost in costs] for costs in made.values())
    plan.evidence["tenants"] = {"growth_mib": growth, "one_us": one, "active_us": many}
    return [Row(budget("tenants-rss"), spread([growth])), Row(budget("tenants-cost"), ratios(many, one))]
