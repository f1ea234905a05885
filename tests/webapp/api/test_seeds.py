"""The calls of the documentation, exactly as they are written there."""

from __future__ import annotations

from typing import Any

import redis
from flask import Flask

from contracts import apikey, keyspace, messages, snapshot
from tests.webapp.cast import Person, session_token

ROUTE = {
    "path_pattern": "/api/users/*",
    "auth_mode": "jwt_required",
    "rate_limit": {"requests_per_second": 100, "burst": 200},
    "cache_policy": {"enabled": True, "ttl_seconds": 300, "cache_key_pattern": "path+query"},
}


def test_the_documented_calls_work_as_written(app: Flask, store: redis.Redis) -> None:
    founder = Person(app, lambda: session_token("dora", org="org_acme"))
    made = founder.post("/tenants", {"name": "acme-corp", "subdomain": "acme", "clerk_org_id": "org_acme"})
    assert made.status_code == 201, made.text
    tenant = made.get_json()
    tenant_id = tenant["id"]
    assert made.headers["Location"] == f"/api/v1/tenants/{tenant_id}"
    assert founder.get(f"/tenants/{tenant_id}").get_json()["subdomain"] == "acme"
    assert store.get(keyspace.host("acme.edge.test")) == tenant_id.encode()
    origin = founder.make(
        "/origins",
        {
            "tenant_id": tenant_id,
            "name": "api-backend",
            "url": "https://api.example.com",
            "health_check_path": "/health",
            "timeout_seconds": 30,
        },
    )
    assert origin["targets"][0]["url"] == origin["url"] == "https://api.example.com"
    answer = founder.post("/routes", {"tenant_id": tenant_id, "origin_id": origin["id"], **ROUTE})
    assert answer.status_code == 201, answer.text
    assert answer.headers["X-Vantage-Config-Version"] == "3"
    route = answer.get_json()
    assert route["rate_limit"] == {"requests_per_second": 100.0, "burst": 200, "policies": None}
    key = founder.post(
        "/api-keys",
        {
            "tenant_id": tenant_id,
            "name": "production-key",
            "scopes": ["read", "write"],
            "expires_at": "2030-12-31T23:59:59Z",
        },
    )
    assert key.status_code == 201, key.text
    assert key.headers["Cache-Control"] == "no-store"
    config = _snapshot(store, tenant_id)
    assert config.version == 3
    assert [(item.path_pattern, item.origin_id) for item in config.routes] == [("/api/users/*", origin["id"])]
    policy = config.routes[0].policies[0]
    assert (policy.algorithm, policy.rate_per_second, policy.burst) == ("token_bucket", 100.0, 200)
    assert config.routes[0].cache == snapshot.CacheConfig(ttl_s=300)
    assert config.origins[0].targets[0].url == "https://api.example.com"
    digest = apikey.digest(key.get_json()["key"].encode(), 1, bytes.fromhex("ab" * 32))
    record = snapshot.decode_key(store.get(keyspace.api_key(tenant_id, digest)))
    assert (record.name, record.scopes, record.expires_at) == ("production-key", ("read", "write"), 1924991999.0)
    last = store.xrevrange(keyspace.CHANGES, count=1)[0]
    assert messages.decode_change(last[1][messages.FIELD]).digests == (digest,)
    assert key.headers["X-Vantage-Change"] == last[0].decode()


def _snapshot(store: redis.Redis, tenant_id: str) -> snapshot.Snapshot:
    held: Any = store.hgetall(keyspace.config(tenant_id))
    return snapshot.decode(held[b"body"], held[b"sha256"].decode())
