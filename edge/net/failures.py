"""How an origin fails, in the gateway's words.

In:    what was noticed, and whether the connection had served before.
Out:   GatewayError with source UPSTREAM and a truthful `retry`.
Laws:  1. Foreign exceptions end here. 2. Addresses and what the origin said are internal.
Not here: deciding whether to try again (pipeline).
"""

from __future__ import annotations

import ssl
from typing import NoReturn

from edge.errors import GatewayError, Retry, Source
from edge.net.wire import TimedOut


def lost(reused: bool, error: OSError | None) -> NoReturn:
    raise GatewayError(
        "origin-unreachable", "The origin closed the connection without an answer.",
        internal=str(error) if error else "closed", source=Source.UPSTREAM,
        retry=Retry.REUSED_CONNECTION if reused else Retry.IF_IDEMPOTENT,
        # TLS 1.3: what an origin thinks of our client certificate comes after the handshake.
        proxy_error="tls_alert_received" if isinstance(error, ssl.SSLError) else "connection_terminated",
    ) from error  # fmt: skip


def too_late(internal: str) -> NoReturn:
    raise GatewayError(
        "origin-timeout", "The origin did not answer in time.", internal=internal, source=Source.UPSTREAM,
        retry=Retry.IF_IDEMPOTENT, proxy_error="http_response_timeout",
    ) from None  # fmt: skip


def broken(error: Exception) -> NoReturn:
    """The message broke after its first line was accepted."""
    late = isinstance(error, TimedOut)
    raise GatewayError(
        "origin-timeout" if late else "origin-invalid-response",
        "The origin stopped in the middle of its response." if late else "The origin's response is not complete.",
        internal=str(error) or "idle for too long", source=Source.UPSTREAM, retry=Retry.NEVER,
        proxy_error="http_response_timeout" if late else "http_response_incomplete",
    ) from error  # fmt: skip
