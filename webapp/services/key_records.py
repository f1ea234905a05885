"""API keys as the edge is told of them.

Out:   COLUMNS (a select over keys), record().
Laws:  1. A revoked key, and one that waits to be revealed, has no record: wherever there is one, it goes. 2. What a
       key does not use is not written, so that an edge that does not know it yet keeps up. 3. A policy's id names the
       tenant and what its counter means, so a new rate keeps what was counted, and an edge holds equal limits of many
       keys once. The edge counts them by the key's id: limits of two keys never share a counter.
Not here: when records are sent (services.publishing), what the edge does with one (edge.phases.auth.keys).
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import and_, select

from contracts import snapshot
from webapp.models import ApiKey
from webapp.services import snapshots

COLUMNS: Final = select(
    ApiKey.id,
    ApiKey.digest,
    ApiKey.name,
    ApiKey.scopes,
    ApiKey.enabled,
    ApiKey.expires_at,
    ApiKey.deprecated_at,
    ApiKey.addresses,
    ApiKey.rate_limit,
    and_(ApiKey.revoked_at.is_(None), ApiKey.sealed_key.is_(None)).label("is_told"),
)


def record(tenant_id: UUID, row: Any) -> bytes | None:
    """Encode one row of COLUMNS; None for a key that no edge may know."""
    if not row.is_told:
        return None
    return snapshot.encode_key(
        snapshot.KeyRecord(
            id=str(row.id),
            tenant_id=str(tenant_id),
            name=row.name,
            scopes=tuple(row.scopes),
            enabled=row.enabled,
            expires_at=None if row.expires_at is None else row.expires_at.timestamp(),
            deprecated_at=UNSET if row.deprecated_at is None else row.deprecated_at.timestamp(),
            addresses=tuple(row.addresses) or UNSET,
            policies=UNSET if row.rate_limit is None else policies(tenant_id, row.rate_limit),
        )
    )


def policies(tenant_id: UUID, stored: dict[str, Any]) -> tuple[snapshot.PolicyConfig, ...]:
    """Read what schemas.key_fields.KeyRateLimit checked. A route's policies may have the same names: a key's say so."""
    return tuple(
        msgspec.structs.replace(
            policy, name="key" if policy.name == "default" else f"key: {policy.name}", scope=("key",)
        )
        for policy in snapshots.policies(f"keys of {tenant_id}", stored)
    )
