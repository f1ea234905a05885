"""Takes connections in, within ceilings, and lets them go: the door of one worker.

In:    bound, listening sockets (shared with the parent and a predecessor or successor), the pipeline, limits.
Out:   a Downstream in a greenlet of its own per connection.
Laws:  1. Accepting runs in the hub and never blocks. 2. Above a ceiling a client is told so (503) and let go; memory
       stays bounded. 3. Drain: accept no more, let those being served finish, close the others once they were idle for
       a grace: a client that just sent its next request gets an answer, never a reset. Tunnels, which may never finish,
       are asked to end shortly before the time is up.
Not here: serving (downstream), signals (edge.server), TLS.
"""

from __future__ import annotations

import _socket
import errno
import logging
import os
from typing import TYPE_CHECKING, Any, Final

import gevent
from gevent.event import Event

from edge.errors import GatewayError
from edge.http.fields import http_date
from edge.http.parser import SectionMemo
from edge.http.writer import CLOSE_LINE, response_head
from edge.net.downstream import Downstream
from edge.net.sweeper import Sweeper
from edge.net.tunnel import Tunnels
from edge.net.wire import READ, Wire

if TYPE_CHECKING:
    from edge.pipeline import Pipeline
    from edge.ports import Clock, Identifiers
    from edge.settings import Limits

_log: Final = logging.getLogger(__name__)
_ACCEPTS_PER_WAKE: Final = 16
_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_S: Final = 0.5
_DRAIN_GRACE_S: Final = 3.0
"""A client that asks more often than this has had an answer with `Connection: close` before a drain closes on it."""
_FAREWELL_S: Final = 3.0
"""Before the end of a drain: what tunnels have to take leave."""
_CUT_S: Final = 1.0


