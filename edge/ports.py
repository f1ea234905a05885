"""What the pure half asks of the world, and what each part of the world does when its store is away.

In:    nothing.
Out:   Protocols, the small values that cross them, and Ports, which holds one of each.
Laws:  1. Time, randomness, stores and sockets reach a decision only through here. 2. A port never raises a foreign
       exception. 3. What Redis being away means stands in the docstring, in ARCHITECTURE.md, and is tested.
Not here: adapters (edge.net, edge.store, edge.telemetry).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from contracts.clerk import Expectation
from contracts.identity import SigningKey
from contracts.keysets import KeySet
from contracts.snapshot import KeyRecord, PolicyConfig
from edge.http.messages import Body, ResponseHead

if TYPE_CHECKING:
    from edge.errors import GatewayError
    from edge.exchange import Exchange
    from edge.introspection import Introspector
    from edge.issuers import Issuer
    from edge.snapshot import OriginTls, Tenant


class Clock(Protocol):
    def wall(self) -> float:
        """Seconds since 1970."""

    def mono(self) -> float:
        """Seconds on a clock that never steps."""


class Identifiers(Protocol):
    def request_id(self) -> bytes:
        """A new UUID version 7 (RFC 9562 section 5.7) in its text form."""


class ConfigView(Protocol):
    """Redis away: the last good snapshot is kept and served; a cold start reads the last good copy from disk."""

    def tenant(self, host: bytes) -> Tenant | None:
        """Give the compiled tenant that lives at a host, None when nobody does.

        Blocks on Redis the first time a host is asked for. Raises GatewayError(config-unavailable) when it is not
        known here and cannot be asked for now.
        """


class KeyStore(Protocol):
    """Redis away: keys already known stay valid up to 60 s; unknown ones are refused (fail closed). Uses noted for
    longer than a flush are dropped and counted."""

    @property
    def uses(self) -> MutableMapping[str, dict[str, float]]:
        """Tenant id -> key id -> wall time of its last use here; a missing tenant is made by asking for it."""

    def memo(self, presented: bytes) -> bytes:
        """Give what a presented key is remembered by: nobody can tell the key from it. Never blocks."""

    def find(self, tenant_id: str, presented: bytes, memo: bytes = b"") -> KeyRecord | None:
        """Give the record of a presented key, None when there is none. `memo`: of the same key, if it is at hand.

        Blocks on Redis for a key not seen lately. Raises GatewayError(identity-unavailable) when it cannot be known.
        """


class SessionKeys(Protocol):
    """Clerk's public keys. The issuer away: the last good set is kept up to 24 h."""

    @property
    def expectation(self) -> Expectation:
        """What a session token must say: issuer and authorised parties, from the settings."""

    def keys(self) -> Mapping[str, RSAPublicKey]:
        """Give the set. Blocks only when none was ever loaded. Raises GatewayError(identity-unavailable)."""

    def refreshed(self) -> Mapping[str, RSAPublicKey]:
        """Give the set after trying to renew it: at most once in 10 s, one caller at a time. Blocks on the fetch."""

    def denied(self, session_id: str) -> bool:
        """Whether a session was signed out. Answers from memory; Redis away: what was known stays."""


class IssuerKeys(Protocol):
    """Public keys of tenants' own issuers. The issuer away: the last good set is kept up to 24 h. Redis has no part."""

    def keys(self, issuer: Issuer) -> KeySet:
        """Give the set of an issuer that has no pinned keys: the very same one as long as nothing changed.

        Blocks on the fetch when none is held or it is too old. Raises GatewayError(identity-unavailable).
        """

    def refreshed(self, issuer: Issuer) -> KeySet:
        """Give the set after trying to renew it: at most once in 10 s, one fetch at a time. Blocks on the fetch.

        Raises GatewayError(identity-unavailable).
        """


ClerkToken = Literal["clerk_access", "clerk_machine"]
"""What Clerk's own API is asked about: an OAuth access token (`oat_`), a machine's token (`mt_`)."""


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """What an authority says of an opaque token. Times: wall seconds; None: it names none.

    `refusal`: why the token must not be believed, for the log; where there is one, nothing else counts.
    """

    subject: str = ""
    scopes: tuple[str, ...] = ()
    client_id: str | None = None
    org_id: str | None = None
    not_before: float | None = None
    expires_at: float | None = None
    refusal: str = ""


class TokenCheck(Protocol):
    """Redis away does not matter. The authority away: what it said lives to the end of its 30 s, all else is 503."""

    def check(self, tenant_id: str, authority: Introspector | ClerkToken, token: bytes, digest: bytes) -> TokenStatus:
        """Give what the authority says, or said a moment ago: 30 s when it is active, 5 s when it is not.

        `digest`: sha256 of the token. Blocks on the authority, up to 3 s. Raises GatewayError(identity-unavailable)
        when there is no answer, (tenant-overloaded) when too many tokens of the tenant are being asked about.
        """


class IdentitySigner(Protocol):
    """Redis away does not matter: the key comes with the snapshot. One that cannot be opened ends the requests that
    need it, and no others."""

    def issuer(self, tenant: Tenant) -> str:
        """Give the `iss` of a tenant's tokens: its own host, as a URL."""

    def sign(self, key: SigningKey, message: bytes) -> bytes:
        """Sign by ES256: R and S, 32 octets each. Opens the key the first time. Never blocks.

        Raises GatewayError(identity-unavailable).
        """


