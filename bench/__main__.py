"""Measures what a request costs here and in the peers that are installed, and prints the ratios.

Run:   make bench      (or: python -m bench [--seconds 4] [--rounds 3] [--only edge,envoy])
In:    whatever of Envoy, Traefik and nginx is there; wrk, or else our own generator.
Out:   a table; bench/results/<date>-<commit>.json.
Laws:  1. Rounds are interleaved, the figure is the median, the comparison is a ratio of the same minutes.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.measure import BenchError, Cost, cost, load
from bench.peers import PEERS, Peer, start_origin
from devstack.valkey import Valkey

RESULTS = Path(__file__).with_name("results")
_RATIOS = (
    ("full chain", "Envoy", "full chain"),
    ("full chain", "Traefik (no key check)", "full chain"),
    ("full chain", "nginx", "plain proxy"),
    ("plain proxy", "nginx", "plain proxy"),
    ("cache hit", "nginx", "cache hit"),
    ("full chain", "VantageEdge", "key, no limit"),
)
Rows = dict[tuple[str, str], list[Cost]]


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def measured(seconds: float, rounds: int, only: set[str]) -> tuple[Rows, list[str], str]:
    """Run everything; gives the rows, what was absent, and which origin answered."""
    rows: Rows = {}
    absent: list[str] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ve-bench-")))
        valkey = stack.enter_context(Valkey(folder / "valkey", aof=False))
        os.sched_setaffinity(valkey.pid, {1} & os.sched_getaffinity(0) or os.sched_getaffinity(0))
        process, origin_port, origin = start_origin(folder)
        stack.callback(_end, process)
        peers: list[Peer] = []
        for start in PEERS:
            if only and start.__name__ not in only:
                continue
            try:
                peer = start(folder, origin_port, valkey)
            except BenchError as error:
                absent.append(f"{start.__name__}: {error}")
                continue
            stack.callback(_end, peer.process)
            peers.append(peer)
        asks = [(peer, row, *peer.asks[row]) for peer in peers for row in peer.asks]
        for peer, _, path, fields in asks:
            try:
                load(f"http://127.0.0.1:{peer.port}{path}", 1, fields)
            except BenchError as error:
                raise BenchError(f"{peer.name}: {error}") from None
        for number in range(rounds):
            for peer, row, path, fields in asks:
                url = f"http://127.0.0.1:{peer.port}{path}"
                rows.setdefault((peer.name, row), []).append(cost(peer.process.pid, url, seconds, fields))
            print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return rows, absent, origin


def median(costs: list[Cost]) -> Cost:
    return sorted(costs, key=lambda item: item.total_us)[len(costs) // 2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="comma list of: edge, envoy, traefik, nginx")
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    try:
        rows, absent, origin = measured(options.seconds, options.rounds, set(filter(None, options.only.split(","))))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    middle = {name: median(costs) for name, costs in rows.items()}
    print(f"{'gateway':<24}{'what':<16}{'us/request':>11}{'user':>8}{'system':>8}{'requests/s':>12}")
    for (peer, row), value in middle.items():
        print(
            f"{peer:<24}{row:<16}{value.total_us:>11.1f}{value.user_us:>8.1f}{value.system_us:>8.1f}{value.rate:>12.0f}"
        )
    ratios = {}
    for ours, peer, theirs in _RATIOS:
        mine, other = rows.get(("VantageEdge", ours)), rows.get((peer, theirs))
        if mine and other:
            each = [a.total_us / b.total_us for a, b in zip(mine, other, strict=True)]
            ratios[f"{ours} / {peer} {theirs}"] = round(statistics.median(each), 3)
            print(f"VantageEdge {ours} is {statistics.median(each):.2f} x {peer} {theirs}")
    for line in absent:
        print(f"absent: {line}")
    if not shutil.which("wrk"):
        print("absent: wrk (our own generator was used; it is itself a load on the second core)")
    if not options.no_save:
        _save(rows, ratios, absent, origin)
    return 0


def _save(rows: Rows, ratios: dict[str, float], absent: list[str], origin: str) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=RESULTS.parent
    ).stdout.strip()
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{today}-{commit or 'no-commit'}.json"
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    figures = [
        {"gateway": peer, "what": row, "user_us": c.user_us, "system_us": c.system_us, "requests_per_s": c.rate}
        for (peer, row), costs in rows.items()
        for c in costs
    ]
    content = {"machine": machine, "origin": origin, "ratios": ratios, "absent": absent, "runs": figures}
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"kept in {path.relative_to(RESULTS.parent.parent)}")


if __name__ == "__main__":
    sys.exit(main())