class Listener:
    """`sock`: anything with fileno(); it stays its owner's to close. `scheme`: what clients believe they speak."""

    def __init__(
        self,
        sock: Any,
        pipeline: Pipeline,
        limits: Limits,
        clock: Clock,
        identifiers: Identifiers,
        *,
        scheme: bytes = b"http",
    ) -> None:
        self.pipeline: Final = pipeline
        self.limits: Final = limits
        self.clock: Final = clock
        self.identifiers: Final = identifiers
        self.scheme: Final = scheme
        self.sections: Final = SectionMemo()
        self.tunnels: Final = Tunnels(limits.tunnel_idle_timeout_s)
        self.draining = False
        self.idle_timeout_s = limits.idle_timeout_s
        """How long a kept connection may be without a request from now on."""
        self._socks: list[_socket.socket] = []
        self._watchers: list[Any] = []
        self._downstreams: set[Downstream] = set()
        self.unread: set[Downstream] = set()
        """Those whose clients sent more while they are served: looked at with each sweep, as nothing wakes them."""
        self._per_client: dict[str, int] = {}
        self._empty = Event()
        self.accept_from(sock)
        self.date_line = b""
        """The Date line of now, renewed with each sweep."""

    def accept_from(self, sock: Any) -> None:
        """One more socket to accept from. Call before `start`."""
        own = _socket.socket(fileno=os.dup(sock.fileno()))
        own.setblocking(False)
        self._socks.append(own)

    def start(self) -> None:
        """Begin to accept. Call in the thread whose hub is to serve."""
        self._sweeper = Sweeper.of_this_hub()
        self._sweeper.chores += (self._renew_date, self._look_at_unread)
        self._renew_date(0.0)
        loop = gevent.get_hub().loop
        for sock in self._socks:
            watcher = loop.io(sock.fileno(), READ)
            watcher.start(self._accept, sock)
            self._watchers.append(watcher)

    @property
    def connections(self) -> int:
        return len(self._downstreams)

    def _renew_date(self, now_mono: float) -> None:
        self.date_line = b"Date: %b\r\n" % http_date(self.clock.wall())

    def _look_at_unread(self, now_mono: float) -> None:
        for downstream in tuple(self.unread):
            if downstream.look_again():
                self.unread.discard(downstream)

    def drain(self) -> None:
        """Stop accepting and let every exchange finish. Blocks up to limits.drain_timeout_s; the rest is cut."""
        self.draining = True
        self.idle_timeout_s = min(_DRAIN_GRACE_S, self.limits.drain_timeout_s / 4)
        self._stop_accepting()
        loop = gevent.get_hub().loop
        for downstream in tuple(self._downstreams):
            loop.run_callback(downstream.drain)
        if self._all_left_in_peace(self.limits.drain_timeout_s):
            return
        _log.warning("drain ended with %d connections still busy", len(self._downstreams))
        for downstream in tuple(self._downstreams):
            loop.run_callback(downstream.cut)
        self._all_left(_CUT_S)

    def _all_left(self, timeout_s: float) -> bool:
        if not self._downstreams:
            return True
        self._empty.clear()
        return bool(self._empty.wait(timeout_s))

    def _all_left_in_peace(self, timeout_s: float) -> bool:
        """Tunnels are asked to leave before the end, and then ended."""
        farewell_s = min(_FAREWELL_S, timeout_s / 2)
        if self._all_left(timeout_s - farewell_s):
            return True
        self.tunnels.retire()
        if self._all_left(farewell_s * 0.8):
            return True
        self.tunnels.abandon()
        return self._all_left(farewell_s * 0.2)

    def left(self, downstream: Downstream) -> None:
        """A connection ended."""
        self._downstreams.discard(downstream)
        self.unread.discard(downstream)
        count = self._per_client.get(downstream.client_ip, 1) - 1
        if count:
            self._per_client[downstream.client_ip] = count
        else:
            self._per_client.pop(downstream.client_ip, None)
        if not self._downstreams:
            self._empty.set()

    def _stop_accepting(self) -> None:
        for watcher in self._watchers:
            watcher.stop()
            watcher.close()
        self._watchers.clear()
        for sock in self._socks:
            # Who waits in the kernel's queue has been told that the connection stands: closing now would reset it.
            while self._accept(sock):
                pass
            sock.close()
        self._socks.clear()

    def _accept(self, listening: _socket.socket) -> bool:
        """Take in whoever waits, so many at a time; gives whether there may be more."""
        accept: Any = listening._accept  # type: ignore[attr-defined] # noqa: SLF001 - accept(2) as it is
        for _ in range(_ACCEPTS_PER_WAKE):
            try:
                descriptor, address = accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._pause(error)
                return False
            sock = _socket.socket(listening.family, listening.type, listening.proto, fileno=descriptor)
            sock.setblocking(False)
            client_ip = address[0].removeprefix("::ffff:") if address else "local"
            if address:
                sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self._admit(sock, client_ip)
        return True

    def _admit(self, sock: _socket.socket, client_ip: str) -> None:
        count = self._per_client.get(client_ip, 0)
        limits = self.limits
        if len(self._downstreams) >= limits.connections_max or count >= limits.connections_per_client_max:
            self._turn_away(sock, client_ip)
            return
        self._per_client[client_ip] = count + 1
        downstream = Downstream(self, Wire(sock, self._sweeper), client_ip)
        self._downstreams.add(downstream)
        gevent.spawn(downstream.run)

    def _turn_away(self, sock: _socket.socket, client_ip: str) -> None:
        """Say 503 with the one write that never blocks: into the empty buffer of a new socket."""
        error = GatewayError("gateway-overloaded", "There are too many connections.", close=True)
        reply = self.pipeline.refuse(error, client_ip, self.identifiers.request_id())
        body = reply.body if isinstance(reply.body, bytes) else b""
        framing = b"Content-Length: %d\r\n" % len(body)
        try:
            sock.send(response_head(reply, framing, CLOSE_LINE, self.date_line) + body)
            sock.shutdown(_socket.SHUT_WR)
            sock.recv(65_536)  # what already came would turn our close into a reset
        except OSError:
            pass
        finally:
            sock.close()

    def _pause(self, error: OSError) -> None:
        _log.error("cannot accept connections for %s s: %s", _PAUSE_S, error.strerror)
        for watcher in self._watchers:
            watcher.stop()
        gevent.spawn_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        for watcher, sock in zip(self._watchers, self._socks, strict=False):  # none are left when a drain came between
            watcher.start(self._accept, sock)

    def __repr__(self) -> str:
        return f"<Listener {len(self._downstreams)} connections{' draining' if self.draining else ''}>"
