"""The world as the pipeline sees it, made of plain values: a stage for tests that read like a play.

    stage = Stage(a_route("/posts/*"))
    stage.origin.answers(200, b"hello")
    answer = stage.get("/posts/1")
    assert answer.status == 200

Every port is here in its smallest honest form; nothing sleeps, nothing listens.

Longer than 400 lines because every port has its fake here, so that a test of the pure half needs one import.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from contracts import snapshot as published
from contracts.clerk import Expectation
from contracts.identity import SigningKey
from contracts.keysets import KeySet
from contracts.snapshot import KeyRecord, OriginConfig, PolicyConfig, RouteConfig, Snapshot
from edge.errors import GatewayError
from edge.exchange import Exchange
from edge.http.forwarded import Told
from edge.http.messages import Body, FieldSection, Reply, RequestHead, ResponseHead
from edge.issuers import Issuer
from edge.phases import ratelimit
from edge.pipeline import Pipeline
from edge.ports import CacheKey, Check, Ports, StoredResponse, TokenStatus, UpstreamRequest, UpstreamResponse, Verdict
from edge.snapshot import Tenant, compile_snapshot

NOW = 1_800_000_000.0
"""Fri, 15 Jan 2027 08:00:00 GMT."""
ISSUER = "https://clerk.example.com"
PARTY = "https://console.example.com"

TENANT = "11111111-1111-7111-8111-111111111111"
OTHER_TENANT = "22222222-2222-7222-8222-222222222222"


# --- Configurations -------------------------------------------------------------------------------------------------


def a_route(path: str = "/*", auth: str = "public", **fields: Any) -> RouteConfig:
    fields.setdefault("id", "route-" + path.strip("/*").replace("/", "-"))
    fields.setdefault("origin_id", "origin-1")
    return RouteConfig(path_pattern=path, auth_mode=auth, **fields)


def an_origin(*urls: str, weights: Sequence[int] = (), **fields: Any) -> OriginConfig:
    urls = urls or ("http://origin.example.com:8082",)
    targets = tuple(
        published.TargetConfig(id=f"target-{number}", url=url, weight=weights[number - 1] if weights else 1)
        for number, url in enumerate(urls, 1)
    )
    fields.setdefault("id", "origin-1")
    return OriginConfig(name="backend", targets=targets, **fields)


def a_snapshot(*routes: RouteConfig, origins: Sequence[OriginConfig] = (), version: int = 1, **tenant: Any) -> Snapshot:
    tenant = {
        "id": TENANT, "name": "demo-company", "subdomain": "demo", "clerk_org_id": "org_demo", **tenant,
    }  # fmt: skip
    return Snapshot(
        format=published.FORMAT,
        tenant=published.TenantConfig(**tenant),
        version=version,
        routes=routes,
        origins=tuple(origins) or (an_origin(),),
    )


def an_identity_key(kid: str = "kid-1", private: str | None = "sealed") -> published.IdentityKeyConfig:
    jwk = json.dumps({"kty": "EC", "crv": "P-256", "kid": kid}, separators=(",", ":"))
    return published.IdentityKeyConfig(id=kid, public_jwk=jwk, private_key=private)


def with_keys(*routes: RouteConfig, keys: Sequence[published.IdentityKeyConfig] | None = None, **more: Any) -> Snapshot:
    given = (an_identity_key(),) if keys is None else tuple(keys)
    return msgspec.structs.replace(a_snapshot(*routes, **more), identity_keys=given)


def a_bucket(rate: float = 10, burst: int = 2, **fields: Any) -> PolicyConfig:
    fields.setdefault("id", "policy-1")
    fields.setdefault("name", "default")
    return PolicyConfig(algorithm="token_bucket", rate_per_second=rate, burst=burst, **fields)


def a_window(limit: int = 2, window_s: int = 60, **fields: Any) -> PolicyConfig:
    fields.setdefault("id", "policy-2")
    fields.setdefault("name", "minute")
    return PolicyConfig(algorithm="sliding_window", limit=limit, window_s=window_s, **fields)


def a_concurrency(limit: int = 2, **fields: Any) -> PolicyConfig:
    fields.setdefault("id", "policy-3")
    fields.setdefault("name", "at once")
    return PolicyConfig(algorithm="concurrency", limit=limit, **fields)


def a_cache(ttl_s: int = 300, **fields: Any) -> published.CacheConfig:
    return published.CacheConfig(ttl_s=ttl_s, **fields)


def a_key_record(**fields: Any) -> KeyRecord:
    fields = {"id": "key-1", "tenant_id": TENANT, "name": "production", "scopes": ("read", "write"), **fields}
    return KeyRecord(**fields)


# --- Messages -------------------------------------------------------------------------------------------------------


def a_section(fields: Iterable[tuple[str, str]] = ()) -> FieldSection:
    pairs = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in fields)
    index: dict[bytes, tuple[bytes, ...]] = {}
    for name, value in pairs:
        index[name.lower()] = (*index.get(name.lower(), ()), value)
    return FieldSection(b"".join(b"%b: %b\r\n" % pair for pair in pairs), pairs, index)


def a_head(
    method: str = "GET",
    target: str = "/",
    fields: Iterable[tuple[str, str]] = (),
    host: str = "demo.example.com",
    content_length: int | None = 0,
    chunked: bool = False,
) -> RequestHead:
    path, mark, query = target.partition("?")
    return RequestHead(
        method.encode(), target.encode(), path.encode(), query.encode() if mark else None, 11,
        a_section([("Host", host), *fields]), host.encode(), content_length, chunked, True, False,
    )  # fmt: skip


def a_response(
    status: int = 200, fields: Iterable[tuple[str, str]] = (), body: bytes | Body = b"", **framing: Any
) -> UpstreamResponse:
    length = len(body) if isinstance(body, bytes) else body.length
    framing = {"content_length": length, "chunked": length is None, "announced_length": None, **framing}
    head = ResponseHead(
        status, b"OK" if status == 200 else b"", 11, a_section(fields), framing["content_length"],
        framing["chunked"], True, framing["announced_length"],
    )  # fmt: skip
    return UpstreamResponse(head, body, False, 0.0)


class Pieces:
    """A body that arrives piece by piece; an exception among the pieces is raised when its turn comes."""

    def __init__(
        self, *pieces: bytes | BaseException, length: int | None = None, trailers: bytes = b"", waits: bool = False
    ) -> None:
        self.length = length
        self.trailers = trailers
        self.waits = waits
        self.closed = 0
        self._pieces = list(pieces)

    def read(self) -> bytes:
        assert not self.closed, "read after close"
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self) -> None:
        self.closed += 1


@dataclass
class Answer:
    """What the client saw."""

    status: int
    text: str
    body: bytes
    reply: Reply
    exchange: Exchange

    def __getitem__(self, name: str) -> str | None:
        """Give a field's value; several lines are joined by comma and space."""
        prefix = name.lower() + ":"
        values = [line.partition(":")[2].strip() for line in self.text.split("\r\n") if line.lower().startswith(prefix)]
        return ", ".join(values) if values else None


