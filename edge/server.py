"""The composition root: one worker process and everything it is made of.

In:    Settings, the sockets and the folder the parent made.
Out:   a serving worker; on SIGTERM a drained one.
Laws:  1. Adapters are made and wired here and nowhere else. 2. Nothing heavy is imported before the worker has patched
       the standard library (edge.__main__), so imports of adapters stand inside functions. 3. Drain: accept no more,
       finish what is under way, tell nobody to wait for us, leave the numbers, exit 0. 4. /readyz speaks for the host:
       red when the host ends (the parent says so), while a worker that is being replaced leaves the answer to others.
Not here: when workers come and go (edge.parent), any decision.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gunicorn.workers.base import Worker

from contracts import keyspace
from edge.settings import Settings
from edge.sockets import BACKLOG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edge.net.certificate_watch import CertificateWatch
    from edge.ports import Ports
    from edge.telemetry.metrics import Dump

_LOG: Final = logging.getLogger(__name__)
_GC_ALLOCATIONS: Final = 20_000
_FIRST_LOOK_S: Final = 3.0
ENDING: Final = "ending"
"""The file by which a parent tells its workers that the whole host will end."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the parent hands to a worker. `sockets`: by the setting of their port, those this worker accepts from."""

    settings: Settings
    sockets: Mapping[str, Sequence[socket.socket]]
    folder: Path
    """Where the workers of a host leave their numbers, and the parent the mark ENDING."""


class SystemClock:
    """ports.Clock of a running process."""

    wall = staticmethod(time.time)
    mono = staticmethod(time.monotonic)


class Uuid7:
    """ports.Identifiers: RFC 9562 section 5.7; within a millisecond it counts up (section 6.2, method 2), and starts
    from new chance when it has counted too far."""

    def __init__(self) -> None:
        self._ms = 0
        self._prefix = b""
        self._count = 0

    def request_id(self) -> bytes:
        ms = int(time.time() * 1000)
        count = self._count = self._count + 1
        if ms != self._ms or count > 0xFFF:
            self._ms = ms
            digits = b"%012x" % (ms & 0xFFFF_FFFF_FFFF)
            chance = int.from_bytes(os.urandom(14), "big")
            variant = 0x8000 | (chance >> 48) & 0x3FFF
            self._prefix = b"%b-%b-7%03x-%04x-%09x" % (
                digits[:8], digits[8:], (chance >> 64) & 0xFFF, variant, (chance >> 12) & 0xF_FFFF_FFFF,
            )  # fmt: skip
            count = self._count = chance & 0x7FF  # the top bit is room to count
        return self._prefix + _LAST_DIGITS[count]


_LAST_DIGITS: Final = tuple(b"%03x" % number for number in range(0x1000))


