"""Counting what happened, in plain integers, and saying it in Prometheus' text form.

In:    finished exchanges (from the recorder); gauges asked at scrape.
Out:   Dump: every series of one worker; `merge` of several; `render` as text.
Laws:  1. Counting makes no label and no lock: cells are made once per tenant and route and hung into the snapshot's
       `meter` slots. 2. Labels come from config and from our own code, never from a request; beyond CELLS_MAX they are
       `other`, and that is counted. 3. Building and rendering yield to the hub every few hundred series.
Not here: who answers a scrape (exporter), the log (access_log).
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROW_LENGTH: Final = len(BOUNDS_S) + 2
CELLS_MAX: Final = 2_000
_KEYS_MAX: Final = 2_000
_PREFIX: Final = "vantageedge_"
_YIELD_EVERY: Final = 200
_Gauges = dict[str, dict[str, float]]
METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})

_HELP: Final = {
    "requests_total": "Requests answered.",
    "request_duration_seconds": "From the first byte of a request to the last byte of its answer.",
    "upstream_duration_seconds": "From sending to an origin to the last byte of its answer.",
    "overhead_seconds": "Request duration without the time spent on the origin.",
    "cache_requests_total": "Requests to routes with a cache, by what the cache did.",
    "ratelimit_decisions_total": "Decisions of rate-limit policies.",
    "ratelimit_degraded_total": "Requests whose limits were decided locally because Redis was away.",
    "ratelimit_redis_calls_total": "Script calls by which limits were counted in Redis.",
    "ratelimit_overshoot_bound": "How many times its quota a counter may have admitted beyond its limit lately.",
    "errors_total": "Answers the gateway made because something went wrong.",
    "retries_total": "Attempts beyond the first.",
    "active_connections": "Open connections.",
    "connections_refused_total": "Connections that never came to a request.",
    "tls_certificate_expires_seconds": "Until the certificate of a pair ends; below zero when it has.",
    "tls_certificates_broken": "Pairs of certificate and key that could not be loaded as they are now.",
    "upstream_healthy": "What the active probes say, 1 or 0.",
    "config_version": "The version of a tenant's configuration in force.",
    "config_age_seconds": "Age of the knowledge that the newest configuration is in force.",
    "config_propagation_seconds": "From a change in Redis to its being in force.",
    "config_rejected": "Tenants whose newest snapshot was refused.",
    "redis_degraded": "1 while Redis is away.",
    "keystore_errors_total": "Key look-ups that Redis did not answer.",
    "issuer_keys_errors_total": "Key sets of tenants' issuers that could not be fetched.",
    "key_uses_dropped_total": "Last uses and renewed digests of keys that were not told to anybody.",
    "identity_tokens_signed_total": "Identity tokens that were signed; equal callers share one for half a minute.",
    "identity_errors_total": "Requests refused because the tenant's identity key could not be opened.",
    "nonce_errors_total": "Signed requests refused because Redis did not answer for their nonce.",
    "cache_errors_total": "Cache look-ups that Redis did not answer.",
    "health_view_age_seconds": "Age of the oldest probe result still believed.",
    "access_log_dropped_total": "Lines of the access log that were dropped.",
    "series_capped_total": "Tenants and routes counted as `other`.",
    "tenants_held": "Tenants whose configuration a worker holds.",
    "auth_clients_blocked": "Clients of tenants refused for too many failed attempts to authenticate, by worker.",
    "cache_memory_bytes": "Bytes in the memory tier of the cache.",
    "introspections_total": "Opaque tokens that were asked about, or would have been, by what came of it.",
    "introspection_breakers_open": "Authorities of opaque tokens that a worker leaves alone because they keep failing.",
    "workers": "Workers that answered this scrape.",
}


class Histogram:
    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds

    def row(self) -> list[float]:
        return [*self.counts, self.total_s]


class Cell:
    """What is counted of one route of one tenant. `fragment` is the part of its log lines that never varies."""

    __slots__ = ("cache", "duration", "fragment", "requests", "route", "tenant", "upstream")

    def __init__(self, tenant: str, route: str, fragment: bytes) -> None:
        self.tenant = tenant
        self.route = route
        self.fragment = fragment
        self.requests: dict[tuple[bytes, int], int] = {}
        self.cache: dict[tuple[str, str], int] = {}
        self.duration = Histogram()
        self.upstream = Histogram()


class Meter:
    """All that one worker counts."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], Cell] = {}
        self.errors: dict[tuple[str, str], int] = {}
        self.verdicts: dict[tuple[str, bool, str], int] = {}
        self.overhead = Histogram()
        self.propagation = Histogram()
        self.retries = 0
        self.capped = 0

    def cell(self, tenant: str, route: str, fragment: bytes) -> Cell:
        """Give a route's cell, the one of `other` when there are too many. The log fragment is always the one given:
        lines of another version, or of who had this subdomain before, keep theirs."""
        kept = self.cells.get((tenant, route))
        if kept is not None:
            return kept if kept.fragment == fragment else _Sharing(kept, fragment)
        if len(self.cells) >= CELLS_MAX:
            self.capped += 1
            other = self.cells.get(("other", "other"))
            if other is None:
                other = self.cells["other", "other"] = Cell("other", "other", b"")
            return _Sharing(other, fragment)
        cell = self.cells[tenant, route] = Cell(tenant, route, fragment)
        return cell

    def count_verdict(self, name: tuple[str, bool, str]) -> None:
        if name not in self.verdicts and len(self.verdicts) >= _KEYS_MAX:
            name = ("other", name[1], name[2])
        self.verdicts[name] = self.verdicts.get(name, 0) + 1