# --- Ports ----------------------------------------------------------------------------------------------------------


class FakeClock:
    def __init__(self) -> None:
        self.now = NOW

    def wall(self) -> float:
        return self.now

    def mono(self) -> float:
        return self.now - NOW + 1_000.0

    def passes(self, seconds: float) -> None:
        self.now += seconds


class FakeIdentifiers:
    def __init__(self) -> None:
        self.count = 0

    def request_id(self) -> bytes:
        self.count += 1
        return b"00000000-0000-7000-8000-%012d" % self.count


class FakeConfig:
    def __init__(self) -> None:
        self.tenants: dict[bytes, Tenant | GatewayError] = {}

    def tenant(self, host: bytes) -> Tenant | None:
        found = self.tenants.get(host)
        if isinstance(found, GatewayError):
            raise found
        return found


class FakeKeys:
    def __init__(self) -> None:
        self.records: dict[tuple[str, bytes], KeyRecord] = {}
        self.asked: list[bytes] = []
        self.uses: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self.away = False

    def memo(self, presented: bytes) -> bytes:
        return b"memo of " + presented

    def find(self, tenant_id: str, presented: bytes, memo: bytes = b"") -> KeyRecord | None:
        assert memo == self.memo(presented)
        self.asked.append(presented)
        if self.away:
            raise GatewayError("identity-unavailable", "Credentials cannot be checked right now.")
        return self.records.get((tenant_id, presented))


