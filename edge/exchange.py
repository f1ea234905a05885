"""One request and all that became of it: the one mutable object a request has.

In:    the parsed head, the client's address, the times (from edge.net.downstream).
Out:   what each phase decided, read by the phases after it, the recorder and Explain.
Laws:  1. Slots only; a phase writes its own section and reads those above it. 2. An exchange keeps the snapshot it
       began with. 3. Wall times end in `_at`, monotonic ones in `_mono`.
Not here: deciding (phases), order (pipeline).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from edge.errors import GatewayError, Source
from edge.http.messages import ClientBody, Reply, RequestHead, ResponseHead

if TYPE_CHECKING:
    from contracts.snapshot import PolicyConfig
    from edge.http.digests import ContentDigest
    from edge.http.forwarded import Told
    from edge.ports import CacheKey, Check, Verdict
    from edge.snapshot import Match, Origin, Route, Target, Tenant

NOTHING: Final[frozenset[bytes]] = frozenset()
INTRODUCTION_VERSION: Final = 1
"""Another one when a member changes its meaning, not when one is added."""
INTRODUCTION_BYTES_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, as everything after authentication knows it.

    `subject`: a user's, a key's, a machine's or a service's id, as its authority spells it. `issuer`: that authority's
    `iss`, None for our own keys and services. `client_id`: the OAuth client that acts for the subject. `policies`:
    limits of its own, whichever route it takes. `notice`: header lines that every answer to it carries.
    """

    kind: Literal["user", "key", "oauth", "service"]
    subject: str
    scopes: tuple[str, ...] = ()
    org_id: str | None = None
    role: str | None = None
    permissions: tuple[str, ...] = ()
    client_id: str | None = None
    issuer: str | None = None
    policies: tuple[PolicyConfig, ...] = ()
    notice: bytes = b""


def introduction(principal: Principal | None) -> dict[str, object]:
    """Give what an origin is told of a caller; None is anybody. At most INTRODUCTION_BYTES_MAX as ASCII JSON.

    What would be longer loses `permissions`, then `scopes`, each as a whole and named in `omitted`: lists only grant,
    so an origin that does not look there grants less, never more. Raises GatewayError(head-too-large) when that is not
    enough: half a subject would be somebody else's.
    """
    if principal is None:
        return {"v": INTRODUCTION_VERSION, "kind": "anonymous"}
    members: dict[str, object] = {"v": INTRODUCTION_VERSION, "kind": principal.kind, "sub": principal.subject}
    named = (
        ("scopes", principal.scopes), ("org", principal.org_id), ("role", principal.role),
        ("permissions", principal.permissions), ("client_id", principal.client_id), ("issuer", principal.issuer),
    )  # fmt: skip
    members |= {name: value for name, value in named if value}
    omitted = []
    for name in ("permissions", "scopes"):
        if len(introduced(members)) <= INTRODUCTION_BYTES_MAX:
            return members
        if members.pop(name, None) is not None:
            omitted.append(name)
            members["omitted"] = omitted
    if len(introduced(members)) > INTRODUCTION_BYTES_MAX:
        raise GatewayError(
            "head-too-large", "What the credential says of its subject is too long to be passed on.",
            source=Source.DOWNSTREAM,
        )  # fmt: skip
    return members


def introduced(members: dict[str, object]) -> bytes:
    """Write an introduction as compact JSON in ASCII."""
    return json.dumps(members, separators=(",", ":")).encode("ascii")


class Exchange:
    __slots__ = (
        "attempts", "body", "bytes_in", "bytes_out", "cache_key", "cache_reason", "cache_result", "cache_status",
        "client_gone", "client_ip", "consumed", "content_digest", "error", "finished_mono", "head", "held", "identity",
        "interim", "match", "origin", "path", "preflight", "principal", "received_at", "received_mono", "reply",
        "request_id", "route", "scheme", "started_reply", "target", "tenant", "told", "upstream_first_mono",
        "upstream_last_mono",
        "upstream_start_mono", "verdicts", "writing",
    )  # fmt: skip

    def __init__(
        self, head: RequestHead, body: bytes | ClientBody | None, client_ip: str, scheme: bytes, request_id: bytes,
        received_at: float, received_mono: float,
    ) -> None:  # fmt: skip
        # from the downstream connection; interim: passes an interim answer on, None where the client knows none
        self.head = head
        self.body = body
        self.interim: Callable[[ResponseHead], None] | None = None
        self.client_ip = client_ip
        self.scheme = scheme
        self.request_id = request_id
        self.received_at = received_at
        self.received_mono = received_mono
        self.told: Told | None = None  # what a trusted hop said of the client, already in client_ip and scheme
        # identify, match
        self.tenant: Tenant | None = None
        self.path = b""
        self.match: Match | None = None
        self.route: Route | None = None
        self.preflight = b""  # CORS: the method asked about, when it was answered here
        # authenticate; consumed: the fields that carried the credential; content_digest: of a signed body that arrives
        self.principal: Principal | None = None
        self.consumed: frozenset[bytes] = NOTHING
        self.content_digest: ContentDigest | None = None
        # admit; held: places among the requests in flight, given back when the last byte is out
        self.verdicts: Sequence[Verdict] = ()
        self.held: Sequence[Check] = ()
        # cache; result is None on a route without cache, else hit, miss, stale, bypass, revalidated;
        # reason: why it is not a hit, or why nothing was stored; status: our member of Cache-Status (RFC 9211)
        self.cache_key: CacheKey | None = None
        self.cache_result: str | None = None
        self.cache_reason = ""
        self.cache_status = b""
        # candidates, send; identity: the line of the identity token, on a route that sends one
        self.origin: Origin | None = None
        self.target: Target | None = None
        self.identity = b""
        self.attempts = 0
        self.upstream_start_mono = 0.0
        self.upstream_first_mono = 0.0
        self.upstream_last_mono = 0.0
        # finish; writing: the reply and its body are the downstream's now; started: a byte of it left
        self.reply: Reply | None = None
        self.writing = False
        self.started_reply = False
        self.error: GatewayError | None = None
        self.client_gone = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.finished_mono = 0.0

    def __repr__(self) -> str:
        tenant = self.tenant.subdomain if self.tenant else "?"
        status = self.reply.status if self.reply else "-"
        return f"<Exchange {tenant} {self.head.method!r} {self.path or self.head.path!r} {status}>"
