"""The service's own API keys (`ak_...`), which people and organisations make there. The product has keys of its own.

In:    calls of the endpoints.
Out:   ApiKey.
Laws:  1. Of a key only a digest is kept.
Not here: endpoints (api_key_api); the keys of machines, which look the same (machines).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from devstack.clerk.clock import Clock
from devstack.clerk.registry import new_id


@dataclass(slots=True)
class ApiKey:
    """Times in wall seconds; `expires_at` None: never."""

    key_id: str
    subject: str
    name: str
    scopes: tuple[str, ...]
    claims: dict[str, object] | None
    created_at: float
    expires_at: float | None
    revoked: bool = False
    reason: str | None = None
    used_at: float | None = None


class ApiKeys:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_digest: dict[bytes, ApiKey] = {}

    def add(
        self, subject: str, name: str, scopes: tuple[str, ...], claims: dict[str, object] | None, life_s: float | None
    ) -> tuple[ApiKey, str]:
        """Give the key's record and its secret, which is not to be had again."""
        now, secret = self._clock.now(), new_id("ak_") + new_id("")
        key = ApiKey(new_id("ak_"), subject, name, scopes, claims, now, None if life_s is None else now + life_s)
        self._by_digest[hashlib.sha256(secret.encode()).digest()] = key
        return key, secret

    def find(self, secret: str) -> ApiKey | None:
        return self._by_digest.get(hashlib.sha256(secret.encode()).digest())

    def by_key_id(self, key_id: str) -> ApiKey | None:
        return next((key for key in self._by_digest.values() if key.key_id == key_id), None)

    def is_expired(self, key: ApiKey) -> bool:
        return key.expires_at is not None and self._clock.now() >= key.expires_at
