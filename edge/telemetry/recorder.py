"""The last thing that happens to a request: it is counted and logged (ports.Recorder).

In:    finished exchanges and refusals.
Out:   numbers in the meter, lines in the access log.
Laws:  1. Never blocks, never raises. 2. A few microseconds: look-ups and additions only, everything else later.
Not here: series and text (metrics), encoding and writing (access_log).
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from typing import Final

from edge.errors import GatewayError
from edge.exchange import Exchange
from edge.telemetry.access_log import EXCHANGES_MAX, NOWHERE, AccessLog, fragment, upstream_end_mono
from edge.telemetry.metrics import BOUNDS_S, METHODS, Cell, Meter

_LOG: Final = logging.getLogger(__name__)
CLIENT_CLOSED_REQUEST: Final = 499
"""In logs and metrics only: the client left before its answer was complete."""


class Recorder:
    def __init__(self, meter: Meter, log: AccessLog) -> None:
        self._meter = meter
        self._log = log
        self._nowhere = meter.cell("none", "none", NOWHERE)

    def record(self, exchange: Exchange) -> None:
        try:
            self._record(exchange)
        except Exception:
            _LOG.exception("an exchange could not be recorded")

    def _record(self, exchange: Exchange) -> None:
        route = exchange.route
        cell: Cell | None = route.meter if route is not None else None
        if cell is None:
            cell = self._cell(exchange)
        reply = exchange.reply
        status = reply.status if reply is not None and not exchange.client_gone else CLIENT_CLOSED_REQUEST
        meter = self._meter

        method = exchange.head.method
        name = (method if method in METHODS else b"other", status)
        requests = cell.requests
        requests[name] = requests.get(name, 0) + 1
        duration_s = exchange.finished_mono - exchange.received_mono
        histogram = cell.duration
        histogram.counts[bisect_left(BOUNDS_S, duration_s)] += 1
        histogram.total_s += duration_s

        if exchange.upstream_start_mono:
            end_mono = exchange.upstream_last_mono or upstream_end_mono(exchange)
            upstream_s = end_mono - exchange.upstream_start_mono
            histogram = cell.upstream
            histogram.counts[bisect_left(BOUNDS_S, upstream_s)] += 1
            histogram.total_s += upstream_s
            duration_s -= upstream_s
            if exchange.attempts > 1:
                meter.retries += exchange.attempts - 1
        histogram = meter.overhead
        histogram.counts[bisect_left(BOUNDS_S, duration_s)] += 1
        histogram.total_s += duration_s

        for verdict in exchange.verdicts:
            policy = verdict.policy
            decision = (policy.id, verdict.allowed, policy.mode)
            verdicts = meter.verdicts
            counted = verdicts.get(decision)
            if counted is not None:
                verdicts[decision] = counted + 1
            else:
                meter.count_verdict(decision)
        if exchange.cache_result is not None:
            outcome = (exchange.cache_result, exchange.cache_reason)
            cell.cache[outcome] = cell.cache.get(outcome, 0) + 1
        if exchange.error is not None:
            self._count_error(exchange.error)
        log = self._log
        if len(log.exchanges) >= EXCHANGES_MAX:
            log.encode()  # the hub has not come by for long: bound what is held
        log.exchanges.append((cell, exchange, status))

    def refused(self, error: GatewayError, client_ip: str, request_id: bytes) -> None:
        try:
            self._count_error(error)
            name = (b"other", error.problem.status)
            requests = self._nowhere.requests
            requests[name] = requests.get(name, 0) + 1
            self._log.refusals.append((error, client_ip, request_id, time.time()))
        except Exception:
            _LOG.exception("a refusal could not be recorded")

    def _count_error(self, error: GatewayError) -> None:
        problem = error.problem
        name = (problem.slug, problem.at_fault)
        errors = self._meter.errors
        errors[name] = errors.get(name, 0) + 1

    def _cell(self, exchange: Exchange) -> Cell:
        """Make the cell of this tenant and route and hang it into the snapshot, once per version."""
        tenant, route = exchange.tenant, exchange.route
        if tenant is None:
            return self._nowhere
        if route is None:
            if tenant.meter is None:
                tenant.meter = self._meter.cell(tenant.subdomain, "none", fragment(tenant.id, tenant.subdomain, "", ""))
            cell: Cell = tenant.meter
            return cell
        line = fragment(tenant.id, tenant.subdomain, route.id, route.pattern.text)
        route.meter = cell = self._meter.cell(tenant.subdomain, route.id, line)
        return cell
