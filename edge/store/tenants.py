"""Which tenant lives at a host: the compiled snapshots this worker holds.

In:    hosts of requests; changes and resyncs from the feed; Redis, and the disk when Redis is away.
Out:   compiled tenants (ports.ConfigView).
Laws:  1. A tenant is loaded on its first request, by one greenlet however many ask. 2. A snapshot that does not check
       or compile is refused and the last good one stays. 3. A version never goes back. 4. Swapping is one
       assignment; an exchange keeps what it began with. 5. Held tenants and unknown hosts are bounded.
       6. A tenant goes away by a change that says so, or when it is missing after a reconnection to a Redis that
       lost nothing; never because Redis lost its keys.
Redis away: what is held is served; a host not held is looked for on disk; else config-unavailable.
Not here: following the stream (config_feed), compiling (edge.snapshot).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Final

import gevent
from gevent.event import AsyncResult

from contracts import keyspace
from contracts.messages import Change
from contracts.snapshot import Snapshot, SnapshotError, decode
from edge.errors import GatewayError, StoreAway
from edge.snapshot import Tenant
from edge.store.state_disk import Copy, StateDisk
from edge.store.wire import ShardAway, Store

_LOG: Final = logging.getLogger(__name__)
_LABEL: Final = re.compile(rb"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
UNKNOWN_TTL_S: Final = 5.0
UNKNOWN_HOSTS_MAX: Final = 10_000
_BIG_BODY_BYTES: Final = 32_768
_ATTEMPTS: Final = 3
_BATCH: Final = 200


class Held:
    """One tenant in force here. `used` is its second chance when room is needed."""

    __slots__ = ("hosts", "sha256", "tenant", "tenant_id", "used", "version")

    def __init__(self, tenant_id: str, tenant: Tenant, version: int, sha256: str) -> None:
        self.tenant_id = tenant_id
        self.tenant = tenant
        self.version = version
        self.sha256 = sha256
        self.hosts: set[bytes] = set()
        self.used = True


class TenantStore:
    """ports.ConfigView. `on_load` and `on_drop` tell the neighbours which tenants are held."""

    def __init__(
        self,
        client: Store,
        disk: StateDisk,
        base_domain: str,
        compile_snapshot: Callable[[Snapshot], Tenant],
        tenants_max: int = 10_000,
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._disk = disk
        self._suffix = b"." + base_domain.encode("ascii")
        self._compile = compile_snapshot
        self._tenants_max = tenants_max
        self._mono = mono
        self._hosts: dict[bytes, Held] = {}
        self._tenants: dict[str, Held] = {}
        self._unknown: dict[bytes, float] = {}
        self._flights: dict[bytes, AsyncResult[Held | None]] = {}
        self._changes_seen = 0
        self.rejected: dict[str, str] = {}
        """Tenant id -> why its newest snapshot was refused."""
        self.on_load: list[Callable[[str], None]] = []
        self.on_drop: list[Callable[[str], None]] = []

    def __len__(self) -> int:
        return len(self._tenants)

    def versions(self) -> dict[str, int]:
        """Give tenant id -> version in force."""
        return {tenant_id: held.version for tenant_id, held in self._tenants.items()}

    def tenant(self, host: bytes) -> Tenant | None:
        held = self._hosts.get(host)
        if held is None:
            held = self._look_up(host)
            if held is None:
                return None
        held.used = True
        return held.tenant

    # ---- first requests

    def _look_up(self, host: bytes) -> Held | None:
        label = host[: -len(self._suffix)]
        if not host.endswith(self._suffix) or not _LABEL.fullmatch(label):
            return None
        if self._unknown.get(host, 0.0) > self._mono():
            return None
        flight = self._flights.get(host)
        if flight is None:
            flight = self._flights[host] = AsyncResult()
            gevent.spawn(self._fly, host, flight)
        held: Held | None = flight.get()
        return held

    def _fly(self, host: bytes, flight: AsyncResult[Held | None]) -> None:
        """Look a host up for all who wait. A greenlet of its own, because a request's may end at any moment."""
        try:
            flight.set(self._find(host))
        except GatewayError as error:
            flight.set_exception(error)
        except Exception as error:
            _LOG.exception("a host could not be looked up")
            flight.set_exception(_unavailable(repr(error)))
        finally:
            del self._flights[host]

    def _find(self, host: bytes) -> Held | None:
        name = host.decode("ascii")
        try:
            for _ in range(_ATTEMPTS):  # a change that comes while we look may make what we read old
                seen = self._changes_seen
                answer = self._client.call("GET", keyspace.host(name))
                held = self._hold(answer.decode("ascii"), name) if answer is not None else None
                if seen == self._changes_seen:
                    break
        except StoreAway as error:
            held = self._from_disk(name, str(error))
        if held is not None:
            self._hosts[host] = held
            held.hosts.add(host)
            return held
        if len(self._unknown) >= UNKNOWN_HOSTS_MAX:
            self._unknown.clear()
        self._unknown[host] = self._mono() + UNKNOWN_TTL_S
        return None

    def _hold(self, tenant_id: str, host: str) -> Held | None:
        """Give the held tenant, loading it when it is not. Raises StoreAway; GatewayError when it is refused."""
        held = self._tenants.get(tenant_id)
        copy = self._fetch(tenant_id) if held is None else None
        if copy is not None:
            held = self._accept(copy, host)
            if held is None:
                raise _unavailable(f"snapshot refused: {self.rejected.get(tenant_id, '')}")
        return held

    def _fetch(self, tenant_id: str) -> Copy | None:
        version, sha256, body = self._client.call("HMGET", keyspace.config(tenant_id), "version", "sha256", "body")
        if body is None:
            return None
        return Copy(tenant_id, int(version or 0), (sha256 or b"").decode("ascii", "replace"), body)

    def _from_disk(self, host: str, why: str) -> Held:
        copy = self._disk.find(host)
        held = None
        if copy is not None:
            held = self._tenants.get(copy.tenant_id) or self._accept(copy, "")
        if held is None:
            raise _unavailable(f"the store is away ({why}) and there is no copy on disk")
        _LOG.warning("serving tenant %s from the copy on disk: %s", held.tenant_id, why)
        return held

    # ---- accepting a snapshot

    def _accept(self, copy: Copy, host: str) -> Held | None:
        """Check, compile and put in force; None (and `rejected`) when it is refused and nothing older is held."""
        tenant_id = copy.tenant_id
        held = self._tenants.get(tenant_id)
        if held is not None and (copy.version < held.version or copy.sha256 == held.sha256):
            self.rejected.pop(tenant_id, None)
            return held
        try:
            if len(copy.body) > _BIG_BODY_BYTES:  # off the hub: a big tenant must not stall its neighbours
                tenant = gevent.get_hub().threadpool.apply(self._build, (copy,))
            else:
                tenant = self._build(copy)
        except (ValueError, LookupError, TypeError) as error:
            self.rejected[tenant_id] = f"version {copy.version}: {error}"
            _LOG.error("tenant %s: version %d refused: %s", tenant_id, copy.version, error)
            return held
        self.rejected.pop(tenant_id, None)
        held = self._tenants.get(tenant_id)
        if held is None:
            self._make_room()
            held = self._tenants[tenant_id] = Held(tenant_id, tenant, copy.version, copy.sha256)
            for listener in self.on_load:
                listener(tenant_id)
        elif copy.version >= held.version:
            held.tenant, held.version, held.sha256 = tenant, copy.version, copy.sha256
        self._disk.save(host, copy)
        return held

    def _build(self, copy: Copy) -> Tenant:
        snapshot = decode(copy.body, copy.sha256)
        if snapshot.tenant.id != copy.tenant_id:
            raise SnapshotError("it belongs to another tenant")
        return self._compile(snapshot)

    def _make_room(self) -> None:
        while len(self._tenants) >= self._tenants_max:
            oldest = next(iter(self._tenants.values()))
            if oldest.used:
                oldest.used = False
                self._tenants[oldest.tenant_id] = self._tenants.pop(oldest.tenant_id)
            else:
                self._drop(oldest)

    def _drop(self, held: Held) -> None:
        del self._tenants[held.tenant_id]
        for host in held.hosts:
            if self._hosts.get(host) is held:
                del self._hosts[host]
        for listener in self.on_drop:
            listener(held.tenant_id)

    # ---- following (called by the feed)

    def on_change(self, change: Change) -> None:
        """Put a change in force. Raises StoreAway. Blocks on Redis."""
        if change.kind != "config":
            return
        self._changes_seen += 1
        for text in change.hosts:
            host = text.encode("ascii", "replace")
            self._unknown.pop(host, None)
            held = self._hosts.pop(host, None)
            if held is not None:
                held.hosts.discard(host)
                self._disk.forget_host(text)
        held = self._tenants.get(change.tenant_id)
        if held is None or 0 < change.version <= held.version:
            return
        copy = self._fetch(change.tenant_id)
        if copy is not None:
            self._accept(copy, "")
        elif self._tenants.get(change.tenant_id) is held:
            self._drop(held)
            self._disk.forget(change.tenant_id)

    def on_resync(self, lost: bool) -> None:
        """Compare all that is held with Redis. Raises StoreAway. Blocks on Redis. See `poll`."""
        self._changes_seen += 1
        self._unknown.clear()
        if not lost:
            self._leave_lost_hosts()
        self.poll(may_drop=not lost)

    def _leave_lost_hosts(self) -> None:
        """A host may have changed hands while nobody listened: ask again who lives there at its next request."""
        listed = list(self._hosts.items())
        for start in range(0, len(listed), _BATCH):
            batch = listed[start : start + _BATCH]
            answers = self._client.call_each([("GET", keyspace.host(host.decode("ascii"))) for host, _ in batch])
            for (host, held), answer in zip(batch, answers, strict=True):
                if isinstance(answer, ShardAway):  # its return has everything reloaded
                    continue
                if answer != held.tenant_id.encode() and self._hosts.get(host) is held:
                    del self._hosts[host]
                    held.hosts.discard(host)

    def poll(self, may_drop: bool = False) -> int:
        """Reload what differs; gives how many did. With `may_drop`, a tenant whose config is gone goes too."""
        tenants = list(self._tenants.values())
        reloaded = 0
        for start in range(0, len(tenants), _BATCH):
            batch = tenants[start : start + _BATCH]
            answers = self._client.call_each(
                [("HMGET", keyspace.config(held.tenant_id), "version", "sha256") for held in batch]
            )
            for held, answer in zip(batch, answers, strict=True):
                if isinstance(answer, ShardAway):
                    continue
                version, sha256 = answer
                if sha256 is None:
                    if may_drop and self._tenants.get(held.tenant_id) is held:
                        self._drop(held)
                    continue
                newer = int(version or 0) >= held.version and sha256.decode("ascii", "replace") != held.sha256
                if newer and not self._is_rejected(held.tenant_id, int(version or 0)):
                    copy = self._fetch(held.tenant_id)
                    if copy is not None:
                        self._accept(copy, "")
                        reloaded += 1
        return reloaded

    def _is_rejected(self, tenant_id: str, version: int) -> bool:
        return self.rejected.get(tenant_id, "").startswith(f"version {version}:")


def _unavailable(internal: str) -> GatewayError:
    return GatewayError(
        "config-unavailable",
        "The configuration of this host cannot be loaded right now.",
        internal=internal,
        fields=((b"Retry-After", b"1"),),
    )
