"""A tenant's snapshot compiled for reading: everything that can be decided once per version is decided here.

In:    contracts.snapshot.Snapshot, already validated by the control plane.
Out:   Tenant with its routes, origins and targets; `Tenant.resolve` finds the routes of a path.
Laws:  1. Nothing changes after compiling, except memories of pure functions (`paths`, `admission`) and the `meter`
       slots, which telemetry owns. 2. Finding a route costs the same at 10 routes and at 1,000: a trie over path
       segments, then one memory of raw paths (phases.route bounds it). 3. A snapshot that does not compile raises
       SnapshotError.
Not here: what a request may do with a route (phases), loading and swapping (edge.store.config_feed).

Longer than 400 lines because one version of a tenant is read as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from operator import attrgetter
from typing import Any, Final
from typing import Literal as OneOf

import msgspec

from contracts import bounds, identity
from contracts.addresses import AddressError, parse_origin_url
from contracts.networks import AddressFilter, NetworkError
from contracts.patterns import Capture, Literal, Pattern, PatternError, Rest, normalise_path, parse_pattern
from contracts.snapshot import (
    AccessConfig,
    AddressRules,
    CacheConfig,
    OriginConfig,
    OriginTlsConfig,
    PolicyConfig,
    RouteConfig,
    Snapshot,
    SnapshotError,
    TargetConfig,
    client_key_place,
)
from edge.http.cors import ORIGINS_OWN, CorsPlan
from edge.introspection import Introspector, introspector_of, introspectors
from edge.issuers import Issuer, compile_issuers, compile_machines, compile_signers

CredentialKind = OneOf[
    "key", "session", "user_token", "access_token", "opaque_access", "machine_token", "opaque_machine", "signature"
]
_KINDS: Final[dict[str, frozenset[CredentialKind]]] = {
    "jwt": frozenset({"session", "user_token"}),
    "apikey": frozenset({"key"}),
    "oauth": frozenset({"access_token", "opaque_access"}),
    "service": frozenset({"machine_token", "opaque_machine", "signature"}),
}
METHODS: Final = tuple(method.encode("ascii") for method in bounds.METHODS)
_METHODS: Final = frozenset(METHODS)
# Ours on every answer; an origin's copy would be a second, different one.
_OURS: Final = frozenset({b"x-request-id"})
_OURS_LIMITED: Final = frozenset({
    b"ratelimit", b"ratelimit-policy", b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset",
})  # fmt: skip
_OURS_CACHED: Final = frozenset({b"x-cache"})
_AGE: Final = frozenset({b"age"})


class OriginTls:
    """What an origin's TLS differs in. `digest`: equal when, and only when, a connection may be used for either."""

    __slots__ = ("ca_certificates", "client_certificate", "client_key", "client_key_place", "digest", "server_name")

    def __init__(self, config: OriginTlsConfig, tenant_id: str, origin_id: str) -> None:
        self.ca_certificates = config.ca_certificates
        self.server_name = config.server_name
        self.client_certificate = config.client_certificate
        self.client_key = config.client_key
        """Sealed."""
        self.client_key_place = client_key_place(tenant_id, origin_id)
        # Where a key belongs is part of it: a sealed key that was moved must not find the context of its old place.
        place = self.client_key_place if config.client_key is not None else b""
        self.digest = hashlib.sha256(joined(msgspec.json.encode(config, order="deterministic"), place)).hexdigest()

    def __repr__(self) -> str:
        return f"<OriginTls {self.digest[:8]}>"


