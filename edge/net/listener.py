"""Takes connections in, within ceilings, and lets them go: the door of one worker.

In:    a bound, listening socket (shared by the workers of a host), the pipeline, limits.
Out:   a Downstream in a greenlet of its own per connection.
Laws:  1. Accepting runs in the hub and never blocks. 2. Above a ceiling a client is told so (503) and let go; memory
       stays bounded. 3. Drain: accept no more, close idle connections, let those being served finish.
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
from edge.net.wire import READ, Wire

if TYPE_CHECKING:
    from edge.pipeline import Pipeline
    from edge.ports import Clock, Identifiers
    from edge.settings import Limits

_log: Final = logging.getLogger(__name__)
_ACCEPTS_PER_WAKE: Final = 16
_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_S: Final = 0.5


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
        self.draining = False
        self._sock = _socket.socket(fileno=os.dup(sock.fileno()))
        self._sock.setblocking(False)
        self._downstreams: set[Downstream] = set()
        self._per_client: dict[str, int] = {}
        self._empty = Event()
        self._accepting: Any = None
        self.date_line = b""
        """The Date line of now, renewed with each sweep."""

    def start(self) -> None:
        """Begin to accept. Call in the thread whose hub is to serve."""
        self._sweeper = Sweeper.of_this_hub()
        self._sweeper.chores.append(self._renew_date)
        self._renew_date(0.0)
        self._accepting = gevent.get_hub().loop.io(self._sock.fileno(), READ)
        self._accepting.start(self._accept)

    @property
    def connections(self) -> int:
        return len(self._downstreams)

    def _renew_date(self, now_mono: float) -> None:
        self.date_line = b"Date: %b\r\n" % http_date(self.clock.wall())

    def drain(self) -> None:
        """Stop accepting and let every exchange finish. Blocks up to limits.drain_timeout_s; the rest is left."""
        self.draining = True
        self._stop_accepting()
        loop = gevent.get_hub().loop
        for downstream in tuple(self._downstreams):
            loop.run_callback(downstream.drain)
        if self._downstreams:
            self._empty.clear()
            if not self._empty.wait(self.limits.drain_timeout_s):
                _log.warning("drain ended with %d connections still busy", len(self._downstreams))

    def left(self, downstream: Downstream) -> None:
        """A connection ended."""
        self._downstreams.discard(downstream)
        count = self._per_client.get(downstream.client_ip, 1) - 1
        if count:
            self._per_client[downstream.client_ip] = count
        else:
            self._per_client.pop(downstream.client_ip, None)
        if not self._downstreams:
            self._empty.set()

    def _stop_accepting(self) -> None:
        if self._accepting is not None:
            # Who waits in the kernel's queue has been told that the connection stands: closing now would reset it.
            while self._accept():
                pass
            self._accepting.stop()
            self._accepting.close()
            self._accepting = None
            self._sock.close()

    def _accept(self) -> bool:
        """Take in whoever waits, so many at a time; gives whether there may be more."""
        accept: Any = self._sock._accept  # type: ignore[attr-defined] # noqa: SLF001 - accept(2) as it is
        for _ in range(_ACCEPTS_PER_WAKE):
            try:
                descriptor, address = accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._pause(error)
                return False
            sock = _socket.socket(self._sock.family, self._sock.type, self._sock.proto, fileno=descriptor)
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
        self._accepting.stop()
        gevent.spawn_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._accepting is not None:
            self._accepting.start(self._accept)

    def __repr__(self) -> str:
        return f"<Listener {len(self._downstreams)} connections{' draining' if self.draining else ''}>"
