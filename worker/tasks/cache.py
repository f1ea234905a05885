"""Purge what the edges have stored: advance generation numbers, then tell every edge.

Laws:  1. O(1): no key is looked for. 2. One call advances once, however often it is delivered: a receipt kept under the
       job's id stands in the same slot. 3. The Change goes out on every delivery, so a worker killed between the two
       leaves no purge untold.
Not here: who may purge and the audit row (webapp.services.cache), what generations mean (edge.store.cache_store).
"""

from __future__ import annotations

from typing import Final

import structlog

from contracts import keyspace, messages, tasks
from contracts.patterns import PathError, normalise_path
from worker import ledger
from worker.app import app
from worker.job import Job
from worker.stores import run_script, store

_log = structlog.get_logger("worker.cache")
_RECEIPT_S: Final = 86_400
"""Longer than any redelivery and all retries together."""


@app.task(name=tasks.CACHE_PURGE, bind=True)  # type: ignore[untyped-decorator]
def purge(self: Job, tenant_id: str, route_id: str | None, url: str | None) -> str:
    """Purge one URL, one route, or everything of a tenant; give the Change's id. Idempotent by the job's id."""
    try:
        named = fields(route_id, url)
    except PathError as error:
        _log.error("purge refused", tenant_id=tenant_id, reason=str(error))
        return ""
    receipt = keyspace.purge_receipt(tenant_id, str(self.request.id))
    keys = [keyspace.cache_generations(tenant_id), receipt]
    advanced = run_script(store(), "purge", keys, [_RECEIPT_S, *named])
    change_id = ledger.add_change(store(), messages.Change(kind="purge", tenant_id=tenant_id))
    _log.info("purged", tenant_id=tenant_id, route_id=route_id, again=not advanced, change_id=change_id)
    return change_id


def fields(route_id: str | None, url: str | None) -> list[str]:
    """Give the fields of keyspace.cache_generations to advance. Raises PathError for a URL no client could send."""
    if url is not None:
        return [f"u:{digest}" for digest in _digests(url)]
    return [f"r:{route_id}"] if route_id is not None else ["*"]


def _digests(url: str) -> tuple[str, ...]:
    """Give the URL's digest, and its path's alone: where the key pattern is `path`, the edge leaves the query out."""
    path, mark, query = url.partition("?")
    if not path.startswith("/") or not url.isascii():
        raise PathError("the URL must be a path in ASCII, like /api/posts/1")
    normal = normalise_path(path.encode("ascii"))
    exact = keyspace.url_digest(normal, query.encode("ascii") if mark else None)
    return tuple(dict.fromkeys((exact, keyspace.url_digest(normal, None))))
