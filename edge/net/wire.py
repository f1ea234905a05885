"""A connection over a raw non-blocking socket: the cheapest way to wait that gevent's hub has.

In:    a connected `_socket.socket` (never gevent's: it tries, fails, and starts and stops a watcher at each call).
Out:   recv and send that block the calling greenlet only.
Laws:  1. One read watcher, started once and left running: wait, then read once. When it fires and nobody waits, it is
       stopped, the fact is remembered, and the owner is told (`on_wake`): that is how a peer that leaves is noticed
       at no cost per message. 2. Writing is tried at once; only a full socket buffer starts the write watcher. 3. A
       greenlet can be interrupted only while it waits on a wire, so its state is known. 4. At most one reader and one
       writer.
Not here: what a lost connection means (downstream, upstream), TLS (tls).
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import math
import struct
import termios
from collections.abc import Callable
from typing import Any, ClassVar, Final

import gevent
from greenlet import getcurrent, greenlet

from edge.net.pace import Pace
from edge.net.sweeper import Sweeper

READ: Final = 1
WRITE: Final = 2
READ_BYTES: Final = 65_536
_PEER_LEFT: Final = frozenset({7, 8})
"""CLOSE and CLOSE_WAIT, the first octet of TCP_INFO (linux/tcp.h)."""
_switch: Final = greenlet.switch
_throw: Final = greenlet.throw
_RESET: Final = struct.pack("ii", 1, 0)


class TimedOut(Exception):
    """A wait took longer than the wire's deadline allowed."""


