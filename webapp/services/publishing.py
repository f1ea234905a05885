"""How Redis learns what PostgreSQL decided: in order per tenant, at least once, never an older state over a newer.

In:    outbox rows; the truth in PostgreSQL at the moment of publishing.
Out:   snapshots, hosts and key records in Redis, entries in the change stream, receipts.
Laws:  1. One publisher per tenant at a time (a PostgreSQL advisory lock), so what is read is what is sent last. 2. The
       stream entry goes last: whoever reads it finds the truth in place. 3. What fails stays in the outbox. 4. Whatever
       Redis lost can be sent again from PostgreSQL alone (`rebuild`). 5. One tenant's publishing reads no other's rows.
Not here: making versions (services.revision), when reconciling runs (worker.tasks.publishing).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from contracts import keyspace, messages
from webapp.extensions import current_settings, redis_client, system_scope, tenant_scope
from webapp.models import ApiKey, ConfigVersion, OutboxEntry, Tenant
from webapp.services import key_records
from webapp.services.errors import StoreUnavailable

_log = structlog.get_logger(__name__)
_BATCH_ENTRIES: Final = 500
_BATCH_KEYS: Final = 1_000
_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:tenant, 7))")

# KEYS: the config hash. ARGV: version, sha256, body, '1' when every key's record is there too. Never an older version
# over a newer one. `whole` goes with the hash: a Redis that was wiped and got a newer version since does not have it.
_PUT_CONFIG: Final = """
if ARGV[4] == '1' then redis.call('HSET', KEYS[1], 'whole', '1') end
local held = tonumber(redis.call('HGET', KEYS[1], 'version') or '-1')
if held > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'sha256', ARGV[2], 'body', ARGV[3])
return 1
"""
# KEYS: a host. ARGV: the tenant that left it. Another tenant may live there by now.
_LEAVE_HOST: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a change stands. `stream_id` is None while Redis has not got it; the outbox keeps it until then."""

    tenant_id: UUID
    version: int
    stream_id: str | None

    @property
    def is_published(self) -> bool:
        return self.stream_id is not None


@dataclass(frozen=True, slots=True)
class Owed:
    """Outbox rows of one commit."""

    tenant_id: UUID
    version: int
    entry_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Truth:
    """What Redis should hold of one tenant, as far as a batch of entries is concerned."""

    tenant_id: str
    version: int
    config: tuple[str, str] | None
    """sha256 and body; None: the tenant is gone."""
    host: str | None
    left_hosts: tuple[str, ...]
    keys: dict[str, bytes | None]
    """Digest -> record; None: there is no such key any more."""
    says_config: bool
    is_whole: bool = False
    """Redis has every key's record: the tenant is new, or all were sent again."""


@dataclass(frozen=True, slots=True)
class _Drained:
    receipts: list[Receipt]
    stream_ids: dict[int, str]
    """Of each outbox row that was published."""

    def last_of(self, entry_ids: Sequence[int]) -> str | None:
        """None when another publisher took some of them."""
        if not all(entry_id in self.stream_ids for entry_id in entry_ids):
            return None
        return max((self.stream_ids[entry_id] for entry_id in entry_ids), key=messages.stream_id)


def publish_now(owed: Owed) -> Receipt:
    """Try to publish what was just committed. Never raises for a store that is away: the worker will do it."""
    if not owed.entry_ids:
        return Receipt(owed.tenant_id, owed.version, None)
    try:
        drained = _drain(owed.tenant_id)
        stream_id = drained.last_of(owed.entry_ids) or _stream_id(owed)
    except (StoreUnavailable, SQLAlchemyError) as error:
        _log.warning("publish.deferred", tenant_id=str(owed.tenant_id), version=owed.version, reason=str(error)[:200])
        stream_id = None
    return Receipt(owed.tenant_id, owed.version, stream_id)


def _stream_id(owed: Owed) -> str | None:
    with tenant_scope(owed.tenant_id) as session:
        rows = session.scalars(select(OutboxEntry.stream_id).where(OutboxEntry.id.in_(owed.entry_ids))).all()
    if not rows or None in rows:
        return None
    return max((row for row in rows if row is not None), key=messages.stream_id)


def pending_tenants() -> tuple[UUID, ...]:
    """Give the tenants whose outbox is not empty."""
    with system_scope() as session:
        return tuple(
            session.scalars(select(OutboxEntry.tenant_id).where(OutboxEntry.published_at.is_(None)).distinct())
        )


def publish_pending(tenant_id: UUID) -> tuple[Receipt, ...]:
    """Publish a tenant's outbox, oldest first. Idempotent. Raises StoreUnavailable (the rows stay).

    Blocks on another publisher of the same tenant (at most 5 s) and on Redis.
    """
    return tuple(_drain(tenant_id).receipts)


