"""Which targets are probed: PostgreSQL's origins, laid out in Redis by shard.

In:    targets of origins that have a health_check_path (webapp.services.origins.probe_targets).
Out:   keyspace.probe_plan and probe_due of every shard; stale verdicts removed.
Laws:  1. Refreshing twice, or two at once, ends in the same plan. 2. A target whose URL, path or TLS changed begins
       anew; all others keep their state and their due time. 3. Only differences are written. 4. A wiped Redis gets
       the whole plan at the next refresh.
Not here: claiming and recording (worker.ledger).
"""

from __future__ import annotations

import random
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from uuid import UUID

import msgspec
from redis.exceptions import RedisError

from contracts import keyspace
from webapp.services import origins
from worker import probes
from worker.stores import Store


class Planned(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to probe."""

    tenant_id: str
    origin_id: str
    target_id: str
    url: str
    path: str
    tls: str = ""
    """Digest of the origin's TLS settings, which worker.origin_tls reads from PostgreSQL. Empty: it has none."""

    @property
    def member(self) -> str:
        return f"{self.tenant_id}/{self.target_id}"


_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Planned)


def encode(planned: Planned) -> bytes:
    return _ENCODER.encode(planned)


def decode(body: bytes) -> Planned:
    """Raises msgspec.MsgspecError."""
    return _DECODER.decode(body)


def shard_of(member: str, shards: int) -> int:
    return zlib.crc32(member.encode()) % shards


def wanted(tenant_id: UUID | None = None, origin_id: UUID | None = None) -> list[Planned]:
    """Read what should be probed: everywhere, of a tenant, or of one origin. Needs an application context."""
    return [
        Planned(
            tenant_id=str(target.tenant_id),
            origin_id=str(target.origin_id),
            target_id=str(target.target_id),
            url=target.url,
            path=target.health_check_path,
            tls=target.tls_digest or "",
        )
        for target in origins.probe_targets(tenant_id, origin_id)
    ]


def refresh(client: Store, shards: int, rules: probes.Rules, tenant_id: UUID | None = None) -> int:
    """Make the plan in Redis what PostgreSQL says, for all tenants or one. Give the number of differences.

    Raises RedisError, when all that could be done is done."""
    by_shard: dict[int, dict[str, bytes]] = defaultdict(dict)
    for planned in wanted(tenant_id):
        by_shard[shard_of(planned.member, shards)][planned.member] = encode(planned)
    differences, failed = 0, None
    for shard in range(shards):
        try:
            differences += _refresh_shard(client, shard, by_shard[shard], rules, tenant_id)
        except RedisError as error:  # in a cluster the others may be elsewhere
            failed = error
    if failed is not None:
        raise failed
    return differences


def _refresh_shard(
    client: Store, shard: int, target: Mapping[str, bytes], rules: probes.Rules, tenant_id: UUID | None
) -> int:
    plan, due, state = keyspace.probe_plan(shard), keyspace.probe_due(shard), keyspace.probe_state(shard)
    stored: dict[bytes, bytes] = client.hgetall(plan)  # type: ignore[assignment]
    present = {member.decode(): body for member, body in stored.items()}
    if tenant_id is not None:
        present = {member: body for member, body in present.items() if member.startswith(f"{tenant_id}/")}
    changed = {member: body for member, body in target.items() if present.get(member) != body}
    gone = [member for member in present if member not in target]
    now = time.time()
    with client.pipeline(transaction=False) as pipe:
        for chunk in _chunks(changed):
            pipe.hset(plan, mapping={member: changed[member] for member in chunk})
        for chunk in _chunks([member for member in changed if member in present]):
            pipe.hdel(state, *chunk)
            pipe.zrem(due, *chunk)
        for chunk in _chunks(gone):
            pipe.hdel(plan, *chunk)
            pipe.zrem(due, *chunk)
            pipe.hdel(state, *chunk)
        for chunk in _chunks(target):
            pipe.zadd(due, {member: probes.first_due(now, rules, random.random()) for member in chunk}, nx=True)
        for member in gone:
            tenant, _, target_id = member.partition("/")
            pipe.hdel(keyspace.origin_health(tenant), target_id)
        pipe.execute()
    return len(changed) + len(gone)


def _chunks(members: Iterable[str], size: int = 500) -> Iterable[list[str]]:
    listed = list(members)
    return (listed[start : start + size] for start in range(0, len(listed), size))
