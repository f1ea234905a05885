"""Nonces of signed requests (ports.Nonces): each is used once, whichever worker sees it first.

In:    a tenant, a service's key id, a nonce that came under a right signature.
Out:   whether it is new.
Laws:  1. One command decides: SET with NX, so that of two equal requests at two workers one wins. 2. A nonce is kept
       longer than any signature that could carry it is believed. 3. Only what is behind a right signature gets here, so
       nobody without a secret fills the store.
Redis away: identity-unavailable; a replay could not be told.
Not here: the form of a nonce (edge.http.signatures), when it is asked for (edge.phases.auth.signatures).
"""

from __future__ import annotations

import hashlib
from typing import Final

from contracts import keyspace
from edge.errors import GatewayError, StoreAway
from edge.http.signatures import CREATED_SKEW_S
from edge.store.wire import Store

KEPT_S: Final = 5 * CREATED_SKEW_S
"""A signature is believed for at most twice the skew; the rest is for edges whose clocks differ."""


class NonceStore:
    def __init__(self, client: Store) -> None:
        self._client = client
        self.errors_total = 0

    def take(self, tenant_id: str, key_id: str, nonce: str) -> bool:
        digest = hashlib.sha256(f"{key_id} {nonce}".encode()).hexdigest()[:40]
        try:
            reply = self._client.call("SET", keyspace.nonce(tenant_id, digest), b"", "NX", "EX", KEPT_S)
        except StoreAway as error:
            self.errors_total += 1
            raise GatewayError(
                "identity-unavailable",
                "The signature cannot be checked for a replay right now.",
                internal=f"nonce store away: {error}",
                fields=((b"Retry-After", b"1"),),
            ) from None
        return reply is not None