def _drain(tenant_id: UUID) -> _Drained:
    drained = _Drained([], {})
    while True:
        with tenant_scope(tenant_id) as session:
            session.execute(_LOCK, {"tenant": str(tenant_id)})
            entries = session.scalars(
                select(OutboxEntry)
                .where(OutboxEntry.tenant_id == tenant_id, OutboxEntry.published_at.is_(None))
                .order_by(OutboxEntry.id)
                .limit(_BATCH_ENTRIES)
            ).all()
            if entries:
                receipt = _publish(session, tenant_id, entries)
                drained.receipts.append(receipt)
                drained.stream_ids.update((entry.id, receipt.stream_id or "") for entry in entries)
            if len(entries) < _BATCH_ENTRIES:
                return drained


def _publish(session: Session, tenant_id: UUID, entries: Sequence[OutboxEntry]) -> Receipt:
    ids = [entry.id for entry in entries]
    truth = _read(session, tenant_id, entries)
    try:
        stream_id = _send(truth)
    except RedisError as error:
        reason = f"{type(error).__name__}: {error}"[:500]
        session.execute(
            update(OutboxEntry)
            .where(OutboxEntry.id.in_(ids))
            .values(attempts=OutboxEntry.attempts + 1, last_error=reason)
        )
        session.commit()
        raise StoreUnavailable("Redis is away; the change is kept and will be published.") from error
    session.execute(
        update(OutboxEntry)
        .where(OutboxEntry.id.in_(ids))
        .values(published_at=func.clock_timestamp(), stream_id=stream_id, last_error=None)
    )
    session.commit()
    return Receipt(tenant_id, truth.version, stream_id)


def _read(session: Session, tenant_id: UUID, entries: Sequence[OutboxEntry]) -> _Truth:
    digests = [digest for entry in entries if entry.kind == "key" for digest in entry.payload["digests"]]
    left = [host for entry in entries for host in entry.payload.get("old_hosts", entry.payload.get("hosts", ()))]
    tenant = session.get(Tenant, tenant_id)
    if tenant is None:
        keys: dict[str, bytes | None] = dict.fromkeys(digests)
        return _Truth(str(tenant_id), 0, None, None, tuple(left), keys, True)
    host = current_settings().host_of(tenant.subdomain)
    says_config = any(entry.kind == "config" for entry in entries)
    config = _config_of(session, tenant) if says_config else None
    return _Truth(
        tenant_id=str(tenant_id),
        version=tenant.config_version,
        config=config,
        host=host if says_config else None,
        left_hosts=tuple(other for other in left if other != host),
        keys=dict.fromkeys(digests) | _records(session, tenant_id, digests),
        says_config=says_config,
        is_whole=tenant.config_version == 1,
    )


def _config_of(session: Session, tenant: Tenant) -> tuple[str, str] | None:
    row = session.get(ConfigVersion, (tenant.id, tenant.config_version))
    return None if row is None else (row.sha256, row.body)


def _records(session: Session, tenant_id: UUID, digests: Sequence[str]) -> dict[str, bytes | None]:
    if not digests:
        return {}
    rows = session.execute(key_records.COLUMNS.where(ApiKey.tenant_id == tenant_id, ApiKey.digest.in_(digests)))
    return {row.digest: key_records.record(tenant_id, row) for row in rows}


def _send(truth: _Truth) -> str:
    """Write the truth, then say so. Raises RedisError. Gives the id of the last stream entry."""
    tenant = truth.tenant_id
    pipe = redis_client().pipeline(transaction=False)
    if truth.config is not None:
        pipe.eval(_PUT_CONFIG, 1, keyspace.config(tenant), str(truth.version), *truth.config, str(int(truth.is_whole)))
    elif truth.says_config:
        pipe.delete(*keyspace.of_a_tenant(tenant))
    if truth.host is not None:
        pipe.set(keyspace.host(truth.host), tenant)
    for host in truth.left_hosts:
        pipe.eval(_LEAVE_HOST, 1, keyspace.host(host), tenant)
    # Records before removals: a key whose digest changes is known at every moment.
    for digest, record in sorted(truth.keys.items(), key=lambda item: item[1] is None):
        key = keyspace.api_key(tenant, digest)
        pipe.delete(key) if record is None else pipe.set(key, record)
    pipe.execute()
    pipe = redis_client().pipeline(transaction=False)  # of its own: a cluster keeps no order between nodes (law 2)
    for change in _changes(truth):
        pipe.xadd(
            keyspace.CHANGES,
            {messages.FIELD: messages.encode(change)},
            maxlen=keyspace.CHANGES_ENTRIES_MAX,
            approximate=True,
        )
    last: bytes = pipe.execute()[-1]
    return last.decode("ascii")


