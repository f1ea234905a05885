"""Who a request came from, told to the origin; and whether it came through us before.

In:    the client's address, the scheme and host it used.
Out:   X-Forwarded-For/-Proto/-Host, Forwarded (RFC 7239) and Via (RFC 9110 section 7.6.3) lines.
Laws:  1. What the client said about itself is overwritten, never extended (headers drops it), except Via, which
       grows. 2. A request that carries our pseudonym in Via is a loop.
Not here: trusted proxies in front of us.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from edge.http.fields import members, token_or_quoted
from edge.http.messages import FieldSection

PSEUDONYM: Final = b"vantageedge"
VIA_10: Final = b"Via: 1.0 " + PSEUDONYM + b"\r\n"
VIA_11: Final = b"Via: 1.1 " + PSEUDONYM + b"\r\n"


@lru_cache(maxsize=4096)
def lines(client_ip: str, scheme: bytes, host: bytes, version: int = 11) -> bytes:
    """Give the lines a request gets. `host`: what the client asked for, with port if it named one.
    `version`: of the message received (10 or 11), for Via. Remembered for the clients of the moment.
    """
    ip = client_ip.encode("ascii")
    node = b'"[%b]"' % ip if b":" in ip else ip
    told = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % (ip, scheme, host)
    return b"%bForwarded: for=%b;proto=%b;host=%b\r\n%b" % (told, node, scheme, token_or_quoted(host), via(version))


def via(version: int) -> bytes:
    """Give the Via line of a message received in this version (10 or 11); responses get one too."""
    return VIA_11 if version == 11 else VIA_10


def passed_through_us(section: FieldSection) -> bool:
    """Whether Via names us: the request would go round for ever (RFC 9110 section 7.6.3)."""
    values = section.index.get(b"via")
    if values is None:
        return False
    return any(_received_by(member) == PSEUDONYM for member in members(b",".join(values)))


def _received_by(member: bytes) -> bytes:
    parts = member.split(None, 2)
    return parts[1].lower() if len(parts) > 1 else b""
