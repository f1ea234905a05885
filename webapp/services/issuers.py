"""Issuers: authorities besides the deployment's Clerk instance whose tokens a tenant takes.

Laws:  1. URLs pass the same check as origins' (contracts.addresses), at write and again at each connection; they are
       https, except where the deployment opened the host itself. 2. A client secret is sealed, bound to its tenant and
       issuer, and is sent nowhere but where it was given for: another host needs it again. 3. An issuer that a route
       names is not removed, nor a second one made that a route would ask about an opaque token: the conflict names the
       routes. 4. Nobody can claim the deployment's own issuer.
Not here: verifying tokens (edge.phases.auth), which routes take which (services.route_access).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

from pydantic import ValidationError
from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from contracts import bounds, snapshot
from contracts.addresses import OriginUrl, check_url, parse_document_url
from contracts.sealing import SealError
from webapp.extensions import current_settings, tenant_scope
from webapp.models import Issuer, Route
from webapp.schemas.issuer import IssuerNew, IssuerPatch, IssuerQuery, IssuerView
from webapp.schemas.paging import Page
from webapp.services import listing, publishing, route_access, sealed
from webapp.services.actor import Actor, require_admin
from webapp.services.errors import Conflict, Invalid, NotFound, invalid_from
from webapp.services.origins import check_tenant
from webapp.services.revision import Written, check_match, revision

_ROUTES_NAMED_MAX: Final = 20
_URLS: Final = ("jwks_uri", "introspection_url")


def page(actor: Actor, query: IssuerQuery) -> Page[IssuerView]:
    """Oldest first. Blocks on one query at any number of rows."""
    with tenant_scope(actor.tenant_id) as session:
        rows = select(Issuer).where(Issuer.tenant_id == actor.tenant_id)
        if query.name is not None:
            rows = rows.where(Issuer.name == query.name)
        return listing.page(session, rows, Issuer, query, _views)


def get(actor: Actor, issuer_id: UUID) -> IssuerView:
    """Raises NotFound."""
    with tenant_scope(actor.tenant_id) as session:
        return _view(_row(session, actor, issuer_id))


def create(actor: Actor, new: IssuerNew) -> Written[IssuerView]:
    """Raises Forbidden, NotFound (another tenant_id), Invalid, Conflict (name, issuer, too many)."""
    require_admin(actor)
    check_tenant(actor, new.tenant_id)
    _check(new)
    with revision(actor) as change:
        held = change.session.scalar(select(func.count()).where(Issuer.tenant_id == actor.tenant_id)) or 0
        if held >= bounds.ISSUERS_PER_TENANT_MAX:
            raise Conflict(f"A tenant has at most {bounds.ISSUERS_PER_TENANT_MAX} issuers.")
        if new.kind == "introspection":
            _check_only(change.session, actor)
        row = Issuer(id=uuid4(), tenant_id=actor.tenant_id, kind=new.kind)  # the id is part of what a secret is for
        _fill(row, new)
        change.session.add(row)
        change.session.flush()
        view = _view(row)
        change.config_changed(f"Issuer {view.name} created")
        change.record("issuer.created", view.id, None, view)
    return Written(view, change.receipt)


def update(actor: Actor, issuer_id: UUID, patch: IssuerPatch, if_match: int | None = None) -> Written[IssuerView]:
    """Raises Forbidden, NotFound, Invalid, Conflict, PreconditionFailed."""
    require_admin(actor)
    with revision(actor) as change:
        row = _row(change.session, actor, issuer_id)
        check_match(row.row_version, if_match)
        before = _view(row)
        merged = _merge(before, patch)
        _check(merged)
        _fill(row, merged)
        row.row_version += 1
        change.session.flush()
        view = _view(row)
        change.config_changed(f"Issuer {view.name} changed")
        change.record("issuer.changed", issuer_id, before, view)
    return Written(view, change.receipt)


def remove(actor: Actor, issuer_id: UUID, if_match: int | None = None) -> publishing.Receipt:
    """Raises Forbidden, NotFound, PreconditionFailed, Conflict naming the routes that name it."""
    require_admin(actor)
    with revision(actor) as change:
        row = _row(change.session, actor, issuer_id)
        check_match(row.row_version, if_match)
        naming = Route.access.contains({"issuers": [str(issuer_id)]})
        _refuse_while(
            change.session,
            and_(Route.tenant_id == actor.tenant_id, naming),
            "Routes take tokens of this issuer by name",
        )
        change.session.delete(row)
        change.config_changed(f"Issuer {row.name} removed")
        change.record("issuer.removed", issuer_id, _view(row), None)
    return change.receipt


def reseal(actor: Actor) -> tuple[int, tuple[UUID, ...]]:
    """Seal client secrets anew that an older sealing key sealed. Raises Forbidden, NotFound.

    Gives how many, and the issuers whose secrets cannot be opened any more.
    """
    with revision(actor) as change:
        rows = change.session.scalars(
            select(Issuer).where(Issuer.tenant_id == actor.tenant_id, Issuer.client_secret_sealed.is_not(None))
        )
        count = 0
        lost: list[UUID] = []
        for row in rows.all():
            try:
                anew = sealed.resealed(row.client_secret_sealed or "", _place(row))
            except SealError:
                lost.append(row.id)
                continue
            if anew is not None:
                row.client_secret_sealed = anew
                row.row_version += 1
                count += 1
                change.record("issuer.resealed", row.id, None, None)
        if count:
            change.config_changed("Client secrets sealed anew")
    return count, tuple(lost)


def _refuse_while(session: Session, those: ColumnElement[bool], why: str) -> None:
    """Raises Conflict naming the routes that there are."""
    rows = select(Route.id, Route.path_pattern).where(those).order_by(Route.created_at).limit(_ROUTES_NAMED_MAX)
    routes = session.execute(rows).all()
    if routes:
        named = [{"id": str(route.id), "path_pattern": route.path_pattern} for route in routes]
        patterns = ", ".join(route.path_pattern for route in routes)
        raise Conflict(f"{why}: {patterns}.", extra={"routes": named})


def _check_only(session: Session, actor: Actor) -> None:
    """Raises Conflict when there is another one that is asked, and routes that would have to ask both."""
    other = select(Issuer.id).where(Issuer.tenant_id == actor.tenant_id, Issuer.kind == "introspection").limit(1)
    if session.scalar(other) is not None:
        why = "An opaque token names no issuer, so these routes must first say in `issuers` which one they ask"
        _refuse_while(session, route_access.asking_every_issuer(actor.tenant_id), why)


def _check(new: IssuerNew) -> None:
    """Raises Invalid naming the field. Looks at literal addresses and private names only: it resolves nothing."""
    settings = current_settings()
    own = settings.clerk.issuer.rstrip("/")
    if new.issuer.rstrip("/").lower() == own.lower():
        raise Invalid.field("issuer", "is this deployment's own, whose tokens routes take anyway")
    for field in _URLS:
        text = getattr(new, field)
        if text is None:
            continue
        url, _ = parse_document_url(text)
        reason = check_url(url, settings.allowed_private_origins)
        if reason is not None:
            raise Invalid.field(field, f"its host {reason} and is not allowed")
        if url.scheme != "https" and not _is_opened(url):
            raise Invalid.field(field, "must be https")


def _is_opened(url: OriginUrl) -> bool:
    """Whether ALLOWED_PRIVATE_ORIGINS opened this host by itself: a private one that is reached all the same."""
    allowed = current_settings().allowed_private_origins
    return check_url(url, ()) is not None and check_url(url, allowed) is None


def _merge(before: IssuerView, patch: IssuerPatch) -> IssuerNew:
    kept = before.model_dump(include={*IssuerPatch.model_fields} | {"kind"})
    try:
        return IssuerNew.model_validate({**kept, **patch.model_dump(exclude_unset=True)})
    except ValidationError as error:
        raise invalid_from(error) from None


def _fill(row: Issuer, new: IssuerNew) -> None:
    row.client_secret_sealed = _secret(row, new)
    row.name = new.name
    row.issuer = new.issuer
    row.audience = list(new.audience)
    row.algorithms = list(new.effective_algorithms)
    row.jwks_uri = new.jwks_uri
    row.public_keys = new.public_keys
    row.required_scopes = list(new.required_scopes)
    row.introspection_url = new.introspection_url
    row.client_id = new.client_id


def _secret(row: Issuer, new: IssuerNew) -> str | None:
    """Give what the row is to hold of the secret. `row` has its values of before. Raises Invalid."""
    if new.introspection_url is None:
        return None
    if new.client_secret is not None:
        return sealed.seal("client_secret", new.client_secret, _place(row))
    held = row.client_secret_sealed
    if held is None or row.introspection_url is None:
        raise Invalid.field("client_secret", "must be given for an issuer of kind introspection")
    asked, before = parse_document_url(new.introspection_url)[0], parse_document_url(row.introspection_url)[0]
    if (asked.scheme, asked.host, asked.port) != (before.scheme, before.host, before.port):
        raise Invalid.field("client_secret", "must be given again, because introspection_url leads to another host")
    try:
        return sealed.resealed(held, _place(row)) or held
    except SealError:  # it stays what it is: what is not about it goes on
        return held


def _place(row: Issuer) -> bytes:
    return snapshot.issuer_secret_place(str(row.tenant_id), str(row.id))


def _row(session: Session, actor: Actor, issuer_id: UUID) -> Issuer:
    row = session.scalars(
        select(Issuer).where(Issuer.tenant_id == actor.tenant_id, Issuer.id == issuer_id)
    ).one_or_none()
    if row is None:
        raise NotFound
    return row


def _view(row: Issuer) -> IssuerView:
    return IssuerView.model_validate(row)


def _views(rows: Sequence[Issuer]) -> list[IssuerView]:
    return [_view(row) for row in rows]
