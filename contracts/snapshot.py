"""The configuration of one tenant, as the control plane publishes it and the edge believes it.

In:    Snapshot values (the publisher), bytes (the edge).
Out:   canonical JSON bytes and their sha256; Snapshot values, strictly decoded.
Laws:  1. Immutable: a change is a new version. 2. Unknown fields are refused: an edge older than its control plane
       keeps its last good snapshot and says so, rather than skip a rule it does not know. 3. No secret in clear.
       4. Values are already validated against contracts.bounds; the edge checks only what would break it.
Not here: compiling for reading (edge.snapshot), building from rows (webapp.services.publishing).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

import msgspec

from contracts.sealing import place

FORMAT: Final = 1
DAY_S: Final = 86_400
MONTH_S: Final = 31 * 86_400
SCOPE_HEADER: Final = "header:"

AuthMode = Literal["public", "jwt_required", "apikey_required", "oauth_required", "service_required", "any"]
Accepted = Literal["jwt", "apikey", "oauth", "service"]
JwtAlgorithm = Literal["RS256", "PS256", "ES256", "EdDSA"]
Algorithm = Literal["token_bucket", "sliding_window", "concurrency", "calendar"]
Scope = Annotated[
    str, msgspec.Meta(pattern=rf"\A(?:tenant|route|user|key|ip|{SCOPE_HEADER}[!#$%&'*+.^_`|~0-9a-z-]{{1,64}})\Z")
]
"""What a limit counts by; `header:<name>`, lower-cased: by a field's value."""
KeyPattern = Literal["path", "path+query", "path+query+headers"]
LoadBalancing = Literal["round_robin"]


class SnapshotError(ValueError):
    """The bytes are not a snapshot this program understands; the message says why."""


class AddressRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Networks in CIDR form. Denied wins; where anything is allowed, everything else is denied."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class TenantConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    name: str
    subdomain: str
    clerk_org_id: str
    status: Literal["active", "suspended"] = "active"
    in_flight_max: int = 1_000
    """Requests of this tenant in flight in one worker; beyond it 503 `tenant-overloaded`."""
    addresses: AddressRules | msgspec.UnsetType = msgspec.UNSET
    """Clients that may speak to this tenant at all."""


class TargetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    url: str
    """Scheme, host and optional port and base path: `https://api.example.com/base`."""
    weight: int = 1


class OriginTlsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What differs from verifying https targets against the system's roots and their own host. PEM is canonical."""

    ca_certificates: str | None = None
    """Trusted instead of the system's roots."""
    server_name: str | None = None
    """Sent as SNI and verified, instead of the URL's host."""
    client_certificate: str | None = None
    """The chain, leaf first."""
    client_key: str | None = None
    """Sealed (contracts.sealing), belonging to `client_key_place`."""


class OriginConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    name: str
    targets: tuple[TargetConfig, ...]
    load_balancing: LoadBalancing = "round_robin"
    health_check_path: str | None = None
    connect_timeout_s: float = 5.0
    timeout_s: float = 30.0
    """To the first byte of the response."""
    idle_timeout_s: float = 60.0
    """Between two reads of a body, in either direction."""
    tls: OriginTlsConfig | msgspec.UnsetType = msgspec.UNSET
    """Not written where it is not used, so that an edge that does not know it yet keeps up with everybody else."""


class PolicyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    """Part of the counter's key: policies that do not mean the same counter never share one. Names the tenant by
    itself; equal own limits of several keys have one id, and their keys tell their counters apart."""
    name: str
    algorithm: Algorithm
    rate_per_second: float = 0.0
    """Token bucket: refill. 0 for a sliding window."""
    burst: int = 0
    """Token bucket: capacity, at least 1."""
    limit: int = 0
    """Sliding window: requests per window. Concurrency: requests in flight. Calendar: in each period."""
    window_s: int = 0
    """Calendar: DAY_S or MONTH_S, whichever period of UTC it counts by."""
    scope: tuple[Scope, ...] = ("route",)
    mode: Literal["enforce", "shadow"] = "enforce"
    on_store_failure: Literal["share", "open", "closed"] = "share"
    cost: int | msgspec.UnsetType = msgspec.UNSET
    """What each request takes of it; at least 1, which is what it is when not written."""


class CacheConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    ttl_s: int
    key_pattern: KeyPattern = "path+query"
    key_headers: tuple[str, ...] = ()
    """Lower-cased field names, in the order they enter the key."""
    shared: bool = False
    """Authenticated answers may be shared between principals."""


class CorsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the gateway answers to browsers of other origins (WHATWG Fetch, CORS protocol)."""

    origins: tuple[str, ...]
    """Serialised origins (`https://app.example.com`), patterns of one label (`https://*.example.com`), or `*` alone."""
    methods: tuple[str, ...] = ()
    """Empty: those of the route."""
    headers: tuple[str, ...] = ()
    """Lower-cased names a request may carry; `*` alone: whatever is asked for."""
    expose: tuple[str, ...] = ()
    """Lower-cased names a script may read."""
    credentials: bool = False
    """Never with `*` among the origins."""
    max_age_s: int = 600


class AccessConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a route asks of a caller beyond its mode and required scopes."""

    accept: tuple[Accepted, ...] = ()
    """auth_mode `any`: the kinds it takes, at least one."""
    issuers: tuple[str, ...] = ()
    """Ids of the tenant's issuers whose tokens it takes; empty: Clerk and every issuer of the tenant."""
    required_roles: tuple[str, ...] = ()
    """One of these, in the form `org:admin`."""
    required_permissions: tuple[str, ...] = ()
    """All of these, in the form `org:<feature>:<permission>`."""
    cors: CorsConfig | msgspec.UnsetType = msgspec.UNSET
    addresses: AddressRules | msgspec.UnsetType = msgspec.UNSET
    identity_token: bool = False
    """Send the origin an identity token signed by the gateway, instead of X-Vantage-Principal alone."""


class IssuerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One authority, besides the deployment's Clerk instance, whose tokens a tenant takes."""

    id: str
    name: str
    kind: Literal["jwt", "oauth", "introspection"]
    """jwt: signed tokens of users. oauth: access tokens by RFC 9068. introspection: opaque ones, asked by RFC 7662."""
    issuer: str
    """Compared exactly with `iss`."""
    audience: tuple[str, ...] = ()
    """One of these must be in `aud`. Never empty for jwt and oauth."""
    algorithms: tuple[JwtAlgorithm, ...] = ("RS256",)
    jwks_uri: str | None = None
    public_keys: str | None = None
    """PEM: verified without network. Exactly one of this and `jwks_uri` for jwt and oauth."""
    required_scopes: tuple[str, ...] = ()
    introspection_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    """Sealed, belonging to `issuer_secret_place`."""


class ServiceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A machine that calls: one that signs its requests (RFC 9421), or one that Clerk knows."""

    id: str
    name: str
    kind: Literal["hmac", "clerk_machine"]
    key_id: str
    """hmac: the `keyid` of its signatures. clerk_machine: its `mch_...`."""
    scopes: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    """hmac: one or two, newest first, each sealed, belonging to `service_secret_place`."""
    previous_until: float | None = None
    """Wall time from which the second secret is no longer believed; None where there is no second."""
    expires_at: float | None = None
    """Wall time, seconds since 1970."""
    addresses: tuple[str, ...] = ()
    """Networks it may call from, in CIDR form; empty: any."""


class IdentityKeyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key of the tenant's identity tokens. The first one with a private key signs; all are published."""

    id: str
    """The `kid`."""
    public_jwk: str
    """JSON of the public key (RFC 7517)."""
    private_key: str | None = None
    """PKCS 8 in DER, sealed, belonging to `identity_key_place`; None once it no longer signs."""


class RouteConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    id: str
    path_pattern: str
    origin_id: str
    auth_mode: AuthMode
    methods: tuple[str, ...] = ()
    """Empty: every method."""
    priority: int = 0
    required_scopes: tuple[str, ...] = ()
    any_user: bool = False
    """jwt_required: accept a session of any organisation, not only the tenant's own."""
    policies: tuple[PolicyConfig, ...] = ()
    cache: CacheConfig | None = None
    strip_prefix: str | None = None
    forward_credential: bool = False
    preserve_host: bool = False
    """Send the client's Host to the origin instead of the origin's own."""
    body_bytes_max: int = 10 * 1024 * 1024
    access: AccessConfig | msgspec.UnsetType = msgspec.UNSET
    """Not written where it is not used, like every later addition: an edge that does not know it keeps up."""


class Snapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Shape: routes oldest first (the position decides ties); only enabled routes and their origins."""

    format: int
    tenant: TenantConfig
    version: int
    routes: tuple[RouteConfig, ...] = ()
    origins: tuple[OriginConfig, ...] = ()
    issuers: tuple[IssuerConfig, ...] | msgspec.UnsetType = msgspec.UNSET
    services: tuple[ServiceConfig, ...] | msgspec.UnsetType = msgspec.UNSET
    identity_keys: tuple[IdentityKeyConfig, ...] | msgspec.UnsetType = msgspec.UNSET


class KeyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the edge knows of one API key, found by its digest."""

    id: str
    tenant_id: str
    name: str
    scopes: tuple[str, ...] = ()
    enabled: bool = True
    expires_at: float | None = None
    """Wall time, seconds since 1970."""
    deprecated_at: float | msgspec.UnsetType = msgspec.UNSET
    """Wall time since which a successor exists; it ends at `expires_at`."""
    addresses: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Networks it may be used from, in CIDR form."""
    policies: tuple[PolicyConfig, ...] | msgspec.UnsetType = msgspec.UNSET
    """Limits of this key alone, whichever route it is used on."""


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_DECODER: Final = msgspec.json.Decoder(Snapshot)
_KEY_DECODER: Final = msgspec.json.Decoder(KeyRecord)


def client_key_place(tenant_id: str, origin_id: str) -> bytes:
    """Spell where an origin's client key belongs, for sealing."""
    return place("origin-client-key", tenant_id, origin_id)


def issuer_secret_place(tenant_id: str, issuer_id: str) -> bytes:
    """Spell where the client secret of an introspection endpoint belongs, for sealing."""
    return place("issuer-client-secret", tenant_id, issuer_id)


def service_secret_place(tenant_id: str, service_id: str) -> bytes:
    """Spell where a service's signing secret belongs, for sealing."""
    return place("service-secret", tenant_id, service_id)


def identity_key_place(tenant_id: str, key_id: str) -> bytes:
    """Spell where the private half of an identity key belongs, for sealing."""
    return place("identity-key", tenant_id, key_id)


def successor_place(tenant_id: str, key_id: str) -> bytes:
    """Spell where an API key belongs that was made by its rotation and waits to be revealed, for sealing."""
    return place("api-key-successor", tenant_id, key_id)


def encode(snapshot: Snapshot) -> tuple[bytes, str]:
    """Give the canonical JSON bytes and their sha256 in hex."""
    body = _ENCODER.encode(snapshot)
    return body, hashlib.sha256(body).hexdigest()


def decode(body: bytes, sha256: str) -> Snapshot:
    """Check the digest and decode strictly. Raises SnapshotError."""
    if hashlib.sha256(body).hexdigest() != sha256:
        raise SnapshotError("the body does not have the sha256 it was published with")
    try:
        snapshot = _DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise SnapshotError(str(error)) from None
    if snapshot.format != FORMAT:
        raise SnapshotError(f"format {snapshot.format} is not {FORMAT}")
    return snapshot


def encode_key(record: KeyRecord) -> bytes:
    return _ENCODER.encode(record)


def decode_key(body: bytes) -> KeyRecord:
    """Raises SnapshotError when the bytes are not a KeyRecord."""
    try:
        return _KEY_DECODER.decode(body)
    except msgspec.MsgspecError as error:
        raise SnapshotError(str(error)) from None
