"""The first of several addresses that takes a connection ("happy eyeballs" in small, RFC 8305).

In:    checked literal addresses, a port, a deadline.
Out:   a connected raw socket and its address; the last OSError, or TimedOut.
Laws:  1. The families take turns, IPv6 first; within a family, connections take turns over the addresses. 2. An address
       that refuses hands over at once, a slow one after ATTEMPT_S, and is not given up: the first to connect is used,
       the others are closed. 3. An address that did not connect lately, at this port, goes last. 4. A greenlet can be
       interrupted here as it can on a wire.
Not here: which addresses (address), TLS (connecting).
"""

from __future__ import annotations

import _socket
import errno
import time
from collections.abc import Sequence
from itertools import count, zip_longest
from typing import Any, Final

import gevent
from greenlet import getcurrent, greenlet

from edge.net.wire import WRITE, TimedOut

ATTEMPT_S: Final = 0.25
_FAILED_S: Final = 30.0
_FAILED_MAX: Final = 1_024
_turns: Final = count()
_failed: Final[dict[tuple[str, int], float]] = {}
"""Address and port -> until when it goes last."""


def in_turn(addresses: Sequence[str], port: int) -> list[str]:
    """Put addresses in the order in which they are tried now."""
    if len(addresses) == 1:
        return list(addresses)
    turn = next(_turns)
    six, four = ([a for a in addresses if (":" in a) is wanted] for wanted in (True, False))
    turned = [[*family[turn % len(family) :], *family[: turn % len(family)]] for family in (six, four) if family]
    order = [address for pair in zip_longest(*turned) for address in pair if address is not None]
    if _failed:
        now = time.monotonic()
        order.sort(key=lambda address: _failed.get((address, port), 0.0) > now)
    return order


def note_failure(address: str, port: int) -> None:
    if len(_failed) >= _FAILED_MAX:
        _failed.clear()
    _failed[address, port] = time.monotonic() + _FAILED_S


def open_socket(address: str, port: int) -> _socket.socket:
    """Start to connect; the address is a literal, so nothing is resolved here. Raises OSError."""
    sock = _socket.socket(_socket.AF_INET6 if ":" in address else _socket.AF_INET, _socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        code = sock.connect_ex((address, port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "connect failed")
    except BaseException:
        sock.close()
        raise
    return sock


def failure_of(sock: _socket.socket) -> OSError | None:
    """Say how a connect that was decided ended."""
    code = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
    return OSError(code, errno.errorcode.get(code, "connect failed")) if code else None


def first_connected(addresses: Sequence[str], port: int, deadline_mono: float) -> tuple[_socket.socket, str]:
    """Blocks until one connects. Raises OSError when all refuse, TimedOut at the deadline."""
    race = _Race()
    try:
        waiting = iter(addresses)
        more = True
        error: OSError = OSError(errno.EHOSTUNREACH, "connect failed")
        while True:
            if more:
                address = next(waiting, None)
                more = address is not None
                if address is not None:
                    try:
                        race.enter(open_socket(address, port), address)
                    except OSError as refused:
                        note_failure(address, port)
                        error = refused
                        continue
            if not race.running:
                raise error
            left_s = deadline_mono - time.monotonic()
            if left_s <= 0:
                raise TimedOut
            for sock, address in race.wait(min(ATTEMPT_S, left_s) if more else left_s):
                lost = failure_of(sock)
                if lost is None:
                    return race.leave(sock), address
                note_failure(address, port)
                race.leave(sock).close()
                error = lost
    finally:
        race.close()


class _Race:
    """Sockets that connect, and one greenlet that waits for any of them."""

    __slots__ = ("_decided", "_hub", "running", "waiting")

    def __init__(self) -> None:
        self._hub: Any = gevent.get_hub()
        self._decided: list[tuple[_socket.socket, str]] = []
        self.waiting: Any = None
        """The greenlet that waits here, or None; named as a wire's, for `interrupt` asks both."""
        self.running: dict[_socket.socket, tuple[Any, str]] = {}

    def enter(self, sock: _socket.socket, address: str) -> None:
        watcher = self._hub.loop.io(sock.fileno(), WRITE)
        self.running[sock] = (watcher, address)
        watcher.start(self._on_decided, sock)

    def leave(self, sock: _socket.socket) -> _socket.socket:
        watcher, _ = self.running.pop(sock)
        watcher.stop()
        watcher.close()
        return sock

    def wait(self, timeout_s: float) -> list[tuple[_socket.socket, str]]:
        """Give those that were decided, none when it took too long."""
        if not self._decided:
            timer = self._hub.loop.timer(timeout_s)
            current = self.waiting = getcurrent()
            current.waits_on = self
            timer.start(self._wake, update=True)
            try:
                self._hub.switch()
            finally:
                self.waiting = None
                timer.stop()
                timer.close()
        decided, self._decided = self._decided, []
        return decided

    def interrupt(self, error: BaseException) -> None:
        """Throw into whoever waits here; in the hub only."""
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            greenlet.throw(waiting, error)

    def close(self) -> None:
        for sock in list(self.running):
            self.leave(sock).close()

    def _on_decided(self, sock: _socket.socket) -> None:
        watcher, address = self.running[sock]
        watcher.stop()
        self._decided.append((sock, address))
        self._wake()

    def _wake(self) -> None:
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            greenlet.switch(waiting)
