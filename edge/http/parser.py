"""From the bytes of a connection to a validated head: requests from clients, responses from origins.

In:    what has arrived so far; a memo of header blocks seen before; limits.
Out:   (head, octets consumed), or None while the head is incomplete.
Laws:  1. No leniency (RFC 9112): what two parsers could read differently is refused, and the connection ends. 2. A
       head means the same however it was cut into reads. 3. Framing is decided here, once. 4. A block of fields is
       validated once: its exact bytes are the key under which section and facts are remembered. Nothing that depends
       on the time or the request line is remembered. 5. Request fields with "_" in the name are not seen by anybody:
       origins (CGI, WSGI) would take them for their look-alikes with "-".
Not here: what may pass on (headers), bodies (framing), which bytes to read (edge.net).

Longer than 400 lines because requests and responses share their blocks, their memo and their reasons for refusal.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, NoReturn

from edge.errors import GatewayError, Retry, Source
from edge.http.fields import tokens
from edge.http.grammar import (
    ABSOLUTE_FORM,
    BAD_OCTET,
    CONTENT_LENGTH,
    FIELD_LINE,
    REQUEST_LINE,
    STATUS_LINE,
    split_authority,
)
from edge.http.messages import Field, FieldSection, RequestHead, ResponseHead
from edge.settings import Limits

RESPONSE_HEAD_BYTES_MAX: Final = 65_536
_RESPONSE_FIELDS_MAX: Final = 200
_REMEMBERED_BYTES_MAX: Final = 8_192
_METHOD_BYTES_MAX: Final = 64
_NONE: Final[tuple[bytes, ...]] = ()


class Facts(NamedTuple):
    """What a field section says about its request, whatever the request line. `host` is b"" when there is no Host."""

    section: FieldSection
    host: bytes
    port: bytes
    content_length: int | None
    chunked: bool
    says_close: bool
    says_keep_alive: bool
    expects_continue: bool
    unknown_expectation: bool


class Memo:
    """Values by exact bytes. Two generations stand in for an order of use: what is asked for moves to the young one;
    when that is full the old one is forgotten. Holds at most twice `entries_max` keys and `bytes_max` octets of them.
    """

    __slots__ = ("_bytes", "_bytes_max", "_entries_max", "_old", "young")

    def __init__(self, entries_max: int, bytes_max: int) -> None:
        self.young: dict[bytes, Any] = {}
        """For reading only: a hit here needs nothing else, so the hottest callers look before they call `get`."""
        self._old: dict[bytes, Any] = {}
        self._bytes = 0
        self._entries_max = entries_max
        self._bytes_max = bytes_max

    def get(self, key: bytes) -> Any:
        known = self.young.get(key)
        if known is None:
            known = self._old.get(key)
            if known is not None:
                self.keep(key, known)
        return known

    def keep(self, key: bytes, known: object) -> None:
        if len(key) > _REMEMBERED_BYTES_MAX:
            return
        self._bytes += len(key)
        if self._bytes > self._bytes_max or len(self.young) >= self._entries_max:
            self._old = self.young
            self.young = {}
            self._bytes = len(key)
        self.young[key] = known

    def __len__(self) -> int:
        return len(self.young) + len(self._old)


class SectionMemo(Memo):
    """Header blocks seen lately and, apart from them, whole heads: a stream of new URLs must not push the blocks out.

    One memo serves requests under one set of limits, or responses.
    """

    __slots__ = ("heads",)

    def __init__(self, entries_max: int = 2_048, bytes_max: int = 1_048_576) -> None:
        super().__init__(entries_max, bytes_max)
        self.heads = Memo(entries_max, bytes_max)

    def __repr__(self) -> str:
        return f"<SectionMemo {len(self)} blocks, {len(self.heads)} heads>"


def parse_request_head(buffer: bytes, sections: SectionMemo, limits: Limits) -> tuple[RequestHead, int] | None:
    """Parse a request head at the start of `buffer`. Complexity: a search, one match and one look-up once remembered.

    Raises GatewayError (close=True) with the problem the client is told. A head may be shared by equal requests.
    Longer than 50 lines because this is the hottest function of the edge and each call would cost more than it says.
    """
    if buffer.endswith(b"\r\n\r\n"):  # most reads bring exactly one head, and most heads were seen before
        same: RequestHead | None = sections.heads.young.get(buffer)
        if same is not None:
            return same, len(buffer)
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        _incomplete_request(buffer, limits)
        return None
    raw = buffer[: end + 4]
    head: RequestHead | None = sections.heads.get(raw)
    if head is not None:
        return head, end + 4
    match = REQUEST_LINE.match(buffer)
    if match is None:
        return _after_empty_line(buffer, sections, limits)
    line_end = match.end()
    if line_end - 2 > limits.request_line_bytes_max:
        _refuse_long(buffer, limits)
    method, target, version = match.groups()
    if version == b"1.1":
        number = 11
    elif version == b"1.0":
        number = 10
    else:
        _refuse_version()
    if method in _UNSUPPORTED:
        _refuse_method()
    if end + 4 > limits.head_bytes_max:
        _refuse_large(buffer, limits)
    block = buffer[line_end : end + 2]
    facts = sections.get(block)
    known = facts is not None
    if facts is None:
        facts = _request_facts(block, limits)
        sections.keep(block, facts)
    section, host, _, length, chunked, says_close, says_keep_alive, expects_continue, unknown = facts
    keep_alive = not says_close
    if number == 10:
        if chunked:  # RFC 9112 section 6.1: framing is faulty, even if it is understood
            _refuse("Transfer-Encoding is not part of HTTP/1.0.")
        keep_alive = says_keep_alive and keep_alive
        expects_continue = unknown = False  # RFC 9110 section 10.1.1: MUST ignore in an HTTP/1.0 request
    if unknown:
        _refuse("Only the expectation 100-continue is known.", "expectation-failed")
    if target[0] == 0x2F:  # "/"
        path, mark, question = target.partition(b"?")
        query = question if mark else None
        if not host:
            _refuse("The Host field is missing.", "host-invalid")
    else:
        host, path, query = _other_form(method, target, facts, number)
    head = RequestHead(
        method, target, path, query, number, section, host, length, chunked, keep_alive, expects_continue
    )  # fmt: skip
    if known:  # a block that never comes again makes no head that comes again
        sections.heads.keep(raw, head)
    return head, end + 4


_UNSUPPORTED: Final = frozenset({b"CONNECT", b"TRACE"})
_VERSIONS: Final = frozenset({b"1.0", b"1.1"})


def parse_response_head(buffer: bytes, request_method: bytes, sections: SectionMemo) -> tuple[ResponseHead, int] | None:
    """Parse a response head at the start of `buffer`; 1xx are responses too.

    Raises GatewayError(origin-invalid-response).
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        _incomplete_response(buffer)
        return None
    raw = buffer[: end + 4]
    key = raw if request_method != b"HEAD" else raw + b"HEAD"  # behind its end: no head that came looks like that
    heads = sections.heads
    head: ResponseHead | None = heads.young.get(key) or heads.get(key)
    if head is None:
        head = _response_head(raw, request_method)
        heads.keep(key, head)
    return head, end + 4


