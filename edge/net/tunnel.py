"""Carries what is spoken after a 101: two connections joined octet by octet until both sides are done.

In:    the client's wire, the origin's connection, what came behind either head; the exchange, which counts.
Out:   octets, in both directions; the exchange ends when the tunnel does.
Laws:  1. The hub calls, nobody waits: one read and one write per message, no greenlet switch, no timer, one buffer for
       all. 2. What does not go out stops the reading: at most one buffer of octets is held per direction. 3. The end of
       one direction is passed on, the other goes on; the loss of one side is the loss of both, at once. 4. Idle is
       what neither direction uses. 5. Retired tunnels say so where the protocol has a word for it: a WebSocket gets a
       Close frame between two frames.
Not here: whether a 101 is an answer (edge.http.upgrade), frames (edge.http.websocket), when to retire (listener).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

import gevent

from edge.errors import ClientGone
from edge.http.messages import Reply
from edge.http.upgrade import WEBSOCKET, lines
from edge.http.websocket import GOING_AWAY, Frames, close_frame
from edge.http.writer import response_head
from edge.net.tls import TlsWire
from edge.net.wire import READ_BYTES, TimedOut, Wire

if TYPE_CHECKING:
    from edge.exchange import Exchange


class Held(Protocol):
    """The origin's connection, as who opened it keeps it."""

    wire: Wire

    def discard(self) -> None: ...


class Switched:
    """The origin's side after its 101, as the body of a reply. `early`: what came behind the head."""

    __slots__ = ("connection", "early", "length", "protocols", "trailers")

    def __init__(self, connection: Held, protocols: bytes, early: bytes) -> None:
        self.length: int | None = None
        self.trailers = b""
        self.connection = connection
        self.protocols = protocols
        self.early = early

    def read(self) -> bytes:
        """There is no body; Tunnels carries what comes."""
        return b""

    def close(self) -> None:
        self.connection.discard()


class _Over(BaseException):
    """Thrown into the greenlet that waits for a tunnel's end."""


class _Flow:
    """One direction. The hub calls `readable` when its source has something and `writable` when its sink takes more."""

    __slots__ = (
        "_buffer", "_ending", "_farewell", "_frames", "_from_client", "_held", "_layered", "_sink", "_sink_done",
        "_source", "_source_done", "_tunnel",
    )  # fmt: skip

    def __init__(self, tunnel: Tunnel, source: Wire, sink: Wire, buffer: memoryview, frames: Frames | None) -> None:
        self._tunnel = tunnel
        self._source = source
        self._sink = sink
        self._buffer = buffer
        self._frames = frames
        self._from_client = source is tunnel.front
        self._layered = isinstance(source, TlsWire)
        self._held = False  # the sink's buffer is full
        self._ending = False  # nothing more goes out, but what is held
        self._source_done = self._sink_done = False
        self._farewell = b""

    @property
    def done(self) -> bool:
        return self._source_done and self._sink_done

    def start(self, early: bytes) -> None:
        """Send what came before, then what comes. Raises OSError."""
        self._source.listen(self.readable)
        if early:
            self._pass(memoryview(early))
        if not self._held:
            self.readable()

    def readable(self) -> None:
        try:
            while True:
                count = self._source.take_into(self._buffer)
                if count <= 0:
                    if count == 0:
                        self._source_ended()
                    return
                if not self._ending:
                    self._pass(self._buffer[:count])
                if self._held or not self._layered or not self._source.holds_octets:
                    return
        except OSError:
            self._tunnel.lost()

    def writable(self) -> None:
        try:
            self._tunnel.moved()
            if self._sink.offer_rest():
                self._sink.listen_for_room(None)
                self._held = False
                self._go_on()
        except OSError:
            self._tunnel.lost()

    def retire(self, farewell: bytes) -> None:
        """End this direction with `farewell`, as soon as it stands between two frames."""
        self._farewell = farewell
        if self._ending or self._held:
            return
        try:
            self._go_on()
        except OSError:
            self._tunnel.lost()

    def part(self) -> None:
        """End this direction now. What is held can only be lost, and that must not look like an end."""
        try:
            is_whole = not self._held and self._sink.finish()
        except OSError:
            is_whole = False
        if not is_whole:
            self._sink.abort()

    def _pass(self, octets: memoryview) -> None:
        tunnel = self._tunnel
        tunnel.moved()
        frames = self._frames
        if frames is not None:
            if self._farewell:
                octets = octets[: frames.up_to_end(octets)]
            else:
                frames.passed(octets)
        if self._from_client:
            tunnel.exchange.bytes_in += len(octets)
        else:
            tunnel.exchange.bytes_out += len(octets)
        if not self._sink.offer(octets):
            self._hold()
        elif frames is not None and self._farewell and frames.between:  # else who called us reads on
            self._go_on()

    def _hold(self) -> None:
        self._held = True
        if not self._ending:
            self._source.listen(None)
        self._sink.listen_for_room(self.writable)

    def _go_on(self) -> None:
        """Nothing is held: do what comes next."""
        if self._farewell and self._frames is not None and self._frames.between and not self._ending:
            self._ending = True
            if not self._sink.offer(memoryview(self._farewell)):
                self._hold()
                return
        if self._ending:
            if self._sink.finish():
                self._sink_done = True
                self._tunnel.settle()
            else:
                self._hold()
        else:
            self._source.listen(self.readable)
            self.readable()

    def _source_ended(self) -> None:
        self._source.listen(None)
        self._source_done = True
        if self._ending:
            self._tunnel.settle()
        else:
            self._ending = True
            self._go_on()


