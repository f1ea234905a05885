"""Secrets at rest in a column of their own: sealed under the newest key of SEALING_KEYS, and sealed anew.

In:    a secret, or sealed text, and the place it belongs to (contracts.snapshot.*_place).
Out:   sealed text; Invalid naming the field where this deployment has no key.
Laws:  1. A secret leaves this module sealed or not at all.
Not here: ciphers (contracts.sealing), which secrets there are (each noun's service).
"""

from __future__ import annotations

import os

from contracts import sealing
from webapp.extensions import current_settings
from webapp.services.errors import Invalid


def seal(field: str, secret: str | bytes, place: bytes) -> str:
    """Raises Invalid."""
    keys = current_settings().sealing_keys
    if not keys:
        raise Invalid.field(field, "cannot be stored: this deployment has no SEALING_KEYS")
    octets = secret.encode() if isinstance(secret, str) else secret
    return sealing.seal(keys, octets, place, os.urandom(sealing.NONCE_BYTES))


def resealed(held: str, place: bytes) -> str | None:
    """Give it under the newest sealing key; None when it is already. Raises SealError."""
    keys = current_settings().sealing_keys
    if sealing.key_id_of(held) == next(iter(keys), None):
        return None
    return sealing.seal(keys, sealing.open_sealed(keys, held, place), place, os.urandom(sealing.NONCE_BYTES))