class FakeSessions:
    def __init__(self) -> None:
        self.expectation = Expectation(ISSUER, (PARTY,))
        self.published: dict[str, Any] = {}
        self.after_refresh: dict[str, Any] | None = None
        self.signed_out: set[str] = set()
        self.refreshes = 0

    def keys(self) -> dict[str, Any]:
        return self.published

    def refreshed(self) -> dict[str, Any]:
        self.refreshes += 1
        if self.after_refresh is not None:
            self.published = self.after_refresh
        return self.published

    def denied(self, session_id: str) -> bool:
        return session_id in self.signed_out


class FakeIssuerKeys:
    """Sets by the issuer's id; without one the issuer cannot be asked now."""

    def __init__(self) -> None:
        self.published: dict[str, KeySet] = {}
        self.after_refresh: dict[str, KeySet] = {}
        self.refreshes = 0

    def keys(self, issuer: Issuer) -> KeySet:
        if issuer.id not in self.published:
            raise GatewayError("identity-unavailable", "Tokens of this issuer cannot be checked right now.")
        return self.published[issuer.id]

    def refreshed(self, issuer: Issuer) -> KeySet:
        self.refreshes += 1
        self.published |= self.after_refresh
        return self.keys(issuer)


class FakeTokens:
    """Authorities that know what they are told; `asked` has (tenant, authority, token), an issuer by its id."""

    def __init__(self) -> None:
        self.words: dict[tuple[str, str, bytes], TokenStatus] = {}
        self.asked: list[tuple[str, str, bytes]] = []
        self.away = False

    def check(self, tenant_id: str, authority: Any, token: bytes, digest: bytes) -> TokenStatus:
        assert digest == hashlib.sha256(token).digest()
        question = (tenant_id, authority if isinstance(authority, str) else authority.id, token)
        self.asked.append(question)
        if self.away:
            raise GatewayError("identity-unavailable", "The token cannot be checked right now.")
        return self.words.get(question) or TokenStatus(refusal="unknown")


