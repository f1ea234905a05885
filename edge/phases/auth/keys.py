"""Believing an API key: exists, enabled, not expired.

In:    a plausible key; the key store; the time.
Out:   Principal; GatewayError credentials-invalid, identity-unavailable.
Laws:  1. Which check failed is for the log alone. 2. The same record gives the very same principal again, so that what
       hangs on it is found by identity.
Not here: how keys are found (edge.store.keys), scopes (authorise).
"""

from __future__ import annotations

from contracts.snapshot import KeyRecord
from edge.exchange import Exchange, Principal
from edge.http.messages import FieldSection
from edge.phases.auth.credential import Credential
from edge.phases.auth.refusals import invalid
from edge.ports import KeyStore
from edge.snapshot import Route, Tenant


class KeyVerifier:
    __slots__ = ("_keys",)

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys

    def verify(self, credential: Credential, exchange: Exchange, tenant: Tenant, route: Route) -> Principal:
        """Raises GatewayError. Blocks on Redis for a key not seen lately."""
        memo = credential.digest
        if not memo:
            memo = credential.digest = self._keys.memo(credential.value)
        record = self._keys.find(tenant.id, credential.value, memo)
        if record is None or record.tenant_id != tenant.id:
            raise invalid(tenant, route, "unknown key")
        if not record.enabled:
            raise invalid(tenant, route, f"key {record.id} is disabled")
        if record.expires_at is not None and exchange.received_at >= record.expires_at:
            raise invalid(tenant, route, f"key {record.id} expired")
        return _principal(record, exchange.head.section)


def _principal(record: KeyRecord, section: FieldSection) -> Principal:
    kept = section.derived.get("principal")
    if kept is not None and kept[0] is record:
        remembered: Principal = kept[1]
        return remembered
    principal = Principal("key", record.id, record.scopes)
    section.derived["principal"] = (record, principal)
    return principal
