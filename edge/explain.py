"""What would happen to a request, and why: the very pipeline over a described request, with recording ports.

In:    a tenant's snapshot (live or a draft), a described request, the keys it may carry.
Out:   Explanation: the answer's status and the steps, each a phase, what it decided and the facts it decided by.
Laws:  1. Nothing is sent, counted or stored. 2. The order and the decisions are the pipeline's own: nothing is decided
       here again. 3. A secret that was presented is never repeated in a step.
Not here: what the console makes of it (webapp), traces of live requests.

Longer than 400 lines because every port has its recording form here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from contracts import identity
from contracts.clerk import Expectation
from contracts.keysets import KeySet
from contracts.networks import AddressFilter
from contracts.snapshot import KeyRecord, Snapshot
from edge.errors import GatewayError
from edge.exchange import Exchange
from edge.http.cors import CorsPlan
from edge.http.messages import FieldSection, Reply, RequestHead, ResponseHead
from edge.introspection import Introspector
from edge.issuers import Issuer
from edge.phases import address, cache, ratelimit, wellknown
from edge.phases.auth.attempts import FAILURES_MAX, policy_of
from edge.phases.auth.credential import Credential
from edge.pipeline import Pipeline
from edge.ports import (
    CacheKey,
    Check,
    ClerkToken,
    Ports,
    StoredResponse,
    TokenStatus,
    UpstreamRequest,
    UpstreamResponse,
    Verdict,
)
from edge.snapshot import Route, Tenant, compile_snapshot

_REQUEST_ID: Final = b"00000000-0000-7000-8000-000000000000"
_HOST: Final = "tenant.example"
_SECRET_FIELDS: Final = (b"authorization:", b"x-api-key:", b"cookie:", b"x-vantage-identity:")

Fact = str | int | float | bool | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Described:
    """A request in words. `target`: origin-form, path and query. `at`: wall seconds, what expiry is judged by."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    client_ip: str = "192.0.2.1"
    host: str = ""
    body_bytes: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    phase: str
    decision: str
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Explanation:
    """`status`: 200 stands for whatever the origin would say. `problem`: the slug of the refusal, if it is one."""

    status: int
    problem: str | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Identities:
    """Who may be presented: records by the exact key presented, how Clerk's tokens are verified, the key sets of the
    tenant's issuers by the issuer's id, where it pins none, and what an authority would say by the opaque token."""

    keys: Mapping[bytes, KeyRecord] = field(default_factory=dict, repr=False)
    session_keys: Mapping[str, RSAPublicKey] = field(default_factory=dict)
    expectation: Expectation = field(default_factory=lambda: Expectation("", ()))
    issuer_keys: Mapping[str, KeySet] = field(default_factory=dict)
    tokens: Mapping[bytes, TokenStatus] = field(default_factory=dict, repr=False)


def explain(snapshot: Snapshot, request: Described, identities: Identities | None = None) -> Explanation:
    """Raises contracts.snapshot.SnapshotError when the snapshot does not compile."""
    tenant = compile_snapshot(snapshot)
    stage = _Stage(tenant, request, identities or Identities())
    exchange = Exchange(_head(request), _body(request), request.client_ip, b"https", _REQUEST_ID, request.at, 0.0)
    replies: list[Reply] = []
    stage.pipeline().serve(exchange, replies.append)
    steps = (*_identify(tenant, exchange), *_matching(tenant, exchange), *_decisions(exchange), *stage.steps,
             *_ending(exchange))  # fmt: skip
    return Explanation(replies[0].status, exchange.error.problem.slug if exchange.error else None, steps)


