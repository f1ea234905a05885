"""Sends one attempt to a target over a kept or a new connection and gives the answer: ports.Upstream.

In:    UpstreamRequest: a complete head, a body as bytes or in pieces, times.
Out:   UpstreamResponse, its body as bytes when it came whole with the head; GatewayError with a truthful `retry`.
Laws:  1. Head and small body leave in one write. 2. A connection is used again only after a complete, well-framed
       exchange behind which nothing else came; anything else closes it. 3. Connections are never shared between
       tenants, nor between TLS settings: an origin that desynchronises one can only hurt its own tenant. 4. An idle
       connection that its origin closes is thrown away when it happens; for a request that must not be sent twice it
       is looked at once more before use. 5. Interim answers (1xx) pass on as they come, in bounded number, and buy the
       origin no time; a 101 is taken only for what was offered, and its connection is a tunnel's from then on. 6.
       Connection and target know what the origin speaks: one seen to speak HTTP/1.0 is not asked for interim answers.
Not here: choosing targets and retrying (pipeline), the books (pool), names (address), opening a connection
          (connecting), bodies (pump, reply_body), what failures are called (failures).
"""

from __future__ import annotations

import ssl
import time
from typing import Final

from contracts.addresses import IPNetwork
from contracts.sealing import SealingKeys
from edge.errors import GatewayError, Retry
from edge.http import upgrade
from edge.http.framing import ChunkedDecoder, Decoder, FramingError, LengthDecoder, UntilCloseDecoder
from edge.http.messages import Body, ResponseHead
from edge.http.parser import SectionMemo, parse_response_head
from edge.net.address import Resolver
from edge.net.connecting import Destination, connect
from edge.net.failures import broken, lost, too_late
from edge.net.origin_tls import OriginContexts
from edge.net.pool import Books
from edge.net.pump import Pump, pass_on
from edge.net.reply_body import ReplyBody
from edge.net.sweeper import Sweeper
from edge.net.tunnel import Switched
from edge.net.wire import TimedOut, Wire
from edge.ports import UpstreamRequest, UpstreamResponse
from edge.settings import Limits
from edge.snapshot import OriginTls

_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
_TargetKey = tuple[str, str, str | None]
"""Tenant, URL, digest of the TLS settings."""


class Target:
    """What is known of one (tenant, URL, TLS settings): where it is, which connections lead there, and the `version`
    it spoke last."""

    __slots__ = ("books", "destination", "kept", "tls", "used_mono", "version")

    def __init__(self, destination: Destination, tls: OriginTls | None, limits: Limits) -> None:
        self.destination = destination
        self.tls = tls
        self.books: Books[Connection] = Books(
            limits.upstream_per_target_max, limits.upstream_idle_per_target_max, limits.upstream_idle_timeout_s
        )
        self.used_mono = 0.0
        self.version = 11
        self.kept: frozenset[str] | None = None
        """Addresses to which connections are kept, None for all: DNS may name others by now."""

    def let_go(self, kept: frozenset[str] | None) -> None:
        """Close what is idle and leads elsewhere; what is in use follows when it comes back."""
        if kept is not self.kept:
            self.kept = kept
            if kept is not None:
                for connection in self.books.weed(lambda connection: connection.address in kept):
                    connection.wire.close()


class Connection:
    """One connection, in use or idle. Ended exactly once: `give_back` or `discard`."""

    __slots__ = ("address", "ended", "pump", "target", "wire")

    def __init__(self, target: Target, wire: Wire) -> None:
        self.target = target
        self.wire = wire
        self.address = wire.address
        self.ended = False
        self.pump: Pump | None = None
        wire.on_wake = self._woken

    def give_back(self, *, look: bool = False) -> None:
        """`look`: the last read may have ended just where the answer did, with more behind it."""
        self.ended = True
        wire, kept = self.wire, self.target.kept
        elsewhere = kept is not None and self.address not in kept
        # closed, or speaks unasked
        if elsewhere or ((look or wire.readable or wire.holds_octets) and wire.peek() is not None):
            self.target.books.lost()
            wire.close()
        elif not self.target.books.give_back(self, wire.sweeper.now_mono):
            wire.close()
        elif wire.readable:  # what woke us was read ahead by TLS
            wire.watch_again()

    def discard(self) -> None:
        if not self.ended:
            self.ended = True
            self.target.books.lost()
            self.wire.close()

    def _woken(self) -> None:
        """The origin closed or spoke while nobody was reading: the pump's to hear, or the end when idle. In the hub."""
        if self.pump is not None:
            self.pump.woken()
        elif self.wire.peek() is None:
            self.wire.watch_again()
        elif self.ended:
            self.target.books.forget(self)
            self.wire.close()