class _Sharing(Cell):
    """A cell with a fragment of its own that counts into another."""

    __slots__ = ()

    def __init__(self, other: Cell, fragment: bytes) -> None:
        super().__init__(other.tenant, other.route, fragment)
        self.requests, self.cache = other.requests, other.cache
        self.duration, self.upstream = other.duration, other.upstream


class Dump(msgspec.Struct):
    """Series of one or several workers: metric -> label text -> value (or a histogram's counts and sum).

    `largest`: gauges of which the largest speaks for all; `smallest`: likewise; `summed`: gauges that add up.
    `dead`: pids already merged into this one.
    """

    counters: dict[str, dict[str, float]] = {}
    histograms: dict[str, dict[str, list[float]]] = {}
    summed: dict[str, dict[str, float]] = {}
    largest: dict[str, dict[str, float]] = {}
    smallest: dict[str, dict[str, float]] = {}
    dead: list[int] = []


_DECODER: Final = msgspec.msgpack.Decoder(Dump)


def encode(dump: Dump) -> bytes:
    return msgspec.msgpack.encode(dump)


def decode(body: bytes) -> Dump | None:
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError:
        return None


def labels(**pairs: str) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def dump_meter(meter: Meter, pause: Callable[[], None]) -> Dump:
    """Give everything counted. `pause` is called now and then so that others can run."""
    requests: dict[str, float] = {}
    caches: dict[str, float] = {}
    durations: dict[str, list[float]] = {}
    upstreams: dict[str, list[float]] = {}
    for number, cell in enumerate(list(meter.cells.values()), 1):
        where = labels(tenant=cell.tenant, route=cell.route)
        for (method, status), count in list(cell.requests.items()):
            name = method.decode("ascii") if method in METHODS else "other"
            _add(requests, f'{where},method="{name}",status="{status}"', count)
        for (result, reason), count in list(cell.cache.items()):
            _add(caches, labels(result=result, reason=reason), count)
        durations[where] = cell.duration.row()
        if any(cell.upstream.counts):
            upstreams[where] = cell.upstream.row()
        if number % _YIELD_EVERY == 0:
            pause()
    decisions = {
        labels(policy=policy, decision="allowed" if allowed else "refused", mode=mode): float(count)
        for (policy, allowed, mode), count in meter.verdicts.items()
    }
    errors = {labels(code=code, at_fault=fault): float(count) for (code, fault), count in meter.errors.items()}
    return Dump(
        counters={
            "requests_total": requests,
            "cache_requests_total": caches,
            "ratelimit_decisions_total": decisions,
            "errors_total": errors,
            "retries_total": {"": meter.retries},
            "series_capped_total": {"": meter.capped},
        },
        histograms={
            "request_duration_seconds": durations,
            "upstream_duration_seconds": upstreams,
            "overhead_seconds": {"": meter.overhead.row()},
            "config_propagation_seconds": {"": meter.propagation.row()},
        },
    )


