"""The vocabulary of HTTP messages inside the edge: heads, field sections, bodies.

In:    nothing.
Out:   plain values with slots; everything read from the wire stays bytes.
Laws:  1. A FieldSection is shared by every message whose header bytes are equal: after parsing it never changes,
       except `derived`, which only remembers pure functions of it. 2. Names keep the case they were sent in;
       look-up is by lower-cased name. 3. A message's framing is decided once, by the parser.
Not here: parsing (parser), rules of single fields (headers), framing of bodies (framing).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

Field = tuple[bytes, bytes]


class FieldSection:
    """A validated header section. `raw` is its exact bytes: lines each ended by CRLF, without the empty line."""

    __slots__ = ("derived", "fields", "index", "raw")

    def __init__(self, raw: bytes, fields: tuple[Field, ...], index: dict[bytes, tuple[bytes, ...]]) -> None:
        self.raw = raw
        self.fields = fields
        self.index = index
        self.derived: dict[Hashable, Any] = {}

    def get(self, name: bytes) -> bytes | None:
        """Give a field's value by lower-cased name; several lines are joined by ", " (RFC 9110 section 5.3)."""
        values = self.index.get(name)
        if values is None:
            return None
        return values[0] if len(values) == 1 else b", ".join(values)

    def __repr__(self) -> str:
        return f"<FieldSection {len(self.fields)} fields, {len(self.raw)} bytes>"


class RequestHead:
    """A request line and its field section, validated. `version` is 10 or 11.

    `path` and `query` are as sent (query without "?", None when there is no "?"). `host` is the effective host:
    lower-cased, without port and trailing dot, from an absolute-form target or the Host field.
    `content_length` is None when chunked; a request without a body has 0 and `chunked` False.
    """

    __slots__ = (
        "asked", "chunked", "content_length", "expects_continue", "host", "keep_alive", "logged", "method", "path",
        "query", "section", "sent", "target", "version",
    )  # fmt: skip

    def __init__(
        self, method: bytes, target: bytes, path: bytes, query: bytes | None, version: int, section: FieldSection,
        host: bytes, content_length: int | None, chunked: bool, keep_alive: bool, expects_continue: bool,
    ) -> None:  # fmt: skip
        self.method = method
        self.target = target
        self.path = path
        self.query = query
        self.version = version
        self.section = section
        self.host = host
        self.content_length = content_length
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.asked: Any = None
        """Memory of phases.cache: what the equal request before was kept under."""
        self.sent: Any = None
        """Memory of phases.forward: what went to the origin for the equal request before."""
        self.logged: Any = None
        """Memory of telemetry.access_log: what was said of the equal request before."""

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.content_length)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.host!r} {self.path!r}>"


class ResponseHead:
    """A status line and its field section, validated.

    `content_length` None and `chunked` False: the body lasts until the connection closes (unless the status or the
    request's method says there is none: then content_length is 0). `keep_alive`: the connection may be used again.
    `announced_length`: the Content-Length field's value, which an answer to HEAD or a 304 has without a body.
    """

    __slots__ = (
        "announced_length",
        "chunked",
        "content_length",
        "keep_alive",
        "reason",
        "section",
        "status",
        "version",
    )

    def __init__(
        self, status: int, reason: bytes, version: int, section: FieldSection, content_length: int | None,
        chunked: bool, keep_alive: bool, announced_length: int | None,
    ) -> None:  # fmt: skip
        self.status = status
        self.reason = reason
        self.version = version
        self.section = section
        self.content_length = content_length
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.announced_length = announced_length

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.section!r}>"


class Body(Protocol):
    """A body that is still arriving."""

    length: int | None
    """Octets in all, None when not known beforehand."""

    @property
    def trailers(self) -> bytes:
        """Lines each ended by CRLF that came behind the body and may pass on; known once `read` gave b""."""

    def read(self) -> bytes:
        """Give the next piece, b"" at the end. Blocks on the socket. Raises GatewayError or ClientGone."""

    def close(self) -> None:
        """Give up or clean up; called exactly once by whoever consumes it, at the end or before. Never raises."""


class ClientBody(Body, Protocol):
    """A request's body. The first read lets a client that waits go on."""

    @property
    def waits(self) -> bool:
        """Whether the client waits for 100 (Continue) before it sends the first octet."""


class Reply:
    """What goes to the client, without framing: Content-Length, Transfer-Encoding, Connection and Date come downstream.

    `lines`: header lines each ended by CRLF, hop-by-hop fields and framing already removed. `extra`: lines this
    exchange adds, same form. `body`: bytes when it is all here, else a Body.
    `announced_length`: Content-Length to show when there is no body to count (HEAD, 304); else None.
    """

    __slots__ = ("announced_length", "body", "extra", "lines", "reason", "status")

    def __init__(
        self, status: int, reason: bytes, lines: bytes, body: bytes | Body, announced_length: int | None = None
    ) -> None:
        self.status = status
        self.reason = reason
        self.lines = lines
        self.extra: list[bytes] = []
        self.body = body
        self.announced_length = announced_length

    def __repr__(self) -> str:
        size = len(self.body) if isinstance(self.body, bytes) else "streaming"
        return f"<Reply {self.status} body={size}>"
