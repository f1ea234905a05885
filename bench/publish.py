"""Publishes a tenant straight into Redis, as the control plane would, without PostgreSQL.

In:    a Redis URL, a Snapshot, API keys in clear.
Out:   the keys of contracts.keyspace, a Change in the stream.
Not here: measuring (run).
"""

from __future__ import annotations

import redis

from contracts import apikey, keyspace, messages, snapshot
from contracts.snapshot import KeyRecord, OriginConfig, PolicyConfig, RouteConfig, Snapshot, TargetConfig, TenantConfig

TENANT_ID = "00000000-0000-7000-8000-00000000be0c"
PEPPER = bytes(range(32))
KEY = "bench-key-0123456789abcdef"


def bench_snapshot(origin_url: str, policies: tuple[PolicyConfig, ...]) -> Snapshot:
    origin = OriginConfig(id="origin-1", name="origin", targets=(TargetConfig(id="target-1", url=origin_url),))

    def route(number: int, path: str, **more: object) -> RouteConfig:
        return RouteConfig(id=f"route-{number}", path_pattern=path, origin_id="origin-1", **more)  # type: ignore[arg-type]

    routes = (
        route(1, "/full/*", auth_mode="apikey_required", policies=policies),
        route(2, "/plain/*", auth_mode="public"),
        route(3, "/keyed/*", auth_mode="apikey_required"),
        route(4, "/cached/*", auth_mode="apikey_required", policies=policies, cache=snapshot.CacheConfig(ttl_s=3600)),
        *(route(10 + n, f"/more/{n}/*", auth_mode="public") for n in range(20)),
    )
    tenant = TenantConfig(id=TENANT_ID, name="bench", subdomain="bench", clerk_org_id="org_bench")
    return Snapshot(format=snapshot.FORMAT, tenant=tenant, version=1, routes=routes, origins=(origin,))


def publish(redis_url: str, tenant: Snapshot, host: str, keys: tuple[str, ...]) -> None:
    body, sha256 = snapshot.encode(tenant)
    tenant_id = tenant.tenant.id
    digests = tuple(apikey.digest(key.encode(), 1, PEPPER) for key in keys)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(keyspace.config(tenant_id), mapping={"version": tenant.version, "sha256": sha256, "body": body})
        client.set(keyspace.host(host), tenant_id)
        for number, digest in enumerate(digests):
            record = KeyRecord(id=f"key-{number}", tenant_id=tenant_id, name="bench", scopes=("read", "write"))
            client.set(keyspace.api_key(tenant_id, digest), snapshot.encode_key(record))
        change = messages.Change(
            kind="config", tenant_id=tenant_id, version=tenant.version, digests=digests, hosts=(host,)
        )
        client.xadd(keyspace.CHANGES, {messages.FIELD: messages.encode(change)})
