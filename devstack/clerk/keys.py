"""The instance's signing key: kept in a file, shown as a JWKS, rotated on demand.

In:    a folder.
Out:   signed JWTs (and what looks like them), the JWKS document, the PEM of the public key.
Laws:  1. RS256 with 2048 bits; the kid is the instance's id, as in the real service, so a rotation may keep it.
       2. The private key is in a file that only we can read.
Not here: what the tokens say (tokens).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from devstack.clerk.people import INSTANCE_ID


class SigningKeys:
    """The current private key, and the keys the JWKS still lists."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = folder / "signing-key.pem"
        self._state = folder / "signing-key.json"
        self.key_id = INSTANCE_ID
        self._private = self._load() or self._replace(INSTANCE_ID)
        self._listed: dict[str, rsa.RSAPublicKey] = {self.key_id: self._private.public_key()}

    def _load(self) -> rsa.RSAPrivateKey | None:
        try:
            # Our own file: to check the primes anew takes longer than the rest of the start.
            pem = self._file.read_bytes()
            key = serialization.load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
            self.key_id = str(json.loads(self._state.read_text())["kid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # missing or half-written: a new one does no harm here
        return key if isinstance(key, rsa.RSAPrivateKey) else None

    def _replace(self, key_id: str) -> rsa.RSAPrivateKey:
        key = new_key()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _write_private(self._file, pem)
        _write_private(self._state, json.dumps({"kid": key_id}).encode())
        self.key_id = key_id
        return key

    def rotate(self, *, same_key_id: bool) -> None:
        """Replace the key: under the same kid (the old key is gone at once), or under a new one (both are listed)."""
        key_id = INSTANCE_ID if same_key_id else f"{INSTANCE_ID[:-4]}{os.urandom(2).hex()}"
        self._private = self._replace(key_id)
        if same_key_id:
            self._listed = {}
        self._listed[key_id] = self._private.public_key()

    def retire(self) -> None:
        """List the current key alone: what older ones signed is believed no longer."""
        self._listed = {self.key_id: self._private.public_key()}

    def sign(self, claims: Mapping[str, Any], header: Mapping[str, Any], key: rsa.RSAPrivateKey | None = None) -> str:
        """Sign with the current key, or with another to make a forgery."""
        return jwt.encode(dict(claims), key or self._private, "RS256", headers={"kid": self.key_id, **header})

    def sign_text(self, header: str, claims: str) -> str:
        """Sign two texts as they are, for what no library would write (RFC 7515 section 5.1)."""
        signed = f"{part(header.encode())}.{part(claims.encode())}"
        return f"{signed}.{part(self._private.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def sign_as(self, algorithm: str, claims: Mapping[str, Any], header: Mapping[str, Any]) -> str:
        """Sign with the current key by an algorithm that is not the instance's."""
        return jwt.encode(dict(claims), self._private, algorithm, headers={"kid": self.key_id, **header})

    def jwks(self) -> dict[str, Any]:
        return {
            "keys": [{"use": "sig", "kid": kid, "alg": "RS256", **public_jwk(key)} for kid, key in self._listed.items()]
        }

    def public_pem(self) -> str:
        pem = self._private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem.decode()


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def public_jwk(key: rsa.RSAPublicKey) -> dict[str, str]:
    """Give the members of RFC 7518 section 6.3.1."""
    numbers = key.public_numbers()
    return {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}


def part(content: bytes) -> str:
    """Give base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _number(number: int) -> str:
    return part(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _write_private(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    temporary.replace(path)
