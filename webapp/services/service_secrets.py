"""The signing secrets of services: made, sealed, replaced, sealed anew; and what the edge is told of services.

In:    rows of `services`; the deployment's sealing keys.
Out:   secrets in clear, to be shown once; sealed text in the row; the snapshot's part.
Laws:  1. A secret is 32 random octets. It is kept sealed, bound to its tenant and service, because the edge must make
       the same signature: a digest would not do. 2. There are at most two: what is replaced while a secret of before
       lives ends that one at once. 3. A secret whose grace ended is told to nobody and goes with the next write of its
       row, or of the job that looks for it.
Not here: ciphers (contracts.sealing), signatures (edge.http.signatures).
"""

from __future__ import annotations

import base64
import secrets
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from contracts import apikey, snapshot
from contracts.sealing import SealError
from webapp.models import Service
from webapp.services import sealed

SECRET_BYTES: Final = 32
_KEY_ID_CHARS: Final = 20


def new_key_id() -> str:
    return "svc_" + apikey.base62(secrets.randbelow(62**_KEY_ID_CHARS), _KEY_ID_CHARS)


def replace(row: Service, grace_s: int, field: str) -> str:
    """Give a row a new secret; the one of before lives `grace_s` longer. Gives the new one in base64, to be shown.

    Raises Invalid naming `field` where this deployment has no sealing keys.
    """
    secret = secrets.token_bytes(SECRET_BYTES)
    kept = sealed.seal(field, secret, _place(row))
    if row.secret is not None and grace_s:
        row.previous_secret, row.previous_until = row.secret, datetime.now(UTC) + timedelta(seconds=grace_s)
    else:
        row.previous_secret = row.previous_until = None
    row.secret = kept
    return base64.b64encode(secret).decode("ascii")


def forget(row: Service) -> None:
    """Take all secrets from a row."""
    row.secret = row.previous_secret = row.previous_until = None


def drop_ended(row: Service, now: datetime) -> None:
    if row.previous_until is not None and row.previous_until <= now:
        row.previous_secret = row.previous_until = None


def reseal(row: Service) -> tuple[bool, bool]:
    """Seal what an older key sealed under the newest one. Gives whether anything was, and whether a secret is lost:
    one that opens no more keeps the other from nothing."""
    done = lost = False
    for column in ("secret", "previous_secret"):
        held = getattr(row, column)
        if held is None:
            continue
        try:
            anew = sealed.resealed(held, _place(row))
        except SealError:
            lost = True
            continue
        if anew is not None:
            setattr(row, column, anew)
            done = True
    return done, lost


def configs(session: Session, tenant_id: UUID) -> tuple[snapshot.ServiceConfig, ...]:
    """Give the snapshot's part: services that are switched on, oldest first. Blocks on one query."""
    columns = Service.__table__.c
    now = datetime.now(UTC)
    rows = session.execute(
        select(*columns)
        .where(columns.tenant_id == tenant_id, columns.enabled, columns.revoked_at.is_(None))
        .order_by(columns.created_at, columns.id)
    )
    found = []
    for row in rows:
        previous = row.previous_secret if row.previous_until is not None and row.previous_until > now else None
        found.append(
            snapshot.ServiceConfig(
                id=str(row.id),
                name=row.name,
                kind=row.kind,
                key_id=row.key_id,
                scopes=tuple(row.scopes),
                secrets=tuple(filter(None, (row.secret, previous))),
                previous_until=None if previous is None else row.previous_until.timestamp(),
                expires_at=None if row.expires_at is None else row.expires_at.timestamp(),
                addresses=tuple(row.addresses),
            )
        )
    return tuple(found)


def _place(row: Service) -> bytes:
    return snapshot.service_secret_place(str(row.tenant_id), str(row.id))