class Target:
    """One address of an origin. `url`: scheme, host and port, as the upstream pool wants it; `base_path` goes before
    every path; `authority` is the Host line's value."""

    __slots__ = ("authority", "base_path", "id", "id_octets", "tls", "url", "weight")

    def __init__(self, config: TargetConfig, tls: OriginTls | None) -> None:
        try:
            parsed = parse_origin_url(config.url)
        except AddressError as error:
            raise SnapshotError(f"target {config.id}: {error}") from None
        self.id = config.id
        self.id_octets = config.id.encode("ascii", "replace")
        self.weight = config.weight
        self.authority = parsed.authority.encode("ascii")
        self.base_path = parsed.base_path.encode("ascii")
        self.url = f"{parsed.scheme}://{parsed.authority}"
        self.tls = tls if parsed.scheme == "https" else None

    def __repr__(self) -> str:
        return f"<Target {self.url} weight={self.weight}>"


class Origin:
    """`shape` changes when, and only when, what a balancer remembers of the origin loses its meaning."""

    __slots__ = ("connect_timeout_s", "id", "idle_timeout_s", "name", "shape", "targets", "timeout_s", "tls")

    def __init__(self, config: OriginConfig, tenant_id: str) -> None:
        if not config.targets:
            raise SnapshotError(f"origin {config.id} has no target")
        self.id = config.id
        self.name = config.name
        self.tls = OriginTls(config.tls, tenant_id, config.id) if config.tls else None
        self.targets = tuple(Target(target, self.tls) for target in config.targets)
        self.connect_timeout_s = config.connect_timeout_s
        self.timeout_s = config.timeout_s
        self.idle_timeout_s = config.idle_timeout_s
        self.shape = tuple((target.id, target.weight) for target in self.targets)

    def __repr__(self) -> str:
        return f"<Origin {self.name} {len(self.targets)} targets>"


class CachePlan:
    """How a route's answers are kept. `scope` starts every key: tenant, route and epoch, length-prefixed."""

    __slots__ = ("epoch", "names", "pattern", "scope", "shared", "stored_drop", "ttl_s")

    def __init__(self, config: CacheConfig, scope: bytes, epoch: str, response_drop: frozenset[bytes]) -> None:
        self.ttl_s = config.ttl_s
        self.pattern = config.key_pattern
        self.names = tuple(name.lower().encode("ascii") for name in config.key_headers) if self.by_headers else ()
        self.shared = config.shared
        self.epoch = epoch
        self.scope = scope
        self.stored_drop = response_drop | _AGE

    @property
    def by_query(self) -> bool:
        return self.pattern != "path"

    @property
    def by_headers(self) -> bool:
        return self.pattern == "path+query+headers"


