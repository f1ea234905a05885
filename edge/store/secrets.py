"""Secrets of snapshots, opened (ports.Secrets).

In:    SEALING_KEYS; sealed text and the place it belongs to.
Out:   the secret; GatewayError identity-unavailable when no key that is listed opens it.
Laws:  1. What was opened is remembered, in bounded number, by sealed text and place: moved elsewhere it is not found.
       2. No secret is in a message or a repr.
Not here: client keys of origins (edge.net.origin_tls), the cipher (contracts.sealing).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from contracts.sealing import SealError, SealingKeys, open_sealed
from edge.errors import GatewayError

REMEMBERED_MAX: Final = 10_000


class SealedSecrets:
    def __init__(self, keys: SealingKeys) -> None:
        self._keys = keys
        self._opened: OrderedDict[tuple[str, bytes], bytes] = OrderedDict()

    def opened(self, sealed: str, belongs_to: bytes) -> bytes:
        name = (sealed, belongs_to)
        secret = self._opened.get(name)
        if secret is not None:
            self._opened.move_to_end(name)
            return secret
        try:
            secret = open_sealed(self._keys, sealed, belongs_to)
        except SealError as error:
            raise GatewayError(
                "identity-unavailable",
                "The credentials cannot be checked right now.",
                internal=f"a secret cannot be opened: {error}",
            ) from None
        self._opened[name] = secret
        if len(self._opened) > REMEMBERED_MAX:
            self._opened.popitem(last=False)
        return secret

    def __repr__(self) -> str:
        return f"<SealedSecrets {len(self._opened)}>"
