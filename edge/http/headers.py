"""Which fields of a message go on to the next hop, as bytes ready to send.

In:    a FieldSection; names a caller wants left out; the lines of a trailer section.
Out:   header lines each ended by CRLF, remembered in the section, so an equal block is filtered once; trailer lines.
Laws:  1. Hop-by-hop fields and those that Connection nominates never pass (RFC 9110 section 7.6.1), in both
       directions. 2. Connection cannot nominate what the message or the gateway depends on. 3. Framing
       (Content-Length, Transfer-Encoding) never passes: who sends a message frames it. 4. Lines are written anew from
       name and value, never copied. 5. A client cannot speak in the gateway's own fields (Forwarded family,
       X-Vantage-*), nor an origin in X-Vantage-*, nor either in a name that some server takes for one of them
       (`X.Vantage.Tenant`). 6. What had to be known before the body does not pass behind it (RFC 9110 section 6.5.1).
       7. Cookies of Clerk's are no origin's business; all others pass octet for octet.
Not here: fields we add (forwarded, writer, phases.forward, phases.reply).
"""

from __future__ import annotations

from typing import Final

from edge.http.fields import members, tokens
from edge.http.grammar import FIELD_LINE
from edge.http.messages import Field, FieldSection

_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
HOP_BY_HOP: Final = _FRAMING | {
    b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"upgrade",
}  # fmt: skip
# What is said anew on each hop: the target's host, 100-continue (where the client still waits), who came through whom.
# And what would have a framework route by another path than the one we matched, or CGI take it for HTTP_PROXY.
_REWRITTEN: Final = frozenset({
    b"expect", b"forwarded", b"host", b"proxy", b"x-original-url", b"x-real-ip", b"x-rewrite-url",
})  # fmt: skip
# All of X-Forwarded-*: frameworks believe -Prefix, -Scheme, -Ssl and -User from whoever stands before them.
_OURS: Final = (b"x-vantage-",)
_OWN_PREFIXES: Final = (*_OURS, b"x-forwarded-")
# CGI makes a variable of a name by upper-casing it and writing "_" for what is no letter or digit, some servers for
# every such octet: names that only differ there are looked at as one.
_FOLDED: Final = bytes(octet if chr(octet).isalnum() and octet < 128 else 45 for octet in bytes(range(256)).lower())
# Sessions are proved by Authorization; these would hand an origin what it could act in the caller's name with.
_CLERK_COOKIES: Final = (b"__session", b"__client", b"__clerk", b"__refresh")
# Nominating one of these would strip an origin of what it decides by ("hop-by-hop abuse").
ESSENTIAL: Final = frozenset({
    b"accept", b"age", b"authorization", b"cache-control", b"content-encoding", b"content-range", b"content-type",
    b"cookie", b"date", b"etag", b"expires", b"host", b"if-match", b"if-modified-since", b"if-none-match", b"if-range",
    b"if-unmodified-since", b"last-modified", b"location", b"max-forwards", b"origin", b"range", b"set-cookie", b"vary",
    b"via", b"www-authenticate", b"x-api-key", b"x-request-id",
})  # fmt: skip
TE_LINES: Final = b"TE: trailers\r\nConnection: TE\r\n"
"""RFC 9110 section 10.1.4: a sender of TE MUST also send a "TE" connection option."""
# RFC 9110 section 6.5.1: framing, routing, authentication, request modifiers, response controls and content format are
# of no use behind the body, and of harm where a recipient merges them into the header section. ETag may be a trailer
# (section 8.8.3).
_NEVER_BEHIND: Final = (HOP_BY_HOP | _REWRITTEN | ESSENTIAL | {
    b"allow", b"alt-svc", b"clear-site-data", b"content-disposition", b"content-language", b"content-location",
    b"content-security-policy", b"content-security-policy-report-only", b"cookie2", b"early-data", b"from", b"pragma",
    b"referer", b"refresh", b"retry-after", b"set-cookie2", b"strict-transport-security", b"user-agent", b"warning",
    b"x-content-type-options", b"x-frame-options", b"x-http-method", b"x-http-method-override", b"x-method-override",
    # ours on answers
    b"cache-status", b"ratelimit", b"ratelimit-policy", b"x-cache",
}) - {b"etag"}  # fmt: skip
_NEVER_BEHIND_PREFIXES: Final = (
    *_OWN_PREFIXES, b"accept-", b"access-control-", b"if-", b"proxy-", b"sec-", b"x-accel-", b"x-ratelimit-",
)  # fmt: skip


