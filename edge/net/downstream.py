"""One client connection from its first byte to its last: read a head, have it served, write the reply, again.

In:    a connected socket, the client's address, and what the listener shares (pipeline, limits, clock).
Out:   exchanges served in order; replies framed for the client's version.
Laws:  1. One read and one write per message where it fits. 2. Pipelined requests are answered in order: the next head
       is not looked at before the last reply is out. 3. A body is never held: it goes through in pieces, and a side
       that does not read stops the other. 4. A client that closes while it is served is noticed at once and what was
       begun for it is abandoned; half-closed counts as closed. 5. What cannot be told apart from the next request (an
       unread body, a broken one, octets behind a declined upgrade) ends the connection. 6. A crash ends this connection
       only. 7. Interim answers go to HTTP/1.1 clients only, and never behind the beginning of the final one.
Not here: what to answer (pipeline), what comes before a first request (arrival), request bodies (request_body), what
          follows a 101 (tunnel), accepting and ceilings (listener).

Longer than 400 lines because a connection's states are only understood together.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import gevent
from greenlet import getcurrent

from edge.errors import ClientGone, GatewayError, Source
from edge.exchange import NOTHING, Exchange
from edge.http import headers, upgrade
from edge.http.forwarded import via
from edge.http.framing import LAST_CHUNK, ChunkedDecoder, FramingError, chunk, last_chunk
from edge.http.messages import ClientBody, Reply, RequestHead, ResponseHead
from edge.http.parser import parse_request_head
from edge.http.writer import CLOSE_LINE, CONTINUE, KEEP_ALIVE_LINE, framing_line, interim_head, response_head
from edge.net.pace import Pace
from edge.net.request_body import RequestBody
from edge.net.wire import TimedOut, Wire, interrupt

if TYPE_CHECKING:
    from edge.http.forwarded import Told
    from edge.net.arrival import Arrival
    from edge.net.listener import Listener

_log: Final = logging.getLogger(__name__)
_PIPELINED_TURN: Final = 16
"""So many pipelined requests are answered before other connections get a turn."""
_LINGER_BYTES_MAX: Final = 1_048_576
_LINGER_S: Final = 2.0


class Downstream:
    """Shape: `idle` is true while no byte of a next request has arrived."""

    __slots__ = (
        "_body", "_buffer", "_closing", "_exchange", "_gone", "_greenlet", "_guarded", "_listener", "_pipelined",
        "_wire", "arrival", "client_ip", "idle",
    )  # fmt: skip

    def __init__(self, listener: Listener, wire: Wire, arrival: Arrival, first: bytes = b"") -> None:
        self._listener = listener
        self._wire = wire
        self.arrival = arrival
        self.client_ip = arrival.client_ip
        self._guarded = arrival.names is not None or arrival.hops is not None
        self.idle = not first
        self._buffer = first
        self._exchange: Exchange | None = None
        self._body: RequestBody | None = None
        self._closing = False
        self._gone = False
        self._pipelined = 0
        self._greenlet: Any = None
        wire.write_timeout_s = listener.limits.body_idle_timeout_s
        wire.rate_min = listener.limits.body_rate_min
        wire.on_wake = self._woken

    def run(self) -> None:
        """Serve until the connection ends. The root of this connection's greenlet: never raises."""
        self._greenlet = getcurrent()
        try:
            while not self._closing:
                head = self._next_head()
                if head is None:
                    self._wire.say_end()
                    break
                if self._guarded:
                    self._serve_guarded(head)
                else:
                    self._serve(head)
        except (ClientGone, TimedOut, OSError):
            pass  # the exchange, if there was one, has been recorded by the pipeline
        except Exception:
            _log.exception("a connection crashed")
        finally:
            self._wire.close()
            self._listener.left(self)

    # Reading heads

    def _next_head(self) -> RequestHead | None:
        """Give the next head, None when the client is done. Answers what is no request itself."""
        listener, wire, buffer = self._listener, self._wire, self._buffer
        if buffer in _NOT_BEGUN:
            began = self._await_head(buffer)
            if began is None:
                return None
            buffer = began
        else:
            self._pipelined += 1
            if self._pipelined % _PIPELINED_TURN == 0:
                gevent.sleep(0)  # answers that wait for nothing must not keep others waiting
        head_deadline_mono = 0.0
        while True:
            try:
                parsed = parse_request_head(buffer, listener.sections, listener.limits)
            except GatewayError as error:
                self._refuse(error)
                return None
            if parsed is not None:
                head, used = parsed
                self._buffer = buffer[used:]
                return head
            head_deadline_mono = head_deadline_mono or wire.sweeper.now_mono + listener.limits.head_timeout_s
            wire.deadline_mono = head_deadline_mono
            try:
                octets = wire.recv()
            except TimedOut:
                detail = "The request's header section took too long to arrive."
                self._refuse(GatewayError("request-timeout", detail, source=Source.DOWNSTREAM, close=True))
                return None
            if not octets:
                return None
            buffer += octets

    def _await_head(self, buffer: bytes) -> bytes | None:
        """Give the beginning of the next head as soon as there is one; None when the client is done."""
        listener, wire = self._listener, self._wire
        self.idle = True
        wire.deadline_mono = wire.sweeper.now_mono + listener.idle_timeout_s
        while buffer in _NOT_BEGUN:
            try:
                octets = wire.recv()
            except TimedOut:
                if wire.peek() is None:
                    return None
                wire.deadline_mono = wire.sweeper.now_mono + listener.limits.head_timeout_s
                octets = wire.recv()  # it came while we were being told that nothing did
            if not octets:
                return None
            buffer += octets
        self.idle = False
        return buffer

    def _refuse(self, error: GatewayError, client_ip: str = "") -> None:
        listener = self._listener
        reply = listener.pipeline.refuse(error, client_ip or self.client_ip, listener.identifiers.request_id())
        body = reply.body if isinstance(reply.body, bytes) else b""
        framing = b"Content-Length: %d\r\n" % len(body)
        self._wire.send(response_head(reply, framing, CLOSE_LINE, listener.date_line) + body)
        self._linger()

    # Serving

    def _serve_guarded(self, head: RequestHead) -> None:
        """Serve what came under a certificate or through a trusted hop."""
        listener, arrival = self._listener, self.arrival
        if arrival.names is not None and not arrival.names.cover(head.host):  # RFC 9110 section 15.5.20
            detail = "The certificate of this connection is not for the host asked for."
            self._refuse(GatewayError("misdirected", detail, source=Source.DOWNSTREAM, close=True))
            return
        if arrival.hops is None:
            self._serve(head)
            return
        told = arrival.hops.read(self.client_ip, head.section)
        if told.hops and not listener.enter(told.client_ip):
            error = GatewayError("gateway-overloaded", "There are too many requests of this client.", close=True)
            self._refuse(error, told.client_ip)
            return
        try:
            self._serve(head, told)
        finally:
            if told.hops:
                listener.leave(told.client_ip)

    def _serve(self, head: RequestHead, told: Told | None = None) -> None:
        listener = self._listener
        body: bytes | ClientBody | None = None
        if head.content_length != 0:  # None: chunked
            body = self._begin_body(head)
        exchange = self._exchange = Exchange(
            head, body, self.client_ip, self.arrival.scheme, listener.identifiers.request_id(), listener.clock.wall(),
            listener.clock.mono(),
        )  # fmt: skip
        if head.version == 11:  # RFC 9110 section 15.2: "a server MUST NOT send a 1xx response to an HTTP/1.0 client"
            exchange.interim = self.send_interim
        if told is not None:
            exchange.told = told
            exchange.client_ip = told.client_ip
            exchange.scheme = told.scheme or exchange.scheme
        exchange.bytes_in = len(head.target) + len(head.section.raw) + (len(body) if isinstance(body, bytes) else 0)
        try:
            listener.pipeline.serve(exchange, self.write_reply)
        except GatewayError:
            self._cut()
        self._exchange = None
        if not exchange.started_reply or self._gone:
            self._closing = True
        elif self._closing or self._body is not None:
            self._finish(head)

    def _begin_body(self, head: RequestHead) -> bytes | RequestBody:
        buffer, length = self._buffer, head.content_length
        if length is not None and length <= len(buffer):
            self._buffer = buffer[length:]
            return buffer[:length]
        body = self._body = RequestBody(self, head, buffer)
        self._buffer = b""
        if head.chunked and LAST_CHUNK in buffer:
            return self._whole_chunked(body, buffer)
        return body

    def _whole_chunked(self, body: RequestBody, buffer: bytes) -> bytes | RequestBody:
        """A chunked body that seems to have come with its head: give it as bytes if it really did."""
        decoder = ChunkedDecoder()
        try:
            octets = decoder.feed(buffer)
        except FramingError:
            return body  # whoever reads it meets the error
        if not decoder.done or headers.trailers(body.section, decoder.trailers):
            return body
        self._body = None
        self._buffer = decoder.leftover
        return octets

    def pace(self) -> Pace | None:
        """Give a new body's, None when there is no lowest rate."""
        limits = self._listener.limits
        return Pace(limits.body_rate_min, limits.body_idle_timeout_s) if limits.body_rate_min else None

    def body_octets(self, pace: Pace | None) -> bytes:
        """Read what comes next of the request's body. Raises GatewayError, ClientGone."""
        wire = self._wire
        began_s = wire.sweeper.awake_s
        idle_s = self._listener.limits.body_idle_timeout_s
        wire.deadline_mono = wire.sweeper.now_mono + (idle_s if pace is None else min(idle_s, pace.credit_s))
        octets = b""
        try:
            octets = wire.recv()
        except TimedOut:
            detail = "The request body took too long to arrive."
            waited_s = wire.sweeper.awake_s - began_s
            raise GatewayError(
                "request-timeout", detail, internal=f"waited {waited_s:.1f} s for more of it, {pace!r}",
                source=Source.DOWNSTREAM, close=True,
            ) from None  # fmt: skip
        except OSError:
            pass
        finally:
            if pace is not None:
                pace.account(len(octets), wire.sweeper.awake_s - began_s)
        if not octets:
            self._gone = True
            raise ClientGone
        if self._exchange is not None:
            self._exchange.bytes_in += len(octets)
        return octets

    def after_body(self, octets: bytes) -> None:
        """Take what came behind the body: the beginning of the next request."""
        self._buffer = octets

    def send_continue(self) -> bool:
        """Let a client go on with its body, unless it did so by itself. Raises ClientGone."""
        exchange = self._exchange
        if exchange is None or exchange.started_reply or self._wire.peek():
            return False
        self._send(CONTINUE)
        exchange.bytes_out += len(CONTINUE)
        return True

    def send_interim(self, head: ResponseHead) -> None:
        """Pass an origin's interim answer on; 100 (Continue) lets a client that waits go on. Raises ClientGone."""
        exchange, body = self._exchange, self._body
        assert exchange is not None
        if head.status == 100 and body is not None:
            if body.told:  # by us: the origin's word comes too late
                return
            body.told, body.waits = True, False
        octets = interim_head(
            head.status, head.reason, headers.response_lines(head.section, NOTHING) + via(head.version)
        )
        self._send(octets)
        exchange.bytes_out += len(octets)

    def _finish(self, head: RequestHead) -> None:
        """After the reply: read the little that is left of a body, or end the connection (RFC 9112 section 9.3)."""
        body, self._body = self._body, None
        is_unread = body is not None and not body.done
        if is_unread and not self._closing:
            try:
                while body.read():  # type: ignore[union-attr]
                    pass
            except GatewayError:
                self._closing = True
        elif self._closing and (is_unread or self._wire.readable or (self._listener.draining and head.keep_alive)):
            self._linger()  # it sent more, or may have, before it read that this is the last answer

    # Writing replies

    def write_reply(self, reply: Reply) -> None:
        """Write a whole reply; returns when its last byte is handed to the socket. Raises ClientGone, GatewayError."""
        exchange = self._exchange
        assert exchange is not None
        if reply.status == 101:
            self._closing = True
            early, self._buffer = self._buffer, b""
            self._listener.tunnels.carry(exchange, self._wire, reply, self._listener.date_line, early)
            return
        head = exchange.head
        framing, chunked, until_close = framing_line(reply, head.method, head.version)
        error = exchange.error
        if (
            until_close
            or not head.keep_alive
            or self._listener.draining
            or (error is not None and error.close)
            or (self._body is not None and not self._body.done and not self._body.small)
            or ((self._buffer or self._wire.readable or self._wire.holds_octets) and upgrade.offered(head))
        ):
            self._closing = True
            connection = CLOSE_LINE
        else:
            connection = b"" if head.version == 11 else KEEP_ALIVE_LINE
        octets = response_head(reply, framing, connection, self._listener.date_line)
        body = reply.body
        exchange.started_reply = True
        self._wire.pace = None
        if type(body) is bytes:
            if head.method != b"HEAD" and reply.status not in _BODILESS:
                octets += body
            self._send(octets)
            exchange.bytes_out += len(octets)
        else:
            self._stream(exchange, octets, reply, chunked)
        if self._closing:
            self._wire.say_end()

    def _stream(self, exchange: Exchange, octets: bytes, reply: Reply, chunked: bool) -> None:
        body: Any = reply.body
        try:
            self._send(octets)
            exchange.bytes_out += len(octets)
            if exchange.head.method == b"HEAD" or reply.status in _BODILESS:
                return
            while octets := body.read():
                if chunked:
                    octets = chunk(octets)
                self._send(octets)
                exchange.bytes_out += len(octets)
            if chunked:
                octets = last_chunk(body.trailers)
                self._send(octets)
                exchange.bytes_out += len(octets)
        finally:
            body.close()

    def _send(self, octets: bytes) -> None:
        try:
            self._wire.send(octets)
        except TimedOut:
            self._read_too_slowly()
            raise ClientGone from None
        except OSError:
            self._gone = True
            raise ClientGone from None

    def _read_too_slowly(self) -> None:
        """What the kernel still holds for such a client is thrown away with the connection."""
        self._gone = True
        self._cut()
        exchange = self._exchange
        if exchange is not None and exchange.error is None:
            exchange.error = GatewayError(
                "reader-too-slow", "The response was not read in time.", internal=repr(self._wire.pace),
                source=Source.DOWNSTREAM, close=True,
            )  # fmt: skip

    # Endings

    def _woken(self) -> None:
        """Something happened while nobody was reading: a pipelined request, or the client left. Runs in the hub."""
        seen = self._wire.peek()
        if seen is None:
            self._wire.watch_again()
        elif seen:
            self._listener.unread.add(self)  # what lies there hides that a client leaves
        else:
            self._leave()

    def look_again(self) -> bool:
        """See whether the client left behind what it sent; True when that needs no further look. In the hub."""
        wire = self._wire
        if wire.closed or not wire.readable:
            return True
        if not wire.peer_left:
            return False
        self._leave()
        return True

    def _leave(self) -> None:
        """The client left: what is done for it ends where it waits. In the hub."""
        self._gone = True
        if self._exchange is not None:
            self._exchange.client_gone = True
        if not interrupt(self._greenlet, ClientGone()):
            self._wire.sweeper.chores.append(self._gone_again)

    def _gone_again(self, now_mono: float) -> None:
        """The greenlet was busy elsewhere (a store) when its client left: try until it waits on a wire or is done."""
        if self._wire.closed or interrupt(self._greenlet, ClientGone()):
            self._wire.sweeper.chores.remove(self._gone_again)

    def drain(self) -> None:
        """Ask the connection to end: behind the current or the next reply, or once it was idle for the drain's grace.

        In the hub only. A connection that was idle for long is not closed at once either: its client may be about to
        send, and would lose that request."""
        if self.idle:
            wire = self._wire
            wire.deadline_mono = min(wire.deadline_mono, wire.sweeper.now_mono + self._listener.idle_timeout_s)

    def cut(self) -> None:
        """End now, whatever is under way. In the hub only."""
        if self._exchange is not None and not self._wire.closed:
            self._cut()
        if not interrupt(self._greenlet, ClientGone()):
            self._wire.sweeper.chores.append(self._gone_again)

    def _cut(self) -> None:
        """A reply broke in its middle: make sure that nobody takes it for complete, however it was framed."""
        self._closing = True
        self._wire.abort()

    def _linger(self) -> None:
        """Close without losing the reply: unread bytes would make the kernel reset the connection under it."""
        self._closing = True
        wire = self._wire
        wire.on_wake = None
        wire.end_writing()
        wire.deadline_mono = wire.sweeper.now_mono + _LINGER_S
        read = 0
        while read < _LINGER_BYTES_MAX and (octets := wire.recv()):
            read += len(octets)

    def __repr__(self) -> str:
        return f"<Downstream {self.client_ip} {'idle' if self.idle else self._exchange!r}>"


_BODILESS: Final = frozenset({204, 304})
_NOT_BEGUN: Final = (b"", b"\r\n", b"\r")
"""RFC 9112 section 2.2: the empty line that some send behind a body is no beginning of a request."""
