"""Public keys as PEM, and which signature algorithm each can verify.

In:    PEM text as a person pasted it; names of algorithms (RFC 7518 section 3.1, RFC 8037).
Out:   keys; PEM in one canonical form; PublicKeyError for a person.
Laws:  1. Everything is parsed and written anew. 2. A private key is refused, not stored. 3. The key says which
       algorithms it is for, never the token (RFC 8725 section 3.1). 4. No message quotes what was given.
Not here: JSON Web Key Sets, verifying.
"""

from __future__ import annotations

import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from contracts import bounds

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
RSA_BITS_MIN: Final = 2_048
RSA_BITS_MAX: Final = 8_192
"""Verifying costs with the square of the length: nobody may make every request dear."""
_BLOCK: Final = re.compile(r"-----BEGIN ((?:RSA )?PUBLIC KEY)-----[^-]*-----END \1-----")


class PublicKeyError(ValueError):
    """The PEM is refused; the message is for the person who gave it."""


def read_public_keys(pem: str) -> tuple[PublicKey, ...]:
    """Read one or more keys in their order. Raises PublicKeyError."""
    if len(pem) > bounds.PEM_CHARS_MAX:
        raise PublicKeyError(f"must be at most {bounds.PEM_CHARS_MAX} characters")
    if "PRIVATE KEY-----" in pem:
        raise PublicKeyError("holds a private key; only public keys belong here")
    blocks = [match[0] for match in _BLOCK.finditer(pem)]
    if not blocks or len(blocks) != pem.count("-----BEGIN "):
        raise PublicKeyError("must be one or more public keys in PEM")
    if len(blocks) > bounds.PUBLIC_KEYS_MAX:
        raise PublicKeyError(f"must hold at most {bounds.PUBLIC_KEYS_MAX} keys")
    return tuple(_key(block) for block in blocks)


def _key(block: str) -> PublicKey:
    try:
        key = load_pem_public_key(block.encode("utf-8", "replace"))
    except (ValueError, UnsupportedAlgorithm):
        raise PublicKeyError("must be one or more public keys in PEM") from None
    if isinstance(key, rsa.RSAPublicKey):
        if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
            raise PublicKeyError(f"must have from {RSA_BITS_MIN} to {RSA_BITS_MAX} bits where it is RSA")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise PublicKeyError("must be RSA, EC on P-256, or Ed25519")


def write_public_keys(keys: tuple[PublicKey, ...]) -> str:
    form = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    return "".join(key.public_bytes(*form).decode("ascii") for key in keys)


def algorithms_of(key: PublicKey) -> frozenset[str]:
    """Give the algorithms whose signatures a key can verify."""
    if isinstance(key, rsa.RSAPublicKey):
        return frozenset({"RS256", "PS256"})
    if isinstance(key, ec.EllipticCurvePublicKey):
        return frozenset({"ES256"})
    return frozenset({"EdDSA"})
