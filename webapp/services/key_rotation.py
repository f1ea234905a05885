"""A key's successor: made on demand and shown at once, or made by the key's policy and revealed once to an admin.

Laws:  1. A successor has the settings of the key it replaces, and as long a life as that one was given. 2. The old key
       goes on through its grace, never past its own end. 3. At most two generations live: making a third ends the
       oldest at once. 4. A successor made by policy is sealed; no edge knows it before it is revealed, and the old
       key's grace begins then. What is not revealed within REVEAL_WITHIN is destroyed, and its rotation overdue. 5. A
       key replaced so is revoked at its deadline, or when nobody used it for UNUSED_FOR since the successor was
       revealed. 6. Each step is one transaction: interrupted, it is found to be done or to do.
Not here: when the policy is looked at (worker.tasks.keys), the format of keys (contracts.apikey).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import aliased

from contracts import apikey, sealing
from contracts.snapshot import successor_place
from webapp.extensions import current_settings, system_scope
from webapp.models import ApiKey, Tenant
from webapp.schemas.api_key import ApiKeyMade, ApiKeyRotate
from webapp.services import api_keys, sealed
from webapp.services.actor import Actor, require_admin, require_own
from webapp.services.errors import Conflict
from webapp.services.revision import Revision, Written, revision

REVEAL_WITHIN: Final = timedelta(days=7)
GRACE_AFTER_REVEAL: Final = timedelta(days=7)
UNUSED_FOR: Final = timedelta(hours=24)
_AT_ONCE: Final = 100


def rotate(actor: Actor, key_id: UUID, ask: ApiKeyRotate, if_match: int | None = None) -> Written[ApiKeyMade]:
    """Make the successor and show it, this once. Raises Forbidden, NotFound, Conflict, PreconditionFailed."""
    with revision(actor, of_their_own=True) as change:
        row = api_keys.row_of(change.session, actor, key_id)
        require_own(actor, row.created_by)
        row = api_keys.living(change, actor, key_id, if_match)
        _check_rotatable(row)
        api_keys.check_room(change.session, actor, 1)
        _end_waiting(change, row)
        key, successor = _successor(row, actor.clerk_user_id)
        change.session.add(successor)
        view = api_keys.changed(change, successor, None, "created")
        _retire(change, row, timedelta(seconds=ask.grace_seconds))
    return Written(api_keys.made(view, key), change.receipt)


def _check_rotatable(row: ApiKey) -> None:
    if row.sealed_key is not None:
        raise Conflict("The key waits to be revealed: reveal it first.")
    if row.deprecated_at is not None:
        raise Conflict("The key was rotated already: rotate its successor.")
    if not row.enabled or (row.expires_at is not None and row.expires_at <= datetime.now(UTC)):
        raise Conflict("Only an active key can be rotated.")


def _successor(row: ApiKey, made_by: str | None) -> tuple[str, ApiKey]:
    """Give a new key, and a row for it that is not in the database yet."""
    mode: apikey.Mode = "test" if row.key_prefix.startswith("ve_test_") else "live"
    key = apikey.make_key(mode, secrets.randbelow)
    prefix, last_four = apikey.display(key)
    now = datetime.now(UTC)
    successor = ApiKey(
        id=uuid4(),
        tenant_id=row.tenant_id,
        name=row.name,
        key_prefix=prefix,
        last_four=last_four,
        digest=api_keys.digest_of(key),
        scopes=list(row.scopes),
        addresses=list(row.addresses),
        rate_limit=row.rate_limit,
        rotate_every_days=row.rotate_every_days,
        expires_at=None if row.expires_at is None else _as_long(now, row.expires_at - row.created_at),
        created_by=made_by,
        rotated_from_id=row.id,
    )
    return key, successor


def _as_long(now: datetime, life: timedelta) -> datetime:
    """Give the end of a life that begins now; no later than there are years to write it in."""
    try:
        return now + life
    except OverflowError:
        return datetime.max.replace(microsecond=0, tzinfo=UTC)


def _retire(change: Revision, row: ApiKey, grace: timedelta) -> None:
    """Let the old key go on through its grace; the one it replaced ends now."""
    before = api_keys.view_of(row)
    now = datetime.now(UTC)
    row.deprecated_at = now
    row.expires_at = now + grace if row.expires_at is None else min(row.expires_at, now + grace)
    row.rotation_overdue_at = None
    api_keys.changed(change, row, before, "rotated")
    elder = change.session.get(ApiKey, row.rotated_from_id) if row.rotated_from_id is not None else None
    if elder is not None and elder.revoked_at is None:
        api_keys.end(change, elder, "revoked")


def _end_waiting(change: Revision, row: ApiKey) -> None:
    """A successor nobody has seen is no use beside the one that is made now."""
    waiting = select(ApiKey).where(
        ApiKey.tenant_id == row.tenant_id, ApiKey.rotated_from_id == row.id, ApiKey.sealed_key.is_not(None)
    )
    for row_of_it in change.session.scalars(waiting).all():
        api_keys.end(change, row_of_it, "revoked")


def reveal(actor: Actor, key_id: UUID, if_match: int | None = None) -> Written[ApiKeyMade]:
    """Show a successor that waits, this once; the old key's grace begins. Raises Forbidden, NotFound, Conflict."""
    require_admin(actor)
    with revision(actor) as change:
        row = api_keys.living(change, actor, key_id, if_match)
        now = datetime.now(UTC)
        if row.sealed_key is None or row.reveal_until is None or row.reveal_until <= now:
            raise Conflict("There is nothing to reveal: it was shown, or its time is over.")
        try:
            key = sealing.open_sealed(current_settings().sealing_keys, row.sealed_key, _place(row)).decode("ascii")
        except sealing.SealError:
            raise Conflict("The key cannot be opened any more: rotate its predecessor by hand.") from None
        before = api_keys.view_of(row)
        row.sealed_key = row.reveal_until = None
        row.revealed_at = now
        view = api_keys.changed(change, row, before, "revealed")
        elder = change.session.get(ApiKey, row.rotated_from_id) if row.rotated_from_id is not None else None
        if elder is not None and elder.revoked_at is None:
            _retire(change, elder, GRACE_AFTER_REVEAL)
    return Written(api_keys.made(view, key), change.receipt)


