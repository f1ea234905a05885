"""Public keys that verify signatures: sets of them, from a JWKS or from PEM, each bound to its algorithms.

In:    a JWKS document (RFC 7517 section 5) or PEM text; the algorithms somebody configured.
Out:   KeySet: the keys that may verify a token of this algorithm and key id.
Laws:  1. The key says which algorithms it is for, never the token (RFC 8725 section 3.1): a key of another type, size
       or curve is not in the set. 2. A key id is for looking up and for nothing else. 3. Keys nobody should use are
       skipped, so that an issuer may publish others beside them; a document without one usable key is refused.
       4. Bounded: keys in a set, bits of a key.
Not here: fetching and keeping (edge.net), what tokens say (contracts.tokens).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeGuard

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from contracts.public_keys import (
    RSA_BITS_MAX,
    RSA_BITS_MIN,
    PublicKey,
    PublicKeyError,
    algorithms_of,
    read_public_keys,
)

_RSA_EXPONENT_BITS_MAX: Final = 33
KEYS_MAX: Final = 32
_P256_COORDINATE_BYTES: Final = 32
KEY_ID: Final = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,256}")
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
# What a JWK's own `alg` allows; RFC 9864 gave EdDSA over Ed25519 a second name.
_ALGORITHMS: Final = {"RS256": "RS256", "PS256": "PS256", "ES256": "ES256", "EdDSA": "EdDSA", "Ed25519": "EdDSA"}


class KeySetError(ValueError):
    """The document is not a set with a usable key; the message says why and may be logged."""


class KeySet:
    """Keys by algorithm and id. A new document makes a new set: what was believed by one is not believed by another."""

    __slots__ = ("_by_algorithm", "_by_name")

    def __init__(self, keys: Iterable[tuple[str | None, str, PublicKey]], *, nameless: bool = False) -> None:
        """`keys`: id, algorithm, key. `nameless`: the ids are unknown, so any id may be any key's."""
        by_algorithm: dict[str, list[PublicKey]] = {}
        self._by_name: dict[tuple[str, str], tuple[PublicKey, ...]] | None = None if nameless else {}
        for key_id, algorithm, key in keys:
            by_algorithm.setdefault(algorithm, []).append(key)
            if self._by_name is not None and key_id is not None:
                self._by_name[algorithm, key_id] = (key,)
        self._by_algorithm: Mapping[str, tuple[PublicKey, ...]] = {
            algorithm: tuple(found) for algorithm, found in by_algorithm.items()
        }

    def candidates(self, algorithm: str, key_id: str | None) -> Sequence[PublicKey]:
        """Give the keys that may have signed: of a JWKS the one that is named, or the only one there is."""
        found = self._by_algorithm.get(algorithm, ())
        if self._by_name is None:
            return found
        if key_id is None:
            return found if len(found) == 1 else ()
        return self._by_name.get((algorithm, key_id), ())

    def __len__(self) -> int:
        return sum(len(keys) for keys in self._by_algorithm.values())

    def __repr__(self) -> str:
        return f"<KeySet {len(self)} {'/'.join(sorted(self._by_algorithm))}>"


def read_jwks(document: bytes) -> list[tuple[str | None, str, PublicKey]]:
    """Give id, algorithm and key of all that can be used, at most KEYS_MAX. Raises KeySetError for what is no JWKS."""
    try:
        listed = json.loads(document)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeySetError("not a JWKS") from None
    found: list[tuple[str | None, str, PublicKey]] = []
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, dict) and len(found) < KEYS_MAX:
            found += _usable(item)
    return found


def parse_jwks(document: bytes, algorithms: Sequence[str]) -> KeySet:
    """Read the keys of these algorithms. Raises KeySetError when there is none."""
    keys = [entry for entry in read_jwks(document) if entry[1] in algorithms]
    if not keys:
        raise KeySetError(f"no usable key for {', '.join(algorithms)}")
    return KeySet(keys)


def parse_pem_keys(text: str, algorithms: Sequence[str]) -> KeySet:
    """Read one or more public keys. They have no ids: any of them may have signed. Raises KeySetError."""
    try:
        read = read_public_keys(text)
    except PublicKeyError as error:
        raise KeySetError(str(error)) from None
    fitting = [(None, algorithm, key) for key in read for algorithm in algorithms if algorithm in algorithms_of(key)]
    if not fitting:
        raise KeySetError(f"no usable PEM public key for {', '.join(algorithms)}")
    return KeySet(fitting, nameless=True)


def _usable(item: Mapping[str, object]) -> list[tuple[str | None, str, PublicKey]]:
    """RFC 7517 section 4: `use`, `key_ops` and `alg` say what a key is meant for; another purpose is not ours."""
    key_id, operations = item.get("kid"), item.get("key_ops")
    if item.get("use") not in (None, "sig") or not (key_id is None or is_key_id(key_id)):
        return []
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return []
    try:
        key = _key(item)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return []
    if key is None:
        return []
    meant, fitting = item.get("alg"), algorithms_of(key)
    if meant is not None:
        only = _ALGORITHMS.get(meant) if isinstance(meant, str) else None
        fitting = frozenset(algorithm for algorithm in fitting if algorithm == only)
    return [(key_id, algorithm, key) for algorithm in sorted(fitting)]


def is_key_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and KEY_ID.fullmatch(value) is not None


def _key(item: Mapping[str, object]) -> PublicKey | None:
    """RFC 7518 section 6, RFC 8037 section 2. Raises ValueError, TypeError; None for a key we do not take."""
    kind, curve = item.get("kty"), item.get("crv")
    if kind == "RSA":
        exponent, modulus = _number(item.get("e")), _number(item.get("n"))
        if exponent.bit_length() > _RSA_EXPONENT_BITS_MAX or not RSA_BITS_MIN <= modulus.bit_length() <= RSA_BITS_MAX:
            return None
        return RSAPublicNumbers(exponent, modulus).public_key()
    if kind == "EC" and curve == "P-256":
        x, y = _octets(item.get("x")), _octets(item.get("y"))
        if len(x) != _P256_COORDINATE_BYTES or len(y) != _P256_COORDINATE_BYTES:
            return None
        numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1())
        return numbers.public_key()
    if kind == "OKP" and curve == "Ed25519":
        return Ed25519PublicKey.from_public_bytes(_octets(item.get("x")))
    return None


def _number(text: object) -> int:
    return int.from_bytes(_octets(text), "big")


def _octets(text: object) -> bytes:
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text.rstrip("=")):
        raise TypeError("not base64url")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError("not base64url") from None