class Route:
    """One route with all that does not depend on the request. `order`: its rank in the tenant, 0 wins first."""

    __slots__ = (
        "__weakref__", "accepts", "addresses", "admission", "any_user", "auth_mode", "body_bytes_max", "cache", "cors",
        "forward_credential", "id", "identity_token", "introspector", "issuers", "meter", "methods", "order", "origin",
        "pattern",
        "policies", "preserve_host", "required_permissions", "required_roles", "required_scopes", "response_drop",
        "strip_prefix", "takes_signatures",
    )  # fmt: skip

    def __init__(
        self, config: RouteConfig, pattern: Pattern, origin: Origin, order: int, tenant_id: str,
        asked: Mapping[str, Introspector],
    ) -> None:  # fmt: skip
        self.id = config.id
        self.pattern = pattern
        self.order = order
        self.origin = origin
        self.auth_mode = config.auth_mode
        self.accepts = _accepts(config)
        """Kinds of credential it takes; none on a public route."""
        self.takes_signatures = "signature" in self.accepts
        self.introspector = introspector_of(config, asked) if "opaque_access" in self.accepts else None
        """Who is asked about opaque access tokens, if anybody."""
        self.methods = _methods(config)
        self.required_scopes = config.required_scopes
        access = AccessConfig() if config.access is msgspec.UNSET else config.access
        self.required_roles = access.required_roles
        self.required_permissions = access.required_permissions
        self.issuers = frozenset(access.issuers)
        """Ids of the issuers it takes signed tokens of; empty: all of the tenant, and Clerk."""
        self.any_user = config.any_user
        self.policies = config.policies
        self.strip_prefix = (config.strip_prefix or "").rstrip("/").encode("ascii")
        self.forward_credential = config.forward_credential
        self.preserve_host = config.preserve_host
        self.identity_token = access.identity_token
        self.body_bytes_max = config.body_bytes_max
        self.response_drop = _OURS | (_OURS_LIMITED if config.policies else frozenset())
        self.addresses = _filter(access.addresses, f"route {config.id}")
        """Who may come, by address; None: everybody."""
        self.cors: CorsPlan | None = None
        if access.cors is not msgspec.UNSET:
            self.cors = CorsPlan(access.cors, _cors_methods(access.cors.methods, self.methods))
            self.response_drop |= ORIGINS_OWN
        self.cache: CachePlan | None = None
        if config.cache is not None:
            self.response_drop |= _OURS_CACHED
            epoch = _epoch(config, origin)
            scope = joined(tenant_id.encode(), config.id.encode(), epoch.encode())
            self.cache = CachePlan(config.cache, scope, epoch, self.response_drop)
        self.admission: Any = None
        """Memory of phases.ratelimit: the plan made of `policies`."""
        self.meter: Any = None
        """Owned by edge.telemetry."""

    def allows(self, method: bytes) -> bool:
        return self.methods is None or method in self.methods

    @property
    def takes_oauth(self) -> bool:
        return not self.accepts.isdisjoint(_KINDS["oauth"])

    def takes_issuer(self, issuer: Issuer) -> bool:
        return not self.issuers or issuer.id in self.issuers

    def rewritten(self, path: bytes) -> bytes:
        """Take strip_prefix off, at a segment's end only."""
        prefix = self.strip_prefix
        if not prefix or not path.startswith(prefix):
            return path
        rest = path[len(prefix) :]
        if not rest:
            return b"/"
        return rest if rest[:1] == b"/" else path

    def __repr__(self) -> str:
        return f"<Route {self.pattern.text} {self.auth_mode}>"


class Match:
    """A route found for a path: the path that goes to the origin, and what the pattern captured (name, value)."""

    __slots__ = ("captures", "forward_path", "path", "route")

    def __init__(self, route: Route, path: bytes) -> None:
        self.route = route
        self.path = path
        self.forward_path = route.rewritten(path)
        self.captures = tuple(
            (segment.name, value)
            for segment, value in zip(route.pattern.segments, path[1:].split(b"/"), strict=False)
            if isinstance(segment, Capture)
        )


class Resolved:
    """All routes whose pattern fits a path, best first, and the choice for each method asked so far."""

    __slots__ = ("by_method", "path", "routes")

    def __init__(self, path: bytes, routes: list[Route]) -> None:
        self.path = path
        self.routes = routes
        self.by_method: dict[bytes, Match] = {}

    def choose(self, method: bytes) -> Match | None:
        """Give the best route that allows the method; a route that allows GET allows HEAD."""
        for route in self.routes:
            if route.allows(method):
                match = Match(route, self.path)
                if method in _METHODS:  # others are the client's invention: unbounded
                    self.by_method[method] = match
                return match
        return None

    @property
    def methods(self) -> tuple[bytes, ...]:
        """For Allow (RFC 9110 section 10.2.1): what some route of the path allows; one that names none allows all."""
        allowed = frozenset[bytes]().union(*(route.methods or METHODS for route in self.routes))
        return tuple(method for method in METHODS if method in allowed)


class _Node:
    __slots__ = ("capture", "exact", "literals", "rest")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Node] = {}
        self.capture: _Node | None = None
        self.exact: list[Route] = []
        self.rest: list[Route] = []


