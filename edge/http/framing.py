"""Where a body ends: by its length, by its last chunk, or with the connection (RFC 9112 sections 6 and 7).

In:    bytes as they arrive.
Out:   the body's octets, and what came behind it.
Laws:  1. The same bytes give the same body however they were cut. 2. A decoder holds at most one incomplete line and
       a bounded trailer section. 3. Chunk extensions are checked, bounded and ignored: they are of one hop (RFC 9112
       section 7.1.1). Trailers are checked and bounded.
Not here: which decoder a message gets (the parser decided the framing), whose fault an error is (edge.net knows),
          which trailers may pass on (headers).
"""

from __future__ import annotations

from typing import Final, Protocol

from edge.http.grammar import BAD_OCTET, CHUNK_LINE
from edge.http.parser import parse_trailers

_CHUNK_LINE_BYTES_MAX: Final = 512
_EXTENSION_BYTES_MAX: Final = 16_384
"""In all chunks of one body: padding every chunk with extensions is an attack."""
_TRAILER_BYTES_MAX: Final = 8_192
LAST_CHUNK: Final = b"0\r\n\r\n"


class FramingError(ValueError):
    """The bytes are no body of this framing; the connection cannot be used again."""


class Decoder(Protocol):
    done: bool
    leftover: bytes
    """What came behind the body; only meaningful when done."""
    trailers: bytes
    """The trailer section's lines as they came, each ended by CRLF; only meaningful when done."""

    def feed(self, octets: bytes) -> bytes:
        """Give the body's octets among these, b"" when there are none. Raises FramingError."""

    def end(self) -> None:
        """The connection closed. Raises FramingError when the body was not complete."""


class LengthDecoder:
    __slots__ = ("done", "leftover", "remaining")
    trailers = b""

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0
        self.leftover = b""

    def feed(self, octets: bytes) -> bytes:
        size = len(octets)
        if size < self.remaining:
            self.remaining -= size
            return octets
        body = octets[: self.remaining]
        self.leftover += octets[self.remaining :]
        self.remaining = 0
        self.done = True
        return body

    def end(self) -> None:
        if not self.done:
            raise FramingError(f"closed {self.remaining} octets before the end of the body")


class UntilCloseDecoder:
    """A response body of unknown length (RFC 9112 section 6.3, rule 8)."""

    __slots__ = ("done", "leftover")
    trailers = b""

    def __init__(self) -> None:
        self.done = False
        self.leftover = b""

    def feed(self, octets: bytes) -> bytes:
        return octets

    def end(self) -> None:
        self.done = True


class ChunkedDecoder:
    """Chunks to octets. Complexity: linear in the bytes fed, whatever the chunk sizes."""

    __slots__ = ("_extension_bytes", "_remaining", "_rest", "_state", "done", "leftover", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.leftover = b""
        self._rest = b""
        self._remaining = 0
        self._extension_bytes = 0
        self.trailers = b""
        self._state = ChunkedDecoder._size

    def feed(self, octets: bytes) -> bytes:
        if self.done:
            self.leftover += octets
            return b""
        buffer = self._rest + octets if self._rest else octets
        pieces: list[bytes] = []
        consumed = 0
        while (position := self._state(self, buffer, consumed, pieces)) is not None:
            consumed = position
        if self._state is ChunkedDecoder._end:
            self.done = True
            self.leftover = buffer[consumed:]
            self._rest = b""
        else:
            self._rest = buffer[consumed:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        if not self.done:
            raise FramingError("closed before the last chunk")

    # Each state takes what it can at `at` and gives the next position, or None when it needs more bytes.

    def _size(self, buffer: bytes, at: int, pieces: list[bytes]) -> int | None:
        end = self._line_end(buffer, at, _CHUNK_LINE_BYTES_MAX)
        if end is None:
            return None
        match = CHUNK_LINE.fullmatch(buffer, at, end)
        if match is None:
            raise FramingError("a chunk-size line is malformed")
        self._extension_bytes += len(match[2])
        if self._extension_bytes > _EXTENSION_BYTES_MAX:
            raise FramingError("too many octets of chunk extensions")
        self._remaining = int(match[1], 16)
        self._state = ChunkedDecoder._content if self._remaining else ChunkedDecoder._trailer
        return end + 2

    def _content(self, buffer: bytes, at: int, pieces: list[bytes]) -> int | None:
        piece = buffer[at : at + self._remaining]
        if piece:
            pieces.append(piece)
            self._remaining -= len(piece)
        if self._remaining:
            return None if not piece else at + len(piece)
        self._state = ChunkedDecoder._content_end
        return at + len(piece)

    def _content_end(self, buffer: bytes, at: int, pieces: list[bytes]) -> int | None:
        mark = buffer[at : at + 2]
        if mark == b"\r\n":
            self._state = ChunkedDecoder._size
            return at + 2
        if mark in (b"", b"\r"):
            return None
        raise FramingError("a chunk is longer than its size says")

    def _trailer(self, buffer: bytes, at: int, pieces: list[bytes]) -> int | None:
        end = self._line_end(buffer, at, _TRAILER_BYTES_MAX)
        if end is None:
            return None
        if end == at:
            self._state = ChunkedDecoder._end
            return end + 2
        line = buffer[at : end + 2]
        self.trailers += line
        if len(self.trailers) > _TRAILER_BYTES_MAX or not parse_trailers(line):
            raise FramingError("the trailer section is malformed or too large")
        return end + 2

    def _end(self, buffer: bytes, at: int, pieces: list[bytes]) -> int | None:
        return None

    @staticmethod
    def _line_end(buffer: bytes, at: int, bytes_max: int) -> int | None:
        """Find the CRLF of the line at `at`. A bare CR or LF, or a line too long, is refused as soon as it is seen."""
        end = buffer.find(b"\r\n", at, at + bytes_max + 2)
        if end < 0:
            # The last octet may be the CR of a line that is just not too long.
            if len(buffer) - at > bytes_max + buffer.endswith(b"\r") or buffer.find(b"\n", at) >= 0:
                raise FramingError("a line is malformed or too long")
            return None
        if BAD_OCTET.search(buffer, at, end + 2):
            raise FramingError("a line has a bare line end or a control character")
        return end


def last_chunk(trailers: bytes) -> bytes:
    """Encode the end of a chunked body. `trailers`: lines each ended by CRLF."""
    return b"0\r\n%b\r\n" % trailers if trailers else LAST_CHUNK


def chunk(octets: bytes) -> bytes:
    """Encode one chunk. `octets` is never empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(octets), octets)
