"""Values of fields as the RFCs write them: comma lists, quoted strings, dates.

In:    field values as bytes; seconds since 1970.
Out:   members, quoted values, IMF-fixdate.
Laws:  1. Pure functions of their arguments. 2. A comma inside a quoted string does not end a member.
Not here: which fields are lists (the callers know), structured fields that only phases write.
"""

from __future__ import annotations

import re
from typing import Final

from edge.http.grammar import TOKEN

_MEMBER: Final = re.compile(rb'((?:[^",]|"(?:[^"\\]|\\.)*+(?:"|$))*+)(?:,|$)', re.DOTALL)
_DAYS: Final = (b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed")
_MONTHS: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


def members(value: bytes) -> list[bytes]:
    """Split a list-based field (RFC 9110 section 5.6.1); empty members are ignored as the section asks."""
    if b'"' not in value:
        return [item for item in (part.strip(b" \t") for part in value.split(b",")) if item]
    return [item for item in (part.strip(b" \t") for part in _MEMBER.findall(value)) if item]


def tokens(value: bytes) -> frozenset[bytes]:
    """Give the lower-cased members of a list of tokens, such as Connection.

    No token has a quote (RFC 9110 section 5.6.2), so a stray one hides no comma and nothing behind it.
    """
    return frozenset(item for item in (part.strip(b" \t") for part in value.lower().split(b",")) if item)


def token_or_quoted(value: bytes) -> bytes:
    """Write a parameter's value: as a token where it is one, else quoted (RFC 9110 section 5.6.4)."""
    if TOKEN.fullmatch(value):
        return value
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def http_date(seconds: float) -> bytes:
    """Write IMF-fixdate (RFC 9110 section 5.6.7): b"Sun, 06 Nov 1994 08:49:37 GMT"."""
    days, second = divmod(int(seconds), 86_400)
    year, month, day = _civil(days)
    return b"%s, %02d %s %04d %02d:%02d:%02d GMT" % (
        _DAYS[days % 7], day, _MONTHS[month - 1], year, second // 3600, second // 60 % 60, second % 60,
    )  # fmt: skip


def _civil(days: int) -> tuple[int, int, int]:
    """Turn days since 1970-01-01 into (year, month, day): years start in March here, so the leap day comes last."""
    days += 719_468
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + era * 400 + (month <= 2), month, day
