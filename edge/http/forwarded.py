"""Who a request came from, told to the origin; and whether it came through us before.

In:    the client's address, the scheme and host it used; a request's field section.
Out:   X-Forwarded-For/-Proto/-Host, Forwarded (RFC 7239) and Via (RFC 9110 section 7.6.3) lines; hops left.
Laws:  1. What the client said about itself is overwritten, never extended (headers drops it), except Via, which
       grows. 2. A request that carries our pseudonym in Via is a loop.
Not here: trusted proxies in front of us.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from edge.http.fields import members, token_or_quoted
from edge.http.messages import FieldSection

HOPS_MAX: Final = 255
"""More than a chain of proxies ever has. RFC 9110 section 7.6.2: what goes on is the lesser of the received value
decremented by one and "the recipient's maximum supported value"."""
_HOPS: Final = re.compile(rb"[0-9]++")

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


def hops_left(section: FieldSection) -> int | None:
    """Give Max-Forwards (RFC 9110 section 7.6.2), at most HOPS_MAX + 1; None when there is none. Raises ValueError."""
    values = section.index.get(b"max-forwards")
    if values is None:
        return None
    if len(values) != 1 or _HOPS.fullmatch(values[0]) is None:
        raise ValueError("Max-Forwards is not one number")
    digits = values[0].lstrip(b"0")
    return min(int(digits or b"0"), HOPS_MAX + 1) if len(digits) <= 9 else HOPS_MAX + 1


def passed_through_us(section: FieldSection) -> bool:
    """Whether Via names us: the request would go round for ever (RFC 9110 section 7.6.3)."""
    values = section.index.get(b"via")
    if values is None:
        return False
    return any(_received_by(member) == PSEUDONYM for member in members(b",".join(values)))


def _received_by(member: bytes) -> bytes:
    parts = member.split(None, 2)
    return parts[1].lower() if len(parts) > 1 else b""
