"""What the gateway itself says to OPTIONS: of the server as a whole, and as the last hop of a chain.

In:    the exchange; for the last hop after authentication and limits.
Out:   a Reply, or None when the origin is asked; GatewayError request-malformed.
Laws:  1. Max-Forwards: 0 ends here and nothing goes to the origin (RFC 9110 section 7.6.2). 2. Allow names methods of
       the path, never a route's name or origin. 3. Max-Forwards counts on OPTIONS only; TRACE is not served.
Not here: counting Max-Forwards down (forward).
"""

from __future__ import annotations

from edge.errors import GatewayError, Source
from edge.exchange import Exchange
from edge.http import forwarded
from edge.http.messages import Reply
from edge.snapshot import METHODS, Tenant


def of_the_server(exchange: Exchange) -> Reply:
    """Answer `OPTIONS *` (RFC 9110 section 9.3.7): the server, not a resource of it, so no origin is asked."""
    exchange.path = exchange.head.path
    return _allowing(METHODS)


def last_hop(exchange: Exchange, tenant: Tenant) -> Reply | None:
    """RFC 9110 section 7.6.2: "If the received value is zero (0), the intermediary MUST NOT forward the request;
    instead, the intermediary MUST respond as the final recipient". Raises GatewayError.
    """
    try:
        hops = forwarded.hops_left(exchange.head.section)
    except ValueError as error:
        raise GatewayError("request-malformed", f"{error}.", source=Source.DOWNSTREAM) from None
    return _allowing(tenant.resolve(exchange.head.path).methods) if hops == 0 else None


def _allowing(methods: tuple[bytes, ...]) -> Reply:
    return Reply(204, b"No Content", b"Allow: %b\r\n" % b", ".join(methods), b"")
