"""A body of 1 GiB up and down: how far the worker's memory grows, and the CPU per MiB beside nginx.

Laws:  1. Growth is the peak since the body began less what was held before it (proc(5), clear_refs). 2. Each transfer
       has a round of its own; a first one of 16 MiB, which is not measured, opens what must be open.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from bench import bodies
from bench.budgets import OURS
from bench.lab import HOST, LOAD_CORE, Absent, BenchError
from bench.peers import edge, nginx
from bench.procfs import cpu_time, forget_peak, memory
from bench.rows import Plan, Row, budget
from bench.stats import median, spread
from devstack.child import free_port

MIB = bodies.MIB
SIZE_MIB = 1024
_DIRECTIONS: dict[str, Callable[[int, str, int], None]] = {"upload": bodies.upload, "download": bodies.download}


def run(plan: Plan) -> list[Row]:
    """Raises BenchError."""
    lab = plan.lab
    bodies_port = free_port()
    lab.spawn("bodies", [sys.executable, "-m", "bench.bodies", str(bodies_port)], bodies_port, LOAD_CORE)
    edge.publish_tenants(lab, bodies_port=bodies_port)
    host = edge.launch(lab, "edge-bodies")
    contenders = [(OURS, host.pid, host.workers()[0], host.port)]
    try:
        peer = nginx.start(lab, bodies_port, "nginx-bodies")[0]
        contenders.append(("nginx", peer.pid, 0, peer.port))
    except Absent as reason:
        plan.absent.append(f"nginx: {reason}")
    made: dict[str, dict[str, list[dict[str, float]]]] = {}
    for direction, move in _DIRECTIONS.items():
        for _, _, _, port in contenders:
            _through(move, port, 16 * MIB)
        for _ in range(min(plan.rounds, 3)):
            for name, pid, worker, port in contenders:
                figures = _measure(move, pid, worker, port)
                made.setdefault(direction, {}).setdefault(name, []).append(figures)
        plan.say(f"bodies: {direction} done")
    lab.end(host.process)
    plan.evidence["bodies"] = {"mib": SIZE_MIB, **made}
    return [_row(direction, made[direction]) for direction in _DIRECTIONS]


def _measure(move: Callable[[int, str, int], None], pid: int, worker: int, port: int) -> dict[str, float]:
    """`worker`: whose memory is looked at, 0 for nobody's."""
    before = cpu_time(pid)
    if worker:
        forget_peak(worker)
        held = memory(worker).rss
    began_mono = time.monotonic()
    _through(move, port, SIZE_MIB * MIB)
    took_s = time.monotonic() - began_mono
    used = cpu_time(pid) - before
    figures = {"cpu_us_per_mib": 1e6 * (used.user_s + used.system_s) / SIZE_MIB, "mib_per_s": SIZE_MIB / took_s}
    if worker:
        figures["growth_mib"] = max(0.0, memory(worker).peak - held)
    return figures


def _through(move: Callable[[int, str, int], None], port: int, size: int) -> None:
    try:
        move(port, HOST, size)
    except OSError as error:
        raise BenchError(f"bodies: {error}") from None


def _row(direction: str, made: dict[str, list[dict[str, float]]]) -> Row:
    ours = made[OURS]
    price = median([one["cpu_us_per_mib"] for one in ours])
    note = f"{price:.0f} µs of CPU per MiB"
    if "nginx" in made:
        theirs = median([one["cpu_us_per_mib"] for one in made["nginx"]])
        note += f", nginx {theirs:.0f}" + (f": {price / theirs:.1f} ×" if theirs > 0 else "")
    return Row(budget(f"{direction}-rss"), spread([one["growth_mib"] for one in ours]), note)
