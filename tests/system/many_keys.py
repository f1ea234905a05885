"""What a tenant of 100,000 keys costs an edge worker: memory, and CPU time for a request, beside a tenant of ten.

Run:   python -m tests.system.many_keys [--keys 100000] [--requests 20000]
In:    a Valkey and an edge of one worker, made and ended here; records as the control plane publishes them.
Out:   a table: MiB of the worker after each step, microseconds of its CPU time for a request.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path

from bench.procfs import cpu_time, memory
from contracts import apikey, keyspace, snapshot
from contracts.snapshot import KeyRecord
from devstack.valkey import Valkey
from tests.edge.publishing import DEMO, HOST, PEPPER, Publisher, route, snapshot_of
from tests.system.edge_host import EdgeHost

_BATCH = 50
"""Requests that are sent together over the one connection."""
_ROUNDS = 5
"""The median of so many is said of what is compared."""


def name(number: int) -> str:
    return f"one-of-many-{number:08d}"


def publish(publisher: Publisher, first: int, last: int) -> None:
    """Write records as services.publishing does; no change is told, for nobody knows these keys yet."""
    with publisher.redis.pipeline(transaction=False) as pipe:
        for number in range(first, last):
            record = KeyRecord(
                id=f"0197a000-0000-7000-8000-{number:012x}", tenant_id=DEMO, name=f"key {number}",
                scopes=("read", "write"), expires_at=4e9,
            )  # fmt: skip
            digest = apikey.digest(name(number).encode(), 1, PEPPER)
            pipe.set(keyspace.api_key(DEMO, digest), snapshot.encode_key(record))
            if number % 5_000 == 4_999:
                pipe.execute()
        pipe.execute()


class Asker:
    """One kept connection. A key that works gets 403 where a scope is asked for that nobody has. 503: the store was too
    slow, on a machine that does something else; these are counted."""

    def __init__(self, edge: EdgeHost) -> None:
        self._sock = socket.create_connection(("127.0.0.1", edge.port), 10)
        self.pid = edge.pids()[0]
        self.late = 0

    def ask(self, numbers: Sequence[int], few_keys: bool = False) -> None:
        for start in range(0, len(numbers), _BATCH):
            part = numbers[start : start + _BATCH]
            self._sock.sendall(b"".join(_request(number % 10 if few_keys else number, number) for number in part))
            seen = b""
            while seen.count(b"HTTP/1.1 ") < len(part) or not seen.endswith(b"}"):
                seen += self._sock.recv(262_144)
            late = seen.count(b"HTTP/1.1 503 ")
            assert seen.count(b"HTTP/1.1 403 ") + late == len(part), seen[:300]
            self.late += late

    def cost_us(self, numbers: Sequence[int], few_keys: bool = False) -> float:
        began = cpu_time(self.pid)
        self.ask(numbers, few_keys)
        used = cpu_time(self.pid) - began
        return (used.user_s + used.system_s) / len(numbers) * 1e6


def _request(key: int, number: int) -> bytes:
    """Of the same number, the same head."""
    words = HOST.encode(), name(key).encode(), number
    return b"GET /keyed/x HTTP/1.1\r\nHost: %b\r\nX-API-Key: %b\r\nX-Number: %08d\r\n\r\n" % words


def main() -> int:
    parser = argparse.ArgumentParser(prog="many_keys", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        valkey = stack.enter_context(Valkey(folder / "valkey", aof=False))
        publisher = Publisher(valkey.url)
        stack.callback(publisher.close)
        # A scope that no key has: each request is authenticated and then answered by the edge itself.
        publisher.config(snapshot_of(1, (route(1, "/*", "apikey_required", required_scopes=("none",)),)))
        publish(publisher, 0, 10)
        edge = stack.enter_context(EdgeHost(valkey.url, folder, workers=1, EDGE_ACCESS_LOG="/dev/null"))
        asker = Asker(edge)
        few = list(islice(cycle(range(10)), options.requests))
        asker.ask(few)

        def say(what: str, cost_us: float) -> None:
            print(f"{what:48} {cost_us:8.1f} us {memory(asker.pid).rss:8.1f} MiB", flush=True)

        def usual() -> float:
            return statistics.median(asker.cost_us(few) for _ in range(_ROUNDS))

        say("10 keys, 10 in use", usual())
        publish(publisher, 10, options.keys)
        say(f"{options.keys} keys, 10 in use", usual())
        say(f"{options.keys} keys, 10 in use, no two heads alike", asker.cost_us(range(options.keys), few_keys=True))
        some = list(islice(cycle(range(1_000)), options.requests))
        asker.ask(some)
        say(f"{options.keys} keys, 1,000 in use", asker.cost_us(some))
        say(f"{options.keys} keys, each used once, one after another", asker.cost_us(range(options.keys)))
        say(f"{options.keys} keys, 10 in use", usual())
        print(f"503 because the store was too slow: {asker.late}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
