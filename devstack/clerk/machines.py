"""Machines and their tokens (M2M): which there are, whom each may speak to, what was given to them.

In:    calls of the endpoints.
Out:   Machine, MachineToken.
Laws:  1. The demo's two machines have fixed ids and secrets: a caller, and the gateway that may be spoken to. 2. Whom a
       token is for is fixed when it is made. 3. A machine sees the tokens it made and those made for it, no others.
       4. Of an opaque token only a digest is kept; a JWT is not kept at all, so it cannot be revoked.
Not here: endpoints (machine_api), what a JWT says (tokens).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from devstack.clerk import people
from devstack.clerk.clock import Clock
from devstack.clerk.registry import new_id

DEFAULT_LIFE_S: Final = 3_600
GATEWAY_ID: Final = "mch_2vGtDemoGatewayAsReceiver00"
GATEWAY_SECRET: Final = "ak_demo-only-gateway-never-in-production"  # noqa: S105 - opens the stand-in alone
CALLER_ID: Final = "mch_2vGtDemoCa11erOfTheGateway0"
CALLER_SECRET: Final = "ak_demo-only-caller-never-in-production"  # noqa: S105 - opens the stand-in alone


@dataclass(slots=True)
class Machine:
    """`speaks_to`: ids of the machines its tokens are for."""

    machine_id: str
    name: str
    secret: str
    speaks_to: list[str] = field(default_factory=list)
    life_s: int = DEFAULT_LIFE_S
    created_at_ms: int = people.CREATED_AT_MS

    def __repr__(self) -> str:
        return f"<Machine {self.machine_id}>"


@dataclass(slots=True)
class MachineToken:
    """An opaque token. Times in wall seconds; `expires_at` None: never."""

    token_id: str
    digest: bytes
    machine_id: str
    audience: tuple[str, ...]
    claims: dict[str, Any] | None
    created_at: float
    expires_at: float | None
    text: str = field(repr=False, default="")
    """Kept only for the reuse that `min_remaining_ttl_seconds` asks for."""
    revoked: bool = False
    reason: str | None = None
    used_at: float | None = None


class Machines:
    """All machines and opaque machine tokens of this process. Not thread-safe, as the registry."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens: dict[bytes, MachineToken] = {}
        self.by_id: dict[str, Machine] = {}
        for machine in (
            Machine(GATEWAY_ID, "demo-gateway", GATEWAY_SECRET),
            Machine(CALLER_ID, "demo-caller", CALLER_SECRET, [GATEWAY_ID]),
        ):
            self.by_id[machine.machine_id] = machine

    def add(self, name: str, speaks_to: Iterable[str], life_s: int) -> Machine:
        at_ms = int(self._clock.now() * 1_000)
        machine = Machine(new_id("mch_"), name, new_id("ak_"), list(speaks_to), life_s, at_ms)
        self.by_id[machine.machine_id] = machine
        return machine

    def remove(self, machine: Machine) -> None:
        del self.by_id[machine.machine_id]
        for other in self.by_id.values():
            other.speaks_to = [each for each in other.speaks_to if each != machine.machine_id]

    def by_secret(self, secret: str) -> Machine | None:
        """Find the machine whose secret key this is, comparing with all in constant time."""
        found = None
        for machine in self.by_id.values():
            if hmac.compare_digest(machine.secret.encode(), secret.encode()):
                found = machine
        return found

    def issue(
        self, machine: Machine, audience: Iterable[str], claims: dict[str, Any] | None, life_s: float | None
    ) -> MachineToken:
        now = self._clock.now()
        text = new_id("mt_") + new_id("")
        expires_at = None if life_s is None else now + life_s
        token = MachineToken(
            new_id("mt_"), _digest(text), machine.machine_id, tuple(audience), claims, now, expires_at, text
        )
        self._tokens[token.digest] = token
        return token

    def reusable(
        self, machine: Machine, audience: Iterable[str], claims: dict[str, Any] | None, remaining_s: float
    ) -> MachineToken | None:
        """Find a live token of the same content that lasts at least so long."""
        now = self._clock.now()
        for token in self.made_by(machine.machine_id):
            same = (token.audience, token.claims) == (tuple(audience), claims)
            lasts = token.expires_at is None or token.expires_at - now >= remaining_s
            if same and lasts and not token.revoked:
                return token
        return None

    def find(self, text: str) -> MachineToken | None:
        return self._tokens.get(_digest(text))

    def by_token_id(self, token_id: str) -> MachineToken | None:
        return next((token for token in self._tokens.values() if token.token_id == token_id), None)

    def made_by(self, machine_id: str) -> list[MachineToken]:
        return [token for token in self._tokens.values() if token.machine_id == machine_id]

    def is_expired(self, token: MachineToken) -> bool:
        return token.expires_at is not None and self._clock.now() >= token.expires_at


def may_see(machine: Machine, token: MachineToken) -> bool:
    """Say whether the machine made the token or may be spoken to with it."""
    return machine.machine_id == token.machine_id or machine.machine_id in token.audience


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
