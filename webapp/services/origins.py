"""Origins: where routes lead, and the targets behind each.

Laws:  1. A URL whose address is refused by contracts.addresses is refused here, at write; names are judged again by
       every address they resolve to, at each connection. 2. `url` is always the first target's. 3. An origin in use is
       not removed: the conflict names the routes. 4. What probes found is written only when it changed. 5. Of `tls`, a
       patch changes the members it names; what is stored of it, services.origin_tls decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import ValidationError
from sqlalchemy import Text, cast, func, select
from sqlalchemy import update as sql_update
from sqlalchemy.orm import Session, selectinload

from contracts import bounds
from contracts.addresses import check_url, parse_origin_url
from contracts.sealing import SealError
from webapp.extensions import current_settings, system_scope, tenant_scope
from webapp.models import Origin, Route, Target
from webapp.schemas.origin import OriginNew, OriginPatch, OriginQuery, OriginView, TargetNew
from webapp.schemas.paging import Page
from webapp.services import listing, origin_tls, publishing
from webapp.services.actor import Actor, require_admin
from webapp.services.errors import Conflict, Invalid, NotFound, invalid_from
from webapp.services.revision import Written, check_match, revision

_ROUTES_NAMED_MAX = 20


def page(actor: Actor, query: OriginQuery) -> Page[OriginView]:
    """Blocks on two queries at any number of rows."""
    with tenant_scope(actor.tenant_id) as session:
        rows = select(Origin).where(Origin.tenant_id == actor.tenant_id).options(selectinload(Origin.targets))
        if query.name is not None:
            rows = rows.where(Origin.name == query.name)
        return listing.page(session, rows, Origin, query, _views)


def get(actor: Actor, origin_id: UUID) -> OriginView:
    """Raises NotFound."""
    with tenant_scope(actor.tenant_id) as session:
        return _view(_row(session, actor, origin_id))


def create(actor: Actor, new: OriginNew) -> Written[OriginView]:
    """Raises Forbidden, NotFound (another tenant_id), Invalid (an address that is refused), Conflict (name)."""
    require_admin(actor)
    check_tenant(actor, new.tenant_id)
    check_addresses(new)
    with revision(actor) as change:
        held = change.session.scalar(select(func.count()).where(Origin.tenant_id == actor.tenant_id)) or 0
        if held >= bounds.ORIGINS_PER_TENANT_MAX:
            raise Conflict(f"A tenant has at most {bounds.ORIGINS_PER_TENANT_MAX} origins.")
        row = Origin(id=uuid4(), tenant_id=actor.tenant_id, targets=[])  # the id is part of what a key is sealed for
        _fill(row, new)
        change.session.add(row)
        change.session.flush()
        _check_tls_size(change.session, row)
        view = _view(row)
        change.config_changed(f"Origin {view.name} created")
        change.record("origin.created", view.id, None, view)
    return Written(view, change.receipt)


def update(actor: Actor, origin_id: UUID, patch: OriginPatch, if_match: int | None = None) -> Written[OriginView]:
    """Raises Forbidden, NotFound, Invalid, Conflict, PreconditionFailed."""
    require_admin(actor)
    with revision(actor) as change:
        row = _row(change.session, actor, origin_id)
        check_match(row.row_version, if_match)
        before = _view(row)
        merged = _merge(before, patch)
        check_addresses(merged, "targets.0.url" if patch.targets is not None else "url")
        _fill(row, merged)
        row.row_version += 1
        change.session.flush()
        _check_tls_size(change.session, row)
        view = _view(row)
        change.config_changed(f"Origin {view.name} changed")
        change.record("origin.changed", origin_id, before, view)
    return Written(view, change.receipt)


def remove(actor: Actor, origin_id: UUID, if_match: int | None = None) -> publishing.Receipt:
    """Raises Forbidden, NotFound, PreconditionFailed, Conflict naming the routes that lead to it."""
    require_admin(actor)
    with revision(actor) as change:
        row = _row(change.session, actor, origin_id)
        check_match(row.row_version, if_match)
        routes = change.session.execute(
            select(Route.id, Route.path_pattern)
            .where(Route.tenant_id == actor.tenant_id, Route.origin_id == origin_id)
            .order_by(Route.created_at)
            .limit(_ROUTES_NAMED_MAX)
        ).all()
        if routes:
            named = [{"id": str(route.id), "path_pattern": route.path_pattern} for route in routes]
            patterns = ", ".join(route.path_pattern for route in routes)
            raise Conflict(f"Routes lead to this origin: {patterns}.", extra={"routes": named})
        change.session.delete(row)
        change.config_changed(f"Origin {row.name} removed")
        change.record("origin.removed", origin_id, _view(row), None)
    return change.receipt


def reseal(actor: Actor) -> tuple[int, tuple[UUID, ...]]:
    """Seal client keys anew that an older sealing key sealed. Raises Forbidden, NotFound.

    Gives how many, and the origins whose keys cannot be opened any more.
    """
    with revision(actor) as change:
        rows = change.session.scalars(
            select(Origin).where(Origin.tenant_id == actor.tenant_id, Origin.tls.is_not(None))
        )
        count = 0
        lost: list[UUID] = []
        for row in rows.all():
            try:
                tls = origin_tls.resealed(row.tls, row.tenant_id, row.id)
            except SealError:
                lost.append(row.id)
                continue
            if tls is not None:
                row.tls = tls
                row.row_version += 1
                count += 1
                change.record("origin.resealed", row.id, None, None)
        if count:
            change.config_changed("Client keys sealed anew")
    return count, tuple(lost)


def check_tenant(actor: Actor, tenant_id: UUID | None) -> None:
    """Raises NotFound when a body names another tenant."""
    if tenant_id is not None and tenant_id != actor.tenant_id:
        raise NotFound("tenant_id")


def check_addresses(new: OriginNew, first: str = "targets.0.url") -> None:
    """Raises Invalid naming the URL. Looks at literal addresses and private names only: it resolves nothing.

    `first` is where the caller gave the first target's URL.
    """
    allowed = current_settings().allowed_private_origins
    for index, target in enumerate(new.all_targets):
        reason = check_url(parse_origin_url(target.url), allowed)
        if reason is not None:
            location = f"targets.{index}.url" if index else "url" if new.targets is None else first
            raise Invalid.field(location, f"its host {reason} and is not allowed")


def _merge(before: OriginView, patch: OriginPatch) -> OriginNew:
    kept = before.model_dump(include={*OriginPatch.model_fields} - {"url", "targets", "tls"})
    targets = [{"url": target.url, "weight": target.weight} for target in before.targets]
    given = patch.model_dump(exclude_unset=True)
    given["tls"] = _merge_tls(before, given.get("tls", {}))
    url = given.pop("url", None)
    if url is not None and "targets" not in given:
        targets[0]["url"] = url
        url = None
    try:
        return OriginNew.model_validate({**kept, "targets": targets, **given, "url": url})
    except ValidationError as error:
        raise invalid_from(error) from None


def _merge_tls(before: OriginView, given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Change the members that are given; None clears all. The key is not here: services.origin_tls has it."""
    if given is None:
        return None
    kept = {} if before.tls is None else before.tls.model_dump(exclude={"client_certificate_expires_at"})
    return {**kept, **given} or None


