"""API keys: made and shown once, imported, changed, switched off and on, revoked.

Laws:  1. The key is never stored and never logged; only its digest under the current pepper. 2. A revoked key stays
       revoked. 3. Whatever changes what the edge must know of a key goes through the outbox. 4. Members make keys and
       revoke their own; the rest is an admin's. 5. A rotated key's end may come sooner, never later.
Not here: the format (contracts.apikey), rotation (services.key_rotation), last use (services.key_uses), what the edge
       is told (services.key_records).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import Session

from contracts import apikey, bounds
from webapp.extensions import current_settings, tenant_scope
from webapp.models import ApiKey
from webapp.schemas.api_key import (
    ApiKeyImport,
    ApiKeyImports,
    ApiKeyMade,
    ApiKeyNew,
    ApiKeyPatch,
    ApiKeyQuery,
    ApiKeysMade,
    ApiKeyView,
)
from webapp.schemas.paging import Page
from webapp.services import listing, publishing
from webapp.services.actor import Actor, require_admin, require_own
from webapp.services.errors import Conflict, FieldError, Invalid, NotFound
from webapp.services.origins import check_tenant
from webapp.services.revision import Revision, Written, check_match, revision

_PREFIXES = tuple(prefix.decode("ascii") for prefix in apikey.PREFIXES)
_LAST = "\U0010ffff"
"""Greater than whatever may follow the beginning of a name."""
_FIELDS = tuple(name for name in ApiKeyView.model_fields if name != "expired")


def page(actor: Actor, query: ApiKeyQuery) -> Page[ApiKeyView]:
    """Oldest first. Blocks on one query at any number of rows."""
    with tenant_scope(actor.tenant_id) as session:
        rows = select(ApiKey).where(ApiKey.tenant_id == actor.tenant_id)
        if query.search is not None:
            rows = _matching(rows, query.search)
        return listing.page(session, rows, ApiKey, query, _views)


def _matching(rows: Select[ApiKey], words: str) -> Select[ApiKey]:
    """By beginnings alone: with row-level security in force the planner takes only leakproof operators into an index,
    and these (bytewise order) are; LIKE is not. So a search costs the same at any number of keys."""
    column = ApiKey.key_prefix if words.startswith(_PREFIXES) else ApiKey.name
    spellings = {words} if column is ApiKey.key_prefix else {words, words.lower(), words.upper(), words.capitalize()}
    return rows.where(
        or_(*[and_(column.op("~>=~")(begin), column.op("~<~")(begin + _LAST)) for begin in sorted(spellings)])
    )


def get(actor: Actor, key_id: UUID) -> ApiKeyView:
    """Raises NotFound."""
    with tenant_scope(actor.tenant_id) as session:
        return view_of(row_of(session, actor, key_id))


def create(actor: Actor, new: ApiKeyNew) -> Written[ApiKeyMade]:
    """Make a key. The answer is the only place where it is ever seen. Raises NotFound, Invalid, Conflict."""
    check_tenant(actor, new.tenant_id)
    _check(new)
    key = apikey.make_key(new.mode, secrets.randbelow)
    with revision(actor, of_their_own=True) as change:
        check_room(change.session, actor, 1)
        _refuse_known(change.session, actor, [key], "key")
        row = _row(actor, new, key, imported=False)
        change.session.add(row)
        change.session.flush()
        view = view_of(row)
        change.keys_changed([row.digest])
        change.record("api_key.created", view.id, None, view)
    return Written(made(view, key), change.receipt)


def import_(actor: Actor, new: ApiKeyImport) -> Written[ApiKeyView]:
    """Take over a key that clients hold already. Raises Forbidden, NotFound, Invalid, Conflict (it exists already)."""
    written = _import(actor, [new], "")
    return Written(written.view.items[0], written.receipt)


def import_many(actor: Actor, new: ApiKeyImports) -> Written[ApiKeysMade]:
    """Take over all of these keys or none. Raises like import_, naming the place in the list."""
    return _import(actor, new.keys, "keys.{}.")


def _import(actor: Actor, news: Sequence[ApiKeyImport], place: str) -> Written[ApiKeysMade]:
    require_admin(actor)
    keys = [new.key.get_secret_value() for new in news]
    seen: dict[str, int] = {}
    for index, (new, key) in enumerate(zip(news, keys, strict=True)):
        check_tenant(actor, new.tenant_id)
        _check(new, place.format(index))
        if apikey.has_our_prefix(key.encode()) and apikey.parse_key(key.encode()) is None:
            reason = "looks like a key of ours, but its checksum is wrong: the edge would refuse it"
            raise Invalid.field(place.format(index) + "key", reason)
        if seen.setdefault(key, index) != index:
            raise Invalid.field(place.format(index) + "key", f"is the same as {place.format(seen[key])}key")
    with revision(actor) as change:
        check_room(change.session, actor, len(news))
        _refuse_known(change.session, actor, keys, place + "key")
        rows = [_row(actor, new, key, imported=True) for new, key in zip(news, keys, strict=True)]
        change.session.add_all(rows)
        change.session.flush()
        views = _views(rows)
        change.keys_changed([row.digest for row in rows])
        for view in views:
            change.record("api_key.imported", view.id, None, view)
    return Written(ApiKeysMade(items=tuple(views)), change.receipt)


def _check(new: ApiKeyNew | ApiKeyImport, place: str = "") -> None:
    if new.expires_at is not None and new.expires_at <= datetime.now(UTC):
        raise Invalid.field(place + "expires_at", "must be in the future")
    if new.rotate_every_days is not None:
        _check_sealing(place)


def _check_sealing(place: str = "") -> None:
    if not current_settings().sealing_keys:
        reason = "cannot be used: this deployment has no SEALING_KEYS to keep a successor with"
        raise Invalid.field(place + "rotate_every_days", reason)


def check_room(session: Session, actor: Actor, more: int) -> None:
    """Raises Conflict when the tenant would have too many keys."""
    held = session.scalar(select(func.count()).where(ApiKey.tenant_id == actor.tenant_id)) or 0
    if held + more > bounds.KEYS_PER_TENANT_MAX:
        raise Conflict(f"A tenant has at most {bounds.KEYS_PER_TENANT_MAX} keys.")


def _refuse_known(session: Session, actor: Actor, keys: Sequence[str], location: str) -> None:
    """Under an older pepper too: the same key twice would outlive its revocation. Raises Conflict naming the first."""
    peppers = current_settings().key_peppers.items()
    places = {
        apikey.digest(key.encode("ascii"), version, pepper): index
        for index, key in enumerate(keys)
        for version, pepper in peppers
    }
    held = session.scalars(
        select(ApiKey.digest).where(ApiKey.tenant_id == actor.tenant_id, ApiKey.digest.in_(places))
    ).all()
    if held:
        named = location.format(min(places[digest] for digest in held))
        raise Conflict(f"{named}: exists already", [FieldError(named, "exists already")])


def _row(actor: Actor, new: ApiKeyNew | ApiKeyImport, key: str, *, imported: bool) -> ApiKey:
    prefix, last_four = apikey.display(key)
    return ApiKey(
        tenant_id=actor.tenant_id,
        name=new.name,
        key_prefix=prefix,
        last_four=last_four,
        digest=digest_of(key),
        scopes=list(new.scopes),
        imported=imported,
        expires_at=new.expires_at,
        addresses=list(new.addresses),
        rate_limit=None if new.rate_limit is None else new.rate_limit.model_dump(mode="json", exclude_none=True),
        rotate_every_days=new.rotate_every_days,
        created_by=actor.clerk_user_id,
    )


def digest_of(key: str) -> str:
    """Give the digest under the current pepper."""
    version, pepper = next(iter(current_settings().key_peppers.items()))
    return apikey.digest(key.encode("ascii"), version, pepper)


def made(view: ApiKeyView, key: str) -> ApiKeyMade:
    return ApiKeyMade(**view.model_dump(exclude={*ApiKeyView.model_computed_fields}), key=key)


def update(actor: Actor, key_id: UUID, patch: ApiKeyPatch, if_match: int | None = None) -> Written[ApiKeyView]:
    """Raises Forbidden, NotFound, Invalid, Conflict (it is revoked), PreconditionFailed."""
    require_admin(actor)
    given = patch.model_fields_set
    expires_at = patch.expires_at if "expires_at" in given else None
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise Invalid.field("expires_at", "must be in the future; to end a key now, revoke it")
    if "rotate_every_days" in given and patch.rotate_every_days is not None:
        _check_sealing()
    with revision(actor) as change:
        row = living(change, actor, key_id, if_match)
        if row.deprecated_at is not None and "expires_at" in given:
            _check_sooner(row, expires_at)
        before = view_of(row)
        for field in given:
            value = getattr(patch, field)
            if field == "rate_limit" and value is not None:
                value = value.model_dump(mode="json", exclude_none=True)
            setattr(row, field, list(value) if field in ("scopes", "addresses") else value)
        view = changed(change, row, before, "changed")
    return Written(view, change.receipt)


def _check_sooner(row: ApiKey, expires_at: datetime | None) -> None:
    if expires_at is None or (row.expires_at is not None and expires_at > row.expires_at):
        raise Invalid.field("expires_at", "of a key that was rotated may only come sooner")


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
        row = living(change, actor, key_id, if_match)
        before = view_of(row)
        row.enabled = verb == "enabled"
        view = changed(change, row, before, verb)
    return Written(view, change.receipt)


def revoke(actor: Actor, key_id: UUID, if_match: int | None = None) -> Written[ApiKeyView]:
    """End a key for ever; once more does nothing. Raises Forbidden, NotFound, PreconditionFailed."""
    with revision(actor, of_their_own=True) as change:
        row = row_of(change.session, actor, key_id)
        require_own(actor, row.created_by)
        check_match(row.row_version, if_match)
        if row.revoked_at is None:
            view = end(change, row, "revoked")
        else:
            view = view_of(row)
            change.keys_changed([row.digest])
    return Written(view, change.receipt)


def end(change: Revision, row: ApiKey, verb: str) -> ApiKeyView:
    """Revoke a living key, whoever ends it; what was sealed of it is destroyed."""
    before = view_of(row)
    row.revoked_at = datetime.now(UTC)
    row.enabled = False
    row.sealed_key = row.reveal_until = None
    return changed(change, row, before, verb)


def remove(actor: Actor, key_id: UUID, if_match: int | None = None) -> publishing.Receipt:
    """Revoke and forget. Raises Forbidden, NotFound, PreconditionFailed."""
    require_admin(actor)
    with revision(actor) as change:
        row = row_of(change.session, actor, key_id)
        check_match(row.row_version, if_match)
        change.record("api_key.removed", key_id, view_of(row), None)
        change.keys_changed([row.digest])
        change.session.delete(row)
    return change.receipt


def living(change: Revision, actor: Actor, key_id: UUID, if_match: int | None) -> ApiKey:
    """Raises NotFound, PreconditionFailed, Conflict (it is revoked)."""
    row = row_of(change.session, actor, key_id)
    check_match(row.row_version, if_match)
    if row.revoked_at is not None:
        raise Conflict("The key is revoked, for ever.")
    return row


def changed(change: Revision, row: ApiKey, before: ApiKeyView | None, verb: str) -> ApiKeyView:
    """Write down a change of a key, or its making (`before` is None), and have the edges told."""
    if before is not None:
        row.row_version += 1
    change.session.flush()
    view = view_of(row)
    change.keys_changed([row.digest])
    change.record(f"api_key.{verb}", row.id, before, view)
    return view


def row_of(session: Session, actor: Actor, key_id: UUID) -> ApiKey:
    """Raises NotFound."""
    row = session.scalars(select(ApiKey).where(ApiKey.tenant_id == actor.tenant_id, ApiKey.id == key_id)).one_or_none()
    if row is None:
        raise NotFound
    return row


def view_of(row: ApiKey) -> ApiKeyView:
    expired = row.expires_at is not None and row.expires_at <= datetime.now(UTC)
    return ApiKeyView(**{name: getattr(row, name) for name in _FIELDS}, expired=expired)


def _views(rows: Sequence[ApiKey]) -> list[ApiKeyView]:
    return [view_of(row) for row in rows]
