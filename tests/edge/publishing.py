"""Publishes into Redis as the control plane does, for tests of the edge that need no PostgreSQL."""

from __future__ import annotations

import time

from redis.backoff import NoBackoff
from redis.retry import Retry

from contracts import apikey, keyspace, messages, snapshot
from contracts.messages import Change, TargetHealth
from contracts.snapshot import KeyRecord, OriginConfig, PolicyConfig, RouteConfig, Snapshot, TargetConfig, TenantConfig
from webapp import redis_store

PEPPER = bytes(range(32))
PEPPERS = {1: PEPPER}
DEMO = "0197a000-0000-7000-8000-00000000de00"
HOST = "demo.localhost"
KEY = "demo_key_abc123"


def route(number: int, path: str, auth_mode: str = "public", **more) -> RouteConfig:
    return RouteConfig(id=f"route-{number}", path_pattern=path, origin_id="origin-1", auth_mode=auth_mode, **more)


def snapshot_of(
    version: int = 1, routes: tuple[RouteConfig, ...] = (), origin: str = "http://127.0.0.1:9999",
    tenant_id: str = DEMO, subdomain: str = "demo",
) -> Snapshot:  # fmt: skip
    tenant = TenantConfig(id=tenant_id, name=subdomain, subdomain=subdomain, clerk_org_id="org_demo")
    origins = (OriginConfig(id="origin-1", name="origin", targets=(TargetConfig(id="target-1", url=origin),)),)
    return Snapshot(format=snapshot.FORMAT, tenant=tenant, version=version, routes=routes, origins=origins)


def bucket(policy_id: str = "bucket", rate: float = 10.0, burst: int = 5, **more) -> PolicyConfig:
    return PolicyConfig(
        id=policy_id, name=policy_id, algorithm="token_bucket", rate_per_second=rate, burst=burst, **more
    )


def window(policy_id: str = "window", limit: int = 5, window_s: int = 1, **more) -> PolicyConfig:
    return PolicyConfig(
        id=policy_id, name=policy_id, algorithm="sliding_window", limit=limit, window_s=window_s, **more
    )


class Publisher:
    def __init__(self, url: str) -> None:
        self.redis = redis_store.connect(url, Retry(NoBackoff(), 1), socket_timeout=5)

    def close(self) -> None:
        self.redis.close()

    def change(self, kind: str, tenant_id: str = DEMO, **more) -> str:
        entry = self.redis.xadd(
            keyspace.CHANGES, {messages.FIELD: messages.encode(Change(kind=kind, tenant_id=tenant_id, **more))}
        )
        return entry.decode()

    def config(self, published: Snapshot, hosts: tuple[str, ...] = (HOST,)) -> str:
        body, sha256 = snapshot.encode(published)
        return self.raw_config(published.tenant.id, published.version, sha256, body, hosts)

    def raw_config(self, tenant_id: str, version: int, sha256: str, body: bytes, hosts: tuple[str, ...] = ()) -> str:
        self.redis.hset(keyspace.config(tenant_id), mapping={"version": version, "sha256": sha256, "body": body})
        for host in hosts:
            self.redis.set(keyspace.host(host), tenant_id)
        return self.change("config", tenant_id, version=version, hosts=hosts)

    def key(self, text: str = KEY, tenant_id: str = DEMO, **more) -> str:
        digest = apikey.digest(text.encode(), 1, PEPPER)
        record = KeyRecord(id=f"key-{text}", tenant_id=tenant_id, name=text, **({"scopes": ("read", "write")} | more))
        self.redis.set(keyspace.api_key(tenant_id, digest), snapshot.encode_key(record))
        return self.change("key", tenant_id, digests=(digest,))

    def revoke(self, text: str = KEY, tenant_id: str = DEMO) -> str:
        digest = apikey.digest(text.encode(), 1, PEPPER)
        self.redis.delete(keyspace.api_key(tenant_id, digest))
        return self.change("key", tenant_id, digests=(digest,))

    def health(self, healthy: bool, expires_in_s: float = 60.0, tenant_id: str = DEMO) -> str:
        now = time.time()
        state = TargetHealth(
            healthy=healthy, reason="ok" if healthy else "timeout", checked_at=now, since=now, latency_ms=1.0,
            expires_at=now + expires_in_s,
        )  # fmt: skip
        self.redis.hset(keyspace.origin_health(tenant_id), "target-1", messages.encode(state))
        return self.change("health", tenant_id)

    def purge(self, field: str = "*", tenant_id: str = DEMO) -> str:
        self.redis.hincrby(keyspace.cache_generations(tenant_id), field, 1)
        return self.change("purge", tenant_id)

    def live_on(self) -> dict[str, messages.Heartbeat]:
        listed = self.redis.hgetall(keyspace.EDGES)
        return {field.decode(): messages.decode_heartbeat(value) for field, value in listed.items()}

    def await_live(self, entry: str, workers: int, timeout_s: float = 5.0) -> float:
        """Wait until so many workers have applied an entry; gives the seconds it took."""
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            beats = [beat for beat in self.live_on().values() if time.time() - beat.at < keyspace.HEARTBEAT_STALE_S]
            if sum(messages.stream_id(beat.applied) >= messages.stream_id(entry) for beat in beats) >= workers:
                return time.monotonic() - began
            time.sleep(0.005)
        raise AssertionError(f"not live on {workers} workers within {timeout_s} s: {self.live_on()}")
