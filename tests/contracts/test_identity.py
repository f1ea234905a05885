"""Identity tokens (contracts.identity): forms, against another implementation of the RFCs."""

import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from contracts import identity

KEY = ec.derive_private_key(7, ec.SECP256R1())


def test_a_key_that_another_reads_is_the_key_we_wrote():
    members = json.loads(identity.public_jwk(KEY.public_key(), "kid-1"))
    assert {name: members[name] for name in ("kty", "crv", "use", "alg", "kid")} == {
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "kid-1",
    }  # fmt: skip
    assert jwt.PyJWK(members).key.public_numbers() == KEY.public_key().public_numbers()
    assert "d" not in members


def test_a_coordinate_has_its_full_size_whatever_its_value():
    """RFC 7518 section 6.2.1.2: "The length of this octet string MUST be the full size of a coordinate"."""
    for scalar in range(1, 1_500):
        public = ec.derive_private_key(scalar, ec.SECP256R1()).public_key()
        point = public.public_numbers()
        if point.x < 1 << 248:
            break
    else:
        raise AssertionError("no small coordinate was found")
    assert len(json.loads(identity.public_jwk(public, "k"))["x"]) == 43


def test_only_a_key_of_p_256_signs_es256():
    """RFC 7518 section 3.4: ES256 is ECDSA using P-256 and SHA-256."""
    with pytest.raises(ValueError, match="P-256"):
        identity.public_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), "k")


def test_a_key_set_has_its_keys_in_order_and_an_empty_one_is_a_key_set_too():
    jwks = [identity.public_jwk(KEY.public_key(), kid) for kid in ("b", "a")]
    assert [key["kid"] for key in json.loads(identity.key_set(jwks))["keys"]] == ["b", "a"]
    assert identity.key_set([]) == b'{"keys":[]}'


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a":1}]', "1"])
def test_what_is_no_object_is_no_key(text):
    with pytest.raises(ValueError, match="not a JWK"):
        identity.key_set([text])


def test_a_token_is_one_that_another_verifies_with_the_published_key():
    claims = {"sub": "user_ä\ud800\r\n", "exp": 4_000_000_000, "aud": "origin"}
    signed = identity.signing_input("kid-1", claims)
    signature = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(signed, KEY)
    token = identity.token(signed, signature)
    assert token.isascii()
    assert b"=" not in token
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": "kid-1", "typ": "vantage-identity+jwt"}
    published = jwt.PyJWK(json.loads(identity.public_jwk(KEY.public_key(), "kid-1")))
    assert jwt.decode(token, published, algorithms=["ES256"], audience="origin") == claims
    assert json.loads(identity.claims_of(signed)) == claims


def test_whoever_keeps_a_key_set_as_long_as_it_says_has_a_key_before_it_signs_and_after():
    assert identity.LEAD_S >= identity.JWKS_MAX_AGE_S + 60
    assert identity.RETIRED_S >= identity.LIFE_S + 60
    assert identity.LIFE_S - identity.REUSE_S >= 30


def test_an_issuer_is_the_tenants_own_host():
    assert identity.issuer("demo.example.com") == "https://demo.example.com"
