"""Switching protocols (RFC 9110 section 7.8): what a client may ask an origin for, and which 101 is an answer to it.

In:    heads.
Out:   the protocols to offer, the lines that offer or confirm them, a verdict on a 101.
Laws:  1. Upgrade speaks to the next hop, so it is told anew and never copied. 2. Another version of HTTP, or TLS, is
       never offered: whoever spoke it inside a tunnel would pass by every rule of this gateway. 3. "A server MUST NOT
       switch to a protocol that was not indicated by the client": such a 101 is an invalid response.
Not here: carrying what comes behind a 101 (edge.net.tunnel), frames (websocket).
"""

from __future__ import annotations

import re
from typing import Final

from edge.http.fields import members, tokens
from edge.http.grammar import TCHAR
from edge.http.messages import RequestHead, ResponseHead

UPGRADE_LINE: Final = b"Connection: Upgrade\r\n"
WEBSOCKET: Final = b"websocket"

_PROTOCOL: Final = re.compile(rb"([" + TCHAR + rb"]++)(?:/[" + TCHAR + rb"]++)?")
_REFUSED: Final = frozenset({b"h2", b"h2c", b"h3", b"http", b"tls"})
_MEMORY: Final = "upgrade-offered"


def offered(head: RequestHead) -> bytes:
    """Give the protocols to offer to the origin as the value of Upgrade, b"" when there is none.

    "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request." Without `upgrade` in
    Connection it was meant for somebody else. A request with a body goes on as if it had not asked.
    Complexity: one look-up in requests without Upgrade.
    """
    section = head.section
    if b"upgrade" not in section.index or head.version == 10 or head.has_body:
        return b""
    value: bytes | None = section.derived.get(_MEMORY)
    if value is None:
        value = b""
        if b"upgrade" in tokens(section.get(b"connection") or b""):
            value = b", ".join([name for name in members(section.get(b"upgrade") or b"") if _may_pass(name)])
        section.derived[_MEMORY] = value
    return value


def _may_pass(protocol: bytes) -> bool:
    match = _PROTOCOL.fullmatch(protocol)
    return match is not None and match[1].lower() not in _REFUSED


def lines(protocols: bytes) -> bytes:
    """Give the two lines that offer or confirm `protocols`."""
    return b"%bUpgrade: %b\r\n" % (UPGRADE_LINE, protocols)


def agreed(head: ResponseHead, offer: bytes) -> bytes | None:
    """Give the protocols that a 101 switches to; None when it is no answer to `offer`.

    "A server that sends a 101 response MUST send an Upgrade header field", and "a sender of Upgrade MUST also send an
    'Upgrade' connection option". Protocols are compared without case, as RFC 6455 section 4.1 asks.
    """
    section = head.section
    chosen = section.get(b"upgrade") or b""
    names = tokens(chosen)
    if not names or head.version == 10 or b"upgrade" not in tokens(section.get(b"connection") or b""):
        return None
    return chosen if names <= tokens(offer) else None