def _head(request: Described) -> RequestHead:
    path, mark, query = request.target.partition("?")
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.fields]
    host = (request.host or _HOST).encode("latin-1")
    index: dict[bytes, tuple[bytes, ...]] = {}
    fields = [field for field in fields if b"_" not in field[0]]  # as the parser: nobody sees them
    for name, value in (pairs := ((b"Host", host), *fields)):
        index[name.lower()] = (*index.get(name.lower(), ()), value)
    section = FieldSection(b"".join([b"%b: %b\r\n" % pair for pair in pairs]), pairs, index)
    return RequestHead(
        request.method.encode("latin-1"), request.target.encode("latin-1"), path.encode("latin-1"),
        query.encode("latin-1") if mark else None, 11, section, host, request.body_bytes, False, True, False,
    )  # fmt: skip


def _body(request: Described) -> _Announced | None:
    return _Announced(request.body_bytes) if request.body_bytes else None


class _Announced:
    """A body of which only the length is known: nobody reads it."""

    trailers = b""
    waits = False

    def __init__(self, length: int) -> None:
        self.length: int | None = length

    def read(self) -> bytes:
        return b""

    def close(self) -> None:
        pass


class _Stage:
    """All ports at once, in their smallest form; `steps` is what they were asked."""

    def __init__(self, tenant: Tenant, request: Described, identities: Identities) -> None:
        self._tenant = tenant
        self._at = request.at
        self._host = request.host or _HOST
        self._identities = identities
        self.expectation = identities.expectation
        self._failures = policy_of(tenant.id, FAILURES_MAX)
        self.steps: list[Step] = []

    def pipeline(self) -> Pipeline:
        ports = Ports(self, self, _Config(self._tenant), _Keys(self._identities), self, self, _Cache(self), self, self,
                      self, _IssuerKeys(self._identities), self, self, self, self)  # fmt: skip
        return Pipeline(ports, FAILURES_MAX)

    # Clock and Identifiers

    def wall(self) -> float:
        return self._at

    def mono(self) -> float:
        return 0.0

    def request_id(self) -> bytes:
        return _REQUEST_ID

    # SessionKeys

    def keys(self) -> Mapping[str, RSAPublicKey]:
        return self._identities.session_keys

    def refreshed(self) -> Mapping[str, RSAPublicKey]:
        return self._identities.session_keys

    def denied(self, session_id: str) -> bool:
        return False

    # TokenCheck

    def check(self, tenant_id: str, authority: Introspector | ClerkToken, token: bytes, digest: bytes) -> TokenStatus:
        asked = authority if isinstance(authority, str) else authority.issuer
        self.steps.append(Step("introspect", "would be asked", {"authority": asked}))
        return self._identities.tokens.get(token) or TokenStatus(refusal="nobody was asked: this is only a description")

    # Secrets and Nonces: a described request has no signature of its own to check

    def opened(self, sealed: str, belongs_to: bytes) -> bytes:
        raise GatewayError("identity-unavailable", "Signatures are not checked here.")

    def take(self, tenant_id: str, key_id: str, nonce: str) -> bool:
        return True

    # Counters: what a caller who comes for the first time is told

    def admit(self, checks: Sequence[Check]) -> Sequence[Verdict]:
        verdicts = []
        for check in checks:
            policy = check.policy
            left = ratelimit.quota(policy) - check.cost
            verdicts.append(Verdict(policy, left >= 0, left, 0.0))
            facts: dict[str, Fact] = {
                "policy": policy.name, "algorithm": policy.algorithm, "scope": policy.scope, "mode": policy.mode,
                "quota": ratelimit.quota(policy), "window_s": ratelimit.window_s(policy),
            }  # fmt: skip
            phase, decision = (
                ("attempts", "would be counted") if policy.id == self._failures.id else ("admit", "counted")
            )
            self.steps.append(Step(phase, decision, facts))
        return verdicts

    enter = admit

    def leave(self, checks: Sequence[Check]) -> None:
        """Nothing was counted."""

    # IdentitySigner: without the key, which the console could open but nobody asked it to

    def issuer(self, tenant: Tenant) -> str:
        return identity.issuer(self._host)

    def sign(self, key: identity.SigningKey, message: bytes) -> bytes:
        self.steps.append(Step("identity", "would be signed", {"key": key.kid, "claims": identity.claims_of(message)}))
        return b""

    # HealthView

    def healthy(self, tenant_id: str, target_id: str) -> bool:
        return True

    # Upstream

    def send(self, request: UpstreamRequest) -> UpstreamResponse:
        lines = request.head.decode("latin-1").split("\r\n")
        shown = tuple(line for line in lines if line and not line.lower().encode("latin-1").startswith(_SECRET_FIELDS))
        self.steps.append(Step("send", "would be sent", {"target": request.url, "head": shown}))
        # An answer without a word on caching: what is kept of it is what the route's ttl alone allows.
        head = ResponseHead(200, b"OK", 11, FieldSection(b"", (), {}), 0, False, True, None)
        return UpstreamResponse(head, b"", False, 0.0)

    # Recorder

    def record(self, exchange: Exchange) -> None:
        pass

    def refused(self, error: GatewayError, client_ip: str, request_id: bytes) -> None:
        pass


