"""Identity keys: one that signs for a tenant, the next one published before it does, the last one until its end.

    (none) -> signing -> retired -> (removed)          the first key of a tenant, and one made at once
    (none) -> next -> signing -> retired -> (removed)  every other

In:    a route that asks for identity tokens; people and the worker who change keys; the time.
Out:   rows of identity_keys.
Laws:  1. A key is published for LEAD_S before it signs and for RETIRED_S after it did (contracts.identity), counted
       from when nothing was owed to the edges any more. 2. At most one signs, at most one is next: the database says so
       too. 3. A private key leaves this module sealed or not at all, bound to its tenant and kid, and ends with its
       signing. 4. Advancing twice is advancing once.
Not here: which keys travel (services.snapshots), signing (edge.net.identity), when the worker looks
          (worker.tasks.identity_keys).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from contracts import identity, snapshot
from contracts.sealing import SealError
from webapp.extensions import current_settings, system_scope, tenant_scope
from webapp.models import IdentityKey, OutboxEntry, Tenant
from webapp.models.identity_key import STATES
from webapp.schemas.identity_key import IdentityKeys, IdentityKeyView, KeyState, Rotation
from webapp.services import sealed
from webapp.services.actor import Actor, require_admin
from webapp.services.errors import Conflict, Invalid
from webapp.services.revision import Revision, Written, revision

_STAYS: Final = {"next": timedelta(seconds=identity.LEAD_S), "retired": timedelta(seconds=identity.RETIRED_S)}


def index(actor: Actor) -> IdentityKeys:
    """Blocks on one query."""
    with tenant_scope(actor.tenant_id) as session:
        return IdentityKeys(items=tuple(_view(row) for row in _rows(session, actor.tenant_id)))


def ensure(change: Revision) -> None:
    """Make a tenant's first key, because a route asks for identity tokens. Raises Invalid(identity_token)."""
    if not current_settings().sealing_keys:
        raise Invalid.field("identity_token", "cannot be signed: this deployment has no SEALING_KEYS")
    if not _rows(change.session, change.tenant.id):
        _make(change, "signing", datetime.now(UTC))


def rotate(actor: Actor, wanted: Rotation) -> Written[IdentityKeyView]:
    """Make the key that will sign next, or sign with a new one at once. Raises Forbidden, NotFound, Conflict."""
    require_admin(actor)
    if not current_settings().sealing_keys:
        raise Conflict("This deployment has no SEALING_KEYS, so it can hold no key.")
    with revision(actor) as change:
        rows = _rows(change.session, actor.tenant_id)
        if wanted.at_once:
            for row in rows:
                _remove(change, row)
            change.session.flush()
            rows = []
        waiting = next((row for row in rows if row.state == "next"), None)
        if waiting is not None:
            at = waiting.state_since + _STAYS["next"]
            raise Conflict(f"The next key is published already and will sign from {at:%Y-%m-%d %H:%M} UTC.")
        row = _make(change, "next" if rows else "signing", datetime.now(UTC))
        view = _view(row)
        change.config_changed("Identity key changed at once" if wanted.at_once else "Next identity key published")
    return Written(view, change.receipt)


def due(now: datetime, sign_for: timedelta) -> tuple[tuple[UUID, str], ...]:
    """Give the tenants (and their organisations) that `advance` may have something to do for. Blocks on one query."""
    too_old = and_(IdentityKey.state == "signing", IdentityKey.state_since <= now - sign_for)
    with system_scope() as session:
        rows = session.execute(
            select(Tenant.id, Tenant.clerk_org_id)
            .join(IdentityKey, IdentityKey.tenant_id == Tenant.id)
            .where(or_(IdentityKey.state != "signing", too_old))
            .distinct()
        )
        return tuple((row.id, row.clerk_org_id) for row in rows)


