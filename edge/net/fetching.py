"""Small documents fetched on a worker's own account: key sets, introspection answers.

In:    a URL (a tenant's, or the operator's), an Upstream that connects only where it may.
Out:   Fetched, or FetchFailed with a reason for the log.
Laws:  1. Addresses are checked at connect time like an origin's, because it is the same way out. 2. No redirect is
       followed: whatever is not wanted is the caller's to refuse by its status. 3. One time limit for all of it, one
       bound for the body. 4. Nothing of the document and no secret in a reason. 5. Whatever is asked here may be asked
       twice: once more over a new connection where a kept one turned out to be closed.
Not here: what the documents mean, how often they are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import gevent

from contracts.addresses import AddressError, parse_document_url
from edge.errors import ClientGone, GatewayError, Retry
from edge.http import writer
from edge.http.messages import FieldSection
from edge.ports import Upstream, UpstreamRequest

DOCUMENT_BYTES_MAX: Final = 65_536
TIMEOUT_S: Final = 3.0


class FetchFailed(Exception):
    """There is no answer; the message says why and may be logged."""

    def __init__(self, reason: str, *, is_forbidden: bool = False) -> None:
        super().__init__(reason)
        self.is_forbidden = is_forbidden
        """The URL leads where nobody may go: asking again does not help."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete answer. `body`: at most the bound that was asked for."""

    status: int
    section: FieldSection
    body: bytes


def fetch(
    upstream: Upstream,
    tenant_id: str,
    url: str,
    *,
    method: bytes = b"GET",
    fields: Sequence[tuple[bytes, bytes]] = (),
    body: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
    bytes_max: int = DOCUMENT_BYTES_MAX,
) -> Fetched:
    """Ask once. `tenant_id`: whose connections are used. `url`: absolute, a fragment is refused. Times in seconds.

    Raises FetchFailed. Blocks at most `timeout_s`.
    """
    try:
        parsed, asked_for = parse_document_url(url)
    except AddressError as error:
        raise FetchFailed(f"the URL {error}", is_forbidden=True) from None
    lines = b"".join([b"%b: %b\r\n" % field for field in fields])
    target, authority = asked_for.encode("ascii"), parsed.authority.encode("ascii")
    framing = writer.request_framing(method, len(body) if body is not None else 0)
    head = b"%b%b\r\n" % (writer.request_start(method, target, authority, lines, b""), framing)
    place = f"{parsed.scheme}://{parsed.authority}"
    asked = UpstreamRequest(
        tenant_id=tenant_id, target_id="", url=place, method=method, head=head, body=body,
        connect_timeout_s=timeout_s, first_byte_timeout_s=timeout_s, idle_timeout_s=timeout_s,
    )  # fmt: skip
    try:
        with gevent.Timeout(timeout_s):
            return _answer(upstream, asked, bytes_max)
    except gevent.Timeout:
        raise FetchFailed(f"no whole answer within {timeout_s:g} s") from None
    except GatewayError as error:
        forbidden = error.problem.slug == "origin-forbidden"
        raise FetchFailed(f"{error.problem.slug}: {error.internal}", is_forbidden=forbidden) from None
    except ClientGone:
        raise FetchFailed("it closed while it was asked") from None


def _answer(upstream: Upstream, asked: UpstreamRequest, bytes_max: int) -> Fetched:
    try:
        response = upstream.send(asked)
    except GatewayError as error:
        if error.retry is not Retry.REUSED_CONNECTION:
            raise
        asked.fresh = True  # a kept connection had been closed; whatever is asked here may be asked twice
        response = upstream.send(asked)
    head, body = response.head, response.body
    if isinstance(body, bytes):
        document = body
    else:
        try:
            if head.content_length is not None and head.content_length > bytes_max:
                raise FetchFailed(f"larger than {bytes_max} bytes")
            document = b""
            while piece := body.read():
                document += piece
                if len(document) > bytes_max:
                    raise FetchFailed(f"larger than {bytes_max} bytes")
        finally:
            body.close()
    if len(document) > bytes_max:
        raise FetchFailed(f"larger than {bytes_max} bytes")
    return Fetched(head.status, head.section, document)
