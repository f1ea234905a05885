"""Probe the targets that are due, and one origin's on demand.

Laws:  1. Every task here is idempotent: targets are claimed under a lease, states replaced by compare-and-set, so a
       second delivery finds nothing due or changes nothing. 2. PostgreSQL is written only when a verdict flips.
       3. A probe that breaks us is logged and leaves its target to the lease, not the whole sweep.
Not here: the verdict (worker.probes), the socket (worker.checker), claims and telling (worker.ledger).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from gevent.pool import Pool
from sqlalchemy import bindparam, update

from contracts import tasks
from webapp.extensions import system_scope
from webapp.models import Target
from worker import checker, ledger, metrics, origin_tls, plan
from worker.app import app, rules
from worker.checker import Finding
from worker.ledger import Claim, Verdict
from worker.stores import settings, store

_log = structlog.get_logger("worker.health")
PROBES_PER_SWEEP_MAX: Final = 500
_PROBES: Final = Pool(200)
"""All probes of this process: more at once would only make each other late, and late looks like down."""
_RECORDED_AT_ONCE: Final = 100
_columns = Target.__table__.c
_NEWS: Final = (
    update(Target.__table__)  # type: ignore[arg-type]
    .where(_columns.id == bindparam("target_id"))
    .values({name: bindparam(name) for name in ("healthy", "health_reason", "health_since", "health_latency_ms")})
)


@app.task(name=tasks.HEALTH_SWEEP, max_retries=0)  # type: ignore[untyped-decorator]
def sweep(shard: int) -> int:
    """Probe what is due in a shard; give how many were probed. Idempotent: a second one finds nothing due."""
    if _PROBES.full():  # an earlier sweep is still at it: the next one, or another worker, takes what is due
        return 0
    claims = ledger.claim(store(), shard, PROBES_PER_SWEEP_MAX)
    return _probe_all(claims)


@app.task(name=tasks.HEALTH_CHECK)  # type: ignore[untyped-decorator]
def check(tenant_id: str, origin_id: str) -> int:
    """Probe all targets of one origin now, by the same rules. Idempotent: one more look at the world."""
    wanted = plan.wanted(UUID(tenant_id), UUID(origin_id))
    return _probe_all(ledger.claim_these(store(), settings().probe_shards, wanted))


def _probe_all(claims: Sequence[Claim]) -> int:
    """Probe side by side and record as results come in, so that a slow target delays no other's verdict for long."""
    if not claims:
        return 0
    results: list[tuple[Claim, Finding]] = []
    known = origin_tls.of_all(claim.planned for claim in claims)
    for result in _PROBES.imap_unordered(partial(_probe, known), claims):
        if result is None:
            continue
        results.append(result)
        if len(results) >= _RECORDED_AT_ONCE:
            _record(results)
            results = []
    _record(results)
    return len(claims)


def _probe(known: Mapping[tuple[str, str], checker.Trust | None], claim: Claim) -> tuple[Claim, Finding] | None:
    planned, allowed = claim.planned, settings().console.allowed_private_origins
    try:
        finding = checker.probe(planned.url, planned.path, allowed, trust=origin_tls.trust_of(planned, known))
    except origin_tls.Unusable:
        finding = Finding(False, "tls-unusable", 0.0, time.time())
    except KeyError:  # PostgreSQL is away and the settings are new here: the lease brings it back
        return None
    except Exception:
        _log.exception("probe broke", target_id=claim.planned.target_id)
        return None
    metrics.PROBES.labels(finding.reason if finding.reason in metrics.PROBE_REASONS else "other").inc()
    return claim, finding


def _record(results: Sequence[tuple[Claim, Finding]]) -> None:
    for verdict in ledger.record(store(), results, rules(), _write_rows):
        _log.info(
            "target up" if verdict.state.healthy else "target down",
            tenant_id=verdict.planned.tenant_id,
            origin_id=verdict.planned.origin_id,
            target_id=verdict.planned.target_id,
            reason=verdict.finding.reason,
        )


def _write_rows(verdicts: list[Verdict]) -> None:
    """Write flipped verdicts where the console reads them: one transaction, however many tenants they are of."""
    news = [
        {
            "target_id": UUID(verdict.planned.target_id),
            "healthy": verdict.state.healthy,
            "health_reason": verdict.finding.reason,
            "health_since": datetime.fromtimestamp(verdict.state.since, UTC),
            "health_latency_ms": round(verdict.finding.latency_ms, 3),
        }
        for verdict in verdicts
    ]
    with system_scope() as session:
        session.execute(_NEWS, news)
        session.commit()