def reseal(actor: Actor) -> tuple[int, tuple[UUID, ...]]:
    """Seal successors that wait anew, where an older sealing key sealed them. Raises Forbidden, NotFound.

    Gives how many, and those that cannot be opened any more.
    """
    count, lost = 0, []
    with revision(actor) as change:
        waiting = select(ApiKey).where(ApiKey.tenant_id == actor.tenant_id, ApiKey.sealed_key.is_not(None))
        for row in change.session.scalars(waiting).all():
            try:
                anew = sealed.resealed(row.sealed_key or "", _place(row))
            except sealing.SealError:
                lost.append(row.id)
                continue
            if anew is not None:
                row.sealed_key = anew
                count += 1
                change.record("api_key.resealed", row.id, None, None)
    return count, tuple(lost)


def _place(row: ApiKey) -> bytes:
    return successor_place(str(row.tenant_id), str(row.id))


# --- The policy -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Advanced:
    """What one look at a tenant's policies did."""

    made: int = 0
    lapsed: int = 0
    ended: int = 0

    def __add__(self, other: Advanced) -> Advanced:
        return Advanced(self.made + other.made, self.lapsed + other.lapsed, self.ended + other.ended)


def tenants_with_work(now: datetime) -> tuple[tuple[UUID, str], ...]:
    """Give the tenants (and their organisations) in which something is to do, by one query over all tenants."""
    with system_scope() as session:
        rows = session.execute(
            select(ApiKey.tenant_id, Tenant.clerk_org_id)
            .join(Tenant, Tenant.id == ApiKey.tenant_id)
            .where(
                ApiKey.revoked_at.is_(None),
                or_(ApiKey.rotate_every_days.is_not(None), ApiKey.deprecated_at.is_not(None)),
                or_(_lapsed(now), _due(now), _over(now), _deserted(now)),
            )
            .distinct()
        )
        return tuple((row.tenant_id, row.clerk_org_id) for row in rows)


