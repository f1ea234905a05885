"""TLS over a Wire: the same two calls, with OpenSSL between them and the socket.

In:    a connected socket, an SSLContext, the name to verify (of an origin).
Out:   a Wire whose recv and send speak plaintext.
Laws:  1. OpenSSL never sees the socket: it works on memory buffers, so waiting stays the Wire's. 2. A connection that
       ends without close_notify is an error, not an end: a body framed by the close would be cut silently. In a tunnel
       it is an end: what is spoken there says itself whether it is complete, and much of it ends so. 3. We say
       close_notify only behind a complete message.
Not here: which names and versions are accepted (the context's maker: connecting, certificates).
"""

from __future__ import annotations

import _socket
import contextlib
import ssl
from typing import Final

from edge.net.sweeper import Sweeper
from edge.net.wire import READ_BYTES, Wire

_RECORD_BYTES_MAX: Final = 16_384


class TlsWire(Wire):
    __slots__ = ("_ahead", "_finished", "_incoming", "_lingers", "_outgoing", "_tls")

    def __init__(
        self,
        sock: _socket.socket,
        sweeper: Sweeper,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        server_side: bool = False,
    ) -> None:
        self._ahead = b""
        self._finished = False
        self._lingers = False
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        super().__init__(sock, sweeper)

    @property
    def context(self) -> ssl.SSLContext:
        """The one in use: of a server, what the name asked for selected."""
        return self._tls.context

    def feed(self, octets: bytes) -> None:
        """Take octets that were read beneath and belong to TLS."""
        self._incoming.write(octets)

    def handshake(self) -> None:
        """Blocks. Raises TimedOut, OSError (ssl.SSLError is one)."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._say_own()
                self._fill()
            except ssl.SSLError:
                self._say_own()  # the alert
                raise
            else:
                self._say_own()
                return

    def recv(self, size: int = READ_BYTES) -> bytes:
        if self._lingers:  # what the peer still says is of no use: it is only taken off the socket
            return super().recv(size)
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._say_own()
                self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    def send(self, octets: bytes) -> None:
        rest = memoryview(octets)
        while rest:
            rest = rest[self._tls.write(rest[:_RECORD_BYTES_MAX]) :]
            if not rest or self._outgoing.pending >= READ_BYTES:
                self._flush()

    @property
    def holds_octets(self) -> bool:  # type: ignore[override]
        return bool(self._ahead or self._incoming.pending or self._tls.pending())

    def peek(self) -> bytes | None:
        """As Wire's; a record that is not the application's (a session ticket) counts as nothing."""
        if self._ahead:
            return self._ahead[:1]
        held = self._look() if self.holds_octets else None
        if held is not None:
            return held
        try:
            octets = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        if not octets:
            return b""
        self._incoming.write(octets)
        return self._look()

    def take(self) -> bytes | None:
        seen = self.peek()
        if not seen:
            return seen
        octets = self.recv()
        while len(octets) < READ_BYTES and self.holds_octets and self.peek():  # records that came together
            octets += self.recv()
        return octets

    def take_into(self, into: memoryview) -> int:
        """As Wire's, at most one record; `holds_octets` says whether there is more without the socket's saying so."""
        if self._ahead:
            size = min(len(self._ahead), len(into))
            into[:size] = self._ahead[:size]
            self._ahead = self._ahead[size:]
            return size
        while True:
            try:
                return self._tls.read(len(into), into)  # type: ignore[return-value]  # the stubs lack it
            except ssl.SSLWantReadError:
                self.offer_rest()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return 0
            try:
                octets = self.sock.recv(READ_BYTES)
            except BlockingIOError:
                return -1
            if octets:
                self._incoming.write(octets)
            else:
                self._incoming.write_eof()

    def offer(self, octets: memoryview) -> bool:
        self._tls.write(octets)
        return self.offer_rest()

    def offer_rest(self) -> bool:
        while super().offer_rest():
            if not self._outgoing.pending:
                return True
            self._rest = memoryview(self._outgoing.read())
        return False

    def finish(self) -> bool:
        """As Wire's, with close_notify before the end (RFC 8446 section 6.1: it ends one direction only)."""
        if not self._finished:
            self._finished = True
            self._read_ahead()
            with contextlib.suppress(ssl.SSLWantReadError):  # it would wait for the peer's
                self._tls.unwrap()
        return super().finish()

    def _read_ahead(self) -> None:
        """OpenSSL takes data that it finds behind its own close_notify for an error, unless it was read before."""
        pieces = [self._ahead]
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError, ssl.SSLEOFError):
            while piece := self._tls.read(READ_BYTES):
                pieces.append(piece)
        self._ahead = b"".join(pieces)

    def say_end(self) -> None:
        """Send close_notify with the one write that does not block; the peer's own is not waited for."""
        if self._finished:
            return
        self._finished = True
        with contextlib.suppress(ssl.SSLError, ValueError):
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self.sock.send(self._outgoing.read())

    def end_writing(self) -> None:
        super().end_writing()
        self._lingers = True

    def abort(self) -> None:
        self._finished = True
        super().abort()

    def _look(self) -> bytes | None:
        try:
            self._ahead = self._tls.read(READ_BYTES)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError:
            return b""
        return self._ahead[:1]

    def _flush(self) -> None:
        if self._outgoing.pending:
            super().send(self._outgoing.read())

    def _say_own(self) -> None:
        """Send what the layer itself has to say, within the deadline of the wait that it belongs to."""
        rest = memoryview(self._outgoing.read())
        while rest:
            try:
                rest = rest[self.sock.send(rest) :]
            except BlockingIOError:
                self.wait_writable()

    def _fill(self) -> None:
        octets = super().recv()
        if octets:
            self._incoming.write(octets)
        else:
            self._incoming.write_eof()
