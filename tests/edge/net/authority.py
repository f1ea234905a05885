"""Certificates for tests: each is its own root, so that whoever holds its file can verify it."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def make(*names: str, days: float = 1.0, password: bytes | None = None) -> tuple[bytes, bytes]:
    """Give (certificate, key) as PEM. A name that is an IP address becomes one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "common.example")])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return (
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def put(folder: Path, pair: str, *names: str, **more) -> Path:
    """Write a pair into a folder as an operator should: each file at once. Gives the certificate's path."""
    certificate, key = make(*names, **more)
    for suffix, octets in (("key", key), ("crt", certificate)):
        fresh = folder / f".{pair}.{suffix}"
        fresh.write_bytes(octets)
        fresh.replace(folder / f"{pair}.{suffix}")
    return folder / f"{pair}.crt"
