"""Steady keep-alive load from a process of its own, and what it costs a worker: for tests and for full-size runs.

Strict as wrk: whatever is not a whole 200 is a failure, also a kept connection that is closed without an answer. Only a
refused connect is not: nobody had taken the request, and a balancer asks the next host.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.edge.publishing import HOST

TIMEOUT_S = 10.0
FULL_SIZE = os.environ.get("LIMITS_FULL_SIZE") == "1"
"""1 GiB each way, 5,000 idle and 1,000 slow connections, as the promises are worded; else what CI has time for."""
PIECE = b"x" * 65_536
PER_ADDRESS = 900
"""So many connections from one loopback address; the edge has a ceiling per client."""


@dataclass
class Counts:
    """`slow_s`: the longest wait for an answer, `silent_s`: the longest time without any answer to anybody."""

    answered: int = 0
    connections: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    slow_s: float = 0.0
    silent_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Asker:
    """One client with one connection at a time, which it keeps until it is told otherwise."""

    def __init__(self, counts: Counts, ports: Sequence[int], number: int, path: str, pause_s: float) -> None:
        self._counts = counts
        self._ports = ports
        self._turn = number
        self._sock: socket.socket | None = None
        self._request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
        self._pause_s = pause_s

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                if not self._ask():
                    time.sleep(0.05)
                    continue
            except (OSError, ValueError) as error:
                self._counts.failures.append(f"{type(error).__name__}: {error}")
                self._leave()
            took = time.monotonic() - began
            self._counts.slow_s = max(self._counts.slow_s, took)
            self._counts.latencies_s.append(took)
            if self._pause_s:
                time.sleep(self._pause_s)
        self._leave()

    def _leave(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _ask(self) -> bool:
        if self._sock is None:
            self._turn += 1
            try:
                port = self._ports[self._turn % len(self._ports)]
                self._sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
            except ConnectionRefusedError:
                self._counts.refused += 1
                return False
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._counts.connections += 1
        self._sock.sendall(self._request)
        octets = b""
        while b"\r\n\r\n" not in octets:
            octets += self._more(octets)
        head, _, body = octets.partition(b"\r\n\r\n")
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(b":") for line in head.split(b"\r\n")[1:])}
        while len(body) < int(fields[b"content-length"]):
            body += self._more(head)
        if fields.get(b"connection") == b"close":
            self._leave()
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ValueError(head[:100].decode("latin-1"))
        self._counts.answered += 1
        return True

    def _more(self, got: bytes) -> bytes:
        assert self._sock is not None
        piece = self._sock.recv(65_536)
        if not piece:
            raise ConnectionError(f"closed after {len(got)} bytes of an answer")
        return piece


class SteadyLoad:
    """The load as a process: begins with the block, ends with it; then `counts` has what happened."""

    def __init__(self, ports: Sequence[int], path: str, clients: int = 8, pause_s: float = 0.002) -> None:
        self._argv = [json.dumps([list(ports), path, clients, pause_s])]
        self.counts = Counts()

    def __enter__(self) -> SteadyLoad:
        argv = [sys.executable, "-m", "tests.system.load", *self._argv]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"
        return self

    def __exit__(self, *_: object) -> None:
        out, _ = self._process.communicate("", timeout=TIMEOUT_S + 20)
        self.counts = Counts(**json.loads(out))


def sized(full: int, small: int) -> int:
    return full if FULL_SIZE else small


def raise_descriptor_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def resident_kib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


class Peak:
    """The most that a process held while the block ran, over what it held at its beginning."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self.grown_kib = 0

    def __enter__(self) -> Peak:
        self._before = resident_kib(self._pid)
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.grown_kib = max(self.grown_kib, resident_kib(self._pid) - self._before)


def connect(port: int, number: int = 0) -> socket.socket:
    """Connect from the loopback address of client `number`."""
    return socket.create_connection(
        ("127.0.0.1", port), timeout=TIMEOUT_S, source_address=(f"127.0.0.{1 + number // PER_ADDRESS}", 0)
    )


def read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """Give the head and what came behind it."""
    octets = b""
    while b"\r\n\r\n" not in octets:
        piece = sock.recv(65_536)
        if not piece:
            raise ConnectionError(f"closed after {octets[:100]!r}")
        octets += piece
    head, _, rest = octets.partition(b"\r\n\r\n")
    return head, rest


def download(port: int, size: int) -> int:
    """GET so many bytes; gives how many came."""
    with connect(port) as sock:
        sock.sendall(f"GET /public/bytes/{size} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        got = len(read_head(sock)[1])
        into = memoryview(bytearray(262_144))
        while count := sock.recv_into(into):
            got += count
        return got


def upload(port: int, size: int) -> int:
    """PUT so many bytes; gives how many the origin says it read."""
    with connect(port) as sock:
        sock.sendall(f"PUT /public/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\n\r\n".encode())
        left = size
        while left:
            left -= sock.send(PIECE[:left])
        head, rest = read_head(sock)
        assert head.startswith(b"HTTP/1.1 200"), head
        return int(rest)


@contextlib.contextmanager
def crowd(port: int, count: int, first: bytes) -> Iterator[list[socket.socket]]:
    """So many clients that have each sent `first`, which may be nothing."""
    clients: list[socket.socket] = []
    try:
        for number in range(count):
            client = connect(port, number)
            clients.append(client)
            if first:
                client.sendall(first)
        yield clients
    finally:
        for client in clients:
            client.close()


def main(ports: list[int], path: str, clients: int, pause_s: float) -> None:
    counts, stop = Counts(), threading.Event()
    askers = [Asker(counts, ports, number, path, pause_s) for number in range(clients)]
    threads = [threading.Thread(target=asker.run, args=(stop,), daemon=True) for asker in askers]
    for thread in threads:
        thread.start()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    print("begun", flush=True)
    answered, since_mono = 0, time.monotonic()
    while not stop.wait(0.02):
        now = time.monotonic()
        counts.silent_s = max(counts.silent_s, now - since_mono)
        if counts.answered != answered:
            answered, since_mono = counts.answered, now
    for thread in threads:
        thread.join(TIMEOUT_S)
    print(json.dumps(vars(counts)))


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