def _response_head(raw: bytes, request_method: bytes) -> ResponseHead:
    match = STATUS_LINE.match(raw)
    if match is None:
        _refuse_response("its status line is malformed")
    if len(raw) > RESPONSE_HEAD_BYTES_MAX:
        _refuse_response("its header section is too large")
    minor, code, reason = match.groups()
    section, announced, chunked, says = _response_section(raw[match.end() : -2])
    status = int(code)
    keep_alive = b"close" not in says
    if minor == b"0":
        keep_alive = keep_alive and b"keep-alive" in says
        if chunked:
            _refuse_response("it has Transfer-Encoding in HTTP/1.0")
    length = announced
    if status < 200 or status == 204:
        if chunked or announced:  # RFC 9110 section 8.6, RFC 9112 section 6.1: MUST NOT send; some read a body here
            if status < 200:
                _refuse_response("it is interim and announces a body")
            keep_alive = False
        length, chunked = 0, False
    elif request_method == b"HEAD" or status == 304:  # RFC 9112 section 6.3, rule 1
        length, chunked = 0, False
    elif length is None and not chunked:
        keep_alive = False
    version = 10 if minor == b"0" else 11
    return ResponseHead(status, reason or b"", version, section, length, chunked, keep_alive, announced)


def parse_trailers(block: bytes) -> bool:
    """Whether the lines of a trailer section (without the empty line) are valid."""
    return len(FIELD_LINE.findall(block)) == block.count(b"\n") and not _ends_inside(block)


