"""Documents that the gateway itself answers on every tenant's host (RFC 8615).

In:    a path of DOCUMENTS; the tenant.
Out:   a Reply, or None when a route of the tenant's answers.
Laws:  1. A path of DOCUMENTS is the gateway's, unless a route of the tenant's names that very path without captures: a
       catch-all does not hide it. 2. What is here is public: no credential, no limit of a route. 3. GET and HEAD alone;
       other methods go to routes. 4. The path is compared as it was sent: another spelling of it is a route's.
Not here: what a key set says (contracts.identity, webapp.services.identity_keys).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from contracts import identity
from contracts.patterns import Literal
from edge.exchange import Exchange
from edge.http import conditional
from edge.http.messages import Reply
from edge.snapshot import Tenant


def answer(exchange: Exchange, tenant: Tenant) -> Reply | None:
    """Answer a request for a path of DOCUMENTS, None when it is a route's."""
    head = exchange.head
    if head.method not in (b"GET", b"HEAD"):
        return None
    for route in tenant.resolve(head.path).routes:
        if route.allows(head.method) and all(isinstance(segment, Literal) for segment in route.pattern.segments):
            return None
    exchange.path = head.path
    lines, body = DOCUMENTS[head.path](tenant)
    # RFC 9110 section 8.8.3: a strong validator, since the octets decide it.
    lines += b'ETag: "%b"\r\n' % hashlib.sha256(body).hexdigest()[:32].encode("ascii")
    if conditional.not_modified(head.section, lines):
        return Reply(304, b"Not Modified", conditional.not_modified_lines(lines), b"")
    if head.method == b"HEAD":
        return Reply(200, b"OK", lines, b"", len(body))
    return Reply(200, b"OK", lines, body)


def _jwks(tenant: Tenant) -> tuple[bytes, bytes]:
    """The public halves of the tenant's identity keys (RFC 7517 section 8.5.1 for the type)."""
    lines = (
        b"Content-Type: application/jwk-set+json\r\nCache-Control: public, max-age=%d\r\n"
        b"Access-Control-Allow-Origin: *\r\n" % identity.JWKS_MAX_AGE_S
    )
    return lines, tenant.key_set


DOCUMENTS: Final[dict[bytes, Callable[[Tenant], tuple[bytes, bytes]]]] = {identity.JWKS_PATH: _jwks}
"""Path as sent -> lines and body."""