def _changes(truth: _Truth) -> Iterator[messages.Change]:
    digests = tuple(truth.keys)
    for start in range(0, len(digests), _BATCH_ENTRIES):
        part = digests[start : start + _BATCH_ENTRIES]
        yield messages.Change(kind="key", tenant_id=truth.tenant_id, digests=part)
    if truth.says_config or not digests:
        hosts = tuple(filter(None, (truth.host, *truth.left_hosts)))
        yield messages.Change(kind="config", tenant_id=truth.tenant_id, version=truth.version, hosts=hosts)


def rebuild(tenant_id: UUID) -> Receipt:
    """Send all of a tenant again, for a Redis that lost it, or has what it was told to forget. Idempotent.

    Raises StoreUnavailable.

    Complexity: linear in the tenant's keys. Blocks like publish_pending.
    """
    with tenant_scope(tenant_id) as session:
        session.execute(_LOCK, {"tenant": str(tenant_id)})
        tenant = session.get(Tenant, tenant_id)
        if tenant is None:
            truth = _Truth(str(tenant_id), 0, None, None, (), {}, True)
        else:
            host = current_settings().host_of(tenant.subdomain)
            config = _config_of(session, tenant)
            truth = _Truth(str(tenant_id), tenant.config_version, config, host, (), {}, True, is_whole=True)
        try:
            for batch in _all_records(session, tenant_id):
                client = redis_client().pipeline(transaction=False)
                for digest, record in batch.items():
                    key = keyspace.api_key(str(tenant_id), digest)
                    client.delete(key) if record is None else client.set(key, record)
                client.execute()
            stream_id = _send(truth)
        except RedisError as error:
            raise StoreUnavailable("Redis is away; nothing was rebuilt.") from error
        return Receipt(tenant_id, truth.version, stream_id)


def _all_records(session: Session, tenant_id: UUID) -> Iterator[dict[str, bytes | None]]:
    """Give every key's record; None of keys that must have none."""
    rows = session.execute(
        key_records.COLUMNS.where(ApiKey.tenant_id == tenant_id).execution_options(yield_per=_BATCH_KEYS)
    )
    for part in rows.partitions():
        yield {row.digest: key_records.record(tenant_id, row) for row in part}


def drift(tenant_id: UUID) -> tuple[str, ...]:
    """Say what differs between PostgreSQL and Redis, empty when nothing does. Raises StoreUnavailable.

    Complexity: linear in the tenant's keys. A tenant whose outbox is not empty differs by design.
    """
    found: list[str] = []
    tenant_text = str(tenant_id)
    with tenant_scope(tenant_id) as session:
        tenant = session.get(Tenant, tenant_id)
        client = redis_client()
        try:
            held = client.hmget(keyspace.config(tenant_text), ["version", "sha256"])
            if tenant is None:
                return ("config: of a tenant that is gone",) if any(held) else ()
            config = _config_of(session, tenant)
            if config is None or held != [str(tenant.config_version).encode(), config[0].encode()]:
                found.append("config: not the newest version")
            host = current_settings().host_of(tenant.subdomain)
            if client.get(keyspace.host(host)) != tenant_text.encode():
                found.append("host: does not lead to the tenant")
            for batch in _all_records(session, tenant_id):
                records = client.mget([keyspace.api_key(tenant_text, digest) for digest in batch])
                wrong = sum(record != wanted for record, wanted in zip(records, batch.values(), strict=True))
                if wrong:
                    found.append(f"keys: {wrong} records missing, out of date or left over")
        except RedisError as error:
            raise StoreUnavailable("Redis is away.") from error
    return tuple(found)


def drifted_tenants() -> tuple[UUID, ...]:
    """Find the tenants whose version, host or wholeness in Redis is not PostgreSQL's, by one cheap look at each.

    What the outbox still owes counts as drift too. Raises StoreUnavailable.
    """
    with system_scope() as session:
        rows = session.execute(select(Tenant.id, Tenant.config_version, Tenant.subdomain)).all()
    settings = current_settings()
    found: list[UUID] = []
    try:
        for start in range(0, len(rows), _BATCH_KEYS):
            part = rows[start : start + _BATCH_KEYS]
            pipe = redis_client().pipeline(transaction=False)
            for row in part:
                pipe.hmget(keyspace.config(str(row.id)), "version", "whole")
                pipe.get(keyspace.host(settings.host_of(row.subdomain)))
            # A part of a cluster may be away: of whom it cannot tell, nothing is known to differ.
            answers = pipe.execute(raise_on_error=False)
            if answers and all(isinstance(answer, RedisError) for answer in answers):
                raise answers[0]
            wanted: Iterable[tuple[list[bytes], bytes]] = (
                ([str(row.config_version).encode(), b"1"], str(row.id).encode()) for row in part
            )
            pairs = zip(answers[::2], answers[1::2], strict=True)
            found += [
                row.id
                for row, pair, want in zip(part, pairs, wanted, strict=True)
                if pair != want and not any(isinstance(answer, RedisError) for answer in pair)
            ]
    except RedisError as error:
        raise StoreUnavailable("Redis is away.") from error
    return tuple(found)