class Tunnel:
    """One pair of connections. `front`: the client's, which also holds the deadline and who waits for the end."""

    __slots__ = ("_back", "_down", "_idle_timeout_s", "_over", "_up", "_websocket", "exchange", "front")

    def __init__(
        self, exchange: Exchange, front: Wire, back: Wire, buffer: memoryview, idle_timeout_s: float, websocket: bool
    ) -> None:
        self.exchange = exchange
        self.front = front
        self._back = back
        self._idle_timeout_s = idle_timeout_s
        self._websocket = websocket
        self._over = False
        self._up = _Flow(self, front, back, buffer, Frames() if websocket else None)
        self._down = _Flow(self, back, front, buffer, Frames() if websocket else None)

    def run(self, early_down: bytes, early_up: bytes) -> None:
        """Blocks as long as the tunnel lives. Never raises for what a side does."""
        self.moved()
        try:
            self._down.start(early_down)
            if not self._over:
                self._up.start(early_up)
            if not self._over:
                self.front.await_end()
        except _Over:
            pass
        except TimedOut:
            self._part()
        except OSError:
            self._reset()
        finally:
            self._over = True

    def moved(self) -> None:
        front = self.front
        front.deadline_mono = front.sweeper.now_mono + self._idle_timeout_s

    def settle(self) -> None:
        if self._up.done and self._down.done:
            self._end()

    def lost(self) -> None:
        self._reset()
        self._end()

    def retire(self) -> None:
        """Say that we are going away; both sides then end as they see fit. In the hub only."""
        if not self._websocket:
            self.abandon()
        if not self._over:
            self._up.retire(close_frame(GOING_AWAY, os.urandom(4)))
        if not self._over:
            self._down.retire(close_frame(GOING_AWAY))

    def abandon(self) -> None:
        """End now. In the hub only."""
        if not self._over:
            self._part()
            self._end()

    def _end(self) -> None:
        self._over = True
        self.front.interrupt(_Over())

    def _part(self) -> None:
        self._up.part()
        self._down.part()

    def _reset(self) -> None:
        """What is lost must not look like an end."""
        self.front.abort()
        self._back.abort()


class Tunnels:
    """The tunnels of one listener: the buffer they share, and how they end together."""

    __slots__ = ("_buffer", "_idle_timeout_s", "_open")

    def __init__(self, idle_timeout_s: float) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._open: set[Tunnel] = set()

    def carry(self, exchange: Exchange, front: Wire, reply: Reply, date_line: bytes, early: bytes) -> None:
        """Write the 101, which has no framing (RFC 9110 section 15.2), and join both sides. Blocks to the end.

        `early`: what the client sent behind its request. Raises ClientGone when it does not get the 101.
        """
        back = reply.body
        assert isinstance(back, Switched)
        try:
            self._answer(exchange, front, reply, back.protocols, date_line)
        except BaseException:
            back.close()
            raise
        websocket = back.protocols.lower() == WEBSOCKET
        tunnel = Tunnel(exchange, front, back.connection.wire, self._buffer, self._idle_timeout_s, websocket)
        self._open.add(tunnel)
        try:
            tunnel.run(back.early, early)
        finally:
            self._open.discard(tunnel)
            back.close()
            front.close()

    @staticmethod
    def _answer(exchange: Exchange, front: Wire, reply: Reply, protocols: bytes, date_line: bytes) -> None:
        octets = response_head(reply, b"", lines(protocols), date_line)
        exchange.started_reply = True
        try:
            front.send(octets)
        except (OSError, TimedOut):
            raise ClientGone from None
        exchange.bytes_out += len(octets)

    def retire(self) -> None:
        """Ask all to end: politely where the protocol has a way, else now."""
        loop = gevent.get_hub().loop
        for tunnel in tuple(self._open):
            loop.run_callback(tunnel.retire)

    def abandon(self) -> None:
        """End all now."""
        loop = gevent.get_hub().loop
        for tunnel in tuple(self._open):
            loop.run_callback(tunnel.abandon)

    def __len__(self) -> int:
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Tunnels {len(self._open)} open>"