class FakeSecrets:
    """Sealed is whatever stands in `known`, for any place; `places` are those that were asked for."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}
        self.places: list[bytes] = []

    def opened(self, sealed: str, belongs_to: bytes) -> bytes:
        self.places.append(belongs_to)
        if sealed not in self.known:
            raise GatewayError("identity-unavailable", "The credentials cannot be checked right now.")
        return self.known[sealed]


class FakeNonces:
    def __init__(self) -> None:
        self.used: set[tuple[str, str, str]] = set()
        self.away = False

    def take(self, tenant_id: str, key_id: str, nonce: str) -> bool:
        if self.away:
            raise GatewayError("identity-unavailable", "The signature cannot be checked for a replay right now.")
        name = (tenant_id, key_id, nonce)
        new = name not in self.used
        self.used.add(name)
        return new


class FakeCounters:
    """The honest arithmetic over a dictionary; all or nothing, as the port says."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.states: dict[tuple[str, str, bytes], Any] = {}
        self.asked: list[Sequence[Check]] = []
        self.in_flight: dict[tuple[str, str, bytes], int] = {}

    def admit(self, checks: Sequence[Check]) -> Sequence[Verdict]:
        self.asked.append(checks)
        now = self._clock.wall()
        verdicts, after = [], {}
        for check in checks:
            place = (check.tenant_id, check.policy.id, check.identifier)
            policy, state = check.policy, self.states.get(place)
            if policy.algorithm == "token_bucket":
                decision, following = ratelimit.gcra(state, now, policy.rate_per_second, policy.burst, check.cost)
            elif policy.algorithm == "calendar":
                decision, following = ratelimit.calendar_quota(state, now, policy.limit, policy.window_s, check.cost)
            else:
                decision, following = ratelimit.sliding_window(state, now, policy.limit, policy.window_s, check.cost)
            after[place] = following
            verdicts.append(
                Verdict(policy, decision.allowed, decision.remaining, decision.reset_s, decision.retry_after_s)
            )
        if all(verdict.allowed or verdict.policy.mode == "shadow" for verdict in verdicts):
            self.states.update(after)
        return verdicts

    def enter(self, checks: Sequence[Check]) -> Sequence[Verdict]:
        verdicts, taken = [], []
        for check in checks:
            place = (check.tenant_id, check.policy.id, check.identifier)
            used = self.in_flight.get(place, 0)
            allowed = used < check.policy.limit
            left = check.policy.limit - used - 1 if allowed else 0
            verdicts.append(Verdict(check.policy, allowed, left, 0.0, 0.0 if allowed else 1.0))
            if allowed:
                taken.append(check)
                self.in_flight[place] = used + 1
            elif check.policy.mode == "enforce":
                self.leave(taken)
                break
        return verdicts

    def leave(self, checks: Sequence[Check]) -> None:
        for check in checks:
            self.in_flight[check.tenant_id, check.policy.id, check.identifier] -= 1


class FakeCache:
    def __init__(self) -> None:
        self.stored: dict[CacheKey, StoredResponse] = {}
        self.asked: list[CacheKey] = []

    def find(self, key: CacheKey) -> StoredResponse | None:
        self.asked.append(key)
        return self.stored.get(key)

    def keep(self, key: CacheKey, stored: StoredResponse) -> None:
        self.stored[key] = stored


class FakeHealth:
    def __init__(self) -> None:
        self.down: set[tuple[str, str]] = set()

    def healthy(self, tenant_id: str, target_id: str) -> bool:
        return (tenant_id, target_id) not in self.down


