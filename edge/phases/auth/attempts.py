"""How often a client may fail to authenticate: after some failures within a minute it waits for one.

In:    attempts that failed; the counters that all workers share.
Out:   `blocked`: the clients that wait, as this worker knows them; GatewayError auth-attempts-exceeded.
Laws:  1. Only a credential that was not believed counts: none at all, one without the right, and one that could not be
       checked do not. 2. A blocked client is refused before its credential is looked at, a good one too: whoever
       guesses must not learn which guess was right. So everybody behind one address waits together. 3. A client is
       an IPv4 address or an IPv6 /64, per tenant. 4. While nobody is blocked a request costs one test for emptiness;
       the counters are asked on failures alone. 5. What is under way when a client is blocked is still answered, and
       other workers learn of it by the next failure they see.
Redis away: failures are counted locally, to the limit / live edge workers (ports.Counters).
Not here: what a failure is (the verifiers).
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Final

from contracts.networks import counted_as
from contracts.snapshot import PolicyConfig
from edge.errors import GatewayError, Source
from edge.exchange import Exchange
from edge.ports import Check, Counters
from edge.snapshot import Tenant

FAILURES_MAX: Final = 20
WINDOW_S: Final = 60
BLOCKED_MAX: Final = 10_000
"""Clients a worker remembers as blocked; beyond it the one that waited longest is let go."""
_SWEEP_S: Final = 10.0


@lru_cache(maxsize=1_024)
def policy_of(tenant_id: str, failures_max: int) -> PolicyConfig:
    """Give the policy by which a tenant's failures are counted. Its id is of the tenant: counters go by it."""
    return PolicyConfig(
        id=hashlib.sha256(b"failed authentication at " + tenant_id.encode("ascii")).hexdigest()[:32],
        name="failed-authentication", algorithm="sliding_window", limit=failures_max, window_s=WINDOW_S, scope=("ip",),
    )  # fmt: skip


class Attempts:
    """`blocked`: (tenant id, network) -> the monotonic time until which it waits. Times in seconds."""

    __slots__ = ("_counters", "_failures_max", "_sweep_mono", "blocked")

    def __init__(self, counters: Counters, failures_max: int) -> None:
        self.blocked: dict[tuple[str, bytes], float] = {}
        self._counters = counters
        self._failures_max = failures_max
        """0: failures are not counted."""
        self._sweep_mono = 0.0

    def check(self, exchange: Exchange, tenant: Tenant) -> None:
        """Refuse a client that waits. Raises GatewayError. To be called only while somebody does."""
        now = exchange.received_mono
        until_mono = self.blocked.get((tenant.id, counted_as(exchange.client_ip)), 0.0)
        if until_mono > now:
            wait_s = math.ceil(until_mono - now)
            raise GatewayError(
                "auth-attempts-exceeded",
                f"Too many attempts to authenticate failed: try again in {wait_s} s.",
                source=Source.DOWNSTREAM,
                fields=((b"Retry-After", b"%d" % wait_s),),
            )
        if now >= self._sweep_mono:
            self._sweep(now)

    def failed(self, exchange: Exchange, tenant: Tenant) -> None:
        """Count a failure; the one that reaches the limit blocks. May block on Redis."""
        if not self._failures_max:
            return
        network = counted_as(exchange.client_ip)
        policy = policy_of(tenant.id, self._failures_max)
        (verdict,) = self._counters.admit((Check(tenant.id, policy, network),))
        if verdict.allowed and verdict.remaining:
            return
        if len(self.blocked) >= BLOCKED_MAX:
            self._sweep(exchange.received_mono)
            if len(self.blocked) >= BLOCKED_MAX:
                del self.blocked[next(iter(self.blocked))]
        self.blocked[tenant.id, network] = exchange.received_mono + max(WINDOW_S, verdict.retry_after_s)

    def _sweep(self, now: float) -> None:
        for client in [client for client, until_mono in self.blocked.items() if until_mono <= now]:
            del self.blocked[client]
        self._sweep_mono = now + _SWEEP_S