class Edge:
    """Everything of one worker. `start`, then serve until `drain`; both in the process's main greenlet."""

    def __init__(self, inherited: Inheritance) -> None:
        # Longer than 50 lines because it is the one list of what a worker is made of, and its imports must wait for
        # the patched standard library.
        from contracts.addresses import parse_networks
        from edge.http.forwarded import TrustedHops
        from edge.net.address import Resolver
        from edge.net.identity import IdentitySigner
        from edge.net.introspection import TokenAuthorities
        from edge.net.issuer_keys import IssuerKeySets
        from edge.net.jwks import SessionKeySet
        from edge.net.listener import Listener
        from edge.net.upstream import UpstreamPool
        from edge.pipeline import Pipeline
        from edge.ports import Ports
        from edge.snapshot import compile_snapshot
        from edge.store.cache_store import CacheStore
        from edge.store.cluster import ClusterClient, client_for, link_to
        from edge.store.config_feed import ConfigFeed
        from edge.store.counters.distributed import DistributedCounters
        from edge.store.health import HealthStore
        from edge.store.heartbeat import Heartbeats
        from edge.store.key_uses import KeyUses
        from edge.store.keys import KeyStore
        from edge.store.nonces import NonceStore
        from edge.store.secrets import SealedSecrets
        from edge.store.state_disk import StateDisk
        from edge.store.tenants import TenantStore
        from edge.telemetry.access_log import AccessLog
        from edge.telemetry.exporter import Exporter
        from edge.telemetry.metrics import Meter
        from edge.telemetry.recorder import Recorder

        settings = inherited.settings
        self._sockets = inherited.sockets
        self._ending = inherited.folder / ENDING
        self.draining = False
        self.client = client_for(settings.redis)
        self.disk = StateDisk(settings.state_dir)
        self.tenants = TenantStore(self.client, self.disk, settings.base_domain, compile_snapshot, settings.tenants_max)
        self.key_uses = KeyUses(self.client)
        self.keys = KeyStore(self.client, settings.peppers, self._freshness(), self.key_uses)
        self.nonces = NonceStore(self.client)
        self.health = HealthStore(self.client)
        self.cache = CacheStore(self.client, settings.cache_bytes_max)
        self.sessions = SessionKeySet(settings.clerk)
        upstream = UpstreamPool(
            settings.limits, settings.allowed_networks, Resolver(), sealing_keys=settings.sealing_keys
        )
        self.issuers = IssuerKeySets(upstream)
        self.tenants.on_drop.append(self.issuers.drop)
        # To where the operator says, and only there: no tenant's word leads through it.
        operators = UpstreamPool(settings.limits, parse_networks("0.0.0.0/0,::/0"), Resolver())
        self.tokens = TokenAuthorities(upstream, operators, settings.clerk, settings.sealing_keys)
        self.tenants.on_drop.append(self.tokens.drop)
        self.signer = IdentitySigner(settings.sealing_keys, settings.base_domain)
        for neighbour in (self.health, self.cache):
            self.tenants.on_load.append(neighbour.load)
            self.tenants.on_drop.append(neighbour.drop)
        self.heartbeats = Heartbeats(
            self.client, lambda: (self.feed.applied, len(self.tenants), self.tenants.rejected), settings.workers
        )
        subscribers = (self.tenants, self.keys, self.health, self.cache, self.sessions)
        link = link_to(self.client, settings.redis, keyspace.CHANGES, "vantageedge-feed")
        self.feed = ConfigFeed(link, subscribers, self.heartbeats.beat, self.tenants.poll)
        if isinstance(self.client, ClusterClient):
            self.client.on_up.append(self.feed.start_over)
        self.counters = DistributedCounters(self.client, lambda: self.heartbeats.live_workers)
        self.meter = Meter()
        self.log = AccessLog(settings.access_log)
        clock, identifiers = SystemClock(), Uuid7()
        self.ports: Ports = Ports(
            clock=clock, identifiers=identifiers, config=self.tenants, keys=self.keys, sessions=self.sessions,
            counters=self.counters, cache=self.cache, health=self.health,
            upstream=upstream, recorder=Recorder(self.meter, self.log), issuers=self.issuers,
            tokens=self.tokens, signer=self.signer, secrets=SealedSecrets(settings.sealing_keys), nonces=self.nonces,
        )  # fmt: skip
        own, *nobodys = inherited.sockets["EDGE_PORT"]
        proxies = settings.proxies
        pipeline = Pipeline(self.ports, settings.auth_failures_max)
        self.attempts = pipeline.attempts
        self.listener = Listener(
            own, pipeline, settings.limits, clock, identifiers,
            hops=TrustedHops(proxies.networks, by_rfc_7239=proxies.by_rfc_7239) if proxies.networks else None,
            proxy_protocol=proxies.protocol,
        )  # fmt: skip
        for sock in nobodys:
            self.listener.accept_from(sock)
        self.watch = self._listen_tls(inherited)
        (metrics,) = inherited.sockets["EDGE_METRICS_PORT"]
        self.exporter = Exporter(metrics, inherited.folder, self.collect, self.why_not_ready)

    def _freshness(self) -> Callable[[], float]:
        """Say since when it is certain that no change to a key was missed. A cluster's stream may be followed while the
        part is away where a key is, and with it its revocation."""
        from edge.store.cluster import ClusterClient

        client = self.client
        if isinstance(client, ClusterClient):
            return lambda: min(self.feed.fresh_mono, client.whole_mono)
        return lambda: self.feed.fresh_mono

    def _listen_tls(self, inherited: Inheritance) -> CertificateWatch | None:
        tls = inherited.settings.tls
        if tls is None:
            return None
        from edge.net.certificate_watch import CertificateWatch
        from edge.net.certificates import Certificates

        certificates = Certificates(tls.folder, tls.default)
        certificates.scan()  # what is broken now was said by the parent or will be looked at again
        for sock in inherited.sockets["EDGE_TLS_PORT"]:
            self.listener.accept_from(sock, certificates)
        return CertificateWatch(certificates)

    def start(self) -> None:
        """Begin to serve. Does not wait for Redis."""
        parts = (self.log, self.disk, self.client, self.sessions, self.feed, self.key_uses, self.heartbeats)
        for part in (*parts, self.exporter):
            part.start()
        if self.watch is not None:
            self.watch.start()
        # What a worker is made of lives as long as it does: the collector need not walk it again and again. Requests
        # leave almost no cycles behind, so it may also come less often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_ALLOCATIONS)
        for sock in itertools.chain.from_iterable(self._sockets.values()):
            sock.listen(BACKLOG)  # those that joined later do not listen yet; to the others it says nothing new
        self.listener.start()

    def open_port(self) -> None:
        """Answer probes, once the store was asked or did not answer for long: a successor must not say "starting".

        Blocks up to _FIRST_LOOK_S."""
        import gevent

        end_mono = time.monotonic() + _FIRST_LOOK_S
        while not self.feed.tried_once and time.monotonic() < end_mono:
            gevent.sleep(0.01)
        self.exporter.take_port()

    def drain(self) -> None:
        """Finish what is under way and leave. Blocks up to limits.drain_timeout_s and a little."""
        self.draining = True
        if not self._ending.exists():
            self.exporter.leave_port()
        self.listener.drain()
        self.stop()

    def stop(self) -> None:
        """Leave without waiting for anybody; logs and numbers are written out."""
        if self.watch is not None:
            _quietly(self.watch.stop)
        parts = (self.key_uses, self.feed, self.heartbeats, self.sessions, self.log, self.exporter, self.disk)
        for part in (*parts, self.client):
            _quietly(part.stop)

    def why_not_ready(self) -> str | None:
        if self._ending.exists():
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
            "keystore_errors_total": {"": self.keys.errors_total},
            "issuer_keys_errors_total": {"": self.issuers.errors_total},
            "key_uses_dropped_total": {"": self.key_uses.dropped_total},
            "nonce_errors_total": {"": self.nonces.errors_total},
            "cache_errors_total": {"": self.cache.errors_total},
            "access_log_dropped_total": {"": self.log.dropped_total},
            "connections_refused_total": {
                labels(reason=reason): count for reason, count in list(self.listener.refusals.total.items())
            },
        }
        dump.summed = {
            "active_connections": {
                labels(kind="downstream"): self.listener.connections,
                labels(kind="tunnel"): len(self.listener.tunnels),
            },
            "tenants_held": {"": len(self.tenants)},
            "auth_clients_blocked": {"": len(self.attempts.blocked)},
            "cache_memory_bytes": {"": self.cache.bytes_held},
            "workers": {"": int(not self.draining)},
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
        self._collect_limits(dump)
        self._collect_tokens(dump)
        self._collect_certificates(dump)
        return dump

    def _collect_limits(self, dump: Dump) -> None:
        counters = self.counters
        dump.counters["ratelimit_degraded_total"] = {"": counters.degraded_total + counters.slots.degraded_total}
        dump.counters["ratelimit_redis_calls_total"] = {"": counters.script_calls_total}
        dump.largest["ratelimit_overshoot_bound"] = {"": counters.overshoot_bound()}

    def _collect_tokens(self, dump: Dump) -> None:
        from edge.telemetry.metrics import labels

        dump.counters |= {
            "introspections_total": {
                labels(authority=authority, outcome=outcome): count
                for (authority, outcome), count in list(self.tokens.total.items())
            },
            "identity_tokens_signed_total": {"": self.signer.signed_total},
            "identity_errors_total": {"": self.signer.errors_total},
        }
        dump.summed["introspection_breakers_open"] = {"": self.tokens.breakers_open}

    def _collect_certificates(self, dump: Dump) -> None:
        from edge.telemetry.metrics import labels

        certificates = self.listener.certificates
        if certificates is None:
            return
        now = time.time()
        dump.smallest["tls_certificate_expires_seconds"] = {
            labels(pair=pair.name): pair.expires_at - now for pair in list(certificates.pairs.values())
        }
        dump.largest["tls_certificates_broken"] = {"": len(certificates.broken)}


def _quietly(stop: Callable[[], None]) -> None:
    """One part that cannot stop must not keep the others from it."""
    try:
        stop()
    except Exception:
        _LOG.exception("while stopping")


class EdgeWorker(Worker):  # type: ignore[misc]
    """gunicorn's view of a worker: it proves each NOTIFY_S that its hub turns, and drains when told to end."""

    inherited: Inheritance
    """Set by the parent before each fork."""
    quick = False
    """Told to end without a drain."""
    NOTIFY_S: Final = 0.2

    def load_wsgi(self) -> None:
        """There is no WSGI application. What fails here counts as a worker that cannot boot (edge.parent)."""
        _start_sentry(self.inherited.settings)
        self.edge = Edge(self.inherited)

    def run(self) -> None:
        import gevent

        self.edge.start()
        # The parts took descriptors of their own. Ours must not keep a port open while we drain.
        for sock in self.sockets:
            sock.close()
        self.edge.open_port()
        while self.alive and os.getppid() == self.ppid:
            self.notify()
            gevent.sleep(self.NOTIFY_S)
        draining = gevent.spawn(self.edge.drain)
        while not draining.ready() and not self.quick:
            self.notify()
            draining.join(self.NOTIFY_S)
        if self.quick:
            draining.kill(block=False)
            self.edge.stop()

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal tells the whole group; the parent replaces us

    def handle_usr1(self, sig: int, frame: object) -> None:
        if hasattr(self, "edge"):  # else it still boots, and opens the log anyway
            self.edge.log.reopen()

    def handle_quit(self, sig: int, frame: object) -> None:
        """Ask for the end without a drain. gunicorn's own sleeps, which no handler may in a gevent hub."""
        self.quick, self.alive = True, False


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
