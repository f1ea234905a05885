"""A certificate authority for tests: certificates of servers and clients, and servers that ask for them.

Keys are P-256, made in a moment; everything is PEM text.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Identity:
    certificate: str
    key: str

    def file(self, folder: Path) -> Path:
        path = folder / f"{abs(hash(self.certificate))}.pem"
        path.write_text(self.certificate + self.key)
        return path


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    def __init__(self, name: str = "Our own CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = self._signed(self._name, self._key, 3650, ca=True)

    def issue(self, *names: str, days: float = 30, from_days: float = -365) -> Identity:
        """`days` from now it ends: negative for one that has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Identity(self._signed(_name(names[0]), key, days, names, from_days=from_days), pem_of(key))

    def _signed(self, subject, key, days, names=(), *, ca=False, from_days=-365.0) -> str:
        now = dt.datetime.now(dt.UTC)
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=from_days))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(authority_key, critical=False)
        )
        if ca:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def server_context(identity: Identity, folder: Path, *, clients: Authority | None = None) -> ssl.SSLContext:
    """`clients`: ask for a certificate of this authority, and refuse who has none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.file(folder))
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients.certificate)
    return context


def behind(context: ssl.SSLContext, behaviour: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """Put TLS before a behaviour of tests.origins.misbehaving."""

    def behave(sock: socket.socket) -> None:
        try:
            with context.wrap_socket(sock, server_side=True) as wrapped:
                behaviour(wrapped)
        except (ssl.SSLError, OSError):
            sock.close()

    return behave