class Wire:
    """`deadline_mono` bounds whatever wait comes next; `write_timeout_s` a write that makes no progress; `rate_min`,
    where it is not zero, the octets per second that a peer must take while we wait for it.
    """

    __slots__ = (
        "_hub", "_in", "_out", "_reader", "_recv", "_rest", "_send", "_unread", "_writer", "address", "closed",
        "deadline_mono", "on_wake", "pace", "rate_min", "readable", "sock", "sweeper", "write_timeout_s",
    )  # fmt: skip

    holds_octets: ClassVar[bool] = False
    """Whether more was taken from the socket than was read; never so without TLS."""

    def __init__(self, sock: _socket.socket, sweeper: Sweeper, write_timeout_s: float = 60.0) -> None:
        self._hub: Any = gevent.get_hub()
        self.sock = sock
        self.sweeper = sweeper
        self.write_timeout_s = write_timeout_s
        self.rate_min = 0
        self.pace: Pace | None = None
        """What the reader of the message under way has left; made when it first keeps us waiting."""
        self.closed = False
        self.address = ""
        """Where it leads, when we opened it."""
        self.readable = False
        """It fired while nobody was reading; what is there was not read yet."""
        self.deadline_mono = math.inf
        self.on_wake: Callable[[], None] | None = None
        self._reader: Any = None
        self._writer: Any = None
        self._rest: bytes | memoryview = b""
        self._out: Any = None
        self._recv = sock.recv
        self._send = sock.send
        self._unread: Callable[[], None] = self._on_unread
        self._in: Any = self._hub.loop.io(sock.fileno(), READ)
        self._in.start(self._unread)
        sweeper.wires.add(self)

    def recv(self, size: int = READ_BYTES) -> bytes:
        """Wait until something is there, then read once; b"" when the peer closed. Raises TimedOut, OSError."""
        while True:
            if self.readable:
                self.readable = False
                self._in.start(self._unread)
            else:
                # The watcher's callback is the switch into us, so that no frame of Python runs in the hub.
                current = self._reader = getcurrent()
                current.waits_on = self
                self._in.callback = current.switch
                try:
                    _switch(self._hub)
                finally:
                    self._in.callback = self._unread
                    self._reader = None
            try:
                return self._recv(size)
            except BlockingIOError:
                continue

    def recv_beneath(self) -> bytes:
        """Read what comes before any protocol above TCP begins. As recv."""
        return Wire.recv(self)

    def send(self, octets: bytes) -> None:
        """Send all. Blocks while the socket's buffer is full. Raises TimedOut, OSError."""
        try:
            sent = self._send(octets)
        except BlockingIOError:
            sent = 0
        if sent != len(octets):
            self._send_rest(memoryview(octets)[sent:])

    def _send_rest(self, rest: memoryview) -> None:
        if self.rate_min:
            self._send_paced(rest)
            return
        while rest:
            self.deadline_mono = self.sweeper.now_mono + self.write_timeout_s
            self.wait_writable()
            try:
                rest = rest[self._send(rest) :]
            except BlockingIOError:
                continue

    def _send_paced(self, rest: memoryview) -> None:
        """As _send_rest, for a peer that must take what is there at some rate. What counts is what its kernel took,
        not what ours still holds: that may be megabytes.
        """
        pace = self.pace
        if pace is None:
            pace = self.pace = Pace(self.rate_min, self.write_timeout_s)
        unsent = self._unsent()
        while rest:
            began_s = self.sweeper.awake_s
            self.deadline_mono = self.sweeper.now_mono + min(self.write_timeout_s, pace.credit_s)
            try:
                self.wait_writable()
                is_late = False
            except TimedOut:
                is_late = True
            waited_s = self.sweeper.awake_s - began_s
            if waited_s or is_late:
                left = self._unsent()
                pace.account(unsent - left, waited_s)
                if is_late and (left >= unsent or pace.credit_s <= 0.0):
                    raise TimedOut
                unsent = left
            try:
                sent = self.sock.send(rest)
            except BlockingIOError:
                continue
            unsent += sent
            rest = rest[sent:]

    def _unsent(self) -> int:
        """Octets in our kernel that the peer's has not acknowledged."""
        size: int = struct.unpack("i", fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        return size

    def wait_writable(self) -> None:
        """Block until the socket takes more, or a connect is decided. Raises TimedOut."""
        if self._out is None:
            self._out = self._hub.loop.io(self.sock.fileno(), WRITE)
        current = self._writer = getcurrent()
        current.waits_on = self
        self._out.start(self._on_writable)
        try:
            _switch(self._hub)
        finally:
            self._writer = None
            if self._out is not None:
                self._out.stop()

    def peek(self) -> bytes | None:
        """Look at what is there without taking it: b"" when the peer closed or is lost, None when nothing is."""
        try:
            return self.sock.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def take(self) -> bytes | None:
        """Read what is there without waiting: b"" when the peer closed or is lost, None when nothing is."""
        try:
            return self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    @property
    def reads(self) -> bool:
        return self._reader is not None

    @property
    def peer_left(self) -> bool:
        """Whether the peer closed or reset the connection behind what is still unread, where the system can tell."""
        try:
            return self.sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, 1)[0] in _PEER_LEFT
        except OSError:
            return False

    def interrupt(self, error: BaseException) -> None:
        """Throw into whoever waits on this wire; nothing happens when nobody does. In the hub only."""
        waiting = self.waiting
        if waiting is not None:
            _throw(waiting, error)

    @property
    def waiting(self) -> Any:
        """The greenlet that waits here, or None."""
        return self._reader or self._writer

    def expire(self) -> None:
        self.deadline_mono = math.inf
        self.interrupt(TimedOut())

    def say_end(self) -> None:
        """Tell the peer, where the protocol has a word for it, that all was sent. Never blocks, never raises."""

    def end_writing(self) -> None:
        """Send the end; what comes may still be read. Raises OSError."""
        self.say_end()
        self.sock.shutdown(_socket.SHUT_WR)

    def abort(self) -> None:
        """Let the coming close be a reset, so that nobody takes what was sent for complete. Never raises."""
        try:
            self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _RESET)
        except OSError:  # it is closed already
            pass

    def close(self) -> None:
        """Close now. Idempotent, never raises; whoever still waits here gets an OSError."""
        if self.closed:
            return
        self.closed = True
        self.on_wake = None
        self._unread = _nothing  # else we would hold ourselves, for the collector to find
        self.sweeper.wires.discard(self)
        self._in.stop()
        self._in.close()
        if self._out is not None:
            self._out.stop()
            self._out.close()
            self._out = None
        try:
            self.sock.close()
        except OSError:  # the kernel may report an earlier write's failure here; the descriptor is gone anyway
            pass
        if self._reader is not None or self._writer is not None:
            self._hub.loop.run_callback(self.interrupt, OSError(errno.EBADF, "the connection was closed"))

    # Without waiting, in the hub: for who has it call when there is something to do (tunnel)

    def await_end(self) -> None:
        """Block until somebody interrupts, or the deadline passes. Raises TimedOut, or what was thrown."""
        current = self._reader = getcurrent()
        current.waits_on = self
        try:
            _switch(self._hub)
        finally:
            self._reader = None

    def listen(self, called: Callable[[], None] | None) -> None:
        """Have this called whenever something is there, until None is given; recv is no longer used."""
        self.on_wake = None
        self.readable = False
        self._in.stop()
        if called is not None:
            self._in.start(called)

    def listen_for_room(self, called: Callable[[], None] | None) -> None:
        """Have this called whenever the socket takes more, until None is given; send is no longer used."""
        if self._out is None:
            self._out = self._hub.loop.io(self.sock.fileno(), WRITE)
        self._out.stop()
        if called is not None:
            self._out.start(called)

    def take_into(self, into: memoryview) -> int:
        """Read what is there: 0 when the peer ended its direction, -1 when nothing is there. Raises OSError."""
        try:
            return self.sock.recv_into(into)
        except BlockingIOError:
            return -1

    def offer(self, octets: memoryview) -> bool:
        """Send what fits and keep a copy of the rest; whether all is out. Not while a rest is kept. Raises OSError."""
        try:
            sent = self.sock.send(octets)
        except BlockingIOError:
            sent = 0
        if sent == len(octets):
            return True
        self._rest = memoryview(bytes(octets[sent:]))
        return False

    def offer_rest(self) -> bool:
        """Send what fits of the rest; whether all is out. Raises OSError."""
        try:
            while self._rest:
                self._rest = self._rest[self.sock.send(self._rest) :]
        except BlockingIOError:
            return False
        return True

    def finish(self) -> bool:
        """End our direction and leave the other as it is; False: try again when there is room. Raises OSError."""
        if not self.offer_rest():
            return False
        self.sock.shutdown(_socket.SHUT_WR)
        return True

    def _on_unread(self) -> None:
        """It fired while nobody was reading."""
        self._in.stop()
        self.readable = True
        if self.on_wake is not None:
            self.on_wake()

    def watch_again(self) -> None:
        """Take a wake-up back that turned out to be nothing."""
        self.readable = False
        self._in.start(self._unread)

    def _on_writable(self) -> None:
        writer = self._writer
        if writer is not None:
            self._writer = None
            _switch(writer)

    def __repr__(self) -> str:
        if self.closed:
            return "<Wire closed>"
        waits = "reads" if self._reader is not None else "writes" if self._writer is not None else "at rest"
        return f"<Wire fd={self.sock.fileno()} {waits}>"


def _nothing() -> None:
    """What a closed wire's watcher would call."""


def interrupt(waiting: Any, error: BaseException) -> bool:
    """Throw into a greenlet where it waits on a wire; False when it waits elsewhere or runs. In the hub only."""
    wire: Wire | None = getattr(waiting, "waits_on", None)
    if wire is None or wire.waiting is not waiting:  # `waits_on` says where it waited last
        return False
    wire.interrupt(error)
    return True
