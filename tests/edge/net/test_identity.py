"""Twin of edge.net.identity: real keys, sealed as the control plane seals them."""

from __future__ import annotations

import logging
import os

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from contracts import identity, sealing
from contracts.snapshot import identity_key_place
from edge.errors import GatewayError
from edge.net import identity as net_identity
from edge.net.identity import IdentitySigner
from edge.snapshot import compile_snapshot
from tests.edge.fakes import a_route, a_snapshot

KEYS = sealing.parse_keys("1:" + "5a" * 32)
KEY = ec.generate_private_key(ec.SECP256R1())


def der(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def sealed(secret: bytes, kid: str = "kid-1", tenant: str = "tenant", belongs_to: str | None = None):
    place = identity_key_place(tenant, kid)
    text = sealing.seal(KEYS, secret, place, os.urandom(12))
    return identity.SigningKey(kid, text, place if belongs_to is None else identity_key_place(belongs_to, kid))


def refused(signer: IdentitySigner, key: identity.SigningKey) -> str:
    with pytest.raises(GatewayError) as error:
        signer.sign(key, b"message")
    assert error.value.problem.slug == "identity-unavailable"
    return error.value.internal


def test_a_signature_is_r_and_s_and_the_public_key_verifies_it():
    """RFC 7518 section 3.4: "the resulting octet sequence is the concatenation of R and S", 64 octets."""
    signer = IdentitySigner(KEYS, "example.com")
    key = sealed(der(KEY))
    for _ in range(300):  # a half that begins with zeros comes once in 256
        signature = signer.sign(key, b"message")
        assert len(signature) == identity.SIGNATURE_BYTES
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        KEY.public_key().verify(encode_dss_signature(r, s), b"message", ec.ECDSA(SHA256()))
    assert (signer.signed_total, signer.errors_total) == (300, 0)


def test_the_issuer_is_the_host_the_tenant_lives_at():
    tenant = compile_snapshot(a_snapshot(a_route(), subdomain="demo"))
    assert IdentitySigner({}, "example.com").issuer(tenant) == "https://demo.example.com"


def test_a_key_is_opened_once(monkeypatch):
    signer, key = IdentitySigner(KEYS, "example.com"), sealed(der(KEY))
    signer.sign(key, b"1")
    monkeypatch.setattr(net_identity, "open_sealed", None)
    signer.sign(key, b"2")


@pytest.mark.parametrize(
    ("key", "keys", "reason"),
    [
        (sealed(der(KEY), belongs_to="another tenant"), KEYS, "belongs elsewhere"),
        (sealed(der(KEY)), sealing.parse_keys("2:" + "6b" * 32), "not among the sealing keys"),
        (sealed(der(KEY)), {}, "not among the sealing keys"),
        (identity.SigningKey("kid-1", "clear text", b""), KEYS, "not a sealed secret"),
        (sealed(b"no key"), KEYS, ""),
        (sealed(der(ec.generate_private_key(ec.SECP384R1()))), KEYS, "not a key of P-256"),
        (sealed(der(ed25519.Ed25519PrivateKey.generate())), KEYS, "not a key of P-256"),
    ],
)
def test_a_key_that_cannot_be_opened_refuses_each_request_and_is_said_once(key, keys, reason, caplog):
    signer = IdentitySigner(keys, "example.com")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert reason in refused(signer, key)
    assert [record.getMessage().startswith("identity key kid-1 cannot be used") for record in caplog.records] == [True]
    assert (signer.errors_total, signer.signed_total) == (3, 0)


def test_one_that_does_not_open_stands_in_no_others_way():
    signer = IdentitySigner(KEYS, "example.com")
    refused(signer, sealed(der(KEY), belongs_to="another tenant"))
    assert signer.sign(sealed(der(KEY)), b"message")


def test_opened_keys_are_bounded_and_the_key_in_use_stays(monkeypatch):
    monkeypatch.setattr(net_identity, "_KEYS_MAX", 3)
    signer, used = IdentitySigner(KEYS, "example.com"), sealed(der(KEY))
    for number in range(10):
        signer.sign(used, b"message")
        signer.sign(sealed(der(KEY), f"kid-{number}"), b"message")
    assert repr(signer) == "<IdentitySigner 3 keys>"
    assert used in signer._opened
