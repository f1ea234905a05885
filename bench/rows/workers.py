"""Two workers against one.

Laws:  1. With four cores and more, gateways have two of them and the load the others, and the ratio of requests a
       second is the figure. 2. With fewer, load and gateway take turns on the same cores: the ratio is shown and not
       judged; beside it stands what can be seen there: whether a request costs more with two, and how evenly they
       share.
"""

from __future__ import annotations

from functools import partial

from bench.budgets import FULL
from bench.closedloop import Cost, cost, load
from bench.lab import cores
from bench.peers import edge
from bench.procfs import cpu_time
from bench.rows import Plan, Row, budget
from bench.stats import median, ratios

_CONNECTIONS = 128


def run(plan: Plan) -> list[Row]:
    """Raises BenchError."""
    lab = plan.lab
    edge.publish_tenants(lab)
    mine = sorted(cores())
    enough = len(mine) >= 4
    theirs = set(mine[2:]) if enough else set(mine)
    for_gateway = set(mine[:2]) if enough else set(mine)
    hosts = {number: edge.launch(lab, f"edge-workers-{number}", number, for_gateway) for number in (1, 2)}
    asks = {number: next(ask for ask in edge.asks(lab, host) if ask.what == FULL) for number, host in hosts.items()}
    made: dict[int, list[Cost]] = {1: [], 2: []}
    shares: list[float] = []
    for ask in asks.values():
        load(ask, 1, theirs, _CONNECTIONS)
    for number in range(plan.rounds):
        for count, ask in asks.items():
            before = [cpu_time(pid) for pid in hosts[count].workers()]
            made[count].append(cost(ask.pid, partial(load, ask, plan.seconds, theirs, _CONNECTIONS)))
            if count == 2:
                used = [cpu_time(pid) - then for pid, then in zip(hosts[2].workers(), before, strict=True)]
                each = [one.user_s + one.system_s for one in used]
                shares.append(max(each) / sum(each))
        lab.empty_logs()
        plan.say(f"workers: round {number + 1} of {plan.rounds}")
    for host in hosts.values():
        lab.end(host.process)
    rate = ratios([one.rate for one in made[2]], [one.rate for one in made[1]])
    price = ratios([one.total_us for one in made[2]], [one.total_us for one in made[1]])
    share = median(shares)
    plan.evidence["workers"] = {
        "cores": len(mine), "one": [vars(one) for one in made[1]], "two": [vars(one) for one in made[2]],
        "busier_share": shares,
    }  # fmt: skip
    note = f"CPU per request with two {price.median:.2f} × that with one; the busier worker did {share:.0%}"
    if not enough:
        note = f"load and gateway share {len(mine)} cores here, so the ratio says little; {note}"
    return [Row(budget("workers"), rate, note, judged=enough)]
