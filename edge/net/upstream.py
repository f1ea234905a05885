"""Sends one attempt to a target over a kept or a new connection and gives the answer: ports.Upstream.

In:    UpstreamRequest: a complete head, a body as bytes or in pieces, times.
Out:   UpstreamResponse, its body as bytes when it came whole with the head; GatewayError with a truthful `retry`.
Laws:  1. Head and small body leave in one write. 2. A connection is used again only after a complete, well-framed
       exchange behind which nothing else came; anything else closes it. 3. Connections are never shared between
       tenants: an origin that desynchronises one can only hurt its own tenant. 4. An idle connection that its origin
       closes is thrown away when it happens; for a request that must not be sent twice it is looked at once more
       before use. 5. While an upload is pumped, an early answer ends the pumping, wherever it waits. 6. 1xx are
       skipped; 101 was never asked for.
Not here: choosing targets and retrying (pipeline), the books (pool), names (address), opening a connection
          (connecting).
"""

from __future__ import annotations

import ssl
import time
from typing import Any, Final, NoReturn

from greenlet import getcurrent

from contracts.addresses import IPNetwork
from edge.errors import GatewayError, Retry, Source
from edge.http.framing import LAST_CHUNK, ChunkedDecoder, Decoder, FramingError, LengthDecoder, UntilCloseDecoder, chunk
from edge.http.messages import Body, ResponseHead
from edge.http.parser import SectionMemo, parse_response_head
from edge.net.address import Resolver
from edge.net.connecting import Destination, connect
from edge.net.pool import Books
from edge.net.sweeper import Sweeper
from edge.net.wire import TimedOut, Wire, interrupt
from edge.ports import UpstreamRequest, UpstreamResponse
from edge.settings import Limits

_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})
_INTERIM_MAX: Final = 16


class _EarlyAnswer(BaseException):
    """Thrown into a pump: the origin said something. Not an Exception, so that nobody between takes it for one."""


class Target:
    """What is known of one (tenant, URL): where it is and which connections lead there."""

    __slots__ = ("books", "destination", "used_mono")

    def __init__(self, destination: Destination, limits: Limits) -> None:
        self.destination = destination
        self.books: Books[Connection] = Books(
            limits.upstream_per_target_max, limits.upstream_idle_per_target_max, limits.upstream_idle_timeout_s
        )
        self.used_mono = 0.0


class Connection:
    """One connection, in use or idle. Ended exactly once: `give_back` or `discard`."""

    __slots__ = ("ended", "pumping", "target", "wire")

    def __init__(self, target: Target, wire: Wire) -> None:
        self.target = target
        self.wire = wire
        self.ended = False
        self.pumping: Any = None
        wire.on_wake = self._woken

    def give_back(self) -> None:
        self.ended = True
        wire = self.wire
        if (wire.readable or wire.holds_octets) and wire.peek() is not None:  # closed, or speaks unasked
            self.target.books.lost()
            wire.close()
        elif not self.target.books.give_back(self, wire.sweeper.now_mono):
            wire.close()

    def discard(self) -> None:
        if not self.ended:
            self.ended = True
            self.target.books.lost()
            self.wire.close()

    def _woken(self) -> None:
        """The origin closed or spoke while nobody was reading: the end of an idle connection or a pump. In the hub."""
        if self.wire.peek() is None:
            self.wire.watch_again()
        elif self.ended:
            self.target.books.forget(self)
            self.wire.close()
        elif self.pumping is not None:
            interrupt(self.pumping, _EarlyAnswer())


