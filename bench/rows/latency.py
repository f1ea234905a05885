"""What a gateway adds to the latency of an origin at 30 % of our load, by the open-model generator.

In:    a host of ours and an nginx, both pinned; the origin itself for what is there without a gateway.
Laws:  1. The same offered rate for all: 30 % of what our full chain answered on this machine just before. 2. Added is
       percentile minus the origin's own percentile of the same round; the figure is the ratio of the medians over the
       rounds. 3. The generator is first asked about an origin that freezes 1 s in every 5: unless it finds it, nothing
       it says of others is believed. 4. Where it was itself so late that this alone makes half of a percentile (others
       use the cores), the row is not judged.
"""

from __future__ import annotations

import sys
from typing import Any

from bench.budgets import FULL, OURS, PLAIN
from bench.closedloop import load
from bench.lab import HOST, LOAD_CORE, Absent, Ask, BenchError, verify
from bench.peers import edge, nginx
from bench.rows import Plan, Row, budget, tool
from bench.stats import Spread, median, spread
from devstack.child import free_port

LOAD_SHARE = 0.3
_SECONDS = 3.0
_FREEZE_S, _EVERY_S = 1.0, 5.0


def run(plan: Plan) -> list[Row]:
    """Raises BenchError."""
    evidence: dict[str, Any] = {"check": check_generator(plan)}
    lab = plan.lab
    edge.publish_tenants(lab)
    host = edge.launch(lab, "edge-latency")
    asks = [ask for ask in edge.asks(lab, host) if ask.what in (FULL, PLAIN)]
    try:
        asks += [ask for ask in nginx.start(lab, name="nginx-latency") if ask.what in (FULL, PLAIN)]
    except Absent as reason:
        plan.absent.append(f"nginx: {reason}")
        return [Row(budget(name), None, str(reason)) for name in ("latency-p50", "latency-p99")]
    for ask in asks:
        verify(ask)
    full = next(ask for ask in asks if ask.gateway == OURS and ask.what == FULL)
    rate = LOAD_SHARE * median([load(full, 2) / 2 for _ in range(3)])
    evidence |= {"requests_per_s": rate, "rounds": []}
    direct = Ask("origin", "direct", 0, lab.origin_port, "/plain/posts/1", (f"Host: {HOST}",))
    for number in range(plan.rounds):
        made = {}
        for ask in (direct, *asks):
            report = tool("bench.openloop", ask.port, ask.path, rate, _SECONDS, *ask.fields, timeout_s=_SECONDS + 30)
            if report["errors"]:
                raise BenchError(f"latency: {ask.gateway}, {ask.what}: {report['errors']} answers were not 2xx")
            made[f"{ask.gateway}, {ask.what}"] = report
        evidence["rounds"].append(made)
        lab.empty_logs()
        plan.say(f"latency: round {number + 1} of {plan.rounds}")
    plan.evidence["latency"] = evidence
    lab.end(host.process)
    return [_row(name, evidence["rounds"]) for name in ("latency-p50", "latency-p99")]


def check_generator(plan: Plan) -> dict[str, Any]:
    """Ask a freezing origin for 10 s. A fifth of the requests meet a freeze and wait for half of it on average, so the
    90th percentile is 0.5 s. Raises BenchError where the generator does not see that.
    """
    port = free_port()
    argv = [sys.executable, "-m", "bench.origin", str(port), str(_FREEZE_S), str(_EVERY_S)]
    process = plan.lab.spawn("origin-freezing", argv, port, LOAD_CORE)
    seconds = 2 * _EVERY_S
    report: dict[str, Any] = tool("bench.openloop", port, "/", 500, seconds, f"Host: {HOST}", timeout_s=seconds + 30)
    plan.lab.end(process)
    expected = 1e6 * _FREEZE_S / 2
    if not 0.7 * expected < report["p90_us"] < 1.5 * expected:
        raise BenchError(f"the generator saw a p90 of {report['p90_us']:.0f} us where {expected:.0f} is the truth")
    return report


def _row(name: str, rounds: list[dict[str, Any]]) -> Row:
    key = name.rpartition("-")[2] + "_us"
    added = {
        who: [one[who][key] - one["origin, direct"][key] for one in rounds]
        for who in (f"{OURS}, {FULL}", f"nginx, {PLAIN}")
    }
    ours, theirs = (spread(values) for values in added.values())
    note = f"added {ours.median:.0f} µs against {theirs.median:.0f}"
    if theirs.low <= 0:
        return Row(budget(name), None, f"{note}: nginx's share is lost in the noise of this machine")
    late = max(median([one[who]["sender_" + key] / one[who][key] for one in rounds]) for who in added)
    if late > 0.5:
        note += f"; the generator itself was late by {late:.0%} of what it saw: too busy a machine"
    ratio = ours.median / theirs.median
    value = Spread(ratio, ours.low / theirs.median, ours.high / theirs.median, len(rounds))
    return Row(budget(name), value, note, judged=late <= 0.5)
