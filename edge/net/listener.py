"""Takes connections in, within ceilings, and lets them go: the door of one worker.

In:    bound, listening sockets, plain and TLS (shared with the parent and a predecessor or successor), the pipeline,
       limits, the proxies that are trusted.
Out:   a Downstream in a greenlet of its own per connection.
Laws:  1. Accepting runs in the hub and never blocks. 2. Above a ceiling a client is told so (503) and let go; memory
       stays bounded. 3. Drain: accept no more, let those being served finish, close the others once they were idle for
       a grace: a client that just sent its next request gets an answer, never a reset. Tunnels, which may never finish,
       are asked to end shortly before the time is up.
Not here: what comes before the first request (arrival), serving (downstream), signals (edge.server).
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
from edge.net.arrival import Arrival, Entering, Refusals
from edge.net.downstream import Downstream
from edge.net.sweeper import Sweeper
from edge.net.tunnel import Tunnels
from edge.net.wire import READ, Wire

if TYPE_CHECKING:
    from edge.http.forwarded import TrustedHops
    from edge.net.certificates import Certificates
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


class Gate:
    """One listening socket, by a descriptor of its own: `sock` (anything with fileno()) stays its owner's to close."""

    __slots__ = ("_accepting", "_listener", "_sock", "certificates")

    def __init__(self, sock: Any, listener: Listener, certificates: Certificates | None) -> None:
        self._listener = listener
        self.certificates = certificates
        self._sock = _socket.socket(fileno=os.dup(sock.fileno()))
        self._sock.setblocking(False)
        self._accepting: Any = None

    def open(self) -> None:
        self._accepting = gevent.get_hub().loop.io(self._sock.fileno(), READ)
        self._accepting.start(self._accept)

    def close(self) -> None:
        if self._accepting is not None:
            self._accepting.stop()
            self._accepting.close()
            self._accepting = None
            # Who waits in the kernel's queue has been told that the connection stands: closing now would reset it.
            while self._accept():
                pass
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
            peer = address[0].removeprefix("::ffff:") if address else "local"
            if address:
                sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            self._listener.admit(sock, peer, self.certificates)
        return True

    def _pause(self, error: OSError) -> None:
        _log.error("cannot accept connections for %s s: %s", _PAUSE_S, error.strerror)
        if self._accepting is not None:
            self._accepting.stop()
        gevent.spawn_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._accepting is not None:
            self._accepting.start(self._accept)


class Listener:
    """`hops`: the proxies before us that are believed; `proxy_protocol`: each connection must come from one of them and
    begin with a PROXY header.
    """

    def __init__(
        self,
        sock: Any,
        pipeline: Pipeline,
        limits: Limits,
        clock: Clock,
        identifiers: Identifiers,
        *,
        hops: TrustedHops | None = None,
        proxy_protocol: bool = False,
    ) -> None:
        self.pipeline: Final = pipeline
        self.limits: Final = limits
        self.clock: Final = clock
        self.identifiers: Final = identifiers
        self.sections: Final = SectionMemo()
        self.tunnels: Final = Tunnels(limits.tunnel_idle_timeout_s)
        self.refusals: Final = Refusals()
        self.certificates: Certificates | None = None
        self.draining = False
        self.idle_timeout_s = limits.idle_timeout_s
        """How long a kept connection may be without a request from now on."""
        self._hops = hops
        self._proxy_protocol = proxy_protocol
        self._gates: list[Gate] = []
        self._downstreams: set[Downstream | Entering] = set()
        self.unread: set[Downstream] = set()
        """Those whose clients sent more while they are served: looked at with each sweep, as nothing wakes them."""
        self._per_client: dict[str, int] = {}
        self._empty = Event()
        self.accept_from(sock)
        self.date_line = b""
        """The Date line of now, renewed with each sweep."""

    def accept_from(self, sock: Any, certificates: Certificates | None = None) -> None:
        """One more socket to accept from, TLS where certificates are given. Call before `start`. All of a worker's
        sockets share everything: ceilings, memos, drain.
        """
        if certificates is not None:
            self.certificates = certificates
        self._gates.append(Gate(sock, self, certificates))

    def start(self) -> None:
        """Begin to accept. Call in the thread whose hub is to serve."""
        self._sweeper = Sweeper.of_this_hub()
        self._sweeper.chores += (self._renew_date, self._look_at_unread)
        self._renew_date(0.0)
        for gate in self._gates:
            gate.open()

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
        for gate in self._gates:
            gate.close()
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

    def admit(self, sock: _socket.socket, peer: str, certificates: Certificates | None) -> None:
        """Take a connection into the books, or turn it away. In the hub: never blocks."""
        limits = self.limits
        scheme = b"http" if certificates is None else b"https"
        if self._proxy_protocol:
            assert self._hops is not None
            if not self._hops.contains(peer):
                self.refusals.note("proxy-untrusted", peer, "not in EDGE_TRUSTED_PROXIES", self._sweeper.now_mono)
                sock.close()
                return
            arrival = Arrival(peer, scheme, counted=False)  # whose it is, its header will say
        else:
            arrival = self.arrival(peer, scheme)
        if len(self._downstreams) >= limits.connections_max or not self._count(arrival):
            if certificates is None and not self._proxy_protocol:  # else nobody could read it yet
                self.say_overloaded(sock, peer)
            self.refusals.note("ceiling", peer, "there are too many connections", self._sweeper.now_mono)
            sock.close()
            return
        incoming: Downstream | Entering
        if certificates is None and not self._proxy_protocol:
            incoming = Downstream(self, Wire(sock, self._sweeper), arrival)
        else:
            incoming = Entering(self, sock, self._sweeper, arrival, certificates, self._proxy_protocol)
        self._downstreams.add(incoming)
        gevent.spawn(incoming.run)

    def arrival(self, client_ip: str, scheme: bytes) -> Arrival:
        """A trusted hop's connections carry many clients: they count by request (Downstream), not by connection."""
        if self._hops is None or not self._hops.contains(client_ip):
            return Arrival(client_ip, scheme)
        return Arrival(client_ip, scheme, counted=False, hops=self._hops)

    def entered(self, entering: Entering, wire: Wire, first: bytes) -> Downstream:
        """A connection is ready for HTTP: its Downstream stands in for it from now on. `first`: octets already here."""
        self._downstreams.discard(entering)
        downstream = Downstream(self, wire, entering.arrival, first)
        self._downstreams.add(downstream)
        return downstream

    def left(self, ended: Downstream | Entering) -> None:
        """A connection ended."""
        self._downstreams.discard(ended)
        self.unread.discard(ended)
        if ended.arrival.counted:
            self.leave(ended.arrival.client_ip)
        if not self._downstreams:
            self._empty.set()

    def enter(self, client_ip: str) -> bool:
        """Count one more connection, or request through a trusted hop, of a client; False when it has too many."""
        count = self._per_client.get(client_ip, 0)
        if count >= self.limits.connections_per_client_max:
            return False
        self._per_client[client_ip] = count + 1
        return True

    def leave(self, client_ip: str) -> None:
        """Take back what `enter` counted."""
        count = self._per_client.get(client_ip, 1) - 1
        if count:
            self._per_client[client_ip] = count
        else:
            self._per_client.pop(client_ip, None)

    def _count(self, arrival: Arrival) -> bool:
        return not arrival.counted or self.enter(arrival.client_ip)

    def say_overloaded(self, sock: _socket.socket, client_ip: str) -> None:
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

    def __repr__(self) -> str:
        return f"<Listener {len(self._downstreams)} connections{' draining' if self.draining else ''}>"
