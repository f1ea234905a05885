"""What a shared cache may keep and for how long (RFC 9111): facts of messages, no decision of ours.

In:    field sections of requests and responses, a status, a time.
Out:   directives; why a response is not stored, or its lifetime and initial age in seconds.
Laws:  1. no-store, private, no-cache and Set-Cookie are never overridden. 2. Freshness comes from the route's ttl,
       then s-maxage, max-age, Expires (section 4.2.1). 3. What cannot be read counts as stale (section 4.2.1).
       4. A ttl of the route applies to answers that are safe to keep without the origin's word; all others need it.
Not here: keys, look-up and storing (phases.cache), revalidation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from edge.http.conditional import parse_date
from edge.http.fields import members
from edge.http.messages import FieldSection

DELTA_S_MAX: Final = 2**31
"""RFC 9111 section 1.2.2: larger values are treated as this."""

# By the route's ttl alone: complete answers and permanent redirects. Not 404: what is created would stay missing.
_KEPT_BY_TTL: Final = frozenset({200, 203, 300, 301, 308})
# By the origin's explicit word: final statuses whose meaning does not hang on the request's connection or range.
_KEPT_BY_WORD: Final = _KEPT_BY_TTL | {204, 302, 307, 404, 405, 410, 414, 501}

# What an answer may vary by without being part of the route's key: what browsers negotiate by. Vary on anything else
# (Cookie, User-Agent) has as many variants as there are clients.
NEGOTIATED: Final = frozenset({b"accept", b"accept-encoding", b"accept-language", b"origin"})
_CODINGS: Final = frozenset({b"br", b"deflate", b"gzip", b"identity", b"zstd", b"*"})
_ZERO_Q: Final = re.compile(rb"[Qq]\s*=\s*0(?:\.0{0,3})?")

_DIRECTIVE: Final = re.compile(rb'([^=\s]+)\s*(?:=\s*(?:"([^"]*)"|(\S*)))?')
_DIGITS: Final = re.compile(rb"[0-9]+")

NOTHING: Final[Mapping[bytes, bytes]] = {}


def directives(section: FieldSection) -> Mapping[bytes, bytes]:
    """Give Cache-Control's directives, names lower-cased, of a repeated one the first (RFC 9111 section 4.2.1)."""
    values = section.index.get(b"cache-control")
    if values is None:
        return NOTHING
    found: dict[bytes, bytes] = {}
    for member in [member for value in values for member in members(value)]:  # no quotation mark hides another line
        match = _DIRECTIVE.fullmatch(member)
        if match is not None:
            found.setdefault(match[1].lower(), match[2] if match[2] is not None else match[3] or b"")
    return found


def request_directives(section: FieldSection) -> Mapping[bytes, bytes]:
    """The same of a request; `Pragma: no-cache` counts where there is no Cache-Control (RFC 9111 section 5.4)."""
    found = directives(section)
    if not found and b"pragma" in section.index and b"no-cache" in section.index[b"pragma"]:
        return {b"no-cache": b""}
    return found


def delta_s(value: bytes | None) -> int | None:
    """Read delta-seconds: None when there are none, 0 when they cannot be read."""
    if value is None:
        return None
    return min(int(value), DELTA_S_MAX) if len(value) <= 20 and _DIGITS.fullmatch(value) else 0


def refusal(status: int, section: FieldSection, said: Mapping[bytes, bytes], keyed: frozenset[bytes]) -> str | None:
    """Say why a response must not be stored (RFC 9111 section 3), None when it may.

    `said`: the response's directives. `keyed`: field names whose values are part of the key. That answers to
    authenticated requests are kept apart by principal (section 3.5) is the key's business.
    """
    if status not in _KEPT_BY_WORD:
        return "status"
    for name in (b"no-store", b"private", b"no-cache"):
        if name in said:
            return name.decode("ascii")
    if b"set-cookie" in section.index:
        return "set-cookie"
    if not NEGOTIATED.issuperset(varies_by(section, keyed)):
        return "vary"
    return None


def varies_by(section: FieldSection, keyed: frozenset[bytes]) -> tuple[bytes, ...]:
    """Give what a response varies by beyond the key, sorted; `*` is a name like any other, and nobody's."""
    vary = section.index.get(b"vary")
    if vary is None:
        return ()
    return tuple(sorted({name.lower() for name in members(b",".join(vary))} - keyed))


def variant_value(section: FieldSection, name: bytes) -> tuple[bytes, ...]:
    """Give what a request says in a negotiated field. Of Accept-Encoding the set of known codings counts: any answer
    made for one client of the set is acceptable to all (RFC 9110 section 12.5.3), and sets are few.
    """
    values = section.index.get(name, ())
    if name != b"accept-encoding" or not values:
        return values
    accepted = set()
    for member in members(b",".join(values)):
        coding, _, weight = member.partition(b";")
        coding = coding.strip(b" \t").lower()
        if coding in _CODINGS and not _ZERO_Q.fullmatch(weight.strip(b" \t")):
            accepted.add(coding)
    return (b",".join(sorted(accepted)),)


def freshness(
    status: int, section: FieldSection, said: Mapping[bytes, bytes], ttl_s: int, now: float
) -> tuple[float, float]:
    """Give (lifetime, initial age) in seconds; a lifetime of 0 where nobody grants one. `ttl_s` 0: only the origin's
    word. A ttl of the route counts from now, whatever age the answer already has.
    """
    age_s = _initial_age_s(section, now)
    if ttl_s and status in _KEPT_BY_TTL:
        return ttl_s + age_s, age_s
    for name in (b"s-maxage", b"max-age"):
        seconds = delta_s(said.get(name))
        if seconds is not None:
            return float(seconds), age_s
    expires = section.index.get(b"expires")
    if expires is None:
        return 0.0, age_s
    expires_at = parse_date(expires[0])
    if expires_at is None:  # section 5.3: an invalid date, "0" above all, is in the past
        return 0.0, age_s
    return float(max(0.0, expires_at - _date(section, now))), age_s


def _initial_age_s(section: FieldSection, now: float) -> float:
    """The larger of Age and what Date tells (RFC 9111 section 4.2.3).

    The response delay is left out: it is bounded by the route's timeouts and would need a second clock.
    """
    apparent = max(0.0, now - _date(section, now))
    values = section.index.get(b"age")
    told = delta_s(values[0]) if values is not None else 0
    return max(apparent, float(told or 0))


def _date(section: FieldSection, now: float) -> float:
    values = section.index.get(b"date")
    date_at = parse_date(values[0]) if values is not None else None
    return now if date_at is None else date_at