class UpstreamPool:
    """Implements ports.Upstream for one worker. `tls_context`: the default one verifies against the system's roots."""

    def __init__(
        self,
        limits: Limits,
        allowed_networks: tuple[IPNetwork, ...],
        resolver: Resolver,
        *,
        tls_context: ssl.SSLContext | None = None,
        sealing_keys: SealingKeys | None = None,
    ) -> None:
        self._limits = limits
        self._allowed = allowed_networks
        self._resolver = resolver
        self._tls_context = tls_context
        self._contexts = OriginContexts(sealing_keys or {})
        self._sections = SectionMemo()
        self._targets: dict[_TargetKey, Target] = {}
        self._sweeper: Sweeper | None = None

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        tls = request.tls
        key = (request.tenant_id, request.url, tls.digest if tls is not None else None)
        target = self._targets.get(key) or self._new_target(key, tls)
        connection, reused, connect_s = self._connection(target, request)
        body = request.body
        try:
            if body is None:
                early = self._send_head(connection, request.head, reused)
            elif isinstance(body, bytes):
                early = self._send_head(connection, request.head + body, reused)
            else:
                return self._upload(connection, request, body, reused, connect_s)
            return self._answer(connection, request, reused, connect_s, early, b"", 0)
        except BaseException:
            connection.discard()
            raise

    @property
    def connections(self) -> int:
        return sum(target.books.in_use + target.books.idle for target in self._targets.values())

    def close_idle(self) -> None:
        """Close every connection that is not in use."""
        self._expire(float("inf"))

    # Connections

    def _new_target(self, key: _TargetKey, tls: OriginTls | None) -> Target:
        if self._sweeper is None:
            self._sweeper = Sweeper.of_this_hub()
            self._sweeper.chores += [self._resolver.renew, self._expire]
        destination = Destination.of(key[1], tls.server_name if tls is not None else None)
        target = self._targets[key] = Target(destination, tls, self._limits)
        return target

    def _connection(self, target: Target, request: UpstreamRequest) -> tuple[Connection, bool, float]:
        books = target.books
        while not request.fresh and (connection := books.take()) is not None:
            connection.ended = False
            connection.wire.write_timeout_s = request.idle_timeout_s
            if request.method in _IDEMPOTENT or connection.wire.peek() is None:
                return connection, True, 0.0
            connection.discard()
        if not books.open():
            raise GatewayError(
                "tenant-overloaded", "There are too many connections to this origin.",
                internal=f"{books!r}", retry=Retry.NOTHING_SENT, proxy_error="connection_limit_reached",
            )  # fmt: skip
        assert self._sweeper is not None
        began_mono = time.monotonic()
        try:
            wire = connect(
                target.destination, self._resolver, self._allowed, self._sweeper, request.connect_timeout_s,
                self._tls_context if target.tls is None else self._contexts.of(target.tls),
            )  # fmt: skip
        except BaseException:
            books.lost()
            raise
        wire.write_timeout_s = request.idle_timeout_s
        return Connection(target, wire), False, time.monotonic() - began_mono

    def _expire(self, now_mono: float) -> None:
        idle_since_mono = now_mono - 2 * self._limits.upstream_idle_timeout_s
        for key, target in list(self._targets.items()):
            for connection in target.books.expired(now_mono):
                connection.wire.close()
            if not target.books.in_use and not target.books.idle:
                if target.used_mono < idle_since_mono:
                    del self._targets[key]
            else:
                target.used_mono = now_mono
                target.let_go(self._resolver.kept(target.destination.host))

    # One exchange

    def _send_head(self, connection: Connection, octets: bytes, reused: bool) -> bool:
        try:
            connection.wire.send(octets)
        except TimedOut:
            too_late("it did not take the request")
        except OSError as error:
            # It may have answered before it closed; if it did not, _answer says what was lost.
            if not connection.wire.peek():
                lost(reused, error)
            return True
        return False

    def _upload(
        self, connection: Connection, request: UpstreamRequest, body: Body, reused: bool, connect_s: float
    ) -> UpstreamResponse:
        pump = Pump(connection, request, self._sections)
        try:
            whole = pump.run(body)
            early = not whole and (pump.began or pump.heard != b"")
            return self._answer(connection, request, reused, connect_s, early, pump.heard, pump.interims)
        except GatewayError as error:
            if pump.began:
                error.retry = Retry.NEVER  # type: ignore[misc]  # what was pumped is gone
            raise

    def _answer(
        self, connection: Connection, request: UpstreamRequest, reused: bool, connect_s: float, early: bool,
        buffer: bytes, interims: int,
    ) -> UpstreamResponse:  # fmt: skip
        """Read the final head. `buffer`: what was heard of it; `early`: the request did not leave whole."""
        wire = connection.wire
        deadline_mono = wire.sweeper.now_mono + request.first_byte_timeout_s
        while True:
            while buffer and (parsed := parse_response_head(buffer, request.method, self._sections)) is not None:
                head, used = parsed
                buffer = buffer[used:]
                if head.status >= 200:
                    connection.target.version = head.version
                    reusable = head.keep_alive and not early
                    return UpstreamResponse(
                        head, self._body(connection, request, head, buffer, reusable), reused, connect_s
                    )
                if head.status == 101 and (protocols := upgrade.agreed(head, request.upgrade)):
                    return UpstreamResponse(head, Switched(connection, protocols, buffer), reused, connect_s)
                interims += 1
                pass_on(request, head, interims)
            wire.deadline_mono = deadline_mono  # here, for it may have passed while an interim answer was passed on
            try:
                octets = wire.recv()
            except TimedOut:
                too_late("no response in time")
            except OSError as error:
                lost(reused and not buffer and not interims and not early, error)
            if not octets:
                lost(reused and not buffer and not interims and not early, None)
            buffer = buffer + octets if buffer else octets

    @staticmethod
    def _body(
        connection: Connection, request: UpstreamRequest, head: ResponseHead, rest: bytes, reusable: bool
    ) -> bytes | Body:
        length = head.content_length
        if length is not None:
            if len(rest) == length:
                if reusable:
                    connection.give_back()
                else:
                    connection.discard()
                return rest
            decoder: Decoder = LengthDecoder(length)
        elif head.chunked:
            decoder = ChunkedDecoder()
        else:
            decoder = UntilCloseDecoder()
        try:
            first = decoder.feed(rest) if rest else b""
        except FramingError as error:
            broken(error)
        body = ReplyBody(connection, decoder, first, head, reusable, request)
        if not decoder.done or body.trailers:
            return body
        body.read()
        body.close()  # which looks at what came behind: it belongs to nobody
        return first
