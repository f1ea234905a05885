"""A tenant's rows as the one document the edge obeys.

In:    a session under the tenant's scope, the locked tenant row.
Out:   contracts.snapshot.Snapshot.
Laws:  1. Routes oldest first; only enabled ones, and only the origins they lead to. 2. A fixed number of queries.
       3. A policy's id changes when the meaning of its counter would (route, name, algorithm, window), and only then.
Not here: storing and sending it (services.revision, services.publishing).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.orm import Session

from contracts import snapshot
from contracts.bounds import CACHE_TTL_S_DEFAULT
from webapp.models import Origin, Route, Target, Tenant
from webapp.schemas.route import RateLimit


def build(session: Session, tenant: Tenant, version: int) -> snapshot.Snapshot:
    """Blocks on three queries. Complexity: linear in the tenant's rows."""
    columns = Route.__table__.c
    rows = session.execute(
        select(*columns).where(columns.tenant_id == tenant.id, columns.enabled).order_by(columns.created_at, columns.id)
    ).all()
    used = {row.origin_id for row in rows}
    return snapshot.Snapshot(
        format=snapshot.FORMAT,
        tenant=snapshot.TenantConfig(
            id=str(tenant.id),
            name=tenant.name,
            subdomain=tenant.subdomain,
            clerk_org_id=tenant.clerk_org_id,
            status="suspended" if tenant.status == "suspended" else "active",
            in_flight_max=tenant.in_flight_max,
        ),
        version=version,
        routes=tuple(_route(row) for row in rows),
        origins=_origins(session, tenant.id, used),
    )


def _origins(session: Session, tenant_id: UUID, used: set[UUID]) -> tuple[snapshot.OriginConfig, ...]:
    targets: dict[UUID, list[snapshot.TargetConfig]] = {}
    for target in session.execute(
        select(Target.id, Target.origin_id, Target.url, Target.weight)
        .where(Target.tenant_id == tenant_id)
        .order_by(Target.origin_id, Target.position)
    ):
        config = snapshot.TargetConfig(id=str(target.id), url=target.url, weight=target.weight)
        targets.setdefault(target.origin_id, []).append(config)
    columns = Origin.__table__.c
    return tuple(
        snapshot.OriginConfig(
            id=str(row.id),
            name=row.name,
            targets=tuple(targets[row.id]),
            load_balancing=row.load_balancing,
            health_check_path=row.health_check_path,
            connect_timeout_s=row.connect_timeout_seconds,
            timeout_s=row.timeout_seconds,
        )
        for row in session.execute(
            select(*columns).where(columns.tenant_id == tenant_id).order_by(columns.created_at, columns.id)
        )
        if row.id in used
    )


def _route(row: Any) -> snapshot.RouteConfig:
    return snapshot.RouteConfig(
        id=str(row.id),
        path_pattern=row.path_pattern,
        origin_id=str(row.origin_id),
        auth_mode=row.auth_mode,
        methods=tuple(row.methods),
        priority=row.priority,
        required_scopes=tuple(row.required_scopes),
        any_user=row.any_user,
        policies=_policies(row.id, row.rate_limit),
        cache=_cache(row.cache_policy),
        strip_prefix=(row.rewrite or {}).get("strip_prefix"),
        forward_credential=row.forward_credential,
        preserve_host=row.preserve_host,
        body_bytes_max=row.body_bytes_max,
    )


def _policies(route_id: UUID, stored: dict[str, Any] | None) -> tuple[snapshot.PolicyConfig, ...]:
    if stored is None:
        return ()
    configs = []
    for policy in RateLimit.model_validate(stored).all_policies:
        meaning = f"{policy.name}\n{policy.algorithm}\n{policy.window_seconds or 0}\n{','.join(policy.scope)}"
        is_bucket = policy.algorithm == "token_bucket"
        configs.append(
            snapshot.PolicyConfig(
                id=str(uuid5(route_id, meaning)),
                name=policy.name,
                algorithm=policy.algorithm,
                rate_per_second=policy.requests_per_second or 0.0,
                burst=policy.burst_or_default if is_bucket else 0,
                limit=policy.limit or 0,
                window_s=policy.window_seconds or 0,
                scope=policy.scope,
                mode=policy.mode,
                on_store_failure=policy.on_store_failure,
            )
        )
    return tuple(configs)


def _cache(stored: dict[str, Any] | None) -> snapshot.CacheConfig | None:
    if stored is None or not stored.get("enabled", True):
        return None
    return snapshot.CacheConfig(
        ttl_s=stored.get("ttl_seconds", CACHE_TTL_S_DEFAULT),
        key_pattern=stored.get("cache_key_pattern", "path+query"),
        key_headers=tuple(stored.get("key_headers", ())),
        shared=stored.get("shared", False),
    )
