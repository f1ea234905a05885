"""CPU per request of every gateway in every chain it has, and the ratios that are budgeted.

Laws:  1. One round asks everything once; a ratio is of one round. 2. A peer that answers wrongly, once, has no figure
       and is said; where we do, the run ends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict

from bench.budgets import ECHO, OURS, Budget
from bench.closedloop import CONNECTIONS, Cost, cost, http_cost, needs_wrk
from bench.lab import HOST, LOAD_CORE, Absent, Ask, BenchError, verify
from bench.peers import PEERS, edge, haproxy
from bench.rows import Plan, Row, tool
from bench.stats import ratios
from devstack.child import free_port

Costs = dict[tuple[str, str], list[Cost]]


def run(plan: Plan, everything: bool) -> list[Row]:
    """`everything`: also what no row of the plan divides. Raises BenchError."""
    budgets = [one for one in plan.budgets if one.group == "cost"]
    wanted = {pair for one in budgets for pair in ((OURS, one.ours), one.theirs)}
    started, missing = _start(plan)
    asks = [ask for ask in started if everything or (ask.gateway, ask.what) in wanted]
    refused: dict[tuple[str, str], str] = {}
    costs: Costs = {}

    def attempt(ask: Ask, action: Callable[[Ask], None]) -> None:
        try:
            action(ask)
        except (Absent, BenchError) as error:
            # Our own answers have to be right; the tunnel and what only wrk can ask may be missing.
            if ask.gateway == OURS and ask.what != ECHO and not isinstance(error, Absent):
                raise
            asks.remove(ask)
            costs.pop((ask.gateway, ask.what), None)
            refused[ask.gateway, ask.what] = str(error)
            plan.absent.append(f"{ask.gateway}, {ask.what}: {error}")

    def measure(ask: Ask) -> None:
        made = _echo_cost(ask, plan.seconds) if ask.what == ECHO else http_cost(ask, plan.seconds)
        costs.setdefault((ask.gateway, ask.what), []).append(made)

    for ask in list(asks):
        attempt(ask, _check)
    for number in range(plan.rounds):
        for ask in list(asks):
            attempt(ask, measure)
        plan.lab.empty_logs()
        plan.say(f"cost: round {number + 1} of {plan.rounds}")
    plan.evidence["costs"] = [
        {"gateway": gateway, "what": what, "rounds": [asdict(one) for one in rounds]}
        for (gateway, what), rounds in costs.items()
    ]
    return [_row(one, costs, refused, missing) for one in budgets]


def _start(plan: Plan) -> tuple[list[Ask], dict[str, str]]:
    """Start what is wanted and installed; gives also what is not (name -> why), and says it."""
    lab = plan.lab
    echo_port = free_port()
    lab.spawn("echo", [sys.executable, "-m", "bench.websocket", "serve", str(echo_port)], echo_port, LOAD_CORE)
    asks: list[Ask] = []
    missing: dict[str, str] = {}
    for name in plan.gateways:
        try:
            if name == "edge":
                asks += edge.start(lab, echo_port)
            elif name == "haproxy":
                asks += haproxy.start(lab, echo_port)
            else:
                asks += PEERS[name](lab)
        except (Absent, BenchError) as reason:
            if name == "edge":
                raise
            missing[name] = str(reason)
            plan.absent.append(f"{name}: {reason}")
    return asks, missing


def _check(ask: Ask) -> None:
    """See that an answer is right and warm it up. Raises Absent, BenchError."""
    if ask.what == ECHO:
        _echo(ask, 0.2)
        return
    needs_wrk(ask)
    verify(ask)
    http_cost(ask, 1)


def _echo_cost(ask: Ask, seconds: float) -> Cost:
    return cost(ask.pid, lambda: _echo(ask, seconds))


def _echo(ask: Ask, seconds: float) -> int:
    answer = tool("bench.websocket", "load", ask.port, HOST, ask.path, CONNECTIONS, seconds, timeout_s=seconds + 30)
    if "refused" in answer:
        raise BenchError(f"the upgrade was refused: {answer['refused']}")
    return int(answer["messages"])


def _row(budget: Budget, costs: Costs, refused: dict[tuple[str, str], str], missing: dict[str, str]) -> Row:
    pairs = ((OURS, budget.ours), budget.theirs)
    for pair in pairs:
        if pair not in costs:
            why = missing.get(pair[0].lower()) or refused.get(pair, "not measured in this run")
            return Row(budget, None, f"{', '.join(pair)}: {why}")
    ours, theirs = ([one.total_us for one in costs[pair]] for pair in pairs)
    return Row(budget, ratios(ours, theirs))
