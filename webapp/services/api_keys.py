"""API keys: made and shown once, imported, renamed, switched off and on, revoked.

Laws:  1. The key is never stored and never logged; only its digest under the current pepper. 2. A revoked key stays
       revoked. 3. Whatever changes what the edge must know of a key goes through the outbox.
Not here: the format (contracts.apikey), what the edge does with a record (edge.phases.auth).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from contracts import apikey, bounds
from webapp.extensions import current_settings, tenant_scope
from webapp.models import ApiKey
from webapp.schemas.api_key import ApiKeyImport, ApiKeyMade, ApiKeyNew, ApiKeyPatch, ApiKeyQuery, ApiKeyView
from webapp.schemas.paging import Page
from webapp.services import listing, publishing
from webapp.services.actor import Actor, require_admin
from webapp.services.errors import Conflict, FieldError, Invalid, NotFound
from webapp.services.origins import check_tenant
from webapp.services.revision import Revision, Written, check_match, revision

_FIELDS = tuple(name for name in ApiKeyView.model_fields if name != "expired")


def page(actor: Actor, query: ApiKeyQuery) -> Page[ApiKeyView]:
    """Oldest first. Blocks on one query at any number of rows."""
    with tenant_scope(actor.tenant_id) as session:
        rows = select(ApiKey).where(ApiKey.tenant_id == actor.tenant_id)
        return listing.page(session, rows, ApiKey, query, _views)


def get(actor: Actor, key_id: UUID) -> ApiKeyView:
    """Raises NotFound."""
    with tenant_scope(actor.tenant_id) as session:
        return _view(_row(session, actor, key_id))


def create(actor: Actor, new: ApiKeyNew) -> Written[ApiKeyMade]:
    """Make a key. The answer is the only place where it is ever seen. Raises Forbidden, NotFound, Invalid, Conflict."""
    require_admin(actor)
    check_tenant(actor, new.tenant_id)
    return _store(actor, new, apikey.make_key(new.mode, secrets.randbelow), imported=False)


def import_(actor: Actor, new: ApiKeyImport) -> Written[ApiKeyView]:
    """Take over a key that clients hold already. Raises Forbidden, NotFound, Invalid, Conflict (it exists already)."""
    require_admin(actor)
    check_tenant(actor, new.tenant_id)
    key = new.key.get_secret_value()
    if apikey.has_our_prefix(key.encode()) and apikey.parse_key(key.encode()) is None:
        raise Invalid.field("key", "looks like a key of ours, but its checksum is wrong: the edge would refuse it")
    made = _store(actor, new, key, imported=True)
    return Written(ApiKeyView(**made.view.model_dump(exclude={"key", "state"})), made.receipt)


def _store(actor: Actor, new: ApiKeyNew | ApiKeyImport, key: str, *, imported: bool) -> Written[ApiKeyMade]:
    if new.expires_at is not None and new.expires_at <= datetime.now(UTC):
        raise Invalid.field("expires_at", "must be in the future")
    peppers = current_settings().key_peppers
    digests = [apikey.digest(key.encode("ascii"), version, pepper) for version, pepper in peppers.items()]
    prefix, last_four = apikey.display(key)
    with revision(actor) as change:
        session = change.session
        held = session.scalar(select(func.count()).where(ApiKey.tenant_id == actor.tenant_id)) or 0
        if held >= bounds.KEYS_PER_TENANT_MAX:
            raise Conflict(f"A tenant has at most {bounds.KEYS_PER_TENANT_MAX} keys.")
        # Under an older pepper too: the same key twice would outlive its revocation.
        if session.scalar(select(ApiKey.id).where(ApiKey.tenant_id == actor.tenant_id, ApiKey.digest.in_(digests))):
            raise Conflict("key: exists already", [FieldError("key", "exists already")])
        row = ApiKey(
            tenant_id=actor.tenant_id,
            name=new.name,
            key_prefix=prefix,
            last_four=last_four,
            digest=digests[0],
            scopes=list(new.scopes),
            imported=imported,
            expires_at=new.expires_at,
            created_by=actor.clerk_user_id,
        )
        session.add(row)
        session.flush()
        view = _view(row)
        change.keys_changed([row.digest])
        change.record("api_key.imported" if imported else "api_key.created", view.id, None, view)
    return Written(ApiKeyMade(**view.model_dump(exclude={"state"}), key=key), change.receipt)


def update(actor: Actor, key_id: UUID, patch: ApiKeyPatch, if_match: int | None = None) -> Written[ApiKeyView]:
    """Raises Forbidden, NotFound, Invalid, Conflict (it is revoked), PreconditionFailed."""
    require_admin(actor)
    expires_at = patch.expires_at if "expires_at" in patch.model_fields_set else None
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise Invalid.field("expires_at", "must be in the future; to end a key now, revoke it")
    with revision(actor) as change:
        row = _living(change, actor, key_id, if_match)
        before = _view(row)
        for field in patch.model_fields_set:
            value = getattr(patch, field)
            setattr(row, field, list(value) if field == "scopes" else value)
        view = _changed(change, row, before, "changed")
    return Written(view, change.receipt)


def enable(actor: Actor, key_id: UUID, if_match: int | None = None) -> Written[ApiKeyView]:
    """Raises Forbidden, NotFound, Conflict (it is revoked), PreconditionFailed."""
    return _switch(actor, key_id, if_match, "enabled")


def disable(actor: Actor, key_id: UUID, if_match: int | None = None) -> Written[ApiKeyView]:
    """Raises Forbidden, NotFound, Conflict (it is revoked), PreconditionFailed."""
    return _switch(actor, key_id, if_match, "disabled")


def _switch(
    actor: Actor, key_id: UUID, if_match: int | None, verb: Literal["enabled", "disabled"]
) -> Written[ApiKeyView]:
    require_admin(actor)
    with revision(actor) as change:
        row = _living(change, actor, key_id, if_match)
        before = _view(row)
        row.enabled = verb == "enabled"
        view = _changed(change, row, before, verb)
    return Written(view, change.receipt)


def revoke(actor: Actor, key_id: UUID, if_match: int | None = None) -> Written[ApiKeyView]:
    """End a key for ever; once more does nothing. Raises Forbidden, NotFound, PreconditionFailed."""
    require_admin(actor)
    with revision(actor) as change:
        row = _row(change.session, actor, key_id)
        check_match(row.row_version, if_match)
        before = _view(row)
        if row.revoked_at is None:
            row.revoked_at = datetime.now(UTC)
            row.enabled = False
            view = _changed(change, row, before, "revoked")
        else:
            view = before
            change.keys_changed([row.digest])
    return Written(view, change.receipt)


def remove(actor: Actor, key_id: UUID, if_match: int | None = None) -> publishing.Receipt:
    """Revoke and forget. Raises Forbidden, NotFound, PreconditionFailed."""
    require_admin(actor)
    with revision(actor) as change:
        row = _row(change.session, actor, key_id)
        check_match(row.row_version, if_match)
        change.record("api_key.removed", key_id, _view(row), None)
        change.keys_changed([row.digest])
        change.session.delete(row)
    return change.receipt


def _living(change: Revision, actor: Actor, key_id: UUID, if_match: int | None) -> ApiKey:
    row = _row(change.session, actor, key_id)
    check_match(row.row_version, if_match)
    if row.revoked_at is not None:
        raise Conflict("The key is revoked, for ever.")
    return row


def _changed(change: Revision, row: ApiKey, before: ApiKeyView, verb: str) -> ApiKeyView:
    row.row_version += 1
    change.session.flush()
    view = _view(row)
    change.keys_changed([row.digest])
    change.record(f"api_key.{verb}", row.id, before, view)
    return view


def _row(session: Session, actor: Actor, key_id: UUID) -> ApiKey:
    row = session.scalars(select(ApiKey).where(ApiKey.tenant_id == actor.tenant_id, ApiKey.id == key_id)).one_or_none()
    if row is None:
        raise NotFound
    return row


def _view(row: ApiKey) -> ApiKeyView:
    expired = row.expires_at is not None and row.expires_at <= datetime.now(UTC)
    return ApiKeyView(**{name: getattr(row, name) for name in _FIELDS}, expired=expired)


def _views(rows: Sequence[ApiKey]) -> list[ApiKeyView]:
    return [_view(row) for row in rows]
