"""The one error of the edge: what the client is told, what the log is told, whose side failed, and whether to retry.

In:    a slug of contracts.problems.
Out:   GatewayError, raised once, caught in pipeline.
Laws:  1. `detail` is public, `internal` is for the log; an address, a key or a token is never public. 2. The raiser
       decides `retry`, because only it knows what was sent.
Not here: rendering (edge.phases.reply), mapping of foreign exceptions (edge.net, edge.store.wire and client).
"""

from __future__ import annotations

import enum
from typing import Final

from contracts.problems import PROBLEMS, Problem


class Source(enum.Enum):
    """Which side broke the rule."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    GATEWAY = "gateway"


class Retry(enum.Enum):
    """When another attempt is safe."""

    NEVER = "never"
    IF_IDEMPOTENT = "if-idempotent"
    """The origin may have acted on it."""
    NOTHING_SENT = "nothing-sent"
    """No byte of the request left: always safe."""
    REUSED_CONNECTION = "reused-connection"
    """A kept connection closed before any answer: safe for idempotent methods, on a fresh connection."""


class GatewayError(Exception):
    """A request ends here with `problem`.

    `fields`: extra response header lines, (name, value) bytes. `members`: extra problem+json members.
    `proxy_error`: the RFC 9209 section 2.3 error type for Proxy-Status, where one fits.
    """

    __slots__ = ("close", "detail", "fields", "internal", "members", "problem", "proxy_error", "retry", "source")

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        internal: str = "",
        source: Source = Source.GATEWAY,
        retry: Retry = Retry.NEVER,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        members: dict[str, object] | None = None,
        proxy_error: str = "",
        close: bool = False,
    ) -> None:
        super().__init__(slug, detail, internal)
        self.problem: Final[Problem] = PROBLEMS[slug]
        self.detail: Final = detail
        self.internal: Final = internal
        self.source: Final = source
        self.retry: Final = retry
        self.fields: Final = fields
        self.members: Final = members
        self.proxy_error: Final = proxy_error
        self.close: Final = close
        """The downstream connection cannot be used again after this answer."""

    def with_fields(self, fields: tuple[tuple[bytes, bytes], ...]) -> GatewayError:
        """Give the same error with these fields in place of its own."""
        return GatewayError(
            self.problem.slug, self.detail, internal=self.internal, source=self.source, retry=self.retry, fields=fields,
            members=self.members, proxy_error=self.proxy_error, close=self.close,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<GatewayError {self.problem.slug} {self.source.value} retry={self.retry.value} {self.internal!r}>"


class ClientGone(Exception):
    """The client left before the answer was complete: nothing to answer, 499 in the log."""


class StoreAway(Exception):
    """Redis did not answer in time; each port's docstring says what happens then."""
