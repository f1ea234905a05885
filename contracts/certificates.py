"""Certificates and private keys as PEM: what a tenant may give, in one canonical form.

In:    PEM text as a person pasted it.
Out:   PEM of certificates alone, PEM of an unencrypted PKCS #8 key, facts about them; CertificateError for a person.
Laws:  1. Everything is parsed and written anew: nothing that was pasted around it is kept, and what is stored means the
       same to every reader. 2. A private key among certificates is refused, not stored. 3. No message quotes what was
       given. 4. Sizes and numbers are bounded by contracts.bounds.
Not here: who is trusted (edge.net.origin_tls), keeping the key secret (contracts.sealing).
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from contracts import bounds

_RSA_BITS_MIN: Final = 2_048
_Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
_SPKI: Final = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class CertificateError(ValueError):
    """The PEM is refused; the message is for the person who gave it."""


def read_certificates(pem: str, certificates_max: int) -> tuple[x509.Certificate, ...]:
    """Read one or more certificates in their order. Raises CertificateError."""
    _check_size(pem)
    if "PRIVATE KEY-----" in pem:
        raise CertificateError("holds a private key; only certificates belong here")
    try:
        found = x509.load_pem_x509_certificates(pem.encode("utf-8", "replace"))
        for certificate in found:
            certificate.public_key()
            _ = certificate.extensions
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError("must be one or more certificates in PEM") from None
    if len(found) > certificates_max:
        raise CertificateError(f"must hold at most {certificates_max} certificates")
    return tuple(found)


def write_certificates(certificates: tuple[x509.Certificate, ...]) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in certificates)


def canonical_key(pem: str) -> str:
    """Give a private key as unencrypted PKCS #8. Raises CertificateError."""
    _check_size(pem)
    try:
        key = load_pem_private_key(pem.encode("utf-8", "replace"), password=None)
    except TypeError:
        raise CertificateError("is encrypted; give it without a passphrase (it is stored sealed)") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError("must be a private key in PEM") from None
    if not isinstance(key, _Key):
        raise CertificateError("must be an RSA, EC or EdDSA key")
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _RSA_BITS_MIN:
        raise CertificateError(f"must have at least {_RSA_BITS_MIN} bits")
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def key_fits(key_pem: str, certificate_pem: str) -> bool:
    """Tell whether a key is the one of the first certificate. Both canonical."""
    key = load_pem_private_key(key_pem.encode("ascii"), password=None)
    leaf = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
    return key.public_key().public_bytes(*_SPKI) == leaf.public_key().public_bytes(*_SPKI)


def lifetime(certificate_pem: str) -> tuple[float, float]:
    """Give the first certificate's notBefore and notAfter, in seconds since 1970."""
    leaf = x509.load_pem_x509_certificate(certificate_pem.encode("ascii"))
    return leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()


def _check_size(pem: str) -> None:
    if len(pem) > bounds.PEM_CHARS_MAX:
        raise CertificateError(f"must be at most {bounds.PEM_CHARS_MAX} characters")
