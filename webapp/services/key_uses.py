"""What edges say of keys, brought to PostgreSQL: when each was last used, and its digest under a newer pepper.

In:    keyspace.key_uses and key_renewals of the tenants named in keyspace.KEY_USES.
Out:   api_keys.last_used_at (the newest wins), api_keys.digest, both digests' records renewed for the edges.
Laws:  1. What is taken is removed only as it was read, and after it was written: told again it changes nothing, and
       what came meanwhile stays. 2. A run does a bounded amount; the rest waits for the next. 3. A digest is believed
       only with the proof of its pepper, and only in place of the very digest it was made from: who can write to Redis
       can plant none. 4. What is said under a pepper that is not known here yet is kept until it is. 5. Neither touches
       a row's version: nobody's edit conflicts with it.
Not here: who says it (edge.store.key_uses), when it is taken (worker.tasks.keys).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from contracts import apikey, keyspace, messages
from webapp.extensions import current_settings, redis_client, system_scope, tenant_scope
from webapp.models import ApiKey
from webapp.services.actor import Actor
from webapp.services.errors import NotFound, StoreUnavailable
from webapp.services.revision import revision

_log = structlog.get_logger(__name__)
USES_PER_RUN: Final = 20_000
RENEWALS_PER_RUN: Final = 2_000
"""Of one tenant."""
TENANTS_PER_RUN: Final = 500
_BATCH_USES: Final = 1_000
_BATCH_RENEWALS: Final = 200

# KEYS: a sorted set. ARGV: member, score as it was read, ... What has another score by now came later: it stays.
_REMOVE_SCORED: Final = """
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then redis.call('ZREM', KEYS[1], ARGV[i]) end
end
"""
# KEYS: a hash. ARGV: field, value as it was read, ...
_REMOVE_VALUED: Final = """
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
"""
# In the order of ids, so that two runs at once wait for each other instead of for ever. No use lies in the future.
_WRITE_USES: Final = text("""
WITH told AS (
    SELECT id, least(at, clock_timestamp()) AS at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS t (id, at)
), held AS (
    SELECT k.id, told.at FROM api_keys k JOIN told ON told.id = k.id
    WHERE k.tenant_id = :tenant AND (k.last_used_at IS NULL OR k.last_used_at < told.at)
    ORDER BY k.id FOR NO KEY UPDATE OF k
)
UPDATE api_keys SET last_used_at = held.at FROM held WHERE api_keys.tenant_id = :tenant AND api_keys.id = held.id
""")


@dataclass(frozen=True, slots=True)
class Taken:
    uses: int = 0
    renewals: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.uses + other.uses, self.renewals + other.renewals)


@dataclass(frozen=True, slots=True)
class _Renewal:
    key_id: UUID
    old: str
    new: str


def tenants_told_of() -> tuple[tuple[UUID, float], ...]:
    """Give tenants of which edges said something, those that wait longest first. Raises StoreUnavailable."""
    client = redis_client()
    try:
        named: Any = client.zrange(keyspace.KEY_USES, 0, TENANTS_PER_RUN - 1, withscores=True)
        found = {}
        for member, score in named:
            tenant_id = _uuid(member)
            if tenant_id is None:
                client.zrem(keyspace.KEY_USES, member)
            else:
                found[tenant_id] = float(score)
    except RedisError as error:
        raise StoreUnavailable("Redis is away; what edges say of keys waits there.") from error
    return tuple(found.items())


def told_at(tenant_id: UUID) -> float | None:
    """Give the tenant's score in KEY_USES, however many wait before it; None when it is not there.

    Raises StoreUnavailable.
    """
    try:
        score: Any = redis_client().zscore(keyspace.KEY_USES, str(tenant_id))
    except RedisError as error:
        raise StoreUnavailable("Redis is away; what edges say of keys waits there.") from error
    return None if score is None else float(score)


def take(actor: Actor, told_at: float, uses_max: int = USES_PER_RUN) -> Taken:
    """Take what edges said of a tenant's keys. Idempotent. `told_at`: the tenant's score, as tenants_told_of gave it.

    Raises NotFound (the tenant is gone, and with it what was said), StoreUnavailable. Blocks on PostgreSQL and Redis.
    """
    tenant_id = str(actor.tenant_id)
    client = redis_client()
    try:
        uses = _take_uses(actor.tenant_id, uses_max)
        try:
            renewals, kept = _take_renewals(actor)
        except NotFound:
            client.delete(keyspace.key_uses(tenant_id), keyspace.key_renewals(tenant_id))
            client.zrem(keyspace.KEY_USES, tenant_id)
            raise
        if uses >= uses_max or kept:  # to the end of the queue, so that nobody waits behind it
            client.zadd(keyspace.KEY_USES, {tenant_id: datetime.now(UTC).timestamp()}, xx=True, gt=True)
        else:
            client.eval(_REMOVE_SCORED, 1, keyspace.KEY_USES, tenant_id, repr(told_at))
    except RedisError as error:
        raise StoreUnavailable("Redis is away; what edges say of keys waits there.") from error
    return Taken(uses, renewals)


def _take_uses(tenant_id: UUID, uses_max: int) -> int:
    name = keyspace.key_uses(str(tenant_id))
    taken = 0
    while taken < uses_max:
        told: Any = redis_client().zrange(name, 0, min(_BATCH_USES, uses_max - taken) - 1, withscores=True)
        if not told:
            break
        readable = {key_id: at for member, at in told if (key_id := _uuid(member)) is not None and 0 < at < 2**33}
        if readable:
            with tenant_scope(tenant_id) as session:
                _write_uses(session, tenant_id, readable)
                session.commit()
        redis_client().eval(_REMOVE_SCORED, 1, name, *[word for member, at in told for word in (member, repr(at))])
        taken += len(told)
    return taken


def _write_uses(session: Session, tenant_id: UUID, uses: Mapping[UUID, float]) -> None:
    ats = [datetime.fromtimestamp(at, UTC) for at in uses.values()]
    session.execute(_WRITE_USES, {"tenant": tenant_id, "ids": list(uses), "ats": ats})


def _take_renewals(actor: Actor) -> tuple[int, bool]:
    """Give how many digests were renewed, and whether something stays for later. Raises NotFound."""
    name = keyspace.key_renewals(str(actor.tenant_id))
    renewed = looked_at = 0
    while looked_at < RENEWALS_PER_RUN:
        scanned: Any = redis_client().hscan(name, 0, count=_BATCH_RENEWALS)
        found: dict[bytes, bytes] = scanned[1]
        verdicts = {field: _judge(actor.tenant_id, field, body) for field, body in found.items()}
        done = [word for field, verdict in verdicts.items() if verdict is not None for word in (field, found[field])]
        if not done:
            return renewed, bool(found)
        renewed += _renew(actor, [verdict for verdict in verdicts.values() if isinstance(verdict, _Renewal)])
        redis_client().eval(_REMOVE_VALUED, 1, name, *done)
        looked_at += len(found)
    return renewed, True


def _judge(tenant_id: UUID, field: bytes, body: bytes) -> _Renewal | str | None:
    """Give what is to be done, a word for what is not believed, or None for what has to wait."""
    key_id = _uuid(field)
    try:
        said = messages.decode_renewal(body)
    except messages.MessageError:
        said = None
    if key_id is None or said is None:
        return "unreadable"
    version = apikey.digest_version(said.new)
    peppers = current_settings().key_peppers
    if version > max(peppers):
        return None
    pepper = peppers.get(version)
    if pepper is None or version <= apikey.digest_version(said.old):
        return "stale"
    if not apikey.proves_renewal(said.proof, pepper, str(tenant_id), str(key_id), said.old, said.new):
        _log.warning("digest without proof", tenant_id=str(tenant_id), key_id=str(key_id))
        return "unproven"
    return _Renewal(key_id, said.old, said.new)


def _renew(actor: Actor, believed: Sequence[_Renewal]) -> int:
    """Move keys to their new digests, as far as they still have the old ones. Raises NotFound."""
    if not believed:
        return 0
    with revision(actor) as change:
        news = [renewal.new for renewal in believed]
        held = select(ApiKey.digest).where(ApiKey.tenant_id == actor.tenant_id, ApiKey.digest.in_(news))
        taken = set(change.session.scalars(held))
        ids = [renewal.key_id for renewal in believed]
        rows = change.session.scalars(select(ApiKey).where(ApiKey.tenant_id == actor.tenant_id, ApiKey.id.in_(ids)))
        by_id = {row.id: row for row in rows}
        moved: list[str] = []
        for renewal in believed:
            row = by_id.get(renewal.key_id)
            if row is not None and row.digest == renewal.old and renewal.new not in taken:
                row.digest = renewal.new
                taken.add(renewal.new)
                moved += (renewal.old, renewal.new)
        change.keys_changed(moved)
        if moved:
            change.record("api_key.digests_renewed", actor.tenant_id, {"keys": len(moved) // 2}, None)
    return len(moved) // 2


def keys_by_pepper() -> dict[int, tuple[int, datetime | None]]:
    """Give, for each pepper's version, how many keys still need it and when one of them was last used.

    Complexity: one pass over all tenants' keys.
    """
    version = func.substring(ApiKey.digest, "^v([0-9]+):")
    with system_scope() as session:
        rows = session.execute(
            select(version, func.count(), func.max(ApiKey.last_used_at))
            .where(ApiKey.revoked_at.is_(None))
            .group_by(version)
        ).all()
    return {int(row[0] or 0): (row[1], row[2]) for row in rows}


def _uuid(text_of_it: bytes) -> UUID | None:
    try:
        return UUID(text_of_it.decode("ascii"))
    except ValueError:
        return None
