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
from collections.abc import Callable
from dataclasses import asdict, dataclass

from bench.stats import percentile

CONNECTIONS = 64
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")
_PATIENCE_S = 5.0
_LEAD_S = 0.2
"""Room to open the connections before the first request is due."""
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
        self.due(now, free=False)
        open_now = [now - intended for intended in (*in_flight, *self.waiting)]
        micros = [1e6 * value for value in (*self.latencies, *open_now)]
        late = [1e6 * value for value in self.lateness] or [0.0]
        p50, p90, p99 = (percentile(micros, share) for share in (0.5, 0.9, 0.99))
        sender = percentile(late, 0.5), percentile(late, 0.99)
        return Report(len(self.latencies), errors, len(open_now), p50, p90, p99, max(micros), *sender)


class Caller:
    """The connections, and the requests that are under way on them."""

    def __init__(self, port: int, request: bytes, schedule: Schedule, clock: Callable[[], float]) -> None:
        self._port = port
        self._request = request
        self._schedule = schedule
        self._clock = clock
        self.poll = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        self._free: deque[int] = deque()
        self._partial: dict[int, bytes] = {}
        self.in_flight: dict[int, float] = {}
        self.errors = 0
        for _ in range(CONNECTIONS):
            self._open()

    def send_due(self) -> None:
        """Send all that is due, as far as there are free connections."""
        schedule, free = self._schedule, self._free
        schedule.due(self._clock(), bool(free))
        while schedule.waiting and free:
            number = free.popleft()
            self.in_flight[number] = schedule.leaves(self._clock())
            self._socks[number].sendall(self._request)

    def receive(self, number: int) -> None:
        """Read once from a connection that is readable. One that was closed is an error and is opened again."""
        piece = self._socks[number].recv(65_536)
        if not piece:
            self._replace(number)
            return
        answer = self._partial.pop(number, b"") + piece
        if not _whole(answer):
            self._partial[number] = answer
            return
        self.errors += answer[9:10] != b"2"
        self._schedule.answered(self.in_flight.pop(number), self._clock())
        self._free.append(number)

    def close(self) -> None:
        for sock in self._socks.values():
            sock.close()
        self.poll.close()

    def _open(self) -> None:
        sock = socket.create_connection(("127.0.0.1", self._port), 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socks[sock.fileno()] = sock
        self.poll.register(sock, select.EPOLLIN)
        self._free.append(sock.fileno())

    def _replace(self, number: int) -> None:
        self.errors += 1
        self.poll.unregister(number)
        self._socks.pop(number).close()
        self._partial.pop(number, None)
        if number in self.in_flight:
            self._schedule.answered(self.in_flight.pop(number), self._clock())
        else:
            self._free.remove(number)
        self._open()


def run(port: int, path: str, rate: float, seconds: float, fields: list[str]) -> Report:
    """Blocks for `seconds` and, while answers are owed, up to five more. Raises OSError when it cannot connect."""
    lines = "".join(f"{field}\r\n" for field in fields)
    _exact_timers()
    gc.disable()
    clock = time.monotonic
    schedule = Schedule(clock() + _LEAD_S, rate, seconds)
    caller = Caller(port, f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode(), schedule, clock)
    until = clock() + seconds + _PATIENCE_S
    try:
        while not schedule.finished and clock() < until:
            caller.send_due()
            # epoll rounds its patience to milliseconds, select does not.
            if select.select([caller.poll], [], [], min(schedule.next_in(clock()), 0.1))[0]:
                for number, _ in caller.poll.poll(0):
                    caller.receive(number)
        return schedule.report(clock(), caller.errors, list(caller.in_flight.values()))
    finally:
        caller.close()


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
