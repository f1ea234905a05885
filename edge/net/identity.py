"""Signing identity tokens: private keys are opened here, and nowhere else at the edge.

In:    a snapshot's sealed key and where it belongs; the deployment's sealing keys.
Out:   signatures by ES256 (RFC 7518 section 3.4); GatewayError identity-unavailable.
Laws:  1. A key that was sealed for another tenant does not open. 2. What cannot be opened is tried once and said once
       in the log; each request that needs it is refused. 3. Opened keys are bounded and in no repr.
Not here: what is signed (edge.phases.identity), rotation (webapp.services.identity_keys).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_private_key

from contracts import identity
from contracts.sealing import SealingKeys, open_sealed
from edge.errors import GatewayError
from edge.snapshot import Tenant

_LOG: Final = logging.getLogger(__name__)
_KEYS_MAX: Final = 2_048
_ES256: Final = ECDSA(SHA256())
_HALF: Final = identity.SIGNATURE_BYTES // 2


class IdentitySigner:
    """ports.IdentitySigner. `signed_total` and `errors_total` are for the metrics."""

    def __init__(self, keys: SealingKeys, base_domain: str) -> None:
        self._keys = keys
        self._base_domain = base_domain
        self._opened: OrderedDict[identity.SigningKey, EllipticCurvePrivateKey | str] = OrderedDict()
        """The key, or why there is none."""
        self.signed_total = 0
        self.errors_total = 0

    def issuer(self, tenant: Tenant) -> str:
        return identity.issuer(f"{tenant.subdomain}.{self._base_domain}")

    def sign(self, key: identity.SigningKey, message: bytes) -> bytes:
        opened = self._opened.get(key)
        if opened is None:
            opened = self._opened[key] = self._open(key)
            if len(self._opened) > _KEYS_MAX:
                self._opened.popitem(last=False)
        else:
            self._opened.move_to_end(key)
        if isinstance(opened, str):
            self.errors_total += 1
            raise GatewayError(
                "identity-unavailable", "The gateway cannot vouch for the caller right now.",
                internal=f"identity key {key.kid}: {opened}",
            )  # fmt: skip
        r, s = decode_dss_signature(opened.sign(message, _ES256))
        self.signed_total += 1
        return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")

    def _open(self, key: identity.SigningKey) -> EllipticCurvePrivateKey | str:
        try:
            loaded = load_der_private_key(open_sealed(self._keys, key.sealed, key.belongs_to), None)
            if isinstance(loaded, EllipticCurvePrivateKey) and isinstance(loaded.curve, SECP256R1):
                return loaded
            reason = "it is not a key of P-256"
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # SealError among them
            reason = str(error) or type(error).__name__
        _LOG.error("identity key %s cannot be used, requests that need it are refused: %s", key.kid, reason)
        return reason

    def __repr__(self) -> str:
        return f"<IdentitySigner {len(self._opened)} keys>"
