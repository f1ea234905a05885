"""Tokens that were believed once, so that a signature is verified once and not with every request.

In:    the tenant and digest of a token; the principal it proved, when it is valid, and by which keys that was found.
Out:   Belief, or None.
Laws:  1. Whoever asks checks time and keys again on every use: a remembered token is a signature less to verify and
       nothing more. 2. The token itself is not kept. 3. Bounded for all tenants together; beyond it the memory starts
       over.
Not here: verifying (sessions, tokens, clerk_tokens).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from contracts.tokens import SKEW_S, BadSignature, UnknownKey
from edge.exchange import Principal

_Keys = TypeVar("_Keys")
_Proof = TypeVar("_Proof")

BELIEFS_MAX: Final = 10_000
"""Of each kind, per worker."""


@dataclass(slots=True)  # not frozen: that would make it dearer to make; nobody changes it
class Belief:
    """`place`: what configuration it was believed under. `keys`: the very set its key was in. Times in wall seconds.

    `detail`: what else its verifier checks on each use; of a session, its id.
    """

    principal: Principal
    keys: object
    place: bytes
    valid_from: float
    expires_at: float
    detail: str = ""

    def is_timely(self, now: float) -> bool:
        return self.valid_from - SKEW_S <= now < self.expires_at + SKEW_S


class Beliefs:
    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], Belief] = {}

    def get(self, tenant_id: str, digest: bytes) -> Belief | None:
        return self._known.get((tenant_id, digest))

    def keep(self, tenant_id: str, digest: bytes, belief: Belief) -> None:
        if len(self._known) >= BELIEFS_MAX:
            self._known.clear()
        self._known[tenant_id, digest] = belief

    def forget(self, tenant_id: str, digest: bytes) -> None:
        self._known.pop((tenant_id, digest), None)

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"<Beliefs {len(self._known)}>"


def proved(verify: Callable[[_Keys], _Proof], keys: _Keys, renew: Callable[[], _Keys]) -> tuple[_Proof, _Keys]:
    """Verify by these keys or, when the key may have been rotated, by renewed ones; give by which.

    Raises TokenRefused. Blocks where `renew` does.
    """
    try:
        return verify(keys), keys
    except (UnknownKey, BadSignature):
        renewed = renew()
        if renewed is keys:
            raise
        return verify(renewed), renewed