class Tenant:
    """One version of one tenant's configuration."""

    __slots__ = (
        "__weakref__", "addresses", "authorization_servers", "challenge", "config", "has_cors", "id", "in_flight_max",
        "issuers", "key_set", "machines", "meter", "origins", "paths", "routes", "signers", "signing_key", "subdomain",
        "suspended", "takes_oauth", "tenant_line", "trie", "version",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot, origins: dict[str, Origin], routes: tuple[Route, ...]) -> None:
        self.config = snapshot.tenant
        self.id = snapshot.tenant.id
        self.subdomain = snapshot.tenant.subdomain
        self.version = snapshot.version
        self.suspended = snapshot.tenant.status != "active"
        self.in_flight_max = snapshot.tenant.in_flight_max
        self.addresses = _filter(snapshot.tenant.addresses, "tenant")
        """Who may come, by address; None: everybody."""
        self.has_cors = any(route.cors is not None for route in routes)
        self.origins = origins
        self.routes = routes
        """In the order in which they win."""
        self.takes_oauth = any(route.takes_oauth for route in routes)
        self.issuers = compile_issuers(snapshot.issuers or (), self.id)
        """Those of signed tokens, by kind and `iss`."""
        self.authorization_servers = tuple(
            (config.id, config.issuer) for config in snapshot.issuers or () if config.kind != "jwt"
        )
        """Id and `iss` of all that give out access tokens, signed or opaque."""
        self.machines = compile_machines(snapshot.services or ())
        """By the `mch_...` Clerk knows them by."""
        self.signers = compile_signers(snapshot.services or (), self.id)
        """Services that sign their requests, by the key id they sign as."""
        self.challenge = b'Bearer realm="%b"' % self.subdomain.encode("ascii")
        self.tenant_line = b"X-Vantage-Tenant: %b\r\n" % self.id.encode("ascii")
        try:
            self.key_set = identity.key_set(key.public_jwk for key in snapshot.identity_keys or ())
        except ValueError as error:
            raise SnapshotError(f"identity_keys: {error}") from None
        self.signing_key = identity.signing_key(self.id, snapshot.identity_keys or ())
        """None: no identity token can be made."""
        self.trie = _Node()
        for route in routes:
            _plant(self.trie, route)
        self.paths: dict[bytes, Resolved] = {}
        """Memory of phases.route: raw path to what it resolves to; bounded there."""
        self.meter: Any = None
        """Owned by edge.telemetry."""

    def resolve(self, raw_path: bytes) -> Resolved:
        """Normalise a path and find its routes. Raises patterns.PathError.

        Complexity: nodes of the trie that fit, whatever the number of routes; one look-up for a remembered path.
        """
        found = self.paths.get(raw_path)
        if found is None:
            path = normalise_path(raw_path)
            found = Resolved(path, _search(self.trie, path[1:].split(b"/")))
        return found

    def __repr__(self) -> str:
        return f"<Tenant {self.subdomain} version={self.version} {len(self.routes)} routes>"


def compile_snapshot(snapshot: Snapshot) -> Tenant:
    """Raises SnapshotError naming the route, origin or target that does not compile."""
    origins = {config.id: Origin(config, snapshot.tenant.id) for config in snapshot.origins}
    asked = introspectors(snapshot.issuers or (), snapshot.tenant.id)
    ranked = []
    for position, config in enumerate(snapshot.routes):
        try:
            pattern = parse_pattern(config.path_pattern)
        except PatternError as error:
            raise SnapshotError(f"route {config.id}: path_pattern {error}") from None
        if config.origin_id not in origins:
            raise SnapshotError(f"route {config.id}: origin {config.origin_id} is not in the snapshot")
        ranked.append((pattern.rank(config.priority, position), config, pattern))
    ranked.sort(key=lambda item: item[0])
    routes = tuple(
        Route(config, pattern, origins[config.origin_id], order, snapshot.tenant.id, asked)
        for order, (_, config, pattern) in enumerate(ranked)
    )
    alike: dict[PolicyConfig, PolicyConfig] = {}  # a limit of the whole tenant is one object, on whichever route
    for route in routes:
        route.policies = tuple([alike.setdefault(policy, policy) for policy in route.policies])
    return Tenant(snapshot, origins, routes)


def joined(*parts: bytes) -> bytes:
    """Join parts so that no two different lists of parts give the same bytes: each is preceded by its length."""
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


