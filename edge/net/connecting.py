"""Opens a connection to an origin: resolve, check, connect to what was checked, verify TLS.

In:    a Destination, a resolver, the networks a deployment opens, a time limit for all of it.
Out:   a Wire ready for a request.
Laws:  1. The address connected to is the one that was checked: no name reaches the kernel. 2. Nothing was sent when
       this fails, so each failure may be retried elsewhere. 3. https is verified: chain, name, TLS 1.2 or later.
       4. Of several addresses the next is tried when one refuses, is slow (racing) or fails in TLS.
Not here: keeping connections (pool), what may be connected to (address, contracts.addresses).
"""

from __future__ import annotations

import _socket
import errno
import ssl
import time
from dataclasses import dataclass

from contracts.addresses import AddressError, IPNetwork, parse_origin_url
from edge.errors import GatewayError, Retry, Source
from edge.net.address import Resolver, checked
from edge.net.origin_tls import default_context
from edge.net.racing import failure_of, first_connected, in_turn, open_socket
from edge.net.sweeper import Sweeper
from edge.net.tls import TlsWire
from edge.net.wire import TimedOut, Wire


@dataclass(frozen=True, slots=True)
class Destination:
    host: str
    port: int
    tls: bool
    server_name: str = ""
    """Sent as SNI and verified instead of the host."""

    @classmethod
    def of(cls, url: str, server_name: str | None = None) -> Destination:
        """Read an origin's URL as the control plane stored it. Raises GatewayError(origin-forbidden)."""
        try:
            parsed = parse_origin_url(url)
        except AddressError as error:  # stored by an older, laxer release
            raise GatewayError(
                "origin-forbidden", "The origin's URL is not allowed.", internal=f"the URL {error}",
                source=Source.UPSTREAM, proxy_error="destination_ip_prohibited",
            ) from error  # fmt: skip
        return cls(parsed.host, parsed.port, parsed.scheme == "https", server_name or "")


def connect(
    destination: Destination,
    resolver: Resolver,
    allowed: tuple[IPNetwork, ...],
    sweeper: Sweeper,
    timeout_s: float,
    tls_context: ssl.SSLContext | None,
) -> Wire:
    """Blocks at most `timeout_s` beyond DNS. Raises GatewayError."""
    addresses = in_turn(checked(resolver, destination.host, allowed), destination.port)
    deadline_mono = time.monotonic() + timeout_s  # a race does not wait on wires: the sweeper's clock may be old
    error: OSError | TimedOut | None = None
    while addresses:
        wire: Wire | None = None
        try:
            if len(addresses) == 1:
                address = addresses[0]
                sock = open_socket(address, destination.port)
            else:
                sock, address = first_connected(addresses, destination.port, deadline_mono)
            wire = _wire(sock, destination, sweeper, tls_context)
            wire.address = address
            wire.deadline_mono = deadline_mono
            wire.wait_writable()
            failure = failure_of(sock)
            if failure is not None:
                raise failure
            if isinstance(wire, TlsWire):
                wire.handshake()
        except (OSError, TimedOut) as failed:
            error = failed
            if wire is None or isinstance(failed, TimedOut):  # all were tried, or there is no time for another
                break
            addresses.remove(address)
        else:
            connected, wire = wire, None
            return connected
        finally:
            if wire is not None:
                wire.close()
    raise _unreachable(destination, error)


def _wire(sock: _socket.socket, destination: Destination, sweeper: Sweeper, context: ssl.SSLContext | None) -> Wire:
    if not destination.tls:
        return Wire(sock, sweeper)
    name = destination.server_name or destination.host
    try:
        return TlsWire(sock, sweeper, context or default_context(), server_hostname=name)
    except BaseException:
        sock.close()
        raise


def _unreachable(destination: Destination, error: OSError | TimedOut | None) -> GatewayError:
    where = f"{destination.host}:{destination.port}"
    if isinstance(error, TimedOut):
        return GatewayError(
            "origin-timeout", "The origin did not take the connection in time.", internal=f"connect to {where}",
            source=Source.UPSTREAM, retry=Retry.NOTHING_SENT, proxy_error="connection_timeout",
        )  # fmt: skip
    tls = isinstance(error, ssl.SSLError)
    kind = "tls_certificate_error" if isinstance(error, ssl.SSLCertVerificationError) else "tls_protocol_error"
    refused = "connection_refused" if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED else ""
    return GatewayError(
        "origin-unreachable",
        "No secure connection to the origin could be made." if tls else "The origin could not be reached.",
        internal=f"connect to {where}: {error}", source=Source.UPSTREAM, retry=Retry.NOTHING_SENT,
        proxy_error=kind if tls else refused or "destination_unavailable",
    )  # fmt: skip
