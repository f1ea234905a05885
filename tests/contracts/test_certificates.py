"""Twin of contracts.certificates: PEM as tenants give it."""

from __future__ import annotations

import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519

from contracts import bounds
from contracts.certificates import (
    CertificateError,
    canonical_key,
    key_fits,
    lifetime,
    read_certificates,
    write_certificates,
)
from tests.origins.authority import Authority

CA = Authority()
LEAF = CA.issue("client.test")
FORMATS = serialization.PrivateFormat


def pem(key, how=FORMATS.PKCS8, encryption=None):
    return key.private_bytes(serialization.Encoding.PEM, how, encryption or serialization.NoEncryption()).decode()


def canonical(text: str, count: int = 8) -> str:
    return write_certificates(read_certificates(text, count))


def test_certificates_are_written_anew_in_their_order_without_what_stood_around_them():
    pasted = (
        f"subject=CN = client\r\n{LEAF.certificate.replace(chr(10), chr(13) + chr(10))}\n# the CA\n{CA.certificate}"
    )
    assert canonical(pasted) == LEAF.certificate + CA.certificate
    assert canonical(canonical(pasted)) == canonical(pasted)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "one or more certificates"),
        ("nonsense", "one or more certificates"),
        (LEAF.certificate.replace("M", "N", 5), "one or more certificates"),
        (LEAF.certificate[:-60], "one or more certificates"),
        (LEAF.certificate + LEAF.key, "private key; only certificates"),
        (LEAF.certificate * 9, "at most 8"),
        (" " * (bounds.PEM_CHARS_MAX + 1), "65536 characters"),
        ("ä\ud800", "one or more certificates"),
    ],
)
def test_what_is_no_certificate_is_refused_and_not_quoted(text, complaint):
    with pytest.raises(CertificateError, match=complaint) as caught:
        canonical(text)
    assert LEAF.key.splitlines()[1] not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        pem(rsa.generate_private_key(65537, 2048), FORMATS.TraditionalOpenSSL),
        pem(ec.generate_private_key(ec.SECP384R1()), FORMATS.TraditionalOpenSSL),
        pem(ed25519.Ed25519PrivateKey.generate()),
        LEAF.key.replace("\n", "\r\n"),
    ],
)
def test_a_key_is_kept_in_one_form(key):
    kept = canonical_key(key)
    assert kept.startswith("-----BEGIN PRIVATE KEY-----\n")
    assert canonical_key(kept) == kept


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("", "must be a private key"),
        ("nonsense", "must be a private key"),
        (LEAF.certificate, "must be a private key"),
        (pem(rsa.generate_private_key(65537, 1024)), "at least 2048 bits"),
        (pem(dsa.generate_private_key(2048)), "RSA, EC or EdDSA"),
        (pem(x25519.X25519PrivateKey.generate()), "RSA, EC or EdDSA"),
        (
            pem(ec.generate_private_key(ec.SECP256R1()), encryption=serialization.BestAvailableEncryption(b"pass")),
            "is encrypted",
        ),
        ("x" * (bounds.PEM_CHARS_MAX + 1), "65536 characters"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_and_not_quoted(key, complaint):
    with pytest.raises(CertificateError, match=complaint) as caught:
        canonical_key(key)
    assert all(line not in str(caught.value) for line in key.splitlines()[1:2])


def test_a_key_fits_the_first_certificate_or_none():
    assert key_fits(LEAF.key, LEAF.certificate + CA.certificate)
    assert not key_fits(LEAF.key, CA.certificate + LEAF.certificate)
    assert not key_fits(CA.issue("other.test").key, LEAF.certificate)


def test_a_lifetime_is_the_leafs():
    begins, ends = lifetime(CA.issue("client.test", days=1, from_days=-1).certificate)
    assert begins < time.time() < ends
    assert ends - begins == pytest.approx(2 * 86_400)