class _Config:
    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    def tenant(self, host: bytes) -> Tenant | None:
        return self._tenant


class _Keys:
    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self.uses: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def memo(self, presented: bytes) -> bytes:
        return b""

    def find(self, tenant_id: str, presented: bytes, memo: bytes = b"") -> KeyRecord | None:
        return self._identities.keys.get(presented)


class _IssuerKeys:
    """Nobody is asked: a set that is not at hand is not known."""

    def __init__(self, identities: Identities) -> None:
        self._sets = identities.issuer_keys

    def keys(self, issuer: Issuer) -> KeySet:
        keys = self._sets.get(issuer.id)
        if keys is None:
            because = f"the keys of issuer {issuer.name} are not fetched here"
            raise GatewayError(
                "identity-unavailable", "Tokens of this issuer cannot be checked here.", internal=because
            )
        return keys

    def refreshed(self, issuer: Issuer) -> KeySet:
        return self.keys(issuer)


class _Cache:
    """Nothing is stored."""

    def __init__(self, stage: _Stage) -> None:
        self._stage = stage

    def find(self, key: CacheKey) -> StoredResponse | None:
        self._stage.steps.append(Step("lookup", "asked", {"digest": key.digest, "url_digest": key.url_digest}))
        return None

    def keep(self, key: CacheKey, stored: StoredResponse) -> None:
        self._stage.steps.append(Step("store", "would be kept", {"lifetime_s": stored.lifetime_s}))


def _identify(tenant: Tenant, exchange: Exchange) -> Sequence[Step]:
    decision = "suspended" if tenant.suspended else "found"
    found = Step("identify", decision, {"tenant": tenant.subdomain, "version": tenant.version})
    return found, *_address("tenant", None if tenant.suspended else tenant.addresses, exchange.client_ip)


def _matching(tenant: Tenant, exchange: Exchange) -> Sequence[Step]:
    """Every route whose pattern fits the path, in the order in which they win, and why each did not."""
    if not exchange.path:
        return ()
    if exchange.head.path == b"*":
        return (Step("match", "not asked", {"because": "the request is for the server, not for a resource"}),)
    if exchange.route is None and exchange.error is None and exchange.path in wellknown.DOCUMENTS:
        return (Step("match", "not asked", {"because": "the gateway answers this path itself"}),)
    steps = []
    method = exchange.preflight or exchange.head.method
    for route in tenant.resolve(exchange.head.path).routes:
        decision = "chosen" if route is exchange.route else "outranked" if route.allows(method) else "other method"
        facts: dict[str, Fact] = {"pattern": route.pattern.text, "route": route.id}
        if route is exchange.route and exchange.match is not None:
            facts["captures"] = tuple(f"{name}={value.decode('ascii')}" for name, value in exchange.match.captures)
        steps.append(Step("match", decision, facts))
    return steps or (Step("match", "no route", {"path": exchange.path.decode("ascii")}),)