def advance(actor: Actor, now: datetime) -> Advanced:
    """Do what a tenant's rotation policies ask for. Idempotent: what is done is not found again.

    Raises Forbidden, NotFound. Blocks on the tenant's lock (at most 5 s), a batch a transaction.
    """
    total = Advanced()
    while True:
        with revision(actor) as change:
            done = _advance(change, now)
        total += done
        if max(done.made, done.lapsed, done.ended) < _AT_ONCE:
            return total


def _advance(change: Revision, now: datetime) -> Advanced:
    lapsed = _some(change, _lapsed(now))
    for row in lapsed:
        elder = change.session.get(ApiKey, row.rotated_from_id) if row.rotated_from_id is not None else None
        api_keys.end(change, row, "lapsed")
        if elder is not None and elder.revoked_at is None:
            before = api_keys.view_of(elder)
            elder.rotation_overdue_at = now
            api_keys.changed(change, elder, before, "rotation_overdue")
    ended = _some(change, or_(_over(now), _deserted(now)))
    for row in ended:
        api_keys.end(change, row, "retired")
    due = _some(change, _due(now)) if current_settings().sealing_keys else []
    for row in due:
        _make_sealed(change, row, now)
    return Advanced(len(due), len(lapsed), len(ended))


def _some(change: Revision, which: ColumnElement[bool]) -> list[ApiKey]:
    statement = select(ApiKey).where(ApiKey.tenant_id == change.tenant.id, which).order_by(ApiKey.id).limit(_AT_ONCE)
    return list(change.session.scalars(statement))


def _make_sealed(change: Revision, row: ApiKey, now: datetime) -> None:
    key, successor = _successor(row, row.created_by)
    successor.sealed_key = sealed.seal("rotate_every_days", key, _place(successor))
    successor.reveal_until = now + REVEAL_WITHIN
    change.session.add(successor)
    api_keys.changed(change, successor, None, "created")


def _lapsed(now: datetime) -> ColumnElement[bool]:
    """Nobody revealed it in time."""
    return and_(ApiKey.revoked_at.is_(None), ApiKey.sealed_key.is_not(None), ApiKey.reveal_until <= now)


def _due(now: datetime) -> ColumnElement[bool]:
    """Its policy asks for a successor, and none was made."""
    return and_(
        ApiKey.revoked_at.is_(None),
        ApiKey.enabled,
        ApiKey.deprecated_at.is_(None),
        ApiKey.sealed_key.is_(None),
        or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now),
        ApiKey.created_at + func.make_interval(0, 0, 0, ApiKey.rotate_every_days) <= now,
        ~_with_successor(),
    )


def _with_successor() -> ColumnElement[bool]:
    later = aliased(ApiKey)
    return (
        select(later.id)
        .where(later.tenant_id == ApiKey.tenant_id, later.rotated_from_id == ApiKey.id, later.revoked_at.is_(None))
        .exists()
    )


def _over(now: datetime) -> ColumnElement[bool]:
    """Its grace is over."""
    return and_(ApiKey.revoked_at.is_(None), ApiKey.deprecated_at.is_not(None), ApiKey.expires_at <= now)


def _deserted(now: datetime) -> ColumnElement[bool]:
    """Its successor, made by policy, was revealed long enough ago, and nobody used the old one since."""
    later = aliased(ApiKey)
    since = now - UNUSED_FOR
    return and_(
        ApiKey.revoked_at.is_(None),
        ApiKey.deprecated_at.is_not(None),
        or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= since),
        select(later.id)
        .where(later.tenant_id == ApiKey.tenant_id, later.rotated_from_id == ApiKey.id, later.revealed_at <= since)
        .exists(),
    )
