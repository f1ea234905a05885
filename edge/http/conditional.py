"""Preconditions: whether what the client holds is what we hold (RFC 9110 section 13), and how dates are read.

In:    a request's field section; the header lines of a stored answer.
Out:   whether 304 is the answer; the lines a 304 carries; seconds since 1970 of an HTTP-date.
Laws:  1. If-None-Match makes If-Modified-Since void (section 13.1.3). 2. If-None-Match compares weakly (section
       13.1.2). 3. A date that cannot be read makes its field void.
Not here: If-Match, If-Unmodified-Since, If-Range: what carries them goes to the origin.
"""

from __future__ import annotations

import re
from typing import Final

from edge.http.fields import members
from edge.http.messages import FieldSection

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"), 1
    )
}
_TIME: Final = rb"([0-2][0-9]):([0-5][0-9]):([0-6][0-9])"
# RFC 9110 section 5.6.7: IMF-fixdate, and the two obsolete forms a recipient MUST accept.
_IMF: Final = re.compile(rb"[A-Z][a-z]{2}, ([0-3][0-9]) ([A-Z][a-z]{2}) ([0-9]{4}) " + _TIME + rb" GMT")
_RFC850: Final = re.compile(rb"[A-Z][a-z]{5,8}, ([0-3][0-9])-([A-Z][a-z]{2})-([0-9]{2}) " + _TIME + rb" GMT")
_ASCTIME: Final = re.compile(rb"[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ 0-3][0-9]) " + _TIME + rb" ([0-9]{4})")

# RFC 9110 section 15.4.5: what a 304 says of the representation it stands for, besides our own fields.
_DESCRIBES_CONTENT: Final = re.compile(
    rb"(?i)^(?:Content-(?:Type|Encoding|Language|Range)|Last-Modified):[^\n]*\n", re.MULTILINE
)


def parse_date(value: bytes) -> int | None:
    """Give an HTTP-date's seconds since 1970, None when it is not one.

    RFC 9110 section 5.6.7: a two-digit year that seems to be more than 50 years ahead is in the past century; without a
    clock here, 70 to 99 are 19xx.
    """
    found = _IMF.fullmatch(value)
    if found is not None:
        return _seconds(int(found[3]), found[2], int(found[1]), found.groups()[3:])
    found = _RFC850.fullmatch(value)
    if found is not None:
        year = int(found[3])
        return _seconds(year + (1900 if year >= 70 else 2000), found[2], int(found[1]), found.groups()[3:])
    found = _ASCTIME.fullmatch(value)
    if found is not None:
        return _seconds(int(found[6]), found[1], int(found[2]), found.groups()[2:5])
    return None


def _seconds(year: int, month_name: bytes, day: int, time: tuple[bytes, ...]) -> int | None:
    month = _MONTHS.get(month_name)
    hour, minute, second = (int(part) for part in time)
    if month is None or not 1 <= day <= 31 or hour > 23:
        return None
    shifted_year = year - (month <= 2)  # years start in March, so that the leap day comes last
    era, year_of_era = divmod(shifted_year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    days = era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468
    return days * 86_400 + hour * 3_600 + minute * 60 + second


def is_conditional(section: FieldSection) -> bool:
    return b"if-none-match" in section.index or b"if-modified-since" in section.index


def not_modified(section: FieldSection, lines: bytes) -> bool:
    """Decide whether GET or HEAD is answered by 304, given the lines of the 200 that would be sent instead."""
    wanted = section.index.get(b"if-none-match")
    if wanted is not None:
        listed = members(b",".join(wanted))
        if listed == [b"*"]:
            return True
        etag = line_value(lines, b"ETag")
        return etag is not None and _opaque(etag) in {_opaque(item) for item in listed}
    since = section.index.get(b"if-modified-since")
    modified = line_value(lines, b"Last-Modified")
    if since is None or len(since) != 1 or modified is None:
        return False
    since_at, modified_at = parse_date(since[0]), parse_date(modified)
    return since_at is not None and modified_at is not None and modified_at <= since_at


def _opaque(etag: bytes) -> bytes:
    return etag.removeprefix(b"W/")


def line_value(lines: bytes, name: bytes) -> bytes | None:
    """Give the first value of a field among lines each ended by CRLF; names compare without case."""
    prefix = name.lower() + b":"
    for line in lines.split(b"\r\n"):
        if line[: len(prefix)].lower() == prefix:
            return line[len(prefix) :].strip(b" \t")
    return None


def not_modified_lines(lines: bytes) -> bytes:
    """Leave out what describes content that a 304 does not have."""
    return _DESCRIBES_CONTENT.sub(b"", lines)
