"""Believing an API key: exists, enabled, not expired, comes from where it may.

In:    a plausible key; the key store; the time; the client's address.
Out:   Principal, with the key's own limits and what a rotated key's answers carry; a noted use; GatewayError
       credentials-invalid, identity-unavailable.
Laws:  1. Which check failed is for the log alone, and only of a key that exists. 2. The same record gives the very same
       principal again, so that what hangs on it is found by identity. 3. A record whose networks cannot be read may be
       used from nowhere.
Not here: how keys are found (edge.store.keys), scopes (authorise), counting (edge.phases.ratelimit).
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import UNSET

from contracts.networks import NetworkError, Networks
from contracts.snapshot import KeyRecord
from edge.exchange import Exchange, Principal
from edge.http.fields import http_date
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
        if record.addresses and not _lies_within(record.addresses, exchange.client_ip):
            raise invalid(tenant, route, f"key {record.id} may not be used from {exchange.client_ip}")
        self._keys.uses[tenant.id][record.id] = exchange.received_at
        return _principal(record, exchange.head.section)


def _principal(record: KeyRecord, section: FieldSection) -> Principal:
    kept = section.derived.get("principal")
    if kept is not None and kept[0] is record:
        remembered: Principal = kept[1]
        return remembered
    principal = Principal("key", record.id, record.scopes, policies=record.policies or (), notice=_notice(record))
    section.derived["principal"] = (record, principal)
    return principal


def _notice(record: KeyRecord) -> bytes:
    """Say that a successor exists and when this key ends. RFC 9745 section 2.1: Deprecation is a Date of RFC 9651.
    RFC 8594 section 3: Sunset is an HTTP-date; whoever has no end yet gets none."""
    if record.deprecated_at is UNSET:
        return b""
    lines = b"Deprecation: @%d\r\n" % int(record.deprecated_at)
    if record.expires_at is not None:
        lines += b"Sunset: %b\r\n" % http_date(record.expires_at)
    return lines


@lru_cache(maxsize=4_096)
def _lies_within(texts: tuple[str, ...], client_ip: str) -> bool:
    networks = _networks(texts)
    return networks is not None and networks.holding(client_ip) is not None


@lru_cache(maxsize=256)
def _networks(texts: tuple[str, ...]) -> Networks | None:
    """Compile a record's list once, however many keys have the same; None when it cannot be read."""
    try:
        return Networks(texts)
    except NetworkError:
        return None