class Secrets(Protocol):
    """Has nothing to do with Redis: what a snapshot carries sealed, opened with the deployment's sealing keys."""

    def opened(self, sealed: str, belongs_to: bytes) -> bytes:
        """Give a secret in clear. Answers from memory or in microseconds.

        Raises GatewayError(identity-unavailable) when none of the keys opens it.
        """


class Nonces(Protocol):
    """Redis away: nobody could tell a replay, so signed requests are refused (fail closed). A Redis that lost what it
    held has forgotten them: for as long as a signature lives, a request of before may come again."""

    def take(self, tenant_id: str, key_id: str, nonce: str) -> bool:
        """Use a nonce up, for all workers; False when it was used before. Blocks on Redis.

        Raises GatewayError(identity-unavailable).
        """


@dataclass(frozen=True, slots=True)
class Check:
    """One policy asked about one identifier. `identifier` is any bytes; the adapter digests it. `cost`: what a request
    takes of the limit, at least 1; one that costs more than the whole limit is never allowed.
    """

    tenant_id: str
    policy: PolicyConfig
    identifier: bytes
    cost: int = 1


@dataclass(slots=True)  # not frozen: that would make it several times dearer to make, once a request
class Verdict:
    """What one policy says; nobody changes it. `reset_s`: seconds until the policy is back to its full quota."""

    policy: PolicyConfig
    allowed: bool
    remaining: int
    reset_s: float
    retry_after_s: float = 0.0
    degraded: bool = False


class Counters(Protocol):
    """Redis away: limit / live edge workers, kept locally; per policy `open` admits and `closed` refuses instead."""

    def admit(self, checks: Sequence[Check]) -> Sequence[Verdict]:
        """Decide all checks together, in order: all count or none. Shadow policies never refuse. May block on Redis."""

    def enter(self, checks: Sequence[Check]) -> Sequence[Verdict]:
        """Take a place among the requests in flight of each check (algorithm `concurrency`), or none when an enforced
        one has none left: then its verdict is the last. May block on Redis."""

    def leave(self, checks: Sequence[Check]) -> None:
        """Give the places back, once, of the checks that were allowed. Never blocks."""


@dataclass(frozen=True, slots=True)
class CacheKey:
    """`digest` names one stored answer; `route_id` and `url_digest` are what it can be purged by."""

    tenant_id: str
    route_id: str
    digest: str
    url_digest: str


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A stored answer. `lines` as in Reply. Ages and lifetimes in seconds (RFC 9111 section 4.2)."""

    status: int
    reason: bytes
    lines: bytes
    body: bytes
    stored_at: float
    initial_age_s: float
    lifetime_s: float


class Cache(Protocol):
    """Redis away: the memory tier only."""

    def find(self, key: CacheKey) -> StoredResponse | None:
        """Give what is stored and not purged, fresh or not. May block on Redis; away means None."""

    def keep(self, key: CacheKey, stored: StoredResponse) -> None:
        """Store in both tiers. Never blocks on Redis for long, never raises."""


class HealthView(Protocol):
    """Redis away: what is known expires and then every target counts as healthy."""

    def healthy(self, tenant_id: str, target_id: str) -> bool:
        """What the active probes say. Answers from memory."""


@dataclass(slots=True)
class UpstreamRequest:
    """One attempt. `head` is the complete request head, ended by the empty line; its framing fits `body`.

    `url` is the target's (scheme, host, port decide the connection pool). Times in seconds.
    """

    tenant_id: str
    target_id: str
    url: str
    method: bytes
    head: bytes
    body: bytes | Body | None
    connect_timeout_s: float
    first_byte_timeout_s: float
    idle_timeout_s: float
    fresh: bool = False
    """Open a new connection: a kept one just turned out to be closed."""
    expects: bool = False
    """The client waits for 100 (Continue): let the origin decide before the body's first read."""
    trailers: bool = False
    """The client takes trailers: a body that has some is given as a Body, however short it is."""
    interim: Callable[[ResponseHead], None] | None = None
    """Called with each interim answer (1xx) before `send` returns; None: they are dropped."""
    upgrade: bytes = b""
    """The protocols the head offers to switch to; without any, a 101 is an invalid response."""
    tls: OriginTls | None = None
    """What the origin's TLS differs in; connections are shared only under the same."""


@dataclass(slots=True)
class UpstreamResponse:
    """`body` is bytes when it is all here, else a Body whose close() gives the connection back or throws it away.

    Of a 101 it is the origin's side of a tunnel, which only `write` knows how to carry.
    """

    head: ResponseHead
    body: bytes | Body
    reused: bool
    connect_s: float


class Upstream(Protocol):
    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send one attempt and give the final response's head, or that of a 101 to what was offered. Blocks.

        Raises GatewayError with source UPSTREAM and a truthful `retry`, or ClientGone when the client's upload ends.
        """


class Recorder(Protocol):
    """Redis away does not matter; a full queue drops the oldest and counts the drops."""

    def record(self, exchange: Exchange) -> None:
        """Count and log a finished exchange. Never blocks, never raises."""

    def refused(self, error: GatewayError, client_ip: str, request_id: bytes) -> None:
        """Count and log a request that never became an exchange (malformed, too large, too slow). Never raises."""


@dataclass(slots=True)
class Ports:
    clock: Clock
    identifiers: Identifiers
    config: ConfigView
    keys: KeyStore
    sessions: SessionKeys
    counters: Counters
    cache: Cache
    health: HealthView
    upstream: Upstream
    recorder: Recorder
    issuers: IssuerKeys
    tokens: TokenCheck
    signer: IdentitySigner
    secrets: Secrets
    nonces: Nonces
