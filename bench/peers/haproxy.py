"""HAProxy: plain, the chain (key map, stick-table rate, JSON log), and the tunnel of an upgraded connection.

Not the same: it writes its log line by line to its standard output, here a file; it keeps counters, not histograms.
"""

from __future__ import annotations

from bench.budgets import ECHO, FULL, PLAIN
from bench.lab import HOST, Ask, Lab, program
from bench.publish import KEY, WRONG_KEY
from devstack.child import free_port


def start(lab: Lab, echo_port: int = 0, name: str = "haproxy") -> list[Ask]:
    """`echo_port`: the WebSocket server behind the tunnel, where there is one. Raises Absent, BenchError."""
    binary = program("haproxy", "haproxy")
    plain, chain, tunnel = free_port(), free_port(), free_port()
    keys = lab.folder / f"{name}.map"
    keys.write_text(f"{KEY} bench\n")
    values: dict[str, object] = {
        "PLAIN": plain, "CHAIN": chain, "TUNNEL": tunnel, "ORIGIN": lab.origin_port,
        "ECHO": echo_port or lab.origin_port, "KEYS": keys,
    }  # fmt: skip
    conf = lab.data(f"{name}.cfg", "haproxy.cfg", values)
    log = lab.access_log(f"{name}-access.log")
    process = lab.spawn(name, [binary, "-db", "-f", str(conf)], plain, stdout=log)
    host = (f"Host: {HOST}",)
    keyed = (*host, f"X-API-Key: {KEY}")
    return [
        Ask("HAProxy", PLAIN, process.pid, plain, "/plain/posts/1", host),
        Ask("HAProxy", FULL, process.pid, chain, "/full/posts/1", keyed, (*host, f"X-API-Key: {WRONG_KEY}")),
        Ask("HAProxy", ECHO, process.pid, tunnel, "/echo/1", host),
    ]