def request_lines(section: FieldSection, drop: frozenset[bytes]) -> bytes:
    """Give a request's end-to-end lines without `drop` (lower-cased names). Host, Expect, the Forwarded family,
    X-Vantage-* and Clerk's cookies are always left out; Via stays, ours is added behind it. Complexity: one look-up
    once remembered.
    """
    key = (b">", drop)
    lines: bytes | None = section.derived.get(key)
    if lines is None:
        fields = _without_clerk(section) if b"cookie" in section.index else section.fields
        lines = _lines(section, fields, drop | HOP_BY_HOP | _REWRITTEN, own=_OWN_PREFIXES)
        section.derived[key] = lines
    return lines


def has_cookies(section: FieldSection) -> bool:
    """Whether a cookie passes on."""
    return b"cookie" in section.index and any(name.lower() == b"cookie" for name, _ in _without_clerk(section))


def _without_clerk(section: FieldSection) -> tuple[Field, ...]:
    """Take Clerk's cookies out of Cookie (RFC 6265 section 4.2.1), and the field where nothing else was in it."""
    if not any(b"__" in value for value in section.index[b"cookie"]):
        return section.fields
    fields = []
    for field in section.fields:
        name, value = field
        if name.lower() == b"cookie":
            pairs = value.split(b";")
            kept = [pair for pair in pairs if not pair.lstrip(b" \t").startswith(_CLERK_COOKIES)]
            if len(kept) != len(pairs):
                rest = b";".join(kept).strip(b" \t")
                if not rest:
                    continue
                field = (name, rest)
        fields.append(field)
    return tuple(fields)


def response_lines(section: FieldSection, drop: frozenset[bytes]) -> bytes:
    """Give a response's end-to-end lines without `drop` (lower-cased names) and X-Vantage-*. Date, where there is one,
    comes first: the writer relies on it to see cheaply whether it must add one.
    """
    key = (b"<", drop)
    lines: bytes | None = section.derived.get(key)
    if lines is None:
        dropped = drop | HOP_BY_HOP | {b"date"}
        dates = () if b"date" in drop else section.index.get(b"date", ())
        date = b"Date: %b\r\n" % dates[0] if dates else b""
        lines = section.derived[key] = date + _lines(section, section.fields, dropped, own=_OURS)
    return lines


def wants_trailers(section: FieldSection) -> bool:
    """Whether TE says that trailers are welcome (RFC 9110 section 10.1.4)."""
    values = section.index.get(b"te")
    return values is not None and b"trailers" in tokens(b",".join(values))


def trailer_line(section: FieldSection) -> bytes:
    """Give the Trailer line that goes on: what is announced and may pass, b"" where that is nothing."""
    dropped = nominated(section)
    names = [name for name in members(b",".join(section.index.get(b"trailer", ()))) if _may_follow(name, dropped)]
    return b"Trailer: %b\r\n" % b", ".join(names) if names else b""


def trailers(section: FieldSection, raw: bytes) -> bytes:
    """Give the lines of a trailer section that pass on. `raw`: its validated lines, each ended by CRLF; `section`: of
    the head before it, whose Connection may nominate some.
    """
    if not raw:
        return b""
    dropped = nominated(section)
    return b"".join([
        b"%b: %b\r\n" % (name, value.rstrip(b" \t"))
        for name, value in FIELD_LINE.findall(raw)
        if _may_follow(name, dropped)
    ])  # fmt: skip


def _may_follow(name: bytes, dropped: frozenset[bytes]) -> bool:
    """Names with "_" may not: who merges trailers into the header section may take them for their look-alikes."""
    if b"_" in name or name.lower() in dropped:
        return False
    folded = name.translate(_FOLDED)
    return folded not in _NEVER_BEHIND and not folded.startswith(_NEVER_BEHIND_PREFIXES)


def nominated(section: FieldSection) -> frozenset[bytes]:
    """Give the names that Connection takes away on this hop, essentials excepted."""
    values = section.index.get(b"connection")
    return tokens(b",".join(values)) - ESSENTIAL if values else frozenset()


def _lines(
    section: FieldSection, fields: tuple[Field, ...], dropped: frozenset[bytes], own: tuple[bytes, ...]
) -> bytes:
    gone = nominated(section)
    return b"".join([
        b"%b: %b\r\n" % (name, value)
        for name, value in fields
        if (folded := name.translate(_FOLDED)) not in dropped
        and not folded.startswith(own)
        and (not gone or name.lower() not in gone)
    ])  # fmt: skip