def _ends_inside(block: bytes) -> bool:
    return bool(block) and not block.endswith(b"\r\n")


def _refuse(detail: str, slug: str = "request-malformed") -> NoReturn:
    raise GatewayError(slug, detail, source=Source.DOWNSTREAM, close=True)


def _refuse_version() -> NoReturn:
    _refuse("Only HTTP/1.1 and HTTP/1.0 are spoken here.", "version-unsupported")


def _refuse_method() -> NoReturn:
    _refuse("The method is not supported.", "method-unsupported")


def _refuse_long(line: bytes, limits: Limits) -> NoReturn:
    """RFC 9112 section 3: 414 is about the target; a method without end is no request line at all. What was wrong
    before the line grew too long is what a reader in small pieces was told."""
    if b" " in line[:_METHOD_BYTES_MAX] and not _surely_bad(line[: limits.request_line_bytes_max]):
        _refuse("The request line is too long.", "target-too-long")
    _refuse("The request line is malformed.")


def _refuse_large(head: bytes, limits: Limits) -> NoReturn:
    within = head[: limits.head_bytes_max]
    if _surely_bad(within):
        _refuse(_why_malformed(within))
    _refuse("The header section is too large.", "head-too-large")


def _refuse_response(internal: str) -> NoReturn:
    raise GatewayError(
        "origin-invalid-response", "The origin's response is not valid HTTP.", internal=internal,
        source=Source.UPSTREAM, retry=Retry.IF_IDEMPOTENT, proxy_error="http_protocol_error",
    )  # fmt: skip


def _after_empty_line(buffer: bytes, sections: SectionMemo, limits: Limits) -> tuple[RequestHead, int] | None:
    """RFC 9112 section 2.2: a server SHOULD ignore at least one empty line before the request-line."""
    if buffer[:2] == b"\r\n" and buffer[2:4] != b"\r\n":
        parsed = parse_request_head(buffer[2:], sections, limits)
        return None if parsed is None else (parsed[0], parsed[1] + 2)
    line, _, _ = buffer.partition(b"\r\n")
    if len(line) > limits.request_line_bytes_max:
        _refuse_long(line, limits)
    _refuse("The request line is malformed.")


def _incomplete_request(buffer: bytes, limits: Limits) -> None:
    """Refuse early what can never become a request, so that nobody waits for a timeout.

    Law 2 binds refusals too: the request line is judged before the fields, what came first before what came later.
    """
    if buffer[:2] == b"\r\n":
        buffer = buffer[2:]  # the empty line counts for no limit, as in a complete head
    line_end = buffer.find(b"\r\n")
    # The last octet may be the CR of a line that is just not too long.
    if (line_end if line_end >= 0 else len(buffer.removesuffix(b"\r"))) > limits.request_line_bytes_max:
        _refuse_long(buffer, limits)
    if line_end >= 0:
        match = REQUEST_LINE.match(buffer)
        if match is None:
            _refuse("The request line is malformed.")
        if match[3] not in _VERSIONS:
            _refuse_version()
        if match[1] in _UNSUPPORTED:
            _refuse_method()
    if len(buffer) > limits.head_bytes_max:
        _refuse_large(buffer, limits)
    if _surely_bad(buffer):
        _refuse(_why_malformed(buffer))


def _incomplete_response(buffer: bytes) -> None:
    if buffer[:7] != b"HTTP/1."[: len(buffer)]:
        _refuse_response("it does not begin with HTTP/1.")
    if len(buffer) > RESPONSE_HEAD_BYTES_MAX:
        _refuse_response("its header section is too large")
    if _surely_bad(buffer):
        _refuse_response("its header section has bare line ends or controls")


def _surely_bad(buffer: bytes) -> bool:
    """Look for a bare LF or a NUL, cheaply: this runs again for each piece of a head that comes in many."""
    return buffer.count(b"\n") != buffer.count(b"\r\n") or b"\x00" in buffer


def _split(block: bytes) -> list[Field] | None:
    """Give all fields of a block, None when a line of it is not a field."""
    fields: list[Field] = FIELD_LINE.findall(block)
    if len(fields) != block.count(b"\n"):
        return None
    if b" \r\n" in block or b"\t\r\n" in block:
        return [(name, value.rstrip(b" \t")) for name, value in fields]
    return fields