class FakeUpstream:
    """An origin that follows a script; the last line of it is repeated. It reads the whole request body first."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.script: list[UpstreamResponse | Exception] = [a_response(200, [("Content-Type", "text/plain")], b"hello")]
        self.requests: list[UpstreamRequest] = []
        self.bodies: list[bytes] = []
        self.takes_s = 0.0

    def answers(self, status: int = 200, body: bytes | Body = b"", **fields: str) -> None:
        named = [(name.replace("_", "-"), value) for name, value in fields.items()]
        self.script = [a_response(status, named, body)]

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        self.requests.append(request)
        self._clock.passes(self.takes_s)
        line = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        unsent = isinstance(line, GatewayError) and line.retry.value == "nothing-sent"
        if request.body is not None and not unsent:
            self.bodies.append(request.body if isinstance(request.body, bytes) else drained(request.body))
        if isinstance(line, Exception):
            raise line
        return line

    @property
    def heads(self) -> list[str]:
        return [request.head.decode("latin-1") for request in self.requests]


def drained(body: Body) -> bytes:
    pieces = []
    try:
        while piece := body.read():
            pieces.append(piece)
    finally:
        body.close()
    return b"".join(pieces)


class FakeRecorder:
    def __init__(self) -> None:
        self.records: list[Exchange] = []
        self.refusals: list[tuple[GatewayError, str, bytes]] = []

    def record(self, exchange: Exchange) -> None:
        self.records.append(exchange)

    def refused(self, error: GatewayError, client_ip: str, request_id: bytes) -> None:
        self.refusals.append((error, client_ip, request_id))


class FakeSigner:
    """Signs in words; `away` is why it cannot."""

    def __init__(self) -> None:
        self.signed: list[tuple[SigningKey, bytes]] = []
        self.away = ""

    def issuer(self, tenant: Tenant) -> str:
        return f"https://{tenant.subdomain}.example.com"

    def sign(self, key: SigningKey, message: bytes) -> bytes:
        if self.away:
            raise GatewayError("identity-unavailable", "Not now.", internal=self.away)
        self.signed.append((key, message))
        return b"signed by " + key.kid.encode()


# --- The stage ------------------------------------------------------------------------------------------------------


class Stage:
    """One worker with one tenant at demo.example.com, and an origin that answers."""

    def __init__(self, *routes: RouteConfig, snapshot: Snapshot | None = None) -> None:
        self.clock = FakeClock()
        self.identifiers = FakeIdentifiers()
        self.config = FakeConfig()
        self.keys = FakeKeys()
        self.sessions = FakeSessions()
        self.issuers = FakeIssuerKeys()
        self.tokens = FakeTokens()
        self.secrets = FakeSecrets()
        self.nonces = FakeNonces()
        self.counters = FakeCounters(self.clock)
        self.cache = FakeCache()
        self.health = FakeHealth()
        self.origin = FakeUpstream(self.clock)
        self.recorder = FakeRecorder()
        self.signer = FakeSigner()
        self.pipeline = Pipeline(
            Ports(
                self.clock, self.identifiers, self.config, self.keys, self.sessions, self.counters, self.cache,
                self.health, self.origin, self.recorder, self.issuers, self.tokens, self.signer, self.secrets,
                self.nonces,
            )
        )  # fmt: skip
        self.publish(snapshot or a_snapshot(*(routes or (a_route(),))))

    def publish(self, snapshot: Snapshot, host: str = "demo.example.com") -> Tenant:
        tenant = compile_snapshot(snapshot)
        self.config.tenants[host.encode()] = tenant
        return tenant

    def knows_key(self, presented: str, **fields: Any) -> None:
        record = a_key_record(**fields)
        self.keys.records[record.tenant_id, presented.encode()] = record

    def get(self, target: str = "/", *fields: tuple[str, str], **more: Any) -> Answer:
        return self.send("GET", target, *fields, **more)

    def send(
        self,
        method: str,
        target: str,
        *fields: tuple[str, str],
        body: bytes | Body | None = None,
        host: str = "demo.example.com",
        client_ip: str = "192.0.2.7",
        told: Told | None = None,
    ) -> Answer:
        length = 0 if body is None else len(body) if isinstance(body, bytes) else body.length
        head = a_head(method, target, fields, host, length, chunked=length is None)
        return self.take(head, body, client_ip, told=told)

    def take(
        self,
        head: RequestHead,
        body: bytes | Body | None = None,
        client_ip: str = "192.0.2.7",
        scheme: bytes = b"http",
        told: Told | None = None,
    ) -> Answer:
        """Serve a head as the parser gives it; equal requests share one."""
        exchange = Exchange(
            head, body, client_ip, scheme, self.identifiers.request_id(), self.clock.wall(), self.clock.mono()
        )
        if told is not None:
            exchange.told = told
            exchange.client_ip, exchange.scheme = told.client_ip, told.scheme or scheme
        return self.serve(exchange)

    def serve(self, exchange: Exchange) -> Answer:
        replies: list[tuple[Reply, bytes]] = []

        def write(reply: Reply) -> None:
            exchange.started_reply = True
            replies.append((reply, reply.body if isinstance(reply.body, bytes) else drained(reply.body)))

        self.pipeline.serve(exchange, write)
        assert len(replies) == 1, "exactly one reply is written"
        reply, body = replies[0]
        text = b"".join((reply.lines, *reply.extra)).decode("latin-1")
        return Answer(reply.status, text, body, reply, exchange)
