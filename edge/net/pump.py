"""One request body on its way to an origin that may have its say before the end.

In:    a connection, an attempt whose body comes in pieces.
Out:   whether the body went out whole; `heard`: the beginning of the final answer, where that came early.
Laws:  1. A client that waits for 100 (Continue) is let go on by its origin: nothing of the body is read until the
       origin said 100, or nothing for CONTINUE_S (RFC 9110 section 10.1.1). A final answer comes before the body, then.
       2. Interim answers pass on in the middle of an upload and do not end it. 3. A final answer ends it, wherever it
       waits: for the client's next piece or for room at the origin. 4. What the origin says is taken from the wire in
       the hub, where nothing can wait; what goes to the client goes from the pump's own greenlet.
Not here: reading the final answer (upstream), the body's bound (phases.forward).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from greenlet import getcurrent

from edge.errors import GatewayError
from edge.http.framing import FramingError, chunk, last_chunk
from edge.http.messages import Body, ResponseHead
from edge.http.parser import SectionMemo, parse_response_head
from edge.http.writer import EXPECT_LINE
from edge.net.failures import broken, too_late
from edge.net.wire import TimedOut, interrupt

if TYPE_CHECKING:
    from edge.net.upstream import Connection
    from edge.ports import UpstreamRequest

CONTINUE_S: Final = 1.0
"""How long an origin may be silent before the client is let go on all the same. RFC 9110 section 10.1.1: a client
"SHOULD NOT wait for an indefinite period"; the common ones wait a second, so a longer wait here would change nothing
and a setting would have no second useful value."""
INTERIM_MAX: Final = 16
_INTERIM: Final = b"HTTP/1.1 1"
_READING: Final = 1
_SENDING: Final = 2


class _Spoke(BaseException):
    """Thrown into a pump: the origin said something. Not an Exception, so that nobody between takes it for one."""


class Pump:
    """`began`: the body was asked for its first piece. `interims`: how many interim answers passed."""

    __slots__ = (
        "_connection", "_due", "_greenlet", "_over", "_request", "_sections", "_told", "_waits", "began", "heard",
        "interims",
    )  # fmt: skip

    def __init__(self, connection: Connection, request: UpstreamRequest, sections: SectionMemo) -> None:
        self._connection = connection
        self._request = request
        self._sections = sections
        self._greenlet: Any = getcurrent()
        self._waits = 0
        self._over = False
        self._told = False
        self._due: list[ResponseHead] = []
        self.began = False
        self.heard = b""
        self.interims = 0

    def run(self, body: Body) -> bool:
        """Send head and body as the client delivers it; False: the origin answered, or closed, before the end.

        Blocks on both connections. Raises GatewayError, ClientGone.
        """
        connection = self._connection
        connection.pump = self
        try:
            if self._request.expects and connection.target.version == 11:
                connection.wire.send(self._request.head[:-2] + EXPECT_LINE + b"\r\n")
                self._listen()
            else:
                self._send(self._request.head)
            whole = self._pour(body)
        except _Spoke:
            whole = False
        except TimedOut:
            too_late("it stopped taking the request body")
        except OSError:
            whole = False
        finally:
            connection.pump = None
        self._pass_on()
        return whole

    def _listen(self) -> None:
        """Wait for the origin's word on a body that nobody has sent yet."""
        wire = self._connection.wire
        deadline_mono = wire.sweeper.now_mono + CONTINUE_S
        while not self._over and not self._told:
            wire.deadline_mono = deadline_mono  # again, for it may have passed while an interim answer was passed on
            try:
                octets = wire.recv()
            except TimedOut:
                return
            self._hear(octets)
            self._pass_on()

    def _pour(self, body: Body) -> bool:
        chunked = body.length is None
        wire = self._connection.wire
        if wire.readable or wire.holds_octets:  # it spoke before anybody listened: before it was asked, even
            self.woken()
        while not self._over:
            self._pass_on()
            self.began = True
            self._waits = _READING
            try:
                octets = body.read()
            except _Spoke:
                continue
            finally:
                self._waits = 0
            if octets:
                self._send(chunk(octets) if chunked else octets)
                continue
            if chunked:
                self._send(last_chunk(body.trailers))
            return True
        return False

    def _send(self, octets: bytes) -> None:
        self._waits = _SENDING
        try:
            self._connection.wire.send(octets)
        finally:
            self._waits = 0

    def _pass_on(self) -> None:
        while self._due:
            self.interims += 1
            pass_on(self._request, self._due.pop(0), self.interims)

    # In the hub

    def woken(self) -> None:
        """The origin spoke or closed while the pump was at work: take it, and end a wait that has lost its point."""
        wire = self._connection.wire
        octets = wire.take()
        if octets is not None:
            self._hear(octets)
        if not self._over:
            wire.watch_again()
            if self._due and self._waits == _READING:
                self._interrupt_reading()
        elif self._waits == _SENDING:
            interrupt(self._greenlet, _Spoke())
        elif self._waits == _READING:
            self._interrupt_reading()

    def _interrupt_reading(self) -> None:
        """Not while 100 (Continue) is written: half of it would be left."""
        wire = getattr(self._greenlet, "waits_on", None)
        if wire is not None and wire.reads and wire.waiting is self._greenlet:
            wire.interrupt(_Spoke())

    def _hear(self, octets: bytes) -> None:
        """Sort what the origin said into interim answers and the beginning of its last word. Never blocks or raises."""
        self.heard += octets
        while octets:
            try:
                parsed = parse_response_head(self.heard, self._request.method, self._sections)
            except GatewayError:  # whoever reads the answer meets it again
                break
            if parsed is None:  # an interim answer may be on its way; anything else that begins is the last word
                if self.heard[: len(_INTERIM)] == _INTERIM[: len(self.heard)]:
                    return
                break
            head, used = parsed
            if head.status == 101 or head.status >= 200 or len(self._due) > INTERIM_MAX:
                break
            self.heard = self.heard[used:]
            self._due.append(head)
            self._told = self._told or head.status == 100
        self._over = True


def pass_on(request: UpstreamRequest, head: ResponseHead, count: int) -> None:
    """RFC 9110 section 15.2: a proxy MUST forward interim answers; so many of them. Raises GatewayError, ClientGone."""
    if head.status == 101 or count > INTERIM_MAX:
        broken(FramingError(f"it sent {head.status} without being asked, or too often"))
    if request.interim is not None:
        request.interim(head)