def _methods(config: RouteConfig) -> frozenset[bytes] | None:
    if not config.methods:
        return None
    methods = {method.encode("ascii") for method in config.methods}
    if b"GET" in methods:
        methods.add(b"HEAD")
    return frozenset(methods)


def _filter(rules: AddressRules | msgspec.UnsetType, whose: str) -> AddressFilter | None:
    """Raises SnapshotError."""
    if rules is msgspec.UNSET or not (rules.allow or rules.deny):
        return None
    try:
        return AddressFilter(rules.allow, rules.deny)
    except NetworkError as error:
        raise SnapshotError(f"{whose}: a network {error}") from None


def _cors_methods(named: tuple[str, ...], taken: frozenset[bytes] | None) -> tuple[bytes, ...]:
    """Give the methods a page may use: those that are named, else those of the route."""
    if named:
        return tuple(method.encode("ascii") for method in named)
    return tuple(method for method in METHODS if taken is None or method in taken)


def _accepts(config: RouteConfig) -> frozenset[CredentialKind]:
    """Raises SnapshotError for a mode `any` that names no kind. Where issuers are named, Clerk's sessions are not."""
    if config.auth_mode == "public":
        return frozenset()
    access = AccessConfig() if config.access is msgspec.UNSET else config.access
    kinds: tuple[str, ...] = (config.auth_mode.removesuffix("_required"),)
    if config.auth_mode == "any":
        kinds = access.accept
        if not kinds:
            raise SnapshotError(f"route {config.id}: auth_mode any needs at least one kind of credential")
    accepts = frozenset[CredentialKind]().union(*(_KINDS[kind] for kind in kinds))
    return accepts - {"session"} if access.issuers else accepts


def _epoch(config: RouteConfig, origin: Origin) -> str:
    """Give a digest of all that makes a stored answer right; a change of anything else keeps what is stored."""
    concerns: tuple[object, ...] = (
        config.cache, config.auth_mode, config.any_user, config.strip_prefix, config.forward_credential,
        config.preserve_host, [(target.url, target.base_path.decode()) for target in origin.targets],
    )  # fmt: skip
    if config.access is not msgspec.UNSET and config.access.cors is not msgspec.UNSET:
        concerns = (*concerns, "cors")  # without it, an origin's own CORS fields are stored
    tls = origin.tls
    if tls is not None:  # not the key: sealed anew it opens to the same
        concerns = (*concerns, tls.ca_certificates, tls.server_name, tls.client_certificate)
    if config.access is not msgspec.UNSET and config.access.identity_token:  # an origin may refuse who comes without
        concerns = (*concerns, "identity_token")
    return hashlib.sha256(msgspec.json.encode(concerns, order="deterministic")).hexdigest()[:16]


def _plant(root: _Node, route: Route) -> None:
    node = root
    for segment in route.pattern.segments:
        if isinstance(segment, Rest):
            _append(node.rest, route)
            return
        if isinstance(segment, Literal):
            node = node.literals.setdefault(segment.text.encode("ascii"), _Node())
        else:
            if node.capture is None:
                node.capture = _Node()
            node = node.capture
    _append(node.exact, route)


def _append(routes: list[Route], route: Route) -> None:
    """Routes come best first: one whose methods an equal pattern already takes can never win."""
    for earlier in routes:
        if earlier.methods is None or (route.methods is not None and route.methods <= earlier.methods):
            return
    routes.append(route)


def _search(root: _Node, segments: list[bytes]) -> list[Route]:
    found: list[Route] = []
    level = [root]
    for segment in segments:
        following = []
        for node in level:
            found += node.rest
            child = node.literals.get(segment)
            if child is not None:
                following.append(child)
            if node.capture is not None and segment:
                following.append(node.capture)
        level = following
        if not level:
            break
    for node in level:
        found += node.exact
        found += node.rest
    found.sort(key=attrgetter("order"))
    return found
