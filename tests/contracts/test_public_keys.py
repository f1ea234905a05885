"""Twin of contracts.public_keys: what may verify tokens, and with which algorithms."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from contracts import bounds
from contracts.public_keys import PublicKeyError, algorithms_of, read_public_keys, write_public_keys

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(private, form=PublicFormat.SubjectPublicKeyInfo) -> str:
    return private.public_key().public_bytes(Encoding.PEM, form).decode()


def test_keys_come_in_their_order_and_out_in_one_form():
    pasted = "# ours\r\n" + pem(RSA, PublicFormat.PKCS1).replace("\n", "\r\n") + "\n\n" + pem(EC) + pem(ED)
    keys = read_public_keys(pasted)
    assert write_public_keys(keys) == pem(RSA) + pem(EC) + pem(ED)
    assert [algorithms_of(key) for key in keys] == [{"RS256", "PS256"}, {"ES256"}, {"EdDSA"}]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "one or more public keys in PEM"),
        ("ssh-ed25519 AAAA", "one or more public keys in PEM"),
        (pem(RSA).replace("END PUBLIC", "END RSA PUBLIC"), "one or more public keys in PEM"),
        (pem(RSA)[:100] + pem(RSA), "one or more public keys in PEM"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "one or more public keys in PEM"),
        (pem(RSA) + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "one or more public keys"),
        (pem(EC) * (bounds.PUBLIC_KEYS_MAX + 1), f"at most {bounds.PUBLIC_KEYS_MAX} keys"),
        ("x" * (bounds.PEM_CHARS_MAX + 1), "at most 65536 characters"),
        (pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "from 2048 to 8192 bits"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "RSA, EC on P-256, or Ed25519"),
        (pem(ed448.Ed448PrivateKey.generate()), "RSA, EC on P-256, or Ed25519"),
    ],
)
def test_what_may_not_verify_tokens_is_refused(text, word):
    with pytest.raises(PublicKeyError, match=word):
        read_public_keys(text)


def test_a_private_key_is_refused_and_not_quoted():
    private = EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(PublicKeyError, match="holds a private key") as caught:
        read_public_keys(pem(EC) + private)
    assert private.splitlines()[1] not in str(caught.value)
