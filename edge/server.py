"""The composition root: one worker process and everything it is made of.

In:    Settings, the sockets and the folder the parent made.
Out:   a serving worker; on SIGTERM a drained one.
Laws:  1. Adapters are made and wired here and nowhere else. 2. Nothing heavy is imported before the worker has patched
       the standard library (edge.__main__), so imports of adapters stand inside functions. 3. Drain: not ready, accept
       no more, finish what is under way, tell nobody to wait for us, leave the numbers, exit 0.
Not here: the parent process (edge.__main__, gunicorn's arbiter), any decision.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gunicorn.workers.base import Worker

from edge.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.ports import Ports
    from edge.telemetry.metrics import Dump

_LOG: Final = logging.getLogger(__name__)
_GC_ALLOCATIONS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the parent hands to a worker."""

    settings: Settings
    listening: socket.socket
    metrics_listening: socket.socket
    metrics_folder: Path


class SystemClock:
    """ports.Clock of a running process."""

    wall = staticmethod(time.time)
    mono = staticmethod(time.monotonic)


class Uuid7:
    """ports.Identifiers: RFC 9562 section 5.7; within a millisecond it counts up (section 6.2, method 2)."""

    def __init__(self) -> None:
        self._ms = 0
        self._prefix = b""
        self._tail = 0

    def request_id(self) -> bytes:
        ms = int(time.time() * 1000)
        if ms != self._ms:
            self._ms = ms
            digits = b"%012x" % (ms & 0xFFFF_FFFF_FFFF)
            chance = int.from_bytes(os.urandom(10), "big")
            variant = 0x8000 | (chance >> 60) & 0x3FFF
            self._prefix = b"%b-%b-7%03x-%04x-" % (digits[:8], digits[8:], chance & 0xFFF, variant)
            self._tail = (chance >> 12) & 0x7FFF_FFFF_FFFF  # the top bit is room to count
        self._tail += 1
        return b"%b%012x" % (self._prefix, self._tail)


