"""The grammar of HTTP/1.1 as compiled patterns: RFC 9110, RFC 9112 and what they take from RFC 3986.

In:    bytes.
Out:   patterns and small checks over them; nothing else in the edge spells a character class of HTTP.
Laws:  1. No leniency: CR, LF, NUL and other controls are nowhere allowed; octets above 0x7E only in field values and
       reason phrases (obs-text). 2. Patterns are linear: possessive or over disjoint classes, so no input can make
       them backtrack.
Not here: what a match means (parser, framing, fields).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

# RFC 9110 section 5.6.2: token = 1*tchar
TCHAR: Final = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
# RFC 9110 section 5.5: field-vchar = VCHAR / obs-text, with SP and HTAB inside.
FIELD_CHAR: Final = rb"\t\x20-\x7e\x80-\xff"

TOKEN: Final = re.compile(rb"[" + TCHAR + rb"]++")

# RFC 9112 section 3: method SP request-target SP HTTP-version. "#" is in no request-target (a fragment stays at home).
REQUEST_LINE: Final = re.compile(
    rb"([" + TCHAR + rb"]++) ([\x21\x22\x24-\x7e]++) HTTP/([0-9]\.[0-9])\r\n",
)
# RFC 9112 section 3.2.2: absolute-form = absolute-URI; only ours are served. No userinfo (RFC 9110 section 4.2.4).
ABSOLUTE_FORM: Final = re.compile(rb"([Hh][Tt][Tt][Pp][Ss]?)://([^/?@]++)(/[^?]*+)?(?:\?(.*+))?")

# RFC 9112 section 4. The space after the code is often missing where there is no reason phrase.
STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([" + FIELD_CHAR + rb"]*+))?\r\n")

# RFC 9112 section 5: one line of a field block. Anchored at each line's start, ended by the line's only CRLF, so a
# block is valid exactly when there are as many matches as line feeds. No space before the colon, no line folding.
FIELD_LINE: Final = re.compile(rb"(?m)^([" + TCHAR + rb"]++):[ \t]*+([" + FIELD_CHAR + rb"]*+)\r\n")

# A LF without CR before it, a CR without LF behind it (the last octet may still get its own), or a control.
BAD_OCTET: Final = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", re.DOTALL)

CONTENT_LENGTH: Final = re.compile(rb"[0-9]{1,18}")

# RFC 9112 section 7.1: chunk-size [ chunk-ext ] CRLF
_QUOTED: Final = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_TOKEN: Final = rb"[" + TCHAR + rb"]++"
_EXTENSION: Final = rb"[ \t]*+;[ \t]*+" + _TOKEN + rb"(?:[ \t]*+=[ \t]*+(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
# RFC 9110 section 5.6.6, without the space around "=" that it forbids.
PARAMETER: Final = _TOKEN + rb"=(?:" + _TOKEN + rb"|" + _QUOTED + rb")"
CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*+)")

# RFC 3986 section 3.2.2, without IPvFuture. A zone identifier means something on one machine only.
_REG_NAME: Final = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})++")
_AUTHORITY: Final = re.compile(rb"(\[[0-9A-Fa-f:.]++\]|[^\[\]:@/?#]++)(?::([0-9]{0,5}))?")


def split_authority(value: bytes) -> tuple[bytes, bytes] | None:
    """Take host and port of an authority or Host value apart: host lower-cased, without brackets' content being touched
    and without trailing dot; port digits, empty when none. None when it is malformed or has no host.
    """
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        return None
    host, port = match[1], match[2] or b""
    if port and int(port) > 65535:
        return None
    if host[:1] == b"[":
        try:
            ipaddress.IPv6Address(host[1:-1].decode("ascii"))
        except ValueError:
            return None
        return host.lower(), port
    if _REG_NAME.fullmatch(host) is None:
        return None
    host = host.lower().removesuffix(b".")
    return (host, port) if host else None
