"""Every Redis key of the product, spelled once: `ve:1:<room>:{<tenant id>}:...`.

In:    a tenant id and what else names the thing.
Out:   the key.
Laws:  1. No other module writes `ve:1:` (a test greps). 2. What belongs to a tenant carries the tenant's id as its
       hash tag, so all keys of a tenant's script live in one slot. 3. Ids in keys are UUIDs or hex digests; free text
       never enters a key. 4. `1` is the layout's version: a change of meaning takes a new number.
Not here: the values (snapshot, messages), expiry times of the stores.
"""

from __future__ import annotations

import hashlib
from typing import Final

_ROOT: Final = "ve:1"

# Shared by all tenants; each lives in a slot of its own.
CHANGES: Final = f"{_ROOT}:changes"
"""Stream of messages.Change; every edge worker follows it from its last id."""
CHANGES_ENTRIES_MAX: Final = 10_000

EDGES: Final = f"{_ROOT}:edges"
"""Hash: worker id -> messages.Heartbeat; an entry older than HEARTBEAT_STALE_S is dead."""
HEARTBEAT_EVERY_S: Final = 1.0
HEARTBEAT_STALE_S: Final = 5.0

WORKERS: Final = f"{_ROOT}:workers"
"""Hash: job worker's name -> JSON {at, started_at, received_at, running}; an entry not renewed for 30 s is dead."""

KEY_USES: Final = f"{_ROOT}:keyuses"
"""Sorted set: tenant id -> wall time at which an edge last said something of its keys (key_uses, key_renewals)."""
KEY_USES_KEPT_S: Final = 7 * 86_400
"""What edges say of keys waits so long for a worker to take it."""


def host(hostname: str) -> str:
    """String: the id of the tenant that lives at this host (a lower-cased DNS name, checked by the caller)."""
    return f"{_ROOT}:host:{{{hostname}}}"


def config(tenant_id: str) -> str:
    """Hash {version, sha256, body}: the tenant's current snapshot; {whole}: every key's record was sent beside it."""
    return f"{_ROOT}:config:{{{tenant_id}}}"


def api_key(tenant_id: str, digest: str) -> str:
    """String: snapshot.KeyRecord of the key with this digest."""
    return f"{_ROOT}:key:{{{tenant_id}}}:{digest}"


def key_uses(tenant_id: str) -> str:
    """Sorted set: key id -> wall second of its last use, the newest wins; a worker takes them to PostgreSQL."""
    return f"{_ROOT}:keyuses:{{{tenant_id}}}"


def key_renewals(tenant_id: str) -> str:
    """Hash: key id -> messages.KeyRenewal, for keys that were found under an older pepper."""
    return f"{_ROOT}:keyrenewals:{{{tenant_id}}}"


def counter(tenant_id: str, policy_id: str, identifier_digest: str) -> str:
    """String with expiry: one limiter's state for one identifier, as edge/store/counters/lua writes it; the algorithm
    is part of the policy id's meaning."""
    return f"{_ROOT}:count:{{{tenant_id}}}:{policy_id}:{identifier_digest}"


def slots(tenant_id: str, policy_id: str, identifier_digest: str) -> str:
    """Hash with expiry: edge worker -> how many requests in flight it may have, and until when (counters/lua/slots)."""
    return f"{_ROOT}:slots:{{{tenant_id}}}:{policy_id}:{identifier_digest}"


def cache_entry(tenant_id: str, key_digest: str) -> str:
    """Hash or string: one stored response."""
    return f"{_ROOT}:cache:{{{tenant_id}}}:{key_digest}"


def url_digest(path: bytes, query: bytes | None) -> str:
    """Give what all stored answers of one URL are purged by: of the normalised path, and the query byte for byte."""
    target = path if query is None else path + b"?" + query
    return hashlib.sha256(target).hexdigest()[:32]


def cache_generations(tenant_id: str) -> str:
    """Hash: '*' | 'r:<route id>' | 'u:<url digest>' | 't:<tag digest>' -> generation number; a purge adds one."""
    return f"{_ROOT}:cachegen:{{{tenant_id}}}"


def nonce(tenant_id: str, nonce_digest: str) -> str:
    """String with expiry: this nonce of a signed request was used; the digest is of the service's id and the nonce."""
    return f"{_ROOT}:nonce:{{{tenant_id}}}:{nonce_digest}"


def of_a_tenant(tenant_id: str) -> tuple[str, ...]:
    """Give the keys without expiry, or with a long one, that end with their tenant; API keys' end with each of them."""
    return (
        config(tenant_id),
        key_uses(tenant_id),
        key_renewals(tenant_id),
        cache_generations(tenant_id),
        origin_health(tenant_id),
    )


def purge_receipt(tenant_id: str, call_id: str) -> str:
    """String with expiry: this call of a purge has advanced its generations; a second delivery must not."""
    return f"{_ROOT}:purged:{{{tenant_id}}}:{call_id}"


def origin_health(tenant_id: str) -> str:
    """Hash: target id -> messages.TargetHealth."""
    return f"{_ROOT}:health:{{{tenant_id}}}"


def probe_due(shard: int) -> str:
    """Sorted set: '<tenant id>/<target id>' by the wall time at which its next probe is due."""
    return f"{_ROOT}:probe:{{{shard}}}:due"


def probe_plan(shard: int) -> str:
    """Hash: '<tenant id>/<target id>' -> what to probe."""
    return f"{_ROOT}:probe:{{{shard}}}:plan"


def probe_state(shard: int) -> str:
    """Hash: '<tenant id>/<target id>' -> what its last probes said; outlives a new plan."""
    return f"{_ROOT}:probe:{{{shard}}}:state"


def denied_session(session_id: str) -> str:
    """String with expiry: a signed-out Clerk session whose last tokens must not be believed."""
    return f"{_ROOT}:denied:{{{session_id}}}"
