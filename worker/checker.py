"""One health probe of one target: a GET whose status line is all that is read.

In:    the URL to ask, what private networks the deployment opens, a deadline.
Out:   Finding: healthy or not, a slug that says why, the time it took.
Laws:  1. The guard runs at each connection: every address the name resolves to must pass, and the connection goes to
       the address that was checked; the name stays in SNI, in certificate verification and in Host. 2. A redirect is
       an answer (2xx-3xx is healthy), never followed. 3. One deadline bounds resolving, connecting, TLS and reading
       together, so a target that drips bytes costs no more than a silent one. 4. A probe never raises for what the
       target or its name does.
Not here: what a finding means (worker.probes), which targets are due (worker.ledger).
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import gevent

from contracts.addresses import AddressError, IPNetwork, OriginUrl, check_url, parse_origin_url, refusal

TIMEOUT_S: Final = 2.0
_HEAD_BYTES_MAX: Final = 16_384
_DRAIN_BYTES_MAX: Final = 65_536
_DRAIN_S: Final = 0.1
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
_PATH: Final = re.compile(r"/[!-~]*")


@dataclass(frozen=True, slots=True)
class Finding:
    """`reason` is `ok` or a slug: connect-refused, timeout, tls-invalid, status-503, address-forbidden, ..."""

    healthy: bool
    reason: str
    latency_ms: float
    at: float
    """Wall time at which the probe ended."""


class _Failed(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Trust(NamedTuple):
    """What an origin's TLS differs in: whom it trusts and what it shows, and the name that is verified."""

    context: ssl.SSLContext
    server_name: str | None


def probe(
    url: str, path: str, allowed: tuple[IPNetwork, ...], timeout_s: float = TIMEOUT_S, trust: Trust | None = None
) -> Finding:
    """Ask a target how it is: GET <url's base path><path>. Blocks up to `timeout_s`; under gevent yields meanwhile."""
    started_mono = time.monotonic()
    deadline_mono = started_mono + timeout_s
    try:
        # The sockets' own timeouts bound each step; this one ends a sum of steps and the resolver's threads.
        with gevent.Timeout(timeout_s):
            status = _ask(url, path, allowed, deadline_mono, trust)
        healthy, reason = 200 <= status < 400, "ok" if 200 <= status < 400 else f"status-{status}"
    except _Failed as failure:
        healthy, reason = False, failure.reason
    except (gevent.Timeout, TimeoutError):
        healthy, reason = False, "timeout"
    return Finding(healthy, reason, (time.monotonic() - started_mono) * 1_000, time.time())


def _ask(url: str, path: str, allowed: tuple[IPNetwork, ...], deadline_mono: float, trust: Trust | None) -> int:
    try:
        origin = parse_origin_url(url)
    except AddressError:
        raise _Failed("url-invalid") from None
    target = origin.base_path + path
    if not _PATH.fullmatch(target):
        raise _Failed("path-invalid")
    connection = _connect(_addresses(origin, allowed), origin, deadline_mono)
    try:
        if origin.scheme == "https":
            connection = _secure(connection, trust or Trust(_tls(), None), origin, deadline_mono)
        return _exchange(connection, origin, target, deadline_mono)
    finally:
        connection.close()


def _addresses(origin: OriginUrl, allowed: tuple[IPNetwork, ...]) -> list[str]:
    """Resolve, and refuse the name as a whole when one of its addresses is refused."""
    if check_url(origin, allowed) is not None:
        raise _Failed("address-forbidden")
    if origin.is_address:
        return [origin.host]
    try:
        answers = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise _Failed("name-unresolved") from None
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    if any(refusal(address, allowed) is not None for address in addresses):
        raise _Failed("address-forbidden")
    if not addresses:
        raise _Failed("name-unresolved")
    return addresses


def _connect(addresses: list[str], origin: OriginUrl, deadline_mono: float) -> socket.socket:
    """Connect to the first address that answers; each gets an equal share of the time that is left."""
    reason = "connect-failed"
    for index, address in enumerate(addresses):
        share_s = _left(deadline_mono) / (len(addresses) - index)
        try:
            return socket.create_connection((address, origin.port), timeout=share_s)
        except TimeoutError:
            reason = "timeout"
        except ConnectionRefusedError:
            reason = "connect-refused"
        except OSError:
            reason = "connect-failed"
    raise _Failed(reason)


@cache
def _tls() -> ssl.SSLContext:
    return verifying(None)


def verifying(ca_certificates: str | None) -> ssl.SSLContext:
    """Make a context that verifies chain and name, by the system's roots or by these. Raises ValueError, OSError."""
    context = ssl.create_default_context(cadata=ca_certificates)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _secure(connection: socket.socket, trust: Trust, origin: OriginUrl, deadline_mono: float) -> socket.socket:
    connection.settimeout(_left(deadline_mono))
    try:
        return trust.context.wrap_socket(connection, server_hostname=trust.server_name or origin.host)
    except ssl.SSLCertVerificationError:
        raise _Failed("tls-invalid") from None
    except TimeoutError:
        raise
    except (OSError, ValueError):
        raise _Failed("tls-failed") from None


def _exchange(connection: socket.socket, origin: OriginUrl, target: str, deadline_mono: float) -> int:
    request = (
        f"GET {target} HTTP/1.1\r\nHost: {origin.authority}\r\nUser-Agent: VantageEdge-Health/1\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    )
    received = b""
    try:
        connection.settimeout(_left(deadline_mono))
        connection.sendall(request.encode("ascii"))
        while True:
            status, received = _final_status(received)
            if status is not None:
                break
            if len(received) > _HEAD_BYTES_MAX:
                raise _Failed("response-invalid")
            connection.settimeout(_left(deadline_mono))
            piece = connection.recv(8_192)
            if not piece:
                raise _Failed("response-incomplete")
            received += piece
    except TimeoutError:
        raise
    except ssl.SSLError:  # TLS 1.3: what it thinks of our client certificate comes after the handshake
        raise _Failed("tls-failed") from None
    except OSError:
        raise _Failed("connection-lost") from None
    _drain(connection, min(deadline_mono, time.monotonic() + _DRAIN_S))
    return status


def _final_status(received: bytes) -> tuple[int | None, bytes]:
    """Give the first status that is not interim (RFC 9110 section 15.2), and what is still unread of the head."""
    while b"\n" in received:
        match = _STATUS_LINE.match(received)
        if match is None:
            raise _Failed("response-invalid")
        status = int(match[1])
        if status >= 200 or status == 101:
            return status, received
        head, end, rest = received.partition(b"\r\n\r\n")
        if not end:
            return None, head
        received = rest
    return None, received


def _drain(connection: socket.socket, deadline_mono: float) -> None:
    """Read on for a moment, so that a small answer is not cut off by a reset that the target would log."""
    drained = 0
    try:
        while drained < _DRAIN_BYTES_MAX:
            connection.settimeout(_left(deadline_mono))
            piece = connection.recv(16_384)
            if not piece:
                return
            drained += len(piece)
    except OSError:
        return


def _left(deadline_mono: float) -> float:
    left_s = deadline_mono - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
