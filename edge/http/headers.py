"""Which fields of a message go on to the next hop, as bytes ready to send.

In:    a FieldSection; names a caller wants left out.
Out:   header lines each ended by CRLF, remembered in the section, so an equal block is filtered once.
Laws:  1. Hop-by-hop fields and those that Connection nominates never pass (RFC 9110 section 7.6.1), in both
       directions. 2. Connection cannot nominate what the message or the gateway depends on. 3. Framing
       (Content-Length, Transfer-Encoding) never passes: who sends a message frames it. 4. Lines are written anew from
       name and value, never copied. 5. A client cannot speak in the gateway's own fields (Forwarded family,
       X-Vantage-*).
Not here: fields we add (forwarded, writer, phases.forward, phases.reply).
"""

from __future__ import annotations

from typing import Final

from edge.http.fields import tokens
from edge.http.messages import FieldSection

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
HOP_BY_HOP: Final = _FRAMING | {
    b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"upgrade",
}  # fmt: skip
# What is said anew on each hop: the target's host, 100-continue (answered by us), who came through whom. And what would
# have a framework route by another path than the one we matched.
_REWRITTEN: Final = frozenset({
    b"expect", b"forwarded", b"host", b"x-original-url", b"x-real-ip", b"x-rewrite-url",
})  # fmt: skip
# All of X-Forwarded-*: frameworks believe -Prefix, -Scheme, -Ssl and -User from whoever stands before them.
_OWN_PREFIXES: Final = (b"x-vantage-", b"x-forwarded-")
# Nominating one of these would strip an origin of what it decides by ("hop-by-hop abuse").
ESSENTIAL: Final = frozenset({
    b"accept", b"age", b"authorization", b"cache-control", b"content-encoding", b"content-range", b"content-type",
    b"cookie", b"date", b"etag", b"expires", b"host", b"if-match", b"if-modified-since", b"if-none-match", b"if-range",
    b"if-unmodified-since", b"last-modified", b"location", b"max-forwards", b"origin", b"range", b"set-cookie", b"vary",
    b"via", b"www-authenticate", b"x-api-key", b"x-request-id",
})  # fmt: skip


def request_lines(section: FieldSection, drop: frozenset[bytes]) -> bytes:
    """Give a request's end-to-end lines without `drop` (lower-cased names). Host, Expect, the Forwarded family and
    X-Vantage-* are always left out; Via stays, ours is added behind it. Complexity: one look-up once remembered.
    """
    key = (b">", drop)
    lines: bytes | None = section.derived.get(key)
    if lines is None:
        lines = section.derived[key] = _lines(section, drop | HOP_BY_HOP | _REWRITTEN, own=_OWN_PREFIXES)
    return lines


def response_lines(section: FieldSection, drop: frozenset[bytes]) -> bytes:
    """Give a response's end-to-end lines without `drop` (lower-cased names). Date, where there is one, comes first:
    the writer relies on it to see cheaply whether it must add one.
    """
    key = (b"<", drop)
    lines: bytes | None = section.derived.get(key)
    if lines is None:
        dropped = drop | HOP_BY_HOP | {b"date"}
        dates = () if b"date" in drop else section.index.get(b"date", ())
        date = b"Date: %b\r\n" % dates[0] if dates else b""
        lines = section.derived[key] = date + _lines(section, dropped, own=())
    return lines


def nominated(section: FieldSection) -> frozenset[bytes]:
    """Give the names that Connection takes away on this hop, essentials excepted."""
    values = section.index.get(b"connection")
    return tokens(b",".join(values)) - ESSENTIAL if values else frozenset()


def _lines(section: FieldSection, dropped: frozenset[bytes], own: tuple[bytes, ...]) -> bytes:
    dropped |= nominated(section)
    return b"".join([
        b"%b: %b\r\n" % (name, value)
        for name, value in section.fields
        if (lower := name.lower()) not in dropped and not lower.startswith(own)
    ])  # fmt: skip
