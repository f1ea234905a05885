"""The identity token: what the gateway says of the caller to one origin, signed, where the route asks for it.

In:    the exchange after authentication; the tenant's signing key; the time.
Out:   the line X-Vantage-Identity; GatewayError identity-unavailable, head-too-large.
Laws:  1. It says what X-Vantage-Principal says, for one origin (`aud`), for LIFE_S; of nobody it says that nobody is
       known. 2. It is not bound to a request: equal callers of a route share it for REUSE_S, so that signing costs next
       to nothing; `jti` is the id of the request it was made for. 3. What is remembered is bounded, and goes with the
       tenant's version.
Not here: signing and opening keys (edge.net.identity), the key set (wellknown), the form (contracts.identity).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

from contracts import identity
from edge.errors import GatewayError
from edge.exchange import Exchange, Principal, introduction
from edge.ports import IdentitySigner
from edge.snapshot import Route, Tenant

TOKENS_MAX: Final = 10_000
"""Tokens remembered per worker; beyond it the memory starts over."""


class Tokens:
    """The phase, with the memory of tokens: by route of one version, and principal."""

    __slots__ = ("_count", "_made", "_signer", "_wall")

    def __init__(self, signer: IdentitySigner, wall: Callable[[], float]) -> None:
        self._signer = signer
        self._wall = wall
        self._made: WeakKeyDictionary[Route, dict[Principal | None, tuple[float, bytes]]] = WeakKeyDictionary()
        self._count = 0

    def introduce(self, exchange: Exchange, tenant: Tenant, route: Route) -> None:
        """Put the line of a token that is young enough into exchange.identity. Raises GatewayError.

        Complexity: one look-up for an equal caller of the same route; else one signature (tens of microseconds).
        """
        now = self._wall()
        who = exchange.principal
        of_route = self._made.get(route)
        made = None if of_route is None else of_route.get(who)
        if made is None or abs(now - made[0]) >= identity.REUSE_S:  # abs: the clock may have stepped back
            line = b"%b: %b\r\n" % (identity.FIELD, self._token(exchange, tenant, route, int(now)))
            if self._count >= TOKENS_MAX:
                self._made.clear()
                self._count = 0
            of_route = self._made.setdefault(route, {})
            self._count += who not in of_route
            made = of_route[who] = (now, line)
        exchange.identity = made[1]

    def _token(self, exchange: Exchange, tenant: Tenant, route: Route, now: int) -> bytes:
        key = tenant.signing_key
        if key is None:
            raise GatewayError(
                "identity-unavailable", "The gateway cannot vouch for the caller right now.",
                internal="the tenant has no key for identity tokens",
            )  # fmt: skip
        claims: dict[str, object] = {
            "iss": self._signer.issuer(tenant), "aud": route.origin.id, "iat": now, "exp": now + identity.LIFE_S,
            "jti": exchange.request_id.decode("ascii"), **introduction(exchange.principal), "tenant": tenant.id,
            "route": route.id,
        }  # fmt: skip
        claims["v"] = identity.VERSION
        signed = identity.signing_input(key.kid, claims)
        return identity.token(signed, self._signer.sign(key, signed))
