"""The request that goes to the origin: its head, its body within the route's bound, and whether it may be sent again.

In:    the exchange after authentication; the target.
Out:   UpstreamRequest; GatewayError body-too-large; digest-mismatch, in place of the end of a body that was signed.
Laws:  1. The path is the normalised one, rewritten; the query goes on byte for byte. 2. What a client says in the
       gateway's name (X-Vantage-*, X-Request-Id, Forwarded family) never passes. 3. The fields that carried the
       credential are not forwarded unless the route says so; other credentials are the origin's, Clerk's cookies
       nobody's. 4. Another attempt only as the error allows, never once a streamed body was read.
       5. Trailers are asked for and announced only where they can arrive: a client that takes them, an answer that is
       not kept.
Not here: end-to-end fields (edge.http.headers), sending (edge.net.upstream), candidates (phases.balance).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from edge.errors import GatewayError, Retry, Source
from edge.exchange import NOTHING, Exchange, introduced, introduction
from edge.http import digests, forwarded, headers, upgrade, writer
from edge.http.messages import ClientBody, Reply
from edge.ports import UpstreamRequest, UpstreamResponse
from edge.snapshot import Route, Target, Tenant

# RFC 9110 section 9.2.2.
IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})

_OURS: Final = frozenset({b"x-request-id"})
_CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since"})
_HOPS: Final = frozenset({b"max-forwards"})


class Upload:
    """A streamed request body, counted against the route's bound, that knows whether any of it is gone.

    close() before the first read does nothing: another attempt may still read it, and who made the body ends it.
    """

    __slots__ = ("_body", "_left", "length", "started")

    def __init__(self, body: ClientBody, bytes_max: int) -> None:
        self._body = body
        self._left = bytes_max
        self.length = body.length
        self.started = False

    @property
    def trailers(self) -> bytes:
        return self._body.trailers

    @property
    def waits(self) -> bool:
        return self._body.waits

    def read(self) -> bytes:
        self.started = True
        piece = self._body.read()
        self._left -= len(piece)
        if self._left < 0:
            raise too_large()
        return piece

    def close(self) -> None:
        if self.started:
            self._body.close()


def upload(exchange: Exchange, route: Route) -> bytes | Upload | None:
    """Give the body to send. Raises GatewayError(body-too-large) when its announced or known length is too much."""
    body = exchange.body
    if body is None:
        return None
    length = len(body) if isinstance(body, bytes) else body.length
    if length is not None and length > route.body_bytes_max:
        raise too_large()
    if isinstance(body, bytes):
        return body
    if exchange.content_digest is not None:
        body = digests.Checked(body, exchange.content_digest)
    return Upload(body, route.body_bytes_max)


def too_large() -> GatewayError:
    return GatewayError(
        "body-too-large", "The request body is larger than this route allows.", source=Source.DOWNSTREAM, close=True
    )


def request(
    exchange: Exchange, tenant: Tenant, route: Route, target: Target, body: bytes | Upload | None, fresh: bool
) -> UpstreamRequest:
    """Compose one attempt. Complexity: one comparison and one join for a request equal to the one before it."""
    head = exchange.head
    sent: _Sent | None = head.sent
    if (
        sent is None
        or sent.target is not target
        or sent.principal is not exchange.principal
        or sent.client_ip != exchange.client_ip
        or sent.scheme != exchange.scheme
        or sent.told is not exchange.told
    ):
        sent = head.sent = _Sent(exchange, tenant, route, target)
    if body is None:
        framing = writer.request_framing(head.method, 0)
    else:
        length = len(body) if isinstance(body, bytes) else body.length
        framing = writer.request_framing(head.method, length)
        if length is None and b"trailer" in head.section.index:
            framing += headers.trailer_line(head.section)
    if exchange.identity:  # not in what is remembered: it ends before an equal request does
        framing = exchange.identity + framing
    origin = route.origin
    return UpstreamRequest(
        tenant.id, target.id, target.url, head.method,
        b"".join((sent.lines, exchange.request_id, b"\r\n", framing, b"\r\n")), body, origin.connect_timeout_s,
        origin.timeout_s, origin.idle_timeout_s, fresh, isinstance(body, Upload) and body.waits, sent.takes_trailers,
        exchange.interim, sent.offer, target.tls,
    )  # fmt: skip


class _Sent:
    """A head for an origin up to the request's id, and all that it was made of besides the client's head. Whether the
    answer may be kept follows from these."""

    __slots__ = ("client_ip", "lines", "offer", "principal", "scheme", "takes_trailers", "target", "told")

    def __init__(self, exchange: Exchange, tenant: Tenant, route: Route, target: Target) -> None:
        self.target = target  # of one version of the tenant, in which a head always meets the same route
        self.principal = exchange.principal
        self.client_ip = exchange.client_ip
        self.scheme = exchange.scheme
        self.told = exchange.told
        index = exchange.head.section.index
        self.offer = upgrade.offered(exchange.head) if b"upgrade" in index else b""
        self.takes_trailers = b"te" in index and _takes_trailers(exchange)
        self.lines = _lines(exchange, tenant, route, target, self.offer, self.takes_trailers)


def _lines(
    exchange: Exchange, tenant: Tenant, route: Route, target: Target, offer: bytes, takes_trailers: bool
) -> bytes:
    """Give the head up to the value of X-Request-Id."""
    head = exchange.head
    section = head.section
    match = exchange.match
    assert match is not None
    path = target.base_path + match.forward_path if target.base_path else match.forward_path
    if head.query is not None:
        path = b"%b?%b" % (path, head.query)
    named = section.index.get(b"host")
    asked_host = named[0] if named is not None else head.host
    consumed = NOTHING if route.forward_credential else exchange.consumed
    drop = _drop(consumed, exchange.cache_key is not None)
    told = exchange.told
    extra = b"%b%b%b" % (
        forwarded.lines(exchange.client_ip, exchange.scheme, asked_host, head.version)
        if told is None
        else told.lines(exchange.scheme, asked_host, head.version),
        tenant.tenant_line,
        _principal_line(exchange),
    )
    if offer:
        extra += upgrade.lines(offer)
    if takes_trailers:
        extra += headers.TE_LINES
    if head.method == b"OPTIONS" and (hops := forwarded.hops_left(section)) is not None:
        drop |= _HOPS
        extra += b"Max-Forwards: %d\r\n" % (hops - 1)
    host = asked_host if route.preserve_host else target.authority
    lines = headers.request_lines(section, drop)
    return writer.request_start(head.method, path, host, lines, extra + b"X-Request-Id: ")


@lru_cache(maxsize=64)
def _drop(consumed: frozenset[bytes], keeps: bool) -> frozenset[bytes]:
    """Give what is left out: what carried the credential, and conditions where the answer is to be kept, since that
    wants all of it. Remembered: a verifier names its fields by one and the same set."""
    return _OURS | consumed | (_CONDITIONS if keeps else NOTHING)


def _takes_trailers(exchange: Exchange) -> bool:
    """Not where an answer may be kept: it would depend on TE, which its key does not hold."""
    head = exchange.head
    return head.version == 11 and exchange.cache_key is None and headers.wants_trailers(head.section)


def may_retry(exchange: Exchange, error: GatewayError, target: Target, body: bytes | Upload | None) -> bool:
    """Whether another attempt, at `target`, is safe and worth it.

    Safe: nothing was sent, or a kept connection closed under an idempotent request. Not worth it: waiting out the same
    target's timeout again.
    """
    if isinstance(body, Upload) and body.started:
        return False
    if error.retry is Retry.NOTHING_SENT:
        return target is not exchange.target or error.problem.slug != "origin-timeout"
    return error.retry is Retry.REUSED_CONNECTION and exchange.head.method in IDEMPOTENT


def reply(exchange: Exchange, route: Route, response: UpstreamResponse) -> Reply:
    """Turn the origin's answer into ours: end-to-end lines, the body as it comes, our Via."""
    head = response.head
    made = Reply(
        head.status,
        head.reason,
        headers.response_lines(head.section, route.response_drop),
        response.body,
        head.announced_length,
    )
    made.extra.append(forwarded.via(head.version))
    if b"trailer" in head.section.index and not isinstance(response.body, bytes) and _takes_trailers(exchange):
        made.extra.append(headers.trailer_line(head.section))
    return made


def _principal_line(exchange: Exchange) -> bytes:
    """Remembered in the section for the principal of the equal request before."""
    principal = exchange.principal
    if principal is None:
        return b""
    derived = exchange.head.section.derived
    kept = derived.get("principal-line")
    if kept is not None and kept[0] is principal:
        line: bytes = kept[1]
        return line
    line = b"X-Vantage-Principal: %b\r\n" % introduced(introduction(principal))
    derived["principal-line"] = (principal, line)
    return line
