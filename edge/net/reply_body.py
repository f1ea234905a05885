"""What an origin still sends of its answer: read in pieces, and the connection behind it ended truthfully.

In:    a connection whose response head was read, and the decoder that fits it.
Out:   octets, then trailers; the connection given back or thrown away.
Laws:  1. Back-pressure: nothing is read before it is asked for. 2. The connection is kept only behind a complete body
       that nothing followed.
Not here: which decoder (the parser decided the framing), which trailers may pass (edge.http.headers).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.http import headers
from edge.http.framing import Decoder, FramingError
from edge.http.messages import ResponseHead
from edge.net.failures import broken
from edge.net.wire import TimedOut

if TYPE_CHECKING:
    from edge.net.upstream import Connection
    from edge.ports import UpstreamRequest


class ReplyBody:
    __slots__ = (
        "_connection",
        "_decoder",
        "_first",
        "_head",
        "_idle_timeout_s",
        "_reusable",
        "_takes_trailers",
        "length",
    )

    def __init__(
        self, connection: Connection, decoder: Decoder, first: bytes, head: ResponseHead, reusable: bool,
        request: UpstreamRequest,
    ) -> None:  # fmt: skip
        self.length = head.content_length
        self._connection = connection
        self._decoder = decoder
        self._first = first
        self._head = head
        self._reusable = reusable
        self._idle_timeout_s = request.idle_timeout_s
        self._takes_trailers = request.trailers

    @property
    def trailers(self) -> bytes:
        return headers.trailers(self._head.section, self._decoder.trailers) if self._takes_trailers else b""

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
                broken(error)
            if piece:
                return piece
        return b""

    def close(self) -> None:
        if self._decoder.done and self._reusable and not self._decoder.leftover and not self._first:
            self._connection.give_back(look=True)
        else:
            self._connection.discard()
