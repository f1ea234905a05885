"""Where the frames of a WebSocket end (RFC 6455 section 5.2), and a Close frame to put in behind one.

In:    one direction of a connection, in pieces cut anywhere.
Out:   whether it stands between two frames; the octets of a Close frame.
Laws:  1. Only the headers of frames are read: payload, opcodes and extensions are the ends' own business. 2. A piece
       that is exactly one small frame, which most are, costs one look-up.
Not here: when a connection is closed and who writes (edge.net.tunnel).
"""

from __future__ import annotations

from typing import Final

GOING_AWAY: Final = 1001
"""RFC 6455 section 7.4.1: "an endpoint is 'going away', such as a server going down"."""

_HEADER_BYTES_MAX: Final = 14
_MASKED: Final = 0x80


def _header_bytes(second: int) -> int:
    """Give a header's length by its second octet: MASK and the first length; then 2 or 8 octets more of it, a key."""
    length = second & 0x7F
    return 2 + (8 if length == 127 else 2 if length == 126 else 0) + (4 if second & _MASKED else 0)


def _whole(second: int) -> int:
    length = second & 0x7F
    return -1 if length > 125 else _header_bytes(second) + length


_WHOLE: Final = tuple(_whole(second) for second in range(256))
"""How long a frame is by the second octet of its header; -1: it needs more of the header to know."""


class Frames:
    """Follows one direction from its first octet on."""

    __slots__ = ("_header", "_left")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0

    @property
    def between(self) -> bool:
        """Whether the next octet begins a frame."""
        return not self._left and not self._header

    def passed(self, piece: memoryview) -> None:
        """Follow what went by. Complexity: one look-up for a whole small frame, else one step per frame."""
        if self._left or self._header or len(piece) < 2 or _WHOLE[piece[1]] != len(piece):
            self._walk(piece, to_the_first_end=False)

    def up_to_end(self, piece: memoryview) -> int:
        """Follow `piece` to the end of the frame under way and give how many octets that is; all when it ends later."""
        return 0 if self.between else self._walk(piece, to_the_first_end=True)

    def _walk(self, piece: memoryview, *, to_the_first_end: bool) -> int:
        at, end = 0, len(piece)
        while at < end:
            if not self._left:
                at = self._read_header(piece, at)
            step = min(self._left, end - at)
            at += step
            self._left -= step
            if to_the_first_end and self.between:
                break
        return at

    def _read_header(self, piece: memoryview, at: int) -> int:
        """Take octets of a header from `at` on; gives where it ends. `_left` is the payload's length once known."""
        held = self._header
        seen = held + bytes(piece[at : at + _HEADER_BYTES_MAX])
        if len(seen) < 2 or len(seen) < (size := _header_bytes(seen[1])):
            self._header = seen
            return len(piece)
        self._header = b""
        short = seen[1] & 0x7F
        self._left = short if short < 126 else int.from_bytes(seen[2:4] if short == 126 else seen[2:10], "big")
        return at + size - len(held)

    def __repr__(self) -> str:
        return f"<Frames {'between' if self.between else f'inside, {self._left} octets left'}>"


def close_frame(code: int, mask: bytes = b"") -> bytes:
    """Give a Close frame with a status code. `mask`: four octets by chance towards a server, none towards a client."""
    payload = code.to_bytes(2, "big")
    if not mask:
        return b"\x88\x02" + payload
    return b"\x88\x82" + mask + bytes(octet ^ key for octet, key in zip(payload, mask, strict=False))
