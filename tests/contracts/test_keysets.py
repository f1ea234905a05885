"""Which public keys are taken, and for what (contracts.keysets)."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from contracts import keysets
from contracts.keysets import KeySetError, parse_jwks, parse_pem_keys
from tests.forging import EC, ED, EVIL, RSA, jwk, jwks, pem

ALL = ("RS256", "PS256", "ES256", "EdDSA")
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
P384 = ec.generate_private_key(ec.SECP384R1())


def algorithms(item):
    return {algorithm for _, algorithm, _ in keysets.read_jwks(jwks(item))}


@pytest.mark.parametrize(
    ("key", "fits"), [(RSA, {"RS256", "PS256"}), (EC, {"ES256"}), (ED, {"EdDSA"})], ids=["RSA", "P-256", "Ed25519"]
)
def test_a_key_is_for_the_algorithms_of_its_kind_and_its_own_word_narrows_them(key, fits):
    """RFC 8725 section 3.1: "each key MUST be used with exactly one algorithm" family; never what a token says."""
    assert algorithms(jwk(key, "k")) == fits
    for name in ALL:
        assert algorithms(jwk(key, "k", alg=name)) == fits & {name}
    assert algorithms(jwk(key, "k", alg="RS512")) == algorithms(jwk(key, "k", alg=7)) == set()


def test_the_newer_name_of_eddsa_over_ed25519_is_known():
    """RFC 9864 section 2.2: Ed25519."""
    assert algorithms(jwk(ED, "k", alg="Ed25519")) == {"EdDSA"}


def test_a_set_finds_the_one_key_that_is_named():
    keys = parse_jwks(jwks(jwk(RSA, "a"), jwk(EC, "a"), jwk(ED, "b")), ALL)
    assert [len(keys.candidates(name, "a")) for name in ALL] == [1, 1, 1, 0]
    assert keys.candidates("ES256", "a")[0].public_numbers() == EC.public_key().public_numbers()
    assert keys.candidates("EdDSA", "c") == keys.candidates("none", "a") == ()
    assert (len(keys), repr(keys)) == (4, "<KeySet 4 ES256/EdDSA/PS256/RS256>")


def test_without_a_name_only_a_lone_key_is_found():
    assert len(parse_jwks(jwks(jwk(EC, "a"), jwk(RSA, "b")), ALL).candidates("ES256", None)) == 1
    assert parse_jwks(jwks(jwk(EC, "a"), jwk(EVIL["ES256"], "b")), ALL).candidates("ES256", None) == ()
    nameless = parse_jwks(jwks(jwk(EC, None)), ALL)
    assert (len(nameless.candidates("ES256", None)), nameless.candidates("ES256", "a")) == (1, ())


def test_only_the_configured_algorithms_are_in_a_set():
    keys = parse_jwks(jwks(jwk(RSA, "a"), jwk(EC, "a")), ("PS256",))
    assert (len(keys), len(keys.candidates("PS256", "a")), keys.candidates("ES256", "a")) == (1, 1, ())
    with pytest.raises(KeySetError, match="no usable key for EdDSA"):
        parse_jwks(jwks(jwk(RSA, "a"), jwk(EC, "a")), ("EdDSA",))


UNFIT = (
    {}, {"kty": "oct", "k": "c2VjcmV0", "kid": "k"}, {"kty": "RSA", "kid": "k"}, jwk(SMALL, "k"), jwk(P384, "k"),
    jwk(RSA, "k", use="enc"), jwk(RSA, "k", key_ops=["encrypt"]), jwk(RSA, "k", key_ops="verify"),
    jwk(RSA, "k\n"), {**jwk(RSA, "k"), "kid": 7}, jwk(RSA, "k" * 257), jwk(EC, "k", crv="P-521"),
    jwk(EC, "k", x="AA"), jwk(EC, "k", y=jwk(EC, "k")["x"]), jwk(ED, "k", x="AA"), jwk(ED, "k", crv="Ed448"),
    jwk(ED, "k", x=7), jwk(RSA, "k", n="!!"), jwk(RSA, "k", e="AA"), jwk(RSA, "k", e="A"), jwk(RSA, "k", n="////"),
    jwk(RSA, "k", e=base64.urlsafe_b64encode(b"\x01" + bytes(8)).decode()),
    jwk(RSA, "k", n=base64.urlsafe_b64encode(b"\xff" * 2_000).decode()),
)  # fmt: skip


@pytest.mark.parametrize("bad", UNFIT, ids=range(len(UNFIT)))
def test_a_key_we_would_not_use_is_skipped_and_the_others_are_taken(bad):
    keys = parse_jwks(jwks(bad, jwk(EC, "good")), ALL)
    assert (len(keys), len(keys.candidates("ES256", "good"))) == (1, 1)


def test_a_key_whose_purpose_is_verifying_is_taken():
    assert algorithms(jwk(EC, "k", key_ops=["verify", "sign"])) == {"ES256"}


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"null", b"{}", b'{"keys": 1}', b'{"keys": {}}', b'{"keys": [1, "a", null]}', b"[" * 60_000, b"\xff"],
)
def test_what_is_no_key_set_is_refused(document):
    with pytest.raises(KeySetError):
        parse_jwks(document, ALL)


def test_a_set_is_bounded():
    many = json.dumps({"keys": [jwk(EC, f"k{number}") for number in range(100)]}).encode()
    assert len(parse_jwks(many, ALL)) == keysets.KEYS_MAX


def test_pem_keys_have_no_names_so_any_may_be_meant():
    keys = parse_pem_keys((pem(EC) + pem(EVIL["ES256"]) + pem(RSA)).decode(), ("ES256", "RS256"))
    assert len(keys.candidates("ES256", "whatever")) == len(keys.candidates("ES256", None)) == 2
    assert (len(keys.candidates("RS256", None)), keys.candidates("PS256", None)) == (1, ())


BROKEN = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"


PEMS = (
    "", "nonsense", BROKEN, "kéy", BROKEN.replace("A", "é"), pem(SMALL).decode(), pem(P384).decode(), pem(RSA).decode(),
    pem(ed448.Ed448PrivateKey.generate()).decode(),
)  # fmt: skip


@pytest.mark.parametrize("text", PEMS, ids=range(len(PEMS)))
def test_an_unfit_pem_is_refused(text):
    with pytest.raises(KeySetError):
        parse_pem_keys(text, ("ES256", "EdDSA"))
