"""The p99 of healthy requests while 1,000 clients send their headers a byte a second, against the same without them.

Laws:  1. An open-model generator at a modest rate; quiet and beside follow each other in every round.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from bench.budgets import FULL
from bench.lab import HOST, LOAD_CORE, Ask, BenchError, pinned
from bench.peers import edge
from bench.rows import Plan, Row, budget, tool
from bench.stats import ratios

CLIENTS = 1_000
_RATE = 500
_SECONDS = 4.0


def run(plan: Plan) -> list[Row]:
    """Raises BenchError."""
    lab = plan.lab
    edge.publish_tenants(lab)
    host = edge.launch(lab, "edge-slow")
    ask = next(one for one in edge.asks(lab, host) if one.what == FULL)
    _p99(ask)
    quiet: list[float] = []
    beside: list[float] = []
    for number in range(plan.rounds):
        quiet.append(_p99(ask))
        slow = _begin(host.port)
        try:
            beside.append(_p99(ask))
        finally:
            slow.terminate()
            slow.wait()
        plan.say(f"slow: round {number + 1} of {plan.rounds}")
    lab.end(host.process)
    plan.evidence["slow"] = {
        "clients": CLIENTS,
        "requests_per_s": _RATE,
        "quiet_p99_us": quiet,
        "beside_p99_us": beside,
    }
    return [Row(budget("slow-heads"), ratios(beside, quiet))]


def _p99(ask: Ask) -> float:
    report: dict[str, Any] = tool(
        "bench.openloop", ask.port, ask.path, _RATE, _SECONDS, *ask.fields, timeout_s=_SECONDS + 30
    )
    if report["errors"]:
        raise BenchError(f"slow: {report['errors']} healthy requests were not answered by 2xx")
    return float(report["p99_us"])


def _begin(port: int) -> subprocess.Popen[str]:
    """Start the slow clients; gives them once all are connected. Raises BenchError."""
    slow = subprocess.Popen(
        [sys.executable, "-m", "bench.slowheads", str(port), HOST, str(CLIENTS)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, pinned(LOAD_CORE)),  # noqa: PLW1509 - single-threaded parent
    )
    assert slow.stdout is not None
    if slow.stdout.readline() != "ready\n":
        slow.kill()
        slow.wait()
        raise BenchError("slow: the slow clients could not connect")
    return slow
