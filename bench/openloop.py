"""An open-model load generator: requests leave at a constant rate whatever the answers do, and a request's latency
counts from the moment it was meant to leave.

Run:   python -m bench.openloop PORT PATH RATE SECONDS [NAME: VALUE]...     prints a Report as JSON
Laws:  1. A request that finds no free connection waits, and its wait is part of its latency: no omission. 2. What is
       unanswered at the end counts with the time it has waited by then. 3. How late the generator itself was is
       reported: where that is not far below the latencies, they say nothing.
Not here: the price of a request (bench.closedloop).
"""

from __future__ import annotations

import ctypes
import gc
import json
import re
import select
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass

from bench.stats import percentile

CONNECTIONS = 64
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")
_PATIENCE_S = 5.0
_PR_SET_TIMERSLACK = 29


@dataclass(frozen=True)
class Report:
    """Latencies in microseconds. `sender_..._us`: how late requests left that did not have to wait for a connection."""

    requests: int
    errors: int
    unfinished: int
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float
    sender_p50_us: float
    sender_p99_us: float


class Schedule:
    """When requests are due, who waits for a connection, what each took. Pure: it is told the time."""

    def __init__(self, began: float, rate: float, seconds: float) -> None:
        self._began = began
        self._rate = rate
        self.total = int(rate * seconds)
        self._made = 0
        self._prompt = False
        self.waiting: deque[float] = deque()
        """Intended times of requests that are due and have not left."""
        self.latencies: list[float] = []
        self.lateness: list[float] = []

    def due(self, now: float, free: bool) -> None:
        """Let all requests whose time has come wait for a connection. `free`: there is one, and was one already."""
        self._prompt = free and not self.waiting
        while self._made < self.total and (at := self._began + self._made / self._rate) <= now:
            self.waiting.append(at)
            self._made += 1

    def next_in(self, now: float) -> float:
        """Give the seconds until the next one is due, at least 0; a second when none is left."""
        if self._made >= self.total:
            return 1.0
        return max(0.0, self._began + self._made / self._rate - now)

    def leaves(self, now: float) -> float:
        """Take the one that waited longest; gives its intended time."""
        intended = self.waiting.popleft()
        if self._prompt:
            self.lateness.append(now - intended)
        return intended

    def answered(self, intended: float, now: float) -> None:
        self.latencies.append(now - intended)

    @property
    def finished(self) -> bool:
        return len(self.latencies) >= self.total

    def report(self, now: float, errors: int, in_flight: list[float]) -> Report:
        """Count what is unanswered with what it has waited. Raises ValueError when nothing was asked."""
        open_now = [now - intended for intended in (*in_flight, *self.waiting)]
        micros = [1e6 * value for value in (*self.latencies, *open_now)]
        late = [1e6 * value for value in self.lateness] or [0.0]
        p50, p90, p99 = (percentile(micros, share) for share in (0.5, 0.9, 0.99))
        sender = percentile(late, 0.5), percentile(late, 0.99)
        return Report(len(self.latencies), errors, len(open_now), p50, p90, p99, max(micros), *sender)


def run(port: int, path: str, rate: float, seconds: float, fields: list[str]) -> Report:
    """Blocks for `seconds` and, while answers are owed, up to five more. Raises OSError when it cannot connect."""
    lines = "".join(f"{field}\r\n" for field in fields)
    request = f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()
    _exact_timers()
    gc.disable()
    poll = select.epoll()
    socks: dict[int, socket.socket] = {}
    for _ in range(CONNECTIONS):
        sock = _connect(port)
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    free = deque(socks)
    in_flight: dict[int, float] = {}
    partial: dict[int, bytes] = {}
    errors = 0
    clock = time.monotonic
    schedule = Schedule(clock() + 0.05, rate, seconds)
    until = clock() + seconds + _PATIENCE_S
    while not schedule.finished and (now := clock()) < until:
        schedule.due(now, bool(free))
        while schedule.waiting and free:
            number = free.popleft()
            in_flight[number] = schedule.leaves(clock())
            socks[number].sendall(request)
        # epoll rounds its patience to milliseconds, select does not.
        if not select.select([poll], [], [], min(schedule.next_in(clock()), 0.1))[0]:
            continue
        for number, _ in poll.poll(0):
            piece = socks[number].recv(65_536)
            answer = partial.pop(number, b"") + piece
            if not piece:
                errors += 1
                poll.unregister(number)
                socks.pop(number).close()
                if number in in_flight:
                    schedule.answered(in_flight.pop(number), clock())
                else:
                    free.remove(number)
                sock = _connect(port)
                socks[sock.fileno()] = sock
                poll.register(sock, select.EPOLLIN)
                free.append(sock.fileno())
                continue
            if not _whole(answer):
                partial[number] = answer
                continue
            errors += answer[9:10] != b"2"
            schedule.answered(in_flight.pop(number), clock())
            free.append(number)
    report = schedule.report(clock(), errors, list(in_flight.values()))
    for sock in socks.values():
        sock.close()
    return report


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _whole(answer: bytes) -> bool:
    head_end = answer.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    length = _LENGTH.search(answer, 0, head_end + 2)
    return length is None or len(answer) >= head_end + 4 + int(length[1])


def _exact_timers() -> None:
    """prctl(2): the kernel may otherwise wake us 50 us late to save wake-ups. Where it cannot be said, so be it."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    except (OSError, AttributeError):
        pass


if __name__ == "__main__":
    found = run(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), sys.argv[5:])
    print(json.dumps(asdict(found)))
