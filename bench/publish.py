"""Publishes tenants straight into Redis, as the control plane would, without PostgreSQL.

In:    a Redis URL, a Snapshot, API keys in clear.
Out:   the keys of contracts.keyspace, a Change in the stream; tokens signed by a key of our own.
Not here: measuring (bench.rows).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache

import jwt
import redis
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec import structs
from redis.backoff import NoBackoff
from redis.retry import Retry

from contracts import apikey, keyspace, messages, snapshot
from contracts.snapshot import KeyRecord, OriginConfig, PolicyConfig, RouteConfig, Snapshot, TargetConfig, TenantConfig
from webapp import redis_store

PEPPER = bytes(range(32))
KEY = "bench-key-0123456789abcdef"
WRONG_KEY = "bench-key-fedcba9876543210"
ISSUER = "https://clerk.invalid"
PARTY = "http://localhost:8080"
ORGANISATION = "org_bench"
LIMIT = PolicyConfig(id="bench", name="bench", algorithm="token_bucket", rate_per_second=1_000_000, burst=1_000_000)
BODY_BYTES_MAX = 4 * 1024**3


@cache
def _signing_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def jwt_key() -> str:
    """Give CLERK_JWT_KEY: the PEM that `session_token` is believed by."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return _signing_key().public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def session_token() -> str:
    """Sign a session of the tenant's organisation, good for an hour."""
    now = int(time.time())
    claims = {
        "iss": ISSUER, "sub": "user_bench", "sid": "sess_bench", "azp": PARTY, "iat": now, "nbf": now,
        "exp": now + 3_600, "org_id": ORGANISATION, "org_role": "org:member",
    }  # fmt: skip
    return jwt.encode(claims, _signing_key(), algorithm="RS256", headers={"kid": "bench"})


def tenant_id(number: int) -> str:
    return f"00000000-0000-7000-8000-{number:012x}"


def chains(ports: dict[str, int]) -> Snapshot:
    """The tenant of every chain. `ports`: origin name -> port of 127.0.0.1."""

    def route(path: str, origin: str = "origin", **more: object) -> RouteConfig:
        return RouteConfig(id=f"route-{path}", path_pattern=f"/{path}/*", origin_id=origin, **more)  # type: ignore[arg-type]

    routes = (
        route("full", auth_mode="apikey_required", policies=(LIMIT,)),
        route("plain", auth_mode="public"),
        route("keyed", auth_mode="apikey_required"),
        route("session", auth_mode="jwt_required", policies=(LIMIT,)),
        route("cached", auth_mode="apikey_required", policies=(LIMIT,), cache=snapshot.CacheConfig(ttl_s=3600)),
        route("bodies", "bodies", auth_mode="public", body_bytes_max=BODY_BYTES_MAX),
        route("echo", "echo", auth_mode="public"),
        *(route(f"more-{number}", auth_mode="public") for number in range(20)),
    )
    return _tenant(0xBE0C, "bench", routes, ports)


def many_routes(origin_port: int, number: int) -> Snapshot:
    """A tenant with so many routes, all public."""
    routes = tuple(
        RouteConfig(id=f"route-{n}", path_pattern=f"/r/{n}/*", origin_id="origin", auth_mode="public")
        for n in range(number)
    )
    return _tenant(0xBE0D_0000 + number, f"bench{number}", routes, {"origin": origin_port})


def _tenant(number: int, subdomain: str, routes: tuple[RouteConfig, ...], ports: dict[str, int]) -> Snapshot:
    tenant = TenantConfig(
        id=tenant_id(number), name=subdomain, subdomain=subdomain, clerk_org_id=ORGANISATION, in_flight_max=20_000
    )
    origins = tuple(
        OriginConfig(id=name, name=name, targets=(TargetConfig(id=name, url=f"http://127.0.0.1:{port}"),))
        for name, port in ports.items()
    )
    return Snapshot(format=snapshot.FORMAT, tenant=tenant, version=1, routes=routes, origins=origins)


def publish(redis_url: str, tenant: Snapshot, host: str, keys: tuple[str, ...]) -> None:
    """Write a tenant, where it lives and its keys, and tell the edges."""
    with redis_store.connect(redis_url, Retry(NoBackoff(), 1)) as client:
        pipe = client.pipeline(transaction=False)
        _write(pipe, tenant, host)
        digests = tuple(apikey.digest(key.encode(), 1, PEPPER) for key in keys)
        owner = tenant.tenant.id
        for number, digest in enumerate(digests):
            record = KeyRecord(id=f"key-{number}", tenant_id=owner, name="bench", scopes=("read", "write"))
            pipe.set(keyspace.api_key(owner, digest), snapshot.encode_key(record))
        change = messages.Change(kind="config", tenant_id=owner, version=tenant.version, digests=digests, hosts=(host,))
        pipe.execute()
        client.xadd(keyspace.CHANGES, {messages.FIELD: messages.encode(change)})  # a cluster keeps no order among nodes


def publish_many(redis_url: str, tenants: Iterable[tuple[Snapshot, str]]) -> None:
    """Write many tenants as they lie in a Redis that edges find when they start: nobody is told."""
    with redis_store.connect(redis_url, Retry(NoBackoff(), 1)) as client:
        pipe = client.pipeline(transaction=False)
        for number, (tenant, host) in enumerate(tenants, 1):
            _write(pipe, tenant, host)
            if number % 500 == 0:
                pipe.execute()
        pipe.execute()


def _write(pipe: redis.client.Pipeline, tenant: Snapshot, host: str) -> None:
    body, sha256 = snapshot.encode(tenant)
    owner = tenant.tenant.id
    pipe.hset(keyspace.config(owner), mapping={"version": tenant.version, "sha256": sha256, "body": body})
    pipe.set(keyspace.host(host), owner)


def one_route(origin_port: int, version: int) -> Snapshot:
    """A tenant whose only route carries its version."""
    route = RouteConfig(id="route", path_pattern=f"/v{version}/*", origin_id="origin", auth_mode="public")
    return structs.replace(_tenant(0xBE0E, "change", (route,), {"origin": origin_port}), version=version)


def tenant_host(number: int) -> str:
    return f"tenant-{number}.localhost"


def tenants(origin_port: int, number: int, routes: int) -> Iterable[tuple[Snapshot, str]]:
    """Many tenants with so many routes each, and where they live."""
    for tenant in range(number):
        own = tuple(
            RouteConfig(id=f"route-{tenant}-{n}", path_pattern=f"/r/{n}/*", origin_id="origin", auth_mode="public")
            for n in range(routes)
        )
        yield _tenant(0xBE0F_0000_0000 + tenant, f"tenant-{tenant}", own, {"origin": origin_port}), tenant_host(tenant)
