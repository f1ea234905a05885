"""What a client still sends of its request, and the 100 (Continue) it may wait for (RFC 9110 section 10.1.1).

In:    the downstream whose connection it is, the request's head, what came with it.
Out:   octets, then trailers; a client that waits is let go on by the first read, unless the origin did it before.
Laws:  1. A client is told 100 once at most, and not when its body is already here. 2. A body that is malformed is its
       client's fault: 400, and the connection ends.
Not here: whether the body is wanted (pipeline), waiting for the origin's word (pump).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edge.errors import GatewayError, Source
from edge.http import headers
from edge.http.framing import ChunkedDecoder, FramingError, LengthDecoder
from edge.http.messages import RequestHead

if TYPE_CHECKING:
    from edge.net.downstream import Downstream

_DRAIN_BYTES_MAX: Final = 65_536
"""An unread body this small is read and thrown away, so that the connection can be kept."""


class RequestBody:
    """Shape: `waits` as in ClientBody; `told`: 100 (Continue) was sent."""

    __slots__ = ("_decoder", "_downstream", "_first", "_pace", "length", "section", "told", "waits")

    def __init__(self, downstream: Downstream, head: RequestHead, first: bytes) -> None:
        self.length = head.content_length
        self.waits = head.expects_continue and not first
        self.told = False
        self._downstream = downstream
        self._decoder = ChunkedDecoder() if head.chunked else LengthDecoder(head.content_length or 0)
        self._first = first
        self._pace = downstream.pace()
        self.section = head.section

    @property
    def done(self) -> bool:
        return self._decoder.done and not self._first

    @property
    def small(self) -> bool:
        """Whether the rest is worth reading for nothing."""
        decoder = self._decoder
        return isinstance(decoder, LengthDecoder) and decoder.remaining <= _DRAIN_BYTES_MAX and not self.waits

    @property
    def trailers(self) -> bytes:
        return headers.trailers(self.section, self._decoder.trailers)

    def read(self) -> bytes:
        decoder = self._decoder
        while not decoder.done or self._first:
            octets, self._first = self._first, b""
            if not octets:
                octets = self._arrived()
            try:
                piece = decoder.feed(octets)
            except FramingError as error:
                raise GatewayError(
                    "request-malformed", "The request body is malformed.", internal=str(error),
                    source=Source.DOWNSTREAM, close=True,
                ) from error  # fmt: skip
            if decoder.done:
                self._downstream.after_body(decoder.leftover)
            if piece:
                return piece
        return b""

    def _arrived(self) -> bytes:
        if self.waits:
            self.waits = False
            self.told = self._downstream.send_continue()
        return self._downstream.body_octets(self._pace)

    def close(self) -> None:
        """Nothing to give back: the downstream looks itself whether the body was read to its end."""