def _check_tls_size(session: Session, row: Origin) -> None:
    """Raises Conflict when the certificates of all origins are too much to travel in every version."""
    if row.tls is None:
        return
    total = select(func.coalesce(func.sum(func.octet_length(cast(Origin.tls, Text))), 0))
    if (session.scalar(total.where(Origin.tenant_id == row.tenant_id)) or 0) > bounds.TLS_BYTES_PER_TENANT_MAX:
        limit = bounds.TLS_BYTES_PER_TENANT_MAX // 1024
        raise Conflict(f"The TLS settings of a tenant's origins are at most {limit} KiB together.")


def _fill(row: Origin, new: OriginNew) -> None:
    row.name = new.name
    row.url = new.all_targets[0].url
    row.health_check_path = new.health_check_path
    row.timeout_seconds = new.timeout_seconds
    row.connect_timeout_seconds = new.connect_timeout_seconds
    row.load_balancing = new.load_balancing
    row.tls = origin_tls.stored(new.tls, row.tls, row.tenant_id, row.id)
    _fill_targets(row, new.all_targets)


def _fill_targets(row: Origin, wanted: Sequence[TargetNew]) -> None:
    """Keep the row (id, health) of each URL that stays: its balance and its history go on."""
    held = {target.url: target for target in row.targets}
    row.targets = [
        held.get(new.url) or Target(tenant_id=row.tenant_id, url=new.url, weight=new.weight, position=index)
        for index, new in enumerate(wanted)
    ]
    for index, (target, new) in enumerate(zip(row.targets, wanted, strict=True)):
        target.position, target.weight = index, new.weight