class ReplyBody:
    """An origin's body in pieces. Back-pressure: nothing is read before it is asked for."""

    __slots__ = ("_connection", "_decoder", "_first", "_idle_timeout_s", "_reusable", "length")

    def __init__(
        self, connection: Connection, decoder: Decoder, first: bytes, length: int | None, reusable: bool, idle_s: float
    ) -> None:
        self.length = length
        self._connection = connection
        self._decoder = decoder
        self._first = first
        self._reusable = reusable
        self._idle_timeout_s = idle_s

    def read(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        decoder, wire = self._decoder, self._connection.wire
        while not decoder.done:
            wire.deadline_mono = wire.sweeper.now_mono + self._idle_timeout_s
            try:
                octets = wire.recv()
                if not octets:
                    decoder.end()
                    break
                piece = decoder.feed(octets)
            except (TimedOut, OSError, FramingError) as error:
                _broken(error)
            if piece:
                return piece
        return b""

    def close(self) -> None:
        if self._decoder.done and self._reusable and not self._decoder.leftover and not self._first:
            self._connection.give_back()
        else:
            self._connection.discard()


class UpstreamPool:
    """Implements ports.Upstream for one worker. `tls_context`: the default one verifies against the system's roots."""

    def __init__(
        self,
        limits: Limits,
        allowed_networks: tuple[IPNetwork, ...],
        resolver: Resolver,
        *,
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        self._allowed = allowed_networks
        self._resolver = resolver
        self._tls_context = tls_context
        self._sections = SectionMemo()
        self._targets: dict[tuple[str, str], Target] = {}
        self._sweeper: Sweeper | None = None

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        key = (request.tenant_id, request.url)
        target = self._targets.get(key) or self._new_target(key)
        connection, reused, connect_s = self._connection(target, request)
        body = request.body
        try:
            if body is None:
                early = self._send_head(connection, request.head, reused)
            elif isinstance(body, bytes):
                early = self._send_head(connection, request.head + body, reused)
            else:
                early = self._pump(connection, request.head, body)
            return self._answer(connection, request, reused, connect_s, early)
        except GatewayError as error:
            connection.discard()
            if not isinstance(body, bytes | None):
                error.retry = Retry.NEVER  # type: ignore[misc]  # what was pumped is gone
            raise
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

    def _new_target(self, key: tuple[str, str]) -> Target:
        if self._sweeper is None:
            self._sweeper = Sweeper.of_this_hub()
            self._sweeper.chores.append(self._expire)
        target = self._targets[key] = Target(Destination.of(key[1]), self._limits)
        return target

    def _connection(self, target: Target, request: UpstreamRequest) -> tuple[Connection, bool, float]:
        books = target.books
        while not request.fresh and (connection := books.take()) is not None:
            connection.ended = False
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
                self._tls_context,
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

    # One exchange

    def _send_head(self, connection: Connection, octets: bytes, reused: bool) -> bool:
        try:
            connection.wire.send(octets)
        except TimedOut:
            _too_late("it did not take the request")
        except OSError as error:
            # It may have answered before it closed; if it did not, _answer says what was lost.
            if not connection.wire.peek():
                _lost(reused, error)
            return True
        return False

    @staticmethod
    def _pump(connection: Connection, head: bytes, body: Body) -> bool:
        """Send head and body as the client delivers it. True: the origin answered, or closed, before the end."""
        wire = connection.wire
        connection.pumping = getcurrent()
        chunked = body.length is None
        try:
            wire.send(head)
            while octets := body.read():
                wire.send(chunk(octets) if chunked else octets)
                if wire.readable:
                    return True
            if chunked:
                wire.send(LAST_CHUNK)
        except _EarlyAnswer:
            return True
        except TimedOut:
            _too_late("it stopped taking the request body")
        except OSError:
            return True
        finally:
            connection.pumping = None
        return False

    def _answer(
        self, connection: Connection, request: UpstreamRequest, reused: bool, connect_s: float, early: bool
    ) -> UpstreamResponse:
        wire = connection.wire
        wire.deadline_mono = wire.sweeper.now_mono + request.first_byte_timeout_s
        buffer = b""
        interim = 0
        while True:
            try:
                octets = wire.recv()
            except TimedOut:
                _too_late("no response in time")
            except OSError as error:
                _lost(reused and not buffer and not interim and not early, error)
            if not octets:
                _lost(reused and not buffer and not interim and not early, None)
            buffer = buffer + octets if buffer else octets
            while (parsed := parse_response_head(buffer, request.method, self._sections)) is not None:
                head, used = parsed
                if head.status >= 200:
                    rest = buffer[used:]
                    reusable = head.keep_alive and not early
                    return UpstreamResponse(
                        head, self._body(connection, request, head, rest, reusable), reused, connect_s
                    )
                buffer = buffer[used:]
                interim += 1
                if head.status == 101 or interim > _INTERIM_MAX:
                    _broken(FramingError(f"it sent {head.status} without being asked, or too often"))
                if not buffer:
                    break

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
            _broken(error)
        body = ReplyBody(connection, decoder, first, length, reusable, request.idle_timeout_s)
        if not decoder.done:
            return body
        body.read()
        body.close()  # which looks at what came behind: it belongs to nobody
        return first


def _lost(reused: bool, error: OSError | None) -> NoReturn:
    raise GatewayError(
        "origin-unreachable", "The origin closed the connection without an answer.",
        internal=str(error) if error else "closed", source=Source.UPSTREAM,
        retry=Retry.REUSED_CONNECTION if reused else Retry.IF_IDEMPOTENT, proxy_error="connection_terminated",
    ) from error  # fmt: skip


def _too_late(internal: str) -> NoReturn:
    raise GatewayError(
        "origin-timeout", "The origin did not answer in time.", internal=internal, source=Source.UPSTREAM,
        retry=Retry.IF_IDEMPOTENT, proxy_error="http_response_timeout",
    ) from None  # fmt: skip


def _broken(error: Exception) -> NoReturn:
    """The body broke after the head was accepted."""
    late = isinstance(error, TimedOut)
    raise GatewayError(
        "origin-timeout" if late else "origin-invalid-response",
        "The origin stopped in the middle of its response." if late else "The origin's response is not complete.",
        internal=str(error) or "idle for too long", source=Source.UPSTREAM, retry=Retry.NEVER,
        proxy_error="http_response_timeout" if late else "http_response_incomplete",
    ) from error  # fmt: skip
