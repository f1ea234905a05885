"""What the active probes say of the targets of the tenants held here (ports.HealthView).

In:    keyspace.origin_health of each held tenant, loaded with it and again when a change says so.
Out:   healthy or not, from memory.
Laws:  1. Unknown and expired both mean healthy: probes that fell silent must not take an origin down.
Redis away: what is known expires, then every target counts as healthy.
Not here: passive health and the breaker (edge.phases.balance), probing (worker.probes).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from contracts import keyspace, messages
from contracts.messages import Change, TargetHealth
from edge.errors import StoreAway
from edge.store.wire import ShardAway, Store

_LOG: Final = logging.getLogger(__name__)


class HealthStore:
    def __init__(self, client: Store, wall: Callable[[], float] = time.time) -> None:
        self._client = client
        self._wall = wall
        self._tenants: dict[str, dict[str, TargetHealth]] = {}

    def healthy(self, tenant_id: str, target_id: str) -> bool:
        known = self._tenants.get(tenant_id)
        if not known:
            return True
        target = known.get(target_id)
        return target is None or target.healthy or target.expires_at < self._wall()

    def known(self) -> dict[str, dict[str, TargetHealth]]:
        return self._tenants

    def age_s(self) -> float:
        """Give the age of the oldest probe result still believed, 0 when there is none."""
        now = self._wall()
        ages = [now - t.checked_at for known in self._tenants.values() for t in known.values() if t.expires_at >= now]
        return max(ages, default=0.0)

    def load(self, tenant_id: str) -> None:
        """Begin to hold a tenant. Never raises; Redis away means that nothing is known."""
        self._tenants[tenant_id] = {}
        try:
            self._reload(tenant_id)
        except StoreAway as error:
            _LOG.debug("health of %s not loaded: %s", tenant_id, error)

    def drop(self, tenant_id: str) -> None:
        self._tenants.pop(tenant_id, None)

    def on_change(self, change: Change) -> None:
        if change.kind in ("health", "config") and change.tenant_id in self._tenants:
            self._reload(change.tenant_id)

    def on_resync(self, lost: bool) -> None:
        for tenant_id in list(self._tenants):
            with contextlib.suppress(ShardAway):  # its return brings us back here
                self._reload(tenant_id)

    def _reload(self, tenant_id: str) -> None:
        listed = self._client.call("HGETALL", keyspace.origin_health(tenant_id))
        known: dict[str, TargetHealth] = {}
        for target_id, value in zip(listed[::2], listed[1::2], strict=True):
            try:
                known[target_id.decode("ascii", "replace")] = messages.decode_health(value)
            except messages.MessageError as error:
                _LOG.error("health of %s: %s", tenant_id, error)
        if tenant_id in self._tenants:
            self._tenants[tenant_id] = known
