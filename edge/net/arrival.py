"""What stands between a connection and its first request: the PROXY header, then the TLS handshake.

In:    an accepted socket; whether a header must come; the certificates of the socket it came in by.
Out:   an Arrival and its Wire, ready for HTTP; or a closed connection, counted by reason.
Laws:  1. Everything here ends within limits.handshake_timeout_s, however slowly it trickles. 2. A connection counts
       against the worker's ceiling from the start and against its client's as soon as the client is known. 3. Nobody
       can fill a log: one line a reason in LOG_EVERY_S. 4. The header comes before TLS.
Not here: accepting (listener), reading a header (edge.http.proxy_protocol), choosing a certificate (certificates).
"""

from __future__ import annotations

import _socket
import errno
import logging
import math
import ssl
from typing import TYPE_CHECKING, Final, NamedTuple

from edge.http import proxy_protocol
from edge.http.forwarded import TrustedHops
from edge.http.proxy_protocol import ProxyHeaderError
from edge.net.certificates import Certificates, Names
from edge.net.sweeper import Sweeper
from edge.net.tls import TlsWire
from edge.net.wire import TimedOut, Wire

if TYPE_CHECKING:
    from edge.net.downstream import Downstream
    from edge.net.listener import Listener

_log: Final = logging.getLogger(__name__)
LOG_EVERY_S: Final = 10.0


class Arrival(NamedTuple):
    """How a connection came in. `counted`: whether it counts against its client's ceiling. `hops`: whom to believe,
    where the peer is a trusted hop. `names`: what the certificate covers; None without TLS.
    """

    client_ip: str
    scheme: bytes
    counted: bool = True
    hops: TrustedHops | None = None
    names: Names | None = None


class Refusals:
    """Connections that never came to a request, counted by reason and logged now and then."""

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self._logged: dict[str, tuple[float, int]] = {}

    def note(self, reason: str, peer: str, why: object, now_mono: float) -> None:
        """`reason` is one of our own few words."""
        count = self.total[reason] = self.total.get(reason, 0) + 1
        logged_mono, before = self._logged.get(reason, (-math.inf, 0))
        if now_mono - logged_mono >= LOG_EVERY_S:
            self._logged[reason] = (now_mono, count)
            # As text: who keeps log records must not keep an exception, its frames and so the connection.
            _log.warning(
                "connections refused, %s: %d more, the last from %s: %s", reason, count - before, peer, str(why)
            )


class _Refused(Exception):
    """The connection ends here: (reason, why)."""


class Entering:
    """A connection on its way in. In the listener's books it stands where its Downstream will stand."""

    __slots__ = ("_expects_header", "_listener", "_peer", "_successor", "_wire", "arrival")

    def __init__(
        self, listener: Listener, sock: _socket.socket, sweeper: Sweeper, arrival: Arrival,
        certificates: Certificates | None, expects_header: bool,
    ) -> None:  # fmt: skip
        self._listener = listener
        self._peer = arrival.client_ip
        self._expects_header = expects_header
        self.arrival = arrival
        self._wire = Wire(sock, sweeper) if certificates is None else TlsWire(
            sock, sweeper, certificates.context, server_side=True
        )  # fmt: skip
        self._successor: Downstream | None = None

    def run(self) -> None:
        """The root of this connection's greenlet until its Downstream takes over: never raises."""
        try:
            self._enter()
        except Exception:
            _log.exception("a connection crashed on its way in")
        finally:
            if self._successor is None:
                self._wire.close()
                self._listener.left(self)
        if self._successor is not None:
            self._successor.run()

    def drain(self) -> None:
        """Its client was told that the connection stands: let it come in and ask once."""

    def cut(self) -> None:
        """End now. In the hub only."""
        if not self._wire.closed:
            self._wire.interrupt(OSError(errno.ECONNABORTED, "the drain is over"))

    def _enter(self) -> None:
        wire, listener = self._wire, self._listener
        deadline_mono = wire.sweeper.now_mono + listener.limits.handshake_timeout_s
        try:
            first = self._header(deadline_mono) if self._expects_header else b""
            if isinstance(wire, TlsWire):
                first = self._handshake(wire, first, deadline_mono)
        except (TimedOut, OSError):
            return
        except _Refused as refused:
            reason, why = refused.args
            listener.refusals.note(reason, self._peer, why, wire.sweeper.now_mono)
            return
        self._successor = listener.entered(self, wire, first)

    def _header(self, deadline_mono: float) -> bytes:
        """Read the PROXY header; gives what came behind it. Raises _Refused."""
        wire, buffer = self._wire, b""
        wire.deadline_mono = deadline_mono
        try:
            while (parsed := proxy_protocol.parse(buffer)) is None:
                octets = wire.recv_beneath()
                if not octets:
                    raise _Refused("proxy-header-missing", "closed before its end")
                buffer += octets
        except TimedOut:
            raise _Refused("proxy-header-late", "the header took too long to arrive") from None
        except OSError as error:
            raise _Refused("proxy-header-missing", error) from None
        except ProxyHeaderError as error:
            raise _Refused("proxy-header-malformed", error) from None
        client_ip, used = parsed
        arrival = self._listener.arrival(client_ip or self._peer, self.arrival.scheme)
        if arrival.counted and not self._listener.enter(arrival.client_ip):
            if not isinstance(wire, TlsWire):
                self._listener.say_overloaded(wire.sock, arrival.client_ip)
            raise _Refused("ceiling", f"{arrival.client_ip} has too many connections")
        self.arrival = arrival
        return buffer[used:]

    def _handshake(self, wire: TlsWire, first: bytes, deadline_mono: float) -> bytes:
        if first:
            wire.feed(first)
        wire.deadline_mono = deadline_mono
        try:
            wire.handshake()
        except TimedOut:
            raise _Refused("tls-handshake-late", "the handshake took too long") from None
        except ssl.SSLError as error:
            unknown = error.reason == "CALLBACK_FAILED"  # ours: the only thing it refuses is a name
            raise _Refused("tls-name-unknown" if unknown else "tls-handshake-failed", error.reason) from None
        except OSError as error:
            raise _Refused("tls-handshake-failed", error) from None
        certificates = self._listener.certificates
        assert certificates is not None
        self.arrival = self.arrival._replace(names=certificates.names_of(wire.context))
        return b""

    def __repr__(self) -> str:
        return f"<Entering {self._peer}>"
