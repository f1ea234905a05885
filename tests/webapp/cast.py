"""The people of the tests: their tokens, by an issuer of our own, and their way into the JSON API.

Laws:  1. alice is admin of demo-company, bob a member there, charlie a stranger with a tenant of his own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask
from werkzeug.test import TestResponse

from webapp.schemas.tenant import TenantNew
from webapp.services import tenants
from webapp.services.actor import Actor, Caller

ISSUER = "https://clerk.example.com"
CONSOLE = "http://localhost:8080"
_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = _KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def environment(database_url: str, owner_url: str, redis_url: str, **changed: str) -> dict[str, str]:
    return {
        "VANTAGEEDGE_ENV": "development",
        "DATABASE_URL": database_url,
        "MIGRATION_DATABASE_URL": owner_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": "s" * 40,
        "KEY_PEPPERS": "1:" + "ab" * 32,
        "SEALING_KEYS": "1:" + "5a" * 32,
        "CLERK_PUBLISHABLE_KEY": "pk_live_Y2xlcmsuZXhhbXBsZS5jb20k",
        "CLERK_SECRET_KEY": "sk_live_x",
        "CLERK_JWT_KEY": PEM,
        "CONSOLE_URL": CONSOLE,
        "EDGE_BASE_DOMAIN": "edge.test",
        **changed,
    }


def session_token(person: str = "alice", org: str | None = "org_demo", role: str = "admin", **claims: Any) -> str:
    """Sign what Clerk would: a session token of version 2, alive for a minute."""
    now = int(time.time())
    body: dict[str, Any] = {
        "sub": f"user_{person}",
        "sid": f"sess_{person}",
        "iss": ISSUER,
        "azp": CONSOLE,
        "iat": now,
        "nbf": now - 5,
        "exp": now + 60,
        "v": 2,
        "sts": "active",
        "email": f"{person}@example.com",
    }
    if org is not None:
        body["o"] = {"id": org, "slg": org.removeprefix("org_"), "rol": role}
    body |= claims
    return jwt.encode({k: v for k, v in body.items() if v is not None}, _KEY, "RS256", headers={"kid": "ins_test"})


@dataclass(frozen=True)
class Person:
    """Somebody at the JSON API's door."""

    app: Flask
    token: Callable[[], str] | None
    fields: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, **options: Any) -> TestResponse:
        headers = {**self.fields, **options.pop("headers", {})}
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token()}")
        return self.app.test_client().open(f"/api/v1{path}", method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.call("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> TestResponse:
        return self.call("POST", path, json={} if json is None else json, **options)

    def patch(self, path: str, json: Any, **options: Any) -> TestResponse:
        return self.call("PATCH", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.call("DELETE", path, **options)

    def make(self, path: str, json: Any) -> dict[str, Any]:
        answer = self.post(path, json)
        assert answer.status_code == 201, answer.get_data(as_text=True)
        made: dict[str, Any] = answer.get_json()
        return made


def found(app: Flask, person: str, org: str, name: str, subdomain: str) -> Actor:
    caller = Caller(org_id=org, clerk_user_id=f"user_{person}", role="admin", via="cli", request_id="test-founding")
    with app.app_context():
        tenants.create(caller, TenantNew(name=name, subdomain=subdomain, clerk_org_id=org))
        signed_in = tenants.sign_in(caller)
    assert signed_in is not None
    return signed_in[0]


def an_origin(name: str = "api-backend", **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "url": "https://api.example.com",
        "health_check_path": "/health",
        "timeout_seconds": 30,
        **changed,
    }


def an_issuer(name: str = "partner", **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "jwt",
        "issuer": "https://id.partner.example",
        "audience": ["https://api.demo.example"],
        "jwks_uri": "https://id.partner.example/jwks.json",
        **changed,
    }


def a_route(origin_id: str | UUID, **changed: Any) -> dict[str, Any]:
    return {
        "path_pattern": "/api/users/*",
        "origin_id": str(origin_id),
        "auth_mode": "jwt_required",
        "rate_limit": {"requests_per_second": 100, "burst": 200},
        "cache_policy": {"enabled": True, "ttl_seconds": 300, "cache_key_pattern": "path+query"},
        **changed,
    }
