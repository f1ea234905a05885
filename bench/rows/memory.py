"""What a worker holds when it starts, and what each idle kept connection adds to it.

Laws:  1. A fresh host for it: memory that was used before would hide what is used now. 2. Every connection has had one
       request answered before it counts as idle. 3. They come from several addresses, below any ceiling per client.
"""

from __future__ import annotations

import resource
import socket
import time

from bench.bodies import length_of, read_head
from bench.lab import HOST, BenchError
from bench.peers import edge
from bench.procfs import memory
from bench.rows import Plan, Row, budget
from bench.slowheads import client_address
from bench.stats import spread

CONNECTIONS = 5_000
_PER_ADDRESS = 250
_REQUEST = f"GET /plain/posts/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def run(plan: Plan) -> list[Row]:
    """Raises BenchError."""
    lab = plan.lab
    edge.publish_tenants(lab)
    host = edge.launch(lab, "edge-memory")
    time.sleep(1)
    worker = host.workers()[0]
    at_start = memory(worker).rss
    rows = [Row(budget("start-rss"), spread([at_start]), "resident, shared pages included")]
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if room < CONNECTIONS + 500:
        return [Row(budget("idle"), None, f"a process may have only {room} descriptors here (ulimit -n)"), *rows]
    for sock in [_idle(host.port, number) for number in range(64)]:
        sock.close()
    time.sleep(0.5)
    before = memory(worker).rss
    socks: list[socket.socket] = []
    try:
        socks += [_idle(host.port, number) for number in range(CONNECTIONS)]
        time.sleep(1)
        each_kib = (memory(worker).rss - before) * 1024 / CONNECTIONS
    except OSError as error:
        raise BenchError(f"memory: connection {len(socks)}: {error}") from None
    finally:
        for sock in socks:
            sock.close()
    lab.end(host.process)
    plan.evidence["memory"] = {"start_mib": at_start, "connections": CONNECTIONS, "each_kib": each_kib}
    return [
        Row(budget("idle"), spread([each_kib]), "the worker's own; what the kernel holds for a socket is not in it"),
        *rows,
    ]


def _idle(port: int, number: int) -> socket.socket:
    """Open a connection and have one request answered on it. Raises OSError."""
    sock = socket.create_connection(("127.0.0.1", port), 10, client_address(number, _PER_ADDRESS))
    sock.sendall(_REQUEST)
    message = read_head(sock)
    if message is None or not message[0].startswith(b"HTTP/1.1 200"):
        raise OSError(f"refused: {message!r}")
    head, rest = message
    while len(rest) < length_of(head):
        piece = sock.recv(65_536)
        if not piece:
            raise OSError("the answer was cut")
        rest += piece
    return sock