def _index(fields: list[Field]) -> dict[bytes, tuple[bytes, ...]]:
    index: dict[bytes, tuple[bytes, ...]] = {}
    for name, value in fields:
        lower = name.lower()
        index[lower] = (*index.get(lower, _NONE), value)
    return index


def _request_facts(block: bytes, limits: Limits) -> Facts:
    fields = _split(block)
    if fields is None:
        _refuse(_why_malformed(block))
    if len(fields) > limits.fields_max:
        _refuse("The request has too many header fields.", "head-too-large")
    if b"_" in block:
        fields = [field for field in fields if b"_" not in field[0]]
    index = _index(fields)
    host = port = b""
    hosts = index.get(b"host")
    if hosts is not None:
        authority = split_authority(hosts[0]) if len(hosts) == 1 else None
        if authority is None:
            _refuse("The Host field is repeated or malformed.", "host-invalid")
        host, port = authority
    length, chunked, wrong = _framing(index)
    if wrong:
        _refuse(f"The request's framing is ambiguous: {wrong}.")
    if not chunked:
        length = length or 0
    expectation = b", ".join(index.get(b"expect", _NONE)).lower()
    says = tokens(b",".join(index.get(b"connection", _NONE)))
    return Facts(
        FieldSection(block, tuple(fields), index), host, port, length, chunked, b"close" in says,
        b"keep-alive" in says, expectation == b"100-continue", expectation not in (b"", b"100-continue"),
    )  # fmt: skip


def _response_section(block: bytes) -> tuple[FieldSection, int | None, bool, frozenset[bytes]]:
    """Give the section, Content-Length, chunked, and what Connection says."""
    fields = _split(block)
    if fields is None:
        _refuse_response("a header line is malformed")
    if len(fields) > _RESPONSE_FIELDS_MAX:
        _refuse_response("it has too many header fields")
    index = _index(fields)
    length, chunked, wrong = _framing(index)
    if wrong:
        _refuse_response(wrong)
    says = tokens(b",".join(index.get(b"connection", _NONE)))
    return FieldSection(block, tuple(fields), index), length, chunked, says


def _framing(index: dict[bytes, tuple[bytes, ...]]) -> tuple[int | None, bool, str]:
    """Give (Content-Length, chunked, what is wrong). Stricter than RFC 9112 section 6.3: equal repeats are refused."""
    lengths = index.get(b"content-length")
    codings = index.get(b"transfer-encoding")
    if codings is not None:
        if lengths is not None:  # "ought to be handled as an error"
            return None, False, "both Content-Length and Transfer-Encoding"
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            return None, False, "Transfer-Encoding other than chunked"
        return None, True, ""
    if lengths is None:
        return None, False, ""
    if len(lengths) != 1 or CONTENT_LENGTH.fullmatch(lengths[0]) is None:
        return None, False, "Content-Length is not one number"
    return int(lengths[0]), False, ""


def _other_form(method: bytes, target: bytes, facts: Facts, version: int) -> tuple[bytes, bytes, bytes | None]:
    """Give (host, path, query) of an asterisk-form or absolute-form target (RFC 9112 section 3.2)."""
    if version == 11 and not facts.host:
        _refuse("The Host field is missing.", "host-invalid")
    if target == b"*" and method == b"OPTIONS":
        if not facts.host:
            _refuse("The Host field is missing.", "host-invalid")
        return facts.host, b"*", None
    match = ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        _refuse("The request target is malformed.")
    scheme, authority, path, query = match.groups()
    named = split_authority(authority)
    if named is None:
        _refuse("The request target's host is malformed.", "host-invalid")
    default = b"443" if len(scheme) == 5 else b"80"
    if facts.host and (named[0], named[1] or default) != (facts.host, facts.port or default):
        _refuse("The Host field and the request target disagree.", "host-invalid")
    return named[0], path or b"/", query


def _why_malformed(block: bytes) -> str:
    """Say what is wrong with a field block, for the person at the other end."""
    bad = BAD_OCTET.search(block)
    if bad is not None:
        bare = bad[0] in (b"\r", b"\n")
        return "A line ends without CRLF." if bare else "The header section has a control character."
    for line in block.split(b"\r\n"):
        if line[:1] in (b" ", b"\t"):
            return "A header line is folded."
        name, colon, _ = line.partition(b":")
        if colon and name.rstrip(b" \t") != name:
            return "There is a space before the colon of a header line."
    return "A header line is malformed."
