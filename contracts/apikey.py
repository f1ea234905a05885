"""The format of an API key, its checksum, and the keyed digest it is found by.

    key    = "ve_" mode "_" id "_" secret crc
    mode   = "live" | "test"      id = 12 base62      secret = 32 base62 (190 bits)      crc = 6 base62

In:    random bytes or a presented key, and the pepper.
Out:   the key's text, its parts, its digest "v<pepper version>:<64 hex>".
Laws:  1. A secret is never stored, only HMAC-SHA256(pepper, whole key). 2. A key of our format whose CRC32 is
       wrong is refused with no look-up. 3. Keys of another format (imported) are found by digest alike. 4. Who has
       the stores but not the pepper can make neither a digest nor the proof that moves a key to another one.
Not here: expiry, scopes, revocation (edge.phases.auth), storage (webapp.models.api_key, edge.store.keys).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Mode = Literal["live", "test"]

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY: Final = re.compile(rb"ve_(live|test)_([0-9A-Za-z]{12})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})")
_DIGEST_VERSION: Final = re.compile("v([0-9]{1,3}):")
PREFIXES: Final = (b"ve_live_", b"ve_test_")
ID_CHARS: Final = 12
SECRET_CHARS: Final = 32
CRC_CHARS: Final = 6


@dataclass(frozen=True, slots=True)
class ParsedKey:
    mode: str
    key_id: str


def base62(number: int, width: int) -> str:
    """Write a non-negative number in base62, left-padded with '0' to `width` characters."""
    digits = []
    while number:
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits)).rjust(width, "0")


def _checksum(body: bytes) -> str:
    return base62(zlib.crc32(body), CRC_CHARS)


def make_key(mode: Mode, random_below: Callable[[int], int]) -> str:
    """Make a new key. `random_below(n)` gives a cryptographically random integer in [0, n)."""
    key_id = "".join(_ALPHABET[random_below(62)] for _ in range(ID_CHARS))
    secret = "".join(_ALPHABET[random_below(62)] for _ in range(SECRET_CHARS))
    body = f"ve_{mode}_{key_id}_{secret}"
    return body + _checksum(body.encode("ascii"))


def has_our_prefix(presented: bytes) -> bool:
    return presented.startswith(PREFIXES)


def parse_key(presented: bytes) -> ParsedKey | None:
    """Take a key of our format apart; None when the format or its checksum is wrong."""
    match = _KEY.fullmatch(presented)
    if match is None or _checksum(presented[:-CRC_CHARS]).encode("ascii") != match[4]:
        return None
    return ParsedKey(match[1].decode("ascii"), match[2].decode("ascii"))


def digest(presented: bytes, pepper_version: int, pepper: bytes) -> str:
    """Give the stored form of a key: `v<version>:<hex HMAC-SHA256>` (RFC 2104)."""
    return f"v{pepper_version}:{hmac.new(pepper, presented, hashlib.sha256).hexdigest()}"


def digest_version(stored: str) -> int:
    """Give the pepper's version of a digest; 0 for what is none."""
    match = _DIGEST_VERSION.match(stored)
    return int(match[1]) if match else 0


def renewal_proof(pepper: bytes, tenant_id: str, key_id: str, old: str, new: str) -> str:
    """Prove that whoever moves a key from one digest to another holds the new digest's pepper.

    It begins with NUL, which no key that is presented or imported can contain: no digest of a key is ever a proof.
    """
    said = f"\0renewal\0{tenant_id}\0{key_id}\0{old}\0{new}"
    return hmac.new(pepper, said.encode(), hashlib.sha256).hexdigest()


def proves_renewal(proof: str, pepper: bytes, tenant_id: str, key_id: str, old: str, new: str) -> bool:
    """Compare in constant time."""
    made = renewal_proof(pepper, tenant_id, key_id, old, new)
    return hmac.compare_digest(made.encode("ascii"), proof.encode("utf-8", "replace"))


def parse_peppers(text: str) -> Mapping[int, bytes]:
    """Read `KEY_PEPPERS`: `<version>:<hex, at least 32 bytes>`, comma-separated; the highest version is current.

    Raises ValueError naming what is wrong, never echoing the secret.
    """
    peppers: dict[int, bytes] = {}
    for index, item in enumerate(text.split(","), 1):
        version, colon, secret = item.strip().partition(":")
        if not colon or not version.isdigit() or not 1 <= int(version) <= 999:
            raise ValueError(f"entry {index} must be <version>:<hex> with a version from 1 to 999")
        try:
            pepper = bytes.fromhex(secret)
        except ValueError:
            raise ValueError(f"entry {index} is not hexadecimal") from None
        if len(pepper) < 32:
            raise ValueError(f"entry {index} is shorter than 32 bytes (64 hex digits)")
        if int(version) in peppers:
            raise ValueError(f"version {version} appears twice")
        peppers[int(version)] = pepper
    return dict(sorted(peppers.items(), reverse=True))


def display(key: str) -> tuple[str, str]:
    """Give what may be shown of a key for ever: its prefix and its last four characters."""
    if has_our_prefix(key.encode("utf-8", "replace")):
        return key[: len("ve_live_") + ID_CHARS], key[-4:]
    return key[:4], key[-4:]
