"""Claim targets that are due, keep what their probes found, and tell everybody of a verdict.

In:    a shard; findings.
Out:   claims; states and due times in Redis; TargetHealth for the edges; a Change and a row only when a verdict flips.
Laws:  1. A target is claimed by one sweep at a time (lease). 2. A state is replaced only if it is still the one that
       was read: a late, duplicate probe changes nothing. 3. A verdict is told at least once: it is marked announced
       after the telling, so a worker killed in between makes the next probe tell it again. 4. A `down` is told again
       before its life ends: edges read verdicts when they are told to, and would forget it.
Not here: when verdicts change (worker.probes), the sockets (worker.checker).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from redis.exceptions import RedisError

from contracts import keyspace, messages
from worker import plan, probes
from worker.checker import Finding
from worker.plan import Planned
from worker.probes import ProbeState, Rules
from worker.stores import Store, run_script

LEASE_S = 30.0
_log = structlog.get_logger("worker.ledger")


@dataclass(frozen=True, slots=True)
class Claim:
    shard: int
    planned: Planned
    state_body: bytes
    """The state as it was read; empty for a target never seen."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be told of one target."""

    planned: Planned
    state: ProbeState
    finding: Finding

    @property
    def flipped(self) -> bool:
        return self.state.healthy != self.state.announced


def claim(client: Store, shard: int, limit: int) -> list[Claim]:
    """Take up to `limit` targets of a shard that are due; nobody else gets them for LEASE_S."""
    now = time.time()
    flat = run_script(client, "claim", _keys(shard), [now, now + LEASE_S, limit])
    return list(_claims(shard, zip(flat[0::3], flat[1::3], flat[2::3], strict=True)))


def claim_these(client: Store, shards: int, planned: Sequence[Planned]) -> list[Claim]:
    """Take these targets now, due or not; the state they have is read so that a sweep at the same time does no harm."""
    claims = []
    for item in planned:
        shard = plan.shard_of(item.member, shards)
        client.hset(keyspace.probe_plan(shard), item.member, plan.encode(item).decode())
        client.zadd(keyspace.probe_due(shard), {item.member: time.time() + LEASE_S})
        body = client.hget(keyspace.probe_state(shard), item.member)
        claims.append(Claim(shard, item, body or b""))  # type: ignore[arg-type]
    return claims


def _claims(shard: int, triples: Iterable[tuple[bytes, bytes, bytes]]) -> Iterable[Claim]:
    for member, body, state_body in triples:
        try:
            yield Claim(shard, plan.decode(body), state_body)
        except msgspec.MsgspecError:
            _log.error("plan entry cannot be read", member=member.decode("ascii", "replace"))


def _keys(shard: int) -> list[str]:
    return [keyspace.probe_due(shard), keyspace.probe_plan(shard), keyspace.probe_state(shard)]


def record(
    client: Store, results: Sequence[tuple[Claim, Finding]], rules: Rules, write_rows: Callable[[list[Verdict]], None]
) -> list[Verdict]:
    """Keep findings and tell what follows from them; give the verdicts that flipped.

    `write_rows` writes flipped verdicts to PostgreSQL; whatever it raises leaves them to be told again.
    """
    kept = _keep(client, results, rules)
    verdicts = [verdict for _, verdict in kept if verdict.state.healthy is not None]
    due = [pair for pair in kept if probes.must_tell(pair[1].state, pair[1].finding.at, rules)]
    untold = _tell_edges(client, verdicts, {verdict.planned.tenant_id for _, verdict in due}, rules)
    due = [pair for pair in due if pair[1].planned.tenant_id not in untold]
    flipped = [verdict for verdict in verdicts if verdict.flipped and verdict.planned.tenant_id not in untold]
    if flipped:
        write_rows(flipped)
    _mark_announced(client, due, rules)
    return flipped


def _keep(client: Store, results: Sequence[tuple[Claim, Finding]], rules: Rules) -> list[tuple[Claim, Verdict]]:
    """Replace states by compare-and-set; give those that were replaced."""
    new = []
    for item, finding in results:
        state = probes.observe(probes.decode(item.state_body), finding.healthy, finding.at, rules)
        new.append((item, Verdict(item.planned, state, finding)))
    replaced = _replace(client, [(item, item.state_body, verdict.state) for item, verdict in new], rules)
    return [pair for pair, was in zip(new, replaced, strict=True) if was]


def _replace(client: Store, changes: list[tuple[Claim, bytes, ProbeState]], rules: Rules) -> list[bool]:
    if not changes:
        return []
    now = time.time()
    with client.pipeline(transaction=False) as pipe:
        for item, expected, state in changes:
            due = probes.next_due(now, rules, random.random())
            run_script(pipe, "record", _keys(item.shard), [item.planned.member, expected, probes.encode(state), due])
        return [bool(answer) for answer in pipe.execute()]


def _tell_edges(client: Store, verdicts: list[Verdict], tenants: set[str], rules: Rules) -> set[str]:
    """Give the tenants that could not be told: in a cluster their part may be away. Their next probe tells it again."""
    if not verdicts:
        return set()
    with client.pipeline(transaction=False) as pipe:
        for verdict in verdicts:
            health = messages.TargetHealth(
                healthy=bool(verdict.state.healthy),
                reason=verdict.finding.reason,
                checked_at=verdict.finding.at,
                since=verdict.state.since,
                latency_ms=round(verdict.finding.latency_ms, 3),
                expires_at=verdict.finding.at + rules.verdict_lives_s,
            )
            pipe.hset(
                keyspace.origin_health(verdict.planned.tenant_id),
                verdict.planned.target_id,
                messages.encode(health),
            )
        answers = pipe.execute(raise_on_error=False)
    failed = [error for error in answers if isinstance(error, RedisError)]
    if len(failed) == len(answers):
        raise failed[0]
    untold = {
        verdict.planned.tenant_id
        for verdict, answer in zip(verdicts, answers, strict=True)
        if isinstance(answer, RedisError)
    }
    with client.pipeline(transaction=False) as pipe:  # of its own: whoever reads them finds the verdicts in place
        for tenant_id in sorted(tenants - untold):
            add_change(pipe, messages.Change(kind="health", tenant_id=tenant_id))
        pipe.execute()
    return untold


def _mark_announced(client: Store, told: list[tuple[Claim, Verdict]], rules: Rules) -> None:
    changes = []
    for item, verdict in told:
        marked = probes.announced(verdict.state, verdict.finding.at)
        changes.append((item, probes.encode(verdict.state), marked))
    _replace(client, changes, rules)


def add_change(client: Store, change: messages.Change) -> str:
    """Put a Change on the stream that every edge follows; give its id (empty when `client` is a pipeline)."""
    entry = client.xadd(
        keyspace.CHANGES,
        {messages.FIELD: messages.encode(change)},
        maxlen=keyspace.CHANGES_ENTRIES_MAX,
        approximate=True,
    )
    return entry.decode() if isinstance(entry, bytes) else ""
