"""Where h11 and httptools (llhttp) read other things than we do, and why: the table, and the question to it.

A difference is explained when a row of its kind has a pattern that is found in the bytes. Rows are about kinds of
bytes, not about cases, so they hold for generated inputs too; each must be needed for a record of the corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.edge.http.readings import (
    Fields,
    Reading,
    h11_request,
    h11_response,
    httptools_request,
    httptools_response,
    our_request,
    our_response,
)


class Row(NamedTuple):
    """`of`: "request", "response" or "both". `kind`: "takes" (it accepts what we do not, for our reason `slug`),
    "refuses" (it does not accept what we do) or "reads PART" (both accept). `pattern`: looked for in the head, for the
    slug "body" behind it. "body by head": a body is refused, and the head shows why they do not.
    """

    of: str
    oracle: str
    kind: str
    slug: str
    pattern: bytes
    why: str


_BOUNDS = "has other bounds, or none"
_TARGETS = "does not read targets"
_HOST = "does not read the host, and needs one only now and then"
_LF = "ends lines at a bare LF, as RFC 9112 section 2.2 lets it"
_FOLD = "unfolds, as RFC 9112 section 5.2 lets it"
_CONTROLS = "takes some controls in field values"
_CODED_1_0 = "reads chunks in HTTP/1.0"
_DIGITS = "counts the value of a number, or more digits than we take"
_EXTENSIONS = "does not check all of chunk extensions"
_CODINGS = "passes other codings on, and looks at the last one only"
_BOTH = "prefers chunked to a length, as RFC 9112 section 6.3 lets it"
_REPEATS = "joins equal lengths, as RFC 9110 section 8.6 lets it"
_BLANK_SIZE = "takes blanks behind a chunk's size"
_BWS = "does not take the blanks before a chunk extension that RFC 9112 section 7.1.1 says must be parsed"
_UPGRADE = "hands all behind an upgrade's head over, a body too"
_TRAILERS = "judges framing fields in trailers; we drop all trailers"

_LLHTTP_METHODS = (
    b"DELETE|GET|HEAD|POST|PUT|CONNECT|OPTIONS|TRACE|COPY|LOCK|MKCOL|MOVE|PROPFIND|PROPPATCH|SEARCH|UNLOCK|BIND|REBIND|"
    b"UNBIND|ACL|REPORT|MKACTIVITY|CHECKOUT|MERGE|M-SEARCH|NOTIFY|SUBSCRIBE|UNSUBSCRIBE|PATCH|PURGE|MKCALENDAR|LINK|"
    b"UNLINK|SOURCE|QUERY"
)
_ONE_BOTH = rb"(?is)\A(?=.*\ncontent-length:).*\ntransfer-encoding:"
_TWO_LENGTHS = rb"(?is)\ncontent-length:(?:[^\n]*,|.*\ncontent-length:)"
_TWO_CODINGS = rb"(?is)\ntransfer-encoding:(?:[^\n]*,|.*\ntransfer-encoding:)"
_LONG_LENGTH = rb"(?i)\ncontent-length:[ \t]*[0-9]{19,}[ \t]*[\r\n]"
_BARE_LF = rb"(?<!\r)\n"
_FOLDED = rb"\n[ \t]"
_LONG_SIZE = rb"(?:\A|\n)[0-9A-Fa-f]{17,}[;\r \t]"
_UPGRADE_CODED = rb"(?is)\A(?=.*\nupgrade:).*\ntransfer-encoding:"
_LARGE = rb"(?s).{8192}|[^\n]{513}"

TABLE: list[Row] = [
    # What we refuse because we must serve many hosts with bounds, and speak one protocol
    Row("request", "h11", "takes", "host-invalid", b"", _HOST),
    Row("request", "httptools", "takes", "host-invalid", b"", _HOST),
    Row("request", "h11", "takes", "expectation-failed", b"", "leaves expectations to the server"),
    Row("request", "httptools", "takes", "expectation-failed", b"", "leaves expectations to the server"),
    Row("request", "h11", "takes", "method-unsupported", b"", "valid; we do not support it"),
    Row("request", "httptools", "takes", "method-unsupported", b"", "valid; we do not support it"),
    Row("request", "h11", "takes", "version-unsupported", b"", "leaves versions to the server"),
    Row("request", "httptools", "takes", "version-unsupported", rb"HTTP/(?:0\.9|2\.0)", "takes 0.9 and 2.0"),
    Row("request", "h11", "takes", "target-too-long", b"", _BOUNDS),
    Row("request", "httptools", "takes", "target-too-long", b"", _BOUNDS),
    Row("request", "h11", "takes", "head-too-large", b"", _BOUNDS),
    Row("request", "httptools", "takes", "head-too-large", b"", _BOUNDS),
    # What is no request to us
    Row("request", "h11", "takes", "request-malformed", rb"\A[^ ]{64}", _BOUNDS),
    Row("request", "h11", "takes", "request-malformed", _BARE_LF, _LF),
    Row("request", "h11", "takes", "request-malformed", _FOLDED, _FOLD),
    Row("request", "h11", "takes", "request-malformed", rb"[\x01-\x08\x0e-\x1f\x7f]", _CONTROLS),
    Row("request", "h11", "takes", "request-malformed", rb"\A[^ ]+ (?:[^/]|[^ ]*#)", _TARGETS),
    Row("request", "h11", "takes", "request-malformed", _ONE_BOTH, _BOTH),
    Row("request", "h11", "takes", "request-malformed", _TWO_LENGTHS, _REPEATS),
    Row("request", "h11", "takes", "request-malformed", _LONG_LENGTH, _DIGITS),
    Row("request", "h11", "takes", "request-malformed", rb"(?is)HTTP/1\.0\r.*\ntransfer-encoding:", _CODED_1_0),
    Row("request", "httptools", "takes", "request-malformed", rb"\A[\r\n]", "skips any line ends first"),
    Row("request", "httptools", "takes", "request-malformed", rb"\A[^\r\n]+  ", "skips blanks in the request line"),
    Row("request", "httptools", "takes", "request-malformed", rb"\A[A-Z-]+ +[^ \r\n]+[ ]*\r?\n", "speaks 0.9"),
    Row("request", "httptools", "takes", "request-malformed", rb" (?:RTSP|ICE)/", "speaks other protocols"),
    Row("request", "httptools", "takes", "request-malformed", rb"\A[^ ]+ (?:[^/]|[^ ]*#)", _TARGETS),
    Row("request", "httptools", "takes", "request-malformed", _TWO_CODINGS, _CODINGS),
    Row("request", "httptools", "takes", "request-malformed", _LONG_LENGTH, _DIGITS),
    Row("request", "httptools", "takes", "request-malformed", rb"(?is)HTTP/1\.0\r.*\ntransfer-encoding:", _CODED_1_0),
    # What is no body to us
    Row("both", "h11", "takes", "body", _LONG_SIZE, _DIGITS),
    Row("both", "h11", "takes", "body", rb"(?:\A|\n)[0-9A-Fa-f]+[ \t]+\r", _BLANK_SIZE),
    Row("both", "h11", "takes", "body", rb";", _EXTENSIONS),
    Row("both", "h11", "takes", "body", _BARE_LF, _LF),
    Row("both", "h11", "takes", "body", rb"\n[^\n:]+:[^\n]*[\x01-\x08\x0e-\x1f\x7f]", _CONTROLS),
    Row("both", "h11", "takes", "body", _FOLDED, _FOLD),
    Row("both", "h11", "takes", "body", _LARGE, _BOUNDS),
    Row("both", "httptools", "takes", "body", _LONG_SIZE, _DIGITS),
    Row("both", "httptools", "takes", "body", rb";[^\n]*(?:[;=]|\r)", _EXTENSIONS),
    Row("both", "httptools", "takes", "body", _LARGE, _BOUNDS),
    Row("request", "httptools", "takes", "request-malformed", _UPGRADE_CODED, _UPGRADE),
    Row("request", "httptools", "takes", "wait", rb"(?i)\nupgrade:", _UPGRADE),
    Row("request", "httptools", "takes", "body by head", rb"(?i)\nupgrade:", _UPGRADE),
    # What they do not take
    Row("request", "h11", "refuses", "", rb"\A\r\n", "skips no empty line, against the SHOULD of RFC 9112 section 2.2"),
    Row("both", "h11", "refuses", "body", rb"(?:\A|\n)[0-9A-Fa-f]+[ \t]+;", _BWS),
    Row("both", "h11", "refuses", "body", rb"(?i)\n(?:content-length|transfer-encoding):", _TRAILERS),
    Row(
        "request",
        "httptools",
        "refuses",
        "",
        rb"\A(?:\r\n)?(?!(?:" + _LLHTTP_METHODS + rb") )",
        "knows its list of methods only",
    ),
    Row(
        "both",
        "httptools",
        "refuses",
        "",
        rb"(?i)\ntransfer-encoding:[^\n]*[ \t]\r",
        "takes no blank behind chunked",
    ),
    Row("both", "httptools", "refuses", "body", rb"(?:\A|\n)[0-9A-Fa-f]+[ \t]+;|;[^\n]*[ \t]", _BWS),
    Row("both", "httptools", "refuses", "body", rb"(?i)\n(?:content-length|transfer-encoding):", _TRAILERS),
    # What both take and read differently: nothing of a message's parts
    Row("both", "h11", "reads behind", "body", rb"(?i)\n(?:content-length|transfer-encoding):", _TRAILERS),
    Row(
        "request",
        "httptools",
        "reads keep_alive",
        "",
        rb"(?i)HTTP/1\.0\r",
        "keeps HTTP/1.0 that says keep-alive and close",
    ),
    Row(
        "request",
        "httptools",
        "reads keep_alive",
        "",
        rb"(?i)\nproxy-connection:",
        "takes Proxy-Connection for Connection",
    ),
    Row("request", "httptools", "reads body", "", rb"(?i)\nupgrade:", _UPGRADE),
    Row("request", "httptools", "reads left", "", rb"(?i)\nupgrade:", _UPGRADE),
    Row("request", "httptools", "reads behind", "", rb"(?i)\nupgrade:", _UPGRADE),
    # Responses
    Row("response", "h11", "takes", "origin-invalid-response", _BARE_LF, _LF),
    Row("response", "h11", "takes", "origin-invalid-response", _FOLDED, _FOLD),
    Row("response", "h11", "takes", "origin-invalid-response", rb"[\x01-\x08\x0e-\x1f\x7f]", _CONTROLS),
    Row("response", "h11", "takes", "origin-invalid-response", _ONE_BOTH, _BOTH),
    Row("response", "h11", "takes", "origin-invalid-response", _TWO_LENGTHS, _REPEATS),
    Row("response", "h11", "takes", "origin-invalid-response", rb"(?is)\AHTTP/1\.0.*\ntransfer-encoding:", _CODED_1_0),
    Row("response", "h11", "takes", "origin-invalid-response", rb"\AHTTP/(?!1\.[01])", "leaves versions to the client"),
    Row("response", "h11", "takes", "origin-invalid-response", rb"\AHTTP/... [6-9]", "takes status codes up to 999"),
    Row("response", "h11", "takes", "origin-invalid-response", rb"\AHTTP/... 1[^?]*", "reads no framing in 1xx"),
    Row("response", "h11", "takes", "origin-invalid-response", rb"(?s).{65537}|(?:[^\n]*\n){201}", _BOUNDS),
    Row("response", "h11", "refuses", "", rb"\AHTTP/... 101", "has not asked for an upgrade"),
    Row("response", "httptools", "takes", "origin-invalid-response", _TWO_CODINGS, _CODINGS),
    Row(
        "response",
        "httptools",
        "takes",
        "origin-invalid-response",
        rb"(?is)\AHTTP/1\.0.*\ntransfer-encoding:",
        _CODED_1_0,
    ),
    Row("response", "httptools", "takes", "origin-invalid-response", rb"\AHTTP/... 1", "reads no framing in 1xx"),
    Row(
        "response",
        "httptools",
        "takes",
        "origin-invalid-response",
        rb"(?is)\AHTTP/... (?:204|304).*\ntransfer-encoding:",
        "reads no framing in 204 and 304",
    ),
    Row("response", "httptools", "takes", "origin-invalid-response", rb"\AHTTP/... [06-9]", "takes any three digits"),
    Row(
        "response",
        "httptools",
        "takes",
        "origin-invalid-response",
        rb"\A[^\r\n]*[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]",
        _CONTROLS,
    ),
    Row("response", "httptools", "takes", "origin-invalid-response", rb"\A[\r\n]", "skips any line ends first"),
    Row("response", "httptools", "takes", "origin-invalid-response", rb"\AHTTP/(?:0\.9|2\.0)", "takes 0.9 and 2.0"),
    Row("response", "httptools", "takes", "origin-invalid-response", rb"(?s).{65537}|(?:[^\n]*\n){201}", _BOUNDS),
    Row(
        "response",
        "httptools",
        "reads keep_alive",
        "",
        rb"\AHTTP/1\.0",
        "keeps HTTP/1.0 that says keep-alive and close",
    ),
    Row(
        "response",
        "httptools",
        "reads keep_alive",
        "",
        rb"\AHTTP/... 204",
        "trusts a 204 that announces a body",
    ),
]

_PATTERNS = {row: re.compile(row.pattern) for row in TABLE}
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_PARTS = ("start", "fields", "body", "behind", "left", "keep_alive")


class Difference(NamedTuple):
    of: str
    oracle: str
    kind: str
    slug: str
    rows: tuple[Row, ...]
    """What explains it; empty: nothing does."""
    ours: Reading
    theirs: Reading


def of_request(raw: bytes) -> Iterator[Difference]:
    ours = our_request(raw)
    used = len(raw) - len(ours.left) if ours.verdict == "accept" else None
    yield from _compared("request", "h11", raw, ours, h11_request(raw))
    yield from _compared("request", "httptools", raw, ours, httptools_request(raw, used))


def of_response(raw: bytes, method: bytes = b"GET", closed: bool = False) -> Iterator[Difference]:
    """httptools cannot be told of a HEAD, so it is not asked then."""
    ours = our_response(raw, method, closed)
    used = len(raw) - len(ours.left) if ours.verdict == "accept" else None
    yield from _compared("response", "h11", raw, ours, h11_response(raw, method, closed))
    if method != b"HEAD":
        yield from _compared("response", "httptools", raw, ours, httptools_response(raw, closed, used))


def _compared(of: str, oracle: str, raw: bytes, ours: Reading, theirs: Reading) -> Iterator[Difference]:
    accept, accepts = ours.verdict == "accept", theirs.verdict == "accept"
    if accepts and not accept:
        yield _explained(of, oracle, "takes", ours.slug or ours.verdict, raw, ours, theirs)
    elif accept and not accepts:
        yield _explained(of, oracle, "refuses", "", raw, ours, theirs)
    elif accept and accepts:
        for part in _PARTS:
            if not _equal(of, part, ours, theirs):
                yield _explained(of, oracle, f"reads {part}", "", raw, ours, theirs)


def _equal(of: str, part: str, ours: Reading, theirs: Reading) -> bool:
    mine, its = getattr(ours, part), getattr(theirs, part)
    if part == "fields":
        return _comparable(mine, of) == _comparable(its, of)
    return its is None or mine == its


def _comparable(fields: Fields, of: str) -> Fields:
    """h11 lower-cases codings; and of requests we see no names with "_"."""
    return tuple(
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in fields
        if of == "response" or b"_" not in name
    )


def _explained(of: str, oracle: str, kind: str, slug: str, raw: bytes, ours: Reading, theirs: Reading) -> Difference:
    start = 2 if raw.startswith(b"\r\n") else 0  # the empty line that may stand first ends no head
    end = _HEAD_END.search(raw, start)
    head, body = (raw[: end.end()], raw[end.end() :]) if end else (raw, b"")
    rows = tuple(
        row
        for row in TABLE
        if row.of in (of, "both")
        and row[1:3] == (oracle, kind)
        and (row.slug == slug or row.slug == slug + " by head" or (kind != "takes" and row.slug == "body"))
        and _PATTERNS[row].search(body if row.slug == "body" else head)
    )
    return Difference(of, oracle, kind, slug, rows, ours, theirs)
