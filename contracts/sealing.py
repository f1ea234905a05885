"""Secrets at rest: sealed with AES-256-GCM under a key of the deployment, opened by whoever holds that key.

    sealed = "s1." key id "." base64url(nonce || ciphertext || tag)

In:    SEALING_KEYS, a secret, a fresh nonce, and the place the secret belongs to.
Out:   sealed text, the secret, or SealError.
Laws:  1. The place (purpose, tenant, thing) is authenticated with the secret: moved elsewhere it does not open. 2. The
       highest key id seals, any key that is listed opens, so keys rotate without a pause. 3. No error says anything
       about a secret or a key beyond its id. 4. A nonce is 96 random bits (NIST SP 800-38D section 8.2.2), given by
       the caller, never used twice.
Not here: what is a secret (webapp.services.origin_tls), where keys come from (settings).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

DEMO_MARK: Final = b"demo-only"
"""The demo's keys contain these letters; production refuses them."""
NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_FORM: Final = "s1"
SealingKeys = Mapping[int, bytes]
"""Highest id first: the first one seals."""


class SealError(ValueError):
    """It cannot be opened; the message says why and may be logged."""


def parse_keys(text: str) -> SealingKeys:
    """Read `SEALING_KEYS`: `<id>:<64 hex digits>`, comma-separated; the highest id seals.

    Raises ValueError naming what is wrong, never echoing the secret.
    """
    keys: dict[int, bytes] = {}
    for index, item in enumerate(text.split(","), 1):
        number, colon, secret = item.strip().partition(":")
        if not colon or not (number.isascii() and number.isdigit() and len(number) < 4 and int(number) >= 1):
            raise ValueError(f"entry {index} must be <id>:<hex> with an id from 1 to 999")
        try:
            key = bytes.fromhex(secret)
        except ValueError:
            raise ValueError(f"entry {index} is not hexadecimal") from None
        if len(key) != _KEY_BYTES:
            raise ValueError(f"entry {index} is not 32 bytes (64 hex digits)")
        if int(number) in keys:
            raise ValueError(f"id {int(number)} appears twice")
        keys[int(number)] = key
    return dict(sorted(keys.items(), reverse=True))


def place(purpose: str, tenant_id: str, noun_id: str) -> bytes:
    """Spell where a secret belongs, so that no two places are spelled alike."""
    parts = [part.encode() for part in (purpose, tenant_id, noun_id)]
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def seal(keys: SealingKeys, secret: bytes, belongs_to: bytes, nonce: bytes) -> str:
    """Seal under the newest key. `nonce`: NONCE_BYTES from a cryptographic source. Raises SealError without a key."""
    if not keys:
        raise SealError("there are no sealing keys")
    key_id, key = next(iter(keys.items()))
    sealed = nonce + AESGCM(key).encrypt(nonce, secret, belongs_to)
    return f"{_FORM}.{key_id}.{base64.urlsafe_b64encode(sealed).decode('ascii')}"


def open_sealed(keys: SealingKeys, sealed: str, belongs_to: bytes) -> bytes:
    """Give the secret. Raises SealError: unknown key, moved, or changed."""
    key_id = key_id_of(sealed)
    key = keys.get(key_id)
    if key is None:
        raise SealError(f"it was sealed under key {key_id}, which is not among the sealing keys")
    try:
        octets = base64.b64decode(sealed.rpartition(".")[2], altchars=b"-_", validate=True)
        return AESGCM(key).decrypt(octets[:NONCE_BYTES], octets[NONCE_BYTES:], belongs_to)
    except (InvalidTag, binascii.Error, ValueError):
        raise SealError(f"it does not open under key {key_id}: it was changed or belongs elsewhere") from None


def key_id_of(sealed: str) -> int:
    """Say which key sealed it. Raises SealError for what is not sealed text."""
    form, _, rest = sealed.partition(".")
    number = rest.partition(".")[0]
    if form != _FORM or not (number.isascii() and number.isdigit() and len(number) < 4):
        raise SealError("it is not a sealed secret")
    return int(number)
