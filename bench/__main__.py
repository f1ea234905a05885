"""Measures what a request costs here and in the peers that are installed, and holds it against the budgets.

Run:   make bench         (or: python -m bench [--only edge,nginx] [--rows cost,idle] [--seconds 2] [--rounds 7])
       make bench-quick   some two minutes, for before and after a change: ours, Envoy, nginx; costs only
In:    whatever is there of nginx, HAProxy, Varnish, Caddy, Envoy, Traefik; wrk, or else our own generator.
Out:   a table; bench/results/<date>-<commit>.json.
Laws:  1. Rounds are interleaved; a comparison is a ratio within a round; the figure is the median, beside its range.
       2. What is absent is said, and how much of the cores others took meanwhile. 3. The quick run is kept only where
       it is told to.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import result, table
from bench.budgets import BUDGETS, GROUPS, QUICK_GATEWAYS
from bench.lab import Absent, BenchError, Lab, cores
from bench.peers import PEERS
from bench.procfs import Others
from bench.rows import Plan, Row, absent, bodies, change, cost, latency, memory, slow, tenants, workers
from devstack.child import DevstackError

_GROUPS: dict[str, Callable[[Plan], list[Row]]] = {
    "latency": latency.run, "slow": slow.run, "bodies": bodies.run, "memory": memory.run, "workers": workers.run,
    "change": change.run, "tenants": tenants.run,
}  # fmt: skip
_TIMED = ("latency", "slow", "workers", "change")
"""Groups whose figures are times or rates, not CPU or memory."""
_QUICK = ("full-envoy", "full-nginx", "cache-nginx", "jwt-key", "limit-none")


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help=f"gateways: {', '.join(PEERS)}")
    parser.add_argument("--rows", default="", help=f"groups ({', '.join(GROUPS)}) or rows of the table by their id")
    parser.add_argument("--seconds", type=int, default=2, help="of a run (2)")
    parser.add_argument("--rounds", type=int, default=7, help="of the costs; other rows take at most 5 (7)")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="where to keep the result")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args(argv)
    for given, known in ((options.only, list(PEERS)), (options.rows, [*GROUPS, *(one.id for one in BUDGETS)])):
        if unknown := sorted(set(_words(given)) - set(known)):
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    if options.seconds < 1 or options.rounds < 1:
        parser.error("at least one round of one second")
    return options


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def measured(options: argparse.Namespace) -> tuple[Plan, list[Row]]:
    """Run all groups that are wanted, each in a lab of its own. A group that fails is said and the others go on."""
    chosen = set(_words(options.rows)) or set(_QUICK if options.quick else GROUPS)
    budgets = tuple(one for one in BUDGETS if one.id in chosen or one.group in chosen)
    gateways = tuple(_words(options.only)) or (QUICK_GATEWAYS if options.quick else tuple(PEERS))
    plan = Plan(options.seconds, options.rounds, gateways, budgets)
    made: dict[str, Row] = {}
    for group in dict.fromkeys(one.group for one in budgets):
        plan.rounds = options.rounds if group == "cost" else min(options.rounds, 5)
        others = Others(len(cores()))
        try:
            with Lab() as plan.lab:
                if group == "cost":
                    rows = cost.run(plan, everything="cost" in chosen)  # a chosen row measures what it divides
                else:
                    rows = _GROUPS[group](plan)
        except (Absent, BenchError, DevstackError) as error:
            plan.say(f"{group}: {error}")
            rows = absent(group, budgets, str(error))
        if group in _TIMED:
            rows = quiet_only(rows, others.share())
        made |= {row.budget.id: row for row in rows}
    return plan, [made[one.id] for one in budgets if one.id in made]


def quiet_only(rows: list[Row], share: float) -> list[Row]:
    """Judge no row that was taken with a watch while others worked."""
    if share <= table.QUIET_SHARE:
        return rows
    return [
        row
        if row.value is None
        else replace(row, judged=False, note=f"{row.note}; others took {share:.0%} of the cores".lstrip("; "))
        for row in rows
    ]


def main(argv: list[str] | None = None) -> int:
    options = _options(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: the labs are left in order
    began_mono, others = time.monotonic(), Others(len(cores()))
    plan, rows = measured(options)
    plan.rounds = options.rounds
    took_s, by_others = time.monotonic() - began_mono, others.share()
    if not shutil.which("wrk"):
        plan.absent.append(
            "wrk: not installed (apt-get install wrk); our own generator was used, itself a load on its core"
        )
    content = result.build(plan, rows, took_s, by_others)
    print(table.terminal(content))
    if options.json or not (options.no_save or options.quick or options.rows or options.only):
        print(f"kept in {result.save(content, options.json)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