def _decisions(exchange: Exchange) -> Sequence[Step]:
    """Which credential was found, who it proves or why nobody, and whether the route lets them."""
    route = exchange.route
    if route is None:
        return ()
    steps = [*_address("route", route.addresses, exchange.client_ip)]
    if steps and steps[0].decision == "denied":
        return steps
    if route.cors is not None:
        steps.append(_cors(exchange, route.cors))
    facts: dict[str, Fact] = {"mode": route.auth_mode}
    if exchange.preflight or route.auth_mode == "public":
        because: dict[str, Fact] = {"because": "a preflight carries no credentials"} if exchange.preflight else {}
        return (*steps, Step("authenticate", "not asked", facts | because))
    found = exchange.head.section.derived
    presented: Credential | None = found.get("credential") or found.get("credential or signature")
    if presented is not None:
        facts |= {"credential": presented.kind if presented.plausible else "malformed"}
        if presented.issuer:
            facts |= {"says_issuer": presented.issuer}
    who = exchange.principal
    if who is None:
        return (*steps, Step("authenticate", "refused", facts | {"because": _because(exchange)}))
    facts |= {"kind": who.kind, "subject": who.subject, "scopes": who.scopes}
    told = {"issuer": who.issuer, "client": who.client_id, "org": who.org_id, "role": who.role}
    facts |= {name: value for name, value in told.items() if value is not None}
    if who.permissions:
        facts |= {"permissions": who.permissions}
    return (*steps, Step("authenticate", "believed", facts), *_authorisation(exchange, route))


def _authorisation(exchange: Exchange, route: Route) -> Sequence[Step]:
    """Told where the route demands something, or where it refused."""
    demands: dict[str, Fact] = {
        "scopes": route.required_scopes, "one_role_of": route.required_roles, "permissions": route.required_permissions,
    }  # fmt: skip
    facts = {name: value for name, value in demands.items() if value}
    if exchange.error is not None and exchange.error.problem.slug == "scope-insufficient":
        return (Step("authorise", "refused", facts | {"because": _because(exchange)}),)
    return (Step("authorise", "covered", facts),) if facts else ()


def _address(whose: str, rules: AddressFilter | None, client_ip: str) -> Sequence[Step]:
    if rules is None:
        return ()
    judgement = address.judged(rules, client_ip)
    facts: dict[str, Fact] = {"rules_of": whose, "client_ip": client_ip, "because": judgement.because}
    return (Step("address", "allowed" if judgement.allowed else "denied", facts),)


def _cors(exchange: Exchange, plan: CorsPlan) -> Step:
    section = exchange.head.section
    origins = tuple(origin.decode("latin-1") for origin in section.index.get(b"origin", ()))
    decision = "no origin" if not origins else "not allowed" if plan.allowed(section) is None else "allowed"
    return Step("cors", decision, {"origin": origins, "preflight_for": exchange.preflight.decode("ascii") or None})


def _ending(exchange: Exchange) -> Sequence[Step]:
    steps = []
    method = exchange.head.method
    if method == b"OPTIONS" and exchange.error is None and not exchange.attempts:
        assert exchange.reply is not None
        steps.append(Step("options", "answered here", {"says": exchange.reply.lines.decode("latin-1").strip()}))
    if exchange.cache_result is not None:
        facts: dict[str, Fact] = {"status": cache.lines(exchange).decode("latin-1").strip()}
        steps.append(Step("cache", exchange.cache_result, facts))
    if exchange.error is not None:
        problem = exchange.error.problem
        steps.append(Step("answer", problem.slug, {"status": problem.status, "because": _because(exchange)}))
    return steps


def _because(exchange: Exchange) -> str:
    error = exchange.error
    return (error.internal or error.detail) if error is not None else ""