class Edge:
    """Everything of one worker. `start`, then serve until `drain`; both in the process's main greenlet."""

    def __init__(self, inherited: Inheritance) -> None:
        # Longer than 50 lines because it is the one list of what a worker is made of, and its imports must wait for
        # the patched standard library.
        from edge.net.address import Resolver
        from edge.net.jwks import SessionKeySet
        from edge.net.listener import Listener
        from edge.net.upstream import UpstreamPool
        from edge.pipeline import Pipeline
        from edge.ports import Ports
        from edge.snapshot import compile_snapshot
        from edge.store.cache_store import CacheStore
        from edge.store.client import Client
        from edge.store.config_feed import ConfigFeed
        from edge.store.counters.distributed import DistributedCounters
        from edge.store.health import HealthStore
        from edge.store.heartbeat import Heartbeats
        from edge.store.keys import KeyStore
        from edge.store.state_disk import StateDisk
        from edge.store.tenants import TenantStore
        from edge.telemetry.access_log import AccessLog
        from edge.telemetry.exporter import Exporter
        from edge.telemetry.metrics import Meter
        from edge.telemetry.recorder import Recorder

        settings = inherited.settings
        self.draining = False
        self.client = Client(settings.redis)
        self.disk = StateDisk(settings.state_dir)
        self.tenants = TenantStore(self.client, self.disk, settings.base_domain, compile_snapshot, settings.tenants_max)
        self.keys = KeyStore(self.client, settings.peppers, lambda: self.feed.fresh_mono)
        self.health = HealthStore(self.client)
        self.cache = CacheStore(self.client, settings.cache_bytes_max)
        self.sessions = SessionKeySet(settings.clerk)
        for neighbour in (self.health, self.cache):
            self.tenants.on_load.append(neighbour.load)
            self.tenants.on_drop.append(neighbour.drop)
        self.heartbeats = Heartbeats(self.client, lambda: (self.feed.applied, len(self.tenants), self.tenants.rejected))
        subscribers = (self.tenants, self.keys, self.health, self.cache, self.sessions)
        self.feed = ConfigFeed(settings.redis, subscribers, self.heartbeats.beat, self.tenants.poll)
        self.counters = DistributedCounters(self.client, lambda: self.heartbeats.live_workers)
        self.meter = Meter()
        self.log = AccessLog(settings.access_log)
        clock, identifiers = SystemClock(), Uuid7()
        self.ports: Ports = Ports(
            clock=clock, identifiers=identifiers, config=self.tenants, keys=self.keys, sessions=self.sessions,
            counters=self.counters, cache=self.cache, health=self.health,
            upstream=UpstreamPool(settings.limits, settings.allowed_networks, Resolver()),
            recorder=Recorder(self.meter, self.log),
        )  # fmt: skip
        self.listener = Listener(inherited.listening, Pipeline(self.ports), settings.limits, clock, identifiers)
        self.exporter = Exporter(
            inherited.metrics_listening, inherited.metrics_folder, self.collect, self.why_not_ready
        )
        # Both took descriptors of their own. Ours must not keep the port open while we drain.
        inherited.listening.close()
        inherited.metrics_listening.close()

    def start(self) -> None:
        """Begin to serve. Does not wait for Redis."""
        for part in (self.log, self.disk, self.client, self.sessions, self.feed, self.heartbeats, self.exporter):
            part.start()
        # What a worker is made of lives as long as it does: the collector need not walk it again and again. Requests
        # leave almost no cycles behind, so it may also come less often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_ALLOCATIONS)
        self.listener.start()

    def drain(self) -> None:
        """Finish what is under way and leave. Blocks up to limits.drain_timeout_s and a little."""
        self.draining = True
        self.listener.drain()
        for part in (self.feed, self.heartbeats, self.sessions, self.log, self.exporter, self.disk, self.client):
            _quietly(part.stop)

    def why_not_ready(self) -> str | None:
        if self.draining:
            return "draining"
        if not self.feed.tried_once:
            return "starting: the store has not been asked yet"
        return None

    def collect(self) -> Dump:
        """Give this worker's numbers: what the meter counted and what its parts hold right now."""
        import gevent

        from edge.telemetry.metrics import dump_meter, labels

        while self.feed.propagation_s:
            self.meter.propagation.observe(self.feed.propagation_s.popleft())
        dump = dump_meter(self.meter, lambda: gevent.sleep(0))
        dump.counters |= {
            "ratelimit_degraded_total": {"": self.counters.degraded_total},
            "keystore_errors_total": {"": self.keys.errors_total},
            "cache_errors_total": {"": self.cache.errors_total},
            "access_log_dropped_total": {"": self.log.dropped_total},
        }
        dump.summed = {
            "active_connections": {labels(kind="downstream"): self.listener.connections},
            "tenants_held": {"": len(self.tenants)},
            "cache_memory_bytes": {"": self.cache.bytes_held},
            "workers": {"": 1},
        }
        versions = list(self.tenants.versions().items())[:1_000]
        targets = [
            (tenant_id, target_id, float(target.healthy))
            for tenant_id, known in list(self.health.known().items())[:1_000]
            for target_id, target in known.items()
        ]
        dump.largest = {
            "config_age_seconds": {"": min(self.feed.age_s(), 1e9)},
            "config_rejected": {"": len(self.tenants.rejected)},
            "redis_degraded": {"": float(not self.client.up)},
            "health_view_age_seconds": {"": self.health.age_s()},
        }
        dump.smallest = {
            "config_version": {labels(tenant=tenant_id): float(version) for tenant_id, version in versions},
            "upstream_healthy": {labels(tenant=t, target=g): healthy for t, g, healthy in targets},
        }
        return dump


def _quietly(stop: Callable[[], None]) -> None:
    """One part that cannot stop must not keep the others from it."""
    try:
        stop()
    except Exception:
        _LOG.exception("while stopping")


class EdgeWorker(Worker):  # type: ignore[misc]
    """gunicorn's view of a worker: it proves each NOTIFY_S that its hub turns, and drains when told to end."""

    inherited: Inheritance
    """Set by the parent before the first fork."""
    slot = 0
    """Which of the parent's listening sockets is ours."""
    NOTIFY_S: Final = 0.2

    def load_wsgi(self) -> None:
        """There is no WSGI application. What fails here ends the parent: a worker that cannot boot never will."""
        for number, listening in enumerate(self.sockets):
            if number != self.slot:
                listening.close()
        _start_sentry(self.inherited.settings)
        inherited = replace(self.inherited, listening=self.sockets[self.slot])
        self.edge = Edge(inherited)

    def run(self) -> None:
        import gevent

        self.edge.start()
        while self.alive and os.getppid() == self.ppid:
            self.notify()
            gevent.sleep(self.NOTIFY_S)
        draining = gevent.spawn(self.edge.drain)
        while not draining.ready():
            self.notify()
            draining.join(self.NOTIFY_S)

    def handle_usr1(self, sig: int, frame: object) -> None:
        self.edge.log.reopen()


def _start_sentry(settings: Settings) -> None:
    """Crashes only: no traces, no request, no local variables."""
    if not settings.sentry_dsn:
        return
    import sentry_sdk

    sentry_sdk.init(
        dsn=settings.sentry_dsn,
        environment="production" if settings.production else "development",
        send_default_pii=False,
        include_local_variables=False,
        max_breadcrumbs=0,
        before_send=lambda event, hint: event if "exc_info" in hint else None,
    )
