"""Whether a client may come at all, by its address: the tenant's rules first, then the route's.

In:    exchange.client_ip, as trusted hops told it; the rules, compiled with the snapshot.
Out:   GatewayError address-denied.
Laws:  1. Deny wins; where anything is allowed, everything else is denied. 2. Which rule it was is for the log alone.
       3. Where there are no rules nothing is asked.
Not here: whose address it is (edge.http.forwarded), networks (contracts.networks).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

from contracts.networks import AddressFilter, Judgement
from edge.errors import GatewayError, Source

JUDGEMENTS_MAX: Final = 8_192
"""Clients remembered by a worker, of all tenants and routes together."""


@lru_cache(maxsize=JUDGEMENTS_MAX)
def judged(rules: AddressFilter, client_ip: str) -> Judgement:
    """Rules are remembered by identity: those of another version are others."""
    return rules.judge(client_ip)


def admit(rules: AddressFilter, client_ip: str, whose: Literal["tenant", "route"]) -> None:
    """Raises GatewayError."""
    judgement = judged(rules, client_ip)
    if not judgement.allowed:
        raise GatewayError(
            "address-denied",
            "Your address is not allowed here.",
            internal=f"{judgement.because} by the {whose}",
            source=Source.DOWNSTREAM,
        )