def _add(series: dict[str, float], name: str, value: float) -> None:
    series[name] = series.get(name, 0) + value


def merge(dumps: Iterable[Dump], counters_only: bool = False) -> Dump:
    """Add several up. `counters_only` for the dead: what they counted stays, what they measured does not.

    They may come from another release (a host that is being replaced): a histogram of other bounds is left out.
    """
    total = Dump()
    for dump in dumps:
        for metric, series in dump.counters.items():
            kept = total.counters.setdefault(metric, {})
            for name, value in series.items():
                _add(kept, name, value)
        for metric, rows in dump.histograms.items():
            kept_rows = total.histograms.setdefault(metric, {})
            for name, row in rows.items():
                old = kept_rows.get(name)
                if len(row) == _ROW_LENGTH:
                    kept_rows[name] = row if old is None else [a + b for a, b in zip(old, row, strict=True)]
        if not counters_only:
            _fold(total.summed, dump.summed, operator.add)
            _fold(total.largest, dump.largest, max)
            _fold(total.smallest, dump.smallest, min)
        total.dead.extend(dump.dead)
    return total


def _fold(ours: _Gauges, theirs: _Gauges, choose: Callable[[float, float], float]) -> None:
    for metric, series in theirs.items():
        gauges = ours.setdefault(metric, {})
        for name, value in series.items():
            gauges[name] = choose(gauges[name], value) if name in gauges else value


def render(dump: Dump, pause: Callable[[], None]) -> bytes:
    """Write the text exposition format, version 0.0.4."""
    lines: list[str] = []
    for metric, series in sorted(dump.counters.items()):
        _head(lines, metric, "counter")
        _samples(lines, metric, series, pause)
    for gauges in (dump.summed, dump.largest, dump.smallest):
        for metric, series in sorted(gauges.items()):
            _head(lines, metric, "gauge")
            _samples(lines, metric, series, pause)
    for metric, rows in sorted(dump.histograms.items()):
        _head(lines, metric, "histogram")
        for number, (name, row) in enumerate(rows.items(), 1):
            _histogram(lines, _PREFIX + metric, name, row)
            if number % _YIELD_EVERY == 0:
                pause()
    return ("\n".join(lines) + "\n").encode()


def _head(lines: list[str], metric: str, kind: str) -> None:
    lines.append(f"# HELP {_PREFIX}{metric} {_HELP.get(metric, 'Counted by another release.')}")
    lines.append(f"# TYPE {_PREFIX}{metric} {kind}")


def _samples(lines: list[str], metric: str, series: dict[str, float], pause: Callable[[], None]) -> None:
    for number, (name, value) in enumerate(series.items(), 1):
        lines.append(f"{_PREFIX}{metric}{{{name}}} {value:.10g}" if name else f"{_PREFIX}{metric} {value:.10g}")
        if number % _YIELD_EVERY == 0:
            pause()


def _histogram(lines: list[str], metric: str, name: str, row: list[float]) -> None:
    comma = "," if name else ""
    seen = 0.0
    for bound, count in zip((*BOUNDS_S, "+Inf"), row, strict=False):
        seen += count
        lines.append(f'{metric}_bucket{{{name}{comma}le="{bound}"}} {seen:.10g}')
    braces = f"{{{name}}}" if name else ""
    lines.append(f"{metric}_sum{braces} {row[-1]:.9g}")
    lines.append(f"{metric}_count{braces} {seen:.10g}")