def _row(session: Session, actor: Actor, origin_id: UUID) -> Origin:
    row = session.scalars(
        select(Origin)
        .where(Origin.tenant_id == actor.tenant_id, Origin.id == origin_id)
        .options(selectinload(Origin.targets))
    ).one_or_none()
    if row is None:
        raise NotFound
    return row


def _view(row: Origin) -> OriginView:
    return OriginView.model_validate(row)


def _views(rows: Sequence[Origin]) -> list[OriginView]:
    return [_view(row) for row in rows]


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """One address to probe."""

    tenant_id: UUID
    origin_id: UUID
    target_id: UUID
    url: str
    health_check_path: str
    timeout_seconds: float
    healthy: bool | None
    tls_digest: str | None


def tls_settings(origin_ids: Sequence[UUID]) -> dict[UUID, tuple[UUID, dict[str, Any]]]:
    """Give tenant and `origins.tls` of those that have it, of all tenants."""
    with system_scope() as session:
        rows = session.execute(
            select(Origin.id, Origin.tenant_id, Origin.tls).where(Origin.id.in_(origin_ids), Origin.tls.is_not(None))
        )
        return {row.id: (row.tenant_id, row.tls) for row in rows}


def probe_targets(tenant_id: UUID | None = None, origin_id: UUID | None = None) -> tuple[ProbeTarget, ...]:
    """Give every target of origins with a health_check_path, of all tenants or of one."""
    with system_scope() if tenant_id is None else tenant_scope(tenant_id) as session:
        rows = select(
            Target.tenant_id,
            Target.origin_id,
            Target.id.label("target_id"),
            Target.url,
            Origin.health_check_path,
            Origin.timeout_seconds,
            Target.healthy,
            func.encode(func.sha256(func.convert_to(cast(Origin.tls, Text), "UTF8")), "hex").label("tls_digest"),
        ).join(Origin, (Origin.tenant_id == Target.tenant_id) & (Origin.id == Target.origin_id))
        rows = rows.where(Origin.health_check_path.is_not(None))
        if origin_id is not None:
            rows = rows.where(Target.origin_id == origin_id)
        return tuple(ProbeTarget(**row) for row in session.execute(rows.order_by(Target.id)).mappings())


def record_health(
    tenant_id: UUID, target_id: UUID, *, healthy: bool, reason: str, since: datetime, latency_ms: float
) -> bool:
    """Write what a probe found, if it is news. Tells whether it was."""
    with tenant_scope(tenant_id) as session:
        changed = session.execute(
            sql_update(Target)
            .where(
                Target.tenant_id == tenant_id,
                Target.id == target_id,
                Target.healthy.is_distinct_from(healthy) | Target.health_reason.is_distinct_from(reason),
            )
            .values(healthy=healthy, health_reason=reason, health_since=since, health_latency_ms=latency_ms)
            .returning(Target.id)
        ).all()
        session.commit()
        return bool(changed)
