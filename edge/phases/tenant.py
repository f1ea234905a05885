"""Whose request it is: the tenant that lives at the host.

In:    head.host, already lower-cased and stripped of port and trailing dot by the parser.
Out:   exchange.tenant; GatewayError tenant-unknown, tenant-suspended, loop-detected.
Laws:  1. An unknown host is never served by another tenant. 2. A request that carries our pseudonym in Via has come
       round and is refused before it costs anything more.
Not here: how hosts and snapshots are loaded (edge.store.config_feed).
"""

from __future__ import annotations

from edge.errors import GatewayError, Source
from edge.exchange import Exchange
from edge.http import forwarded
from edge.ports import ConfigView
from edge.snapshot import Tenant


def identify(exchange: Exchange, config: ConfigView) -> Tenant:
    """Raises GatewayError. Blocks where ConfigView does: the first time a host is asked for."""
    head = exchange.head
    tenant = config.tenant(head.host)
    if tenant is None:
        raise GatewayError("tenant-unknown", "No tenant lives at this host.", source=Source.DOWNSTREAM)
    exchange.tenant = tenant
    if tenant.suspended:
        raise GatewayError("tenant-suspended", "This tenant is suspended.")
    if b"via" in head.section.index and forwarded.passed_through_us(head.section):
        raise GatewayError("loop-detected", "The request already went through this gateway: its origin points back.")
    return tenant


class Bulkhead:
    """Requests in flight per tenant in this worker, so that a noisy tenant fills its own room only."""

    __slots__ = ("_in_flight",)

    def __init__(self) -> None:
        self._in_flight: dict[str, int] = {}

    def enter(self, tenant: Tenant) -> None:
        """Raises GatewayError(tenant-overloaded), after which `leave` must not be called."""
        count = self._in_flight.get(tenant.id, 0)
        if count >= tenant.in_flight_max:
            raise GatewayError(
                "tenant-overloaded",
                "This tenant has too many requests in flight.",
                internal=f"in_flight_max={tenant.in_flight_max}",
                fields=((b"Retry-After", b"1"),),
            )
        self._in_flight[tenant.id] = count + 1

    def leave(self, tenant: Tenant) -> None:
        count = self._in_flight[tenant.id] - 1
        if count:
            self._in_flight[tenant.id] = count
        else:
            del self._in_flight[tenant.id]

    def in_flight(self, tenant_id: str) -> int:
        return self._in_flight.get(tenant_id, 0)