def advance(actor: Actor, now: datetime, sign_for: timedelta) -> tuple[str, ...]:
    """Do what is due of a tenant's keys and say what; idempotent. Raises Forbidden, NotFound.

    `sign_for`: how long a key signs before its successor is published.
    """
    done: list[str] = []
    with revision(actor) as change:
        rows = _rows(change.session, actor.tenant_id)
        if _is_owed(change.session, actor.tenant_id):
            for row in rows:  # nobody has seen the newest keys yet: the lead, and the farewell, begin when they have
                if row.state != "signing":
                    row.state_since = now
            return ()
        by_state = {row.state: row for row in rows}
        signing, waiting = by_state.get("signing"), by_state.get("next")
        for row in rows:
            if row.state == "retired" and row.state_since + _STAYS["retired"] <= now:
                _remove(change, row)
                done.append("removed")
        if waiting is not None and waiting.state_since + _STAYS["next"] <= now:
            if signing is not None:
                _move(change, signing, "retired", now)
            _move(change, waiting, "signing", now)
            done.append("signing")
        elif signing is not None and waiting is None and signing.state_since + sign_for <= now:
            _make(change, "next", now)
            done.append("published")
        if done:
            change.config_changed("Identity keys moved on")
    return tuple(done)


def reseal(actor: Actor) -> tuple[int, tuple[UUID, ...]]:
    """Seal private keys anew that an older sealing key sealed. Raises Forbidden, NotFound.

    Gives how many, and the keys that cannot be opened any more.
    """
    count = 0
    lost: list[UUID] = []
    with revision(actor) as change:
        for row in _rows(change.session, actor.tenant_id):
            if row.private_key_sealed is None:
                continue
            try:
                anew = sealed.resealed(row.private_key_sealed, _place(row))
            except SealError:
                lost.append(row.id)
                continue
            if anew is not None:
                row.private_key_sealed = anew
                row.row_version += 1
                count += 1
                change.record("identity_key.resealed", row.id, None, None)
        if count:
            change.config_changed("Identity keys sealed anew")
    return count, tuple(lost)


def _rows(session: Session, tenant_id: UUID) -> Sequence[IdentityKey]:
    rows = session.scalars(
        select(IdentityKey).where(IdentityKey.tenant_id == tenant_id).order_by(IdentityKey.created_at, IdentityKey.id)
    ).all()
    return sorted(rows, key=lambda row: STATES.index(row.state))


def _make(change: Revision, state: KeyState, now: datetime) -> IdentityKey:
    kid = uuid4()  # part of what the private half is sealed for
    key = ec.generate_private_key(ec.SECP256R1())
    row = IdentityKey(id=kid, tenant_id=change.tenant.id, state=state, state_since=now)
    row.public_jwk = identity.public_jwk(key.public_key(), str(kid))
    secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    row.private_key_sealed = sealed.seal("identity_token", secret, _place(row))
    change.session.add(row)
    change.session.flush()
    change.record("identity_key.created", kid, None, _view(row))
    return row


def _move(change: Revision, row: IdentityKey, state: KeyState, now: datetime) -> None:
    before = _view(row)
    row.state, row.state_since = state, now
    row.row_version += 1
    if state == "retired":
        row.private_key_sealed = None
    change.session.flush()  # one at a time: the index knows one signing key
    change.record(f"identity_key.{state}", row.id, before, _view(row))


def _remove(change: Revision, row: IdentityKey) -> None:
    change.record("identity_key.removed", row.id, _view(row), None)
    change.session.delete(row)


def _is_owed(session: Session, tenant_id: UUID) -> bool:
    """Whether a version of the tenant's has not been published yet."""
    pending = select(OutboxEntry.id).where(OutboxEntry.tenant_id == tenant_id, OutboxEntry.published_at.is_(None))
    return session.scalar(pending.limit(1)) is not None


def _place(row: IdentityKey) -> bytes:
    return snapshot.identity_key_place(str(row.tenant_id), str(row.id))


def _view(row: IdentityKey) -> IdentityKeyView:
    stays = _STAYS.get(row.state)
    return IdentityKeyView(
        id=row.id,
        tenant_id=row.tenant_id,
        state=row.state,  # type: ignore[arg-type]  # the database knows these three alone
        state_since=row.state_since.astimezone(UTC),
        state_until=None if stays is None else (row.state_since + stays).astimezone(UTC),
        public_jwk=orjson.loads(row.public_jwk),
        row_version=row.row_version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
