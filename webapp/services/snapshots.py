"""A tenant's rows as the one document the edge obeys.

In:    a session under the tenant's scope, the locked tenant row.
Out:   contracts.snapshot.Snapshot.
Laws:  1. Routes oldest first; only enabled ones, and only the origins they lead to. 2. A fixed number of queries.
       3. A policy's id changes when the meaning of its counter would (whose it is, name, algorithm, window, scope), and
       only then. 4. Limits of scope `tenant` that are equal on several routes are one; where their figures differ they
       are not, because a counter is kept to the smallest it is asked about.
Not here: storing and sending it (services.revision, services.publishing).
"""

from __future__ import annotations

import hashlib
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET
from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from contracts import snapshot
from contracts.bounds import CACHE_TTL_S_DEFAULT
from webapp.models import IdentityKey, Issuer, Origin, Route, Target, Tenant
from webapp.models.identity_key import STATES
from webapp.services import origin_tls, route_access, service_secrets

_IDS: Final = ("id", "origin_id")


def build(session: Session, tenant: Tenant, version: int) -> snapshot.Snapshot:
    """Blocks on five queries, and one more for identity keys. Complexity: linear in the tenant's rows."""
    columns = Route.__table__.c
    shown = [cast(column, Text).label(column.name) if column.name in _IDS else column for column in columns]
    rows = session.execute(
        select(*shown).where(columns.tenant_id == tenant.id, columns.enabled).order_by(columns.created_at, columns.id)
    ).all()
    vouched = any((row.access or {}).get("identity_token") for row in rows)
    used = {UUID(text) for text in {row.origin_id for row in rows}}
    return snapshot.Snapshot(
        format=snapshot.FORMAT,
        tenant=snapshot.TenantConfig(
            id=str(tenant.id),
            name=tenant.name,
            subdomain=tenant.subdomain,
            clerk_org_id=tenant.clerk_org_id,
            status="suspended" if tenant.status == "suspended" else "active",
            in_flight_max=tenant.in_flight_max,
            addresses=route_access.rules_config(tenant.addresses),
        ),
        version=version,
        routes=tuple(_route(tenant.id, row) for row in rows),
        origins=_origins(session, tenant.id, used),
        issuers=_issuers(session, tenant.id) or UNSET,
        services=service_secrets.configs(session, tenant.id) or UNSET,
        identity_keys=_identity_keys(session, tenant.id) if vouched else UNSET,
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
            tls=UNSET if row.tls is None else origin_tls.config(row.tls),
        )
        for row in session.execute(
            select(*columns).where(columns.tenant_id == tenant_id).order_by(columns.created_at, columns.id)
        )
        if row.id in used
    )


def _issuers(session: Session, tenant_id: UUID) -> tuple[snapshot.IssuerConfig, ...]:
    columns = Issuer.__table__.c
    return tuple(
        snapshot.IssuerConfig(
            id=str(row.id),
            name=row.name,
            kind=row.kind,
            issuer=row.issuer,
            audience=tuple(row.audience),
            algorithms=tuple(row.algorithms),
            jwks_uri=row.jwks_uri,
            public_keys=row.public_keys,
            required_scopes=tuple(row.required_scopes),
            introspection_url=row.introspection_url,
            client_id=row.client_id,
            client_secret=row.client_secret_sealed,
        )
        for row in session.execute(
            select(*columns).where(columns.tenant_id == tenant_id).order_by(columns.created_at, columns.id)
        )
    )


def _identity_keys(session: Session, tenant_id: UUID) -> tuple[snapshot.IdentityKeyConfig, ...]:
    """All are published; of the private halves only that of the one that signs travels."""
    columns = IdentityKey.__table__.c
    rows = session.execute(
        select(*columns).where(columns.tenant_id == tenant_id).order_by(columns.created_at, columns.id)
    )
    return tuple(
        snapshot.IdentityKeyConfig(
            id=str(row.id),
            public_jwk=row.public_jwk,
            private_key=row.private_key_sealed if row.state == "signing" else None,
        )
        for row in sorted(rows, key=lambda row: STATES.index(row.state))
    )


def _route(tenant_id: UUID, row: Any) -> snapshot.RouteConfig:
    return snapshot.RouteConfig(
        id=row.id,
        path_pattern=row.path_pattern,
        origin_id=row.origin_id,
        auth_mode=row.auth_mode,
        methods=tuple(row.methods),
        priority=row.priority,
        required_scopes=tuple(row.required_scopes),
        any_user=row.any_user,
        policies=policies(f"route {row.id}", row.rate_limit, f"tenant {tenant_id}"),
        cache=_cache(row.cache_policy),
        strip_prefix=(row.rewrite or {}).get("strip_prefix"),
        forward_credential=row.forward_credential,
        preserve_host=row.preserve_host,
        body_bytes_max=row.body_bytes_max,
        access=route_access.config(row.access),
    )


def policies(owner: str, stored: dict[str, Any] | None, tenant: str = "") -> tuple[snapshot.PolicyConfig, ...]:
    """Give the policies of a route, or of whatever else has some. What schemas.limits.RateLimit checked when it was
    written is not checked again: 10,000 take a second. `owner`: whose they are, in words that name the tenant or an id;
    `tenant`: whose those of scope `tenant` are."""
    if stored is None:
        return ()
    return tuple(_policy(owner, policy, tenant) for policy in stored.get("policies") or (stored,))


def _policy(owner: str, policy: dict[str, Any], tenant: str) -> snapshot.PolicyConfig:
    name, algorithm = policy.get("name", "default"), policy.get("algorithm", "token_bucket")
    scope, window_s = tuple(policy.get("scope", ("route",))), _window_s(policy)
    rate = policy.get("requests_per_second", 0.0)
    if "tenant" in scope and "route" not in scope:
        owner = f"{tenant} {rate} {policy.get('burst')} {policy.get('limit')}"
    meaning = f"{owner}\n{name}\n{algorithm}\n{window_s}\n{','.join(scope)}"
    return snapshot.PolicyConfig(
        id=hashlib.sha256(meaning.encode()).hexdigest()[:32],
        name=name,
        algorithm=algorithm,
        rate_per_second=rate,
        # Without a burst the bucket holds one second's worth, and at least one request.
        burst=policy.get("burst") or max(1, int(rate)) if algorithm == "token_bucket" else 0,
        limit=policy.get("limit", 0),
        window_s=window_s,
        scope=scope,
        mode=policy.get("mode", "enforce"),
        on_store_failure=policy.get("on_store_failure", "share"),
        cost=policy["cost"] if policy.get("cost", 1) != 1 else UNSET,
    )


def _window_s(policy: dict[str, Any]) -> int:
    if policy.get("period") is not None:
        return snapshot.DAY_S if policy["period"] == "day" else snapshot.MONTH_S
    seconds: int = policy.get("window_seconds", 0)
    return seconds


def _cache(stored: dict[str, Any] | None) -> snapshot.CacheConfig | None:
    if stored is None or not stored.get("enabled", True):
        return None
    return snapshot.CacheConfig(
        ttl_s=stored.get("ttl_seconds", CACHE_TTL_S_DEFAULT),
        key_pattern=stored.get("cache_key_pattern", "path+query"),
        key_headers=tuple(stored.get("key_headers", ())),
        shared=stored.get("shared", False),
    )
