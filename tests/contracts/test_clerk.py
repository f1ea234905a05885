"""The attack matrix of a session token, against keys made here."""

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from contracts import clerk

ISSUER = "https://clerk.example.com"
NOW = 1_800_000_000.0
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS = {"ins_1": KEY.public_key()}
EXPECTED = clerk.Expectation(issuer=ISSUER, authorized_parties=("https://console.example.com",))


def claims(**changes):
    values = {
        "iss": ISSUER,
        "sub": "user_2alice",
        "sid": "sess_2alice",
        "iat": NOW - 5,
        "nbf": NOW - 15,
        "exp": NOW + 55,
        "azp": "https://console.example.com",
        "v": 2,
        "sts": "active",
        "o": {"id": "org_2demo", "slg": "demo-company", "rol": "admin"},
    }
    values.update(changes)
    return {name: value for name, value in values.items() if value is not None}


def token(payload=None, key=KEY, algorithm="RS256", **header):
    headers = {"kid": "ins_1", "cat": "cl_B7d4PD111AAA", **header}
    headers = {name: value for name, value in headers.items() if value is not None}
    return jwt.encode(claims() if payload is None else payload, key, algorithm=algorithm, headers=headers)


def verify(text, expected=EXPECTED, now=NOW):
    return clerk.verify_session(text, KEYS, expected, now)


def refused(text, expected=EXPECTED, now=NOW):
    with pytest.raises(clerk.SessionRefused) as caught:
        verify(text, expected, now)
    return caught.value.reason


def test_a_good_version_2_token_is_believed():
    session = verify(token())
    assert session.user_id == "user_2alice"
    assert session.session_id == "sess_2alice"
    assert (session.org_id, session.org_slug, session.org_role) == ("org_2demo", "demo-company", "org:admin")
    assert session.expires_at == NOW + 55
    assert session.actor is None


def test_a_good_version_1_token_is_believed():
    payload = claims(
        v=None, o=None, org_id="org_2demo", org_slug="demo", org_role="org:member", org_permissions=["org:a:read", 7]
    )
    session = verify(token(payload))
    assert (session.org_id, session.org_slug, session.org_role) == ("org_2demo", "demo", "org:member")
    assert session.org_permissions == ("org:a:read",)


def test_a_session_without_an_organisation_has_none():
    session = verify(token(claims(o=None)))
    assert (session.org_id, session.org_role, session.org_permissions) == (None, None, ())


def test_compact_permissions_are_one_mask_over_the_verbs_for_each_organisation_feature():
    payload = claims(
        fea="o:dashboard,u:profile,o:teams", o={"id": "org_1", "rol": "org:admin", "per": "manage,read", "fpm": "3,2"}
    )
    assert verify(token(payload)).org_permissions == ("org:dashboard:manage", "org:dashboard:read", "org:teams:read")


def test_a_broken_permission_mask_grants_nothing():
    payload = claims(fea="o:dashboard", o={"id": "org_1", "per": "manage", "fpm": "x"})
    session = verify(token(payload))
    assert session.org_permissions == ()
    assert session.org_role is None


def test_impersonation_and_email_are_carried():
    session = verify(token(claims(act={"sub": "user_2root"}, email="alice@example.com")))
    assert (session.actor, session.email) == ("user_2root", "alice@example.com")


@pytest.mark.parametrize("missing", ["exp", "iat", "nbf", "sub", "iss", "sid"])
def test_a_token_without_a_required_claim_is_refused(missing):
    assert refused(token(claims(**{missing: None}))) == "token-invalid"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://evil.example"}, "token-invalid-issuer"),
        ({"iss": ISSUER + "/"}, "token-invalid-issuer"),
        ({"sub": "mch_1"}, "token-type-mismatch"),
        ({"sid": "tok_1"}, "token-type-mismatch"),
        ({"azp": "https://evil.example"}, "token-invalid-authorized-parties"),
        ({"sts": "pending"}, "session-pending"),
        ({"v": 3}, "token-invalid"),
        ({"cnf": {"jkt": "x"}}, "token-invalid"),
        ({"exp": NOW - 6}, "session-token-expired"),
        ({"nbf": NOW + 6}, "session-token-nbf"),
        ({"nbf": NOW - 1, "iat": NOW + 6}, "session-token-iat-in-the-future"),
        ({"exp": NOW + 100_000}, "token-invalid"),
        ({"exp": True}, "token-invalid"),
        ({"exp": float("nan")}, "token-invalid"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_reason(changes, reason):
    assert refused(token(claims(**changes))) == reason


def test_five_seconds_of_skew_are_forgiven():
    verify(token(claims(exp=NOW - 4)))
    verify(token(claims(nbf=NOW + 4, iat=NOW + 4)))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"typ": "at+jwt"}, "token-type-mismatch"),
        ({"cat": "cl_B7d4PD222AAA"}, "token-type-mismatch"),
        ({"cat": "cl_B7d4PD333AAA"}, "token-type-mismatch"),
        ({"crit": ["exp"]}, "token-invalid"),
        ({"kid": None}, "jwk-kid-mismatch"),
        ({"kid": "ins_2"}, "jwk-kid-mismatch"),
        ({"kid": "k" * 300}, "jwk-kid-mismatch"),
    ],
)
def test_a_wrong_header_is_refused_with_its_reason(header, reason):
    assert refused(token(**header)) == reason


def test_header_key_sources_are_ignored():
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(OTHER_KEY.public_key()))
    forged = token(key=OTHER_KEY, jwk=jwk, jku="https://evil.example/jwks.json")
    assert refused(forged) == "token-invalid-signature"


def _segment(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_other_algorithms_are_refused():
    public_pem = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header = {"alg": "none", "kid": "ins_1"}
    assert refused(f"{_segment(header)}.{_segment(claims())}.") == "token-invalid-algorithm"
    assert refused(token(key=b"s" * 64, algorithm="HS256")) == "token-invalid-algorithm"
    assert public_pem.startswith(b"-----BEGIN")
    assert refused(token(algorithm="RS512")) == "token-invalid-algorithm"


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c.d", "!.b.c", "x" * 9000, _segment([1]) + ".b.c"])
def test_what_is_no_token_is_refused(text):
    assert refused(text) == "token-invalid"


def test_duplicate_header_members_are_refused():
    header = base64.urlsafe_b64encode(b'{"alg":"RS256","kid":"ins_1","kid":"ins_2"}').rstrip(b"=").decode()
    assert refused(f"{header}.{_segment(claims())}.AAAA") == "token-invalid"


def test_a_payload_that_is_no_object_is_refused():
    header = _segment({"alg": "RS256", "kid": "ins_1"})
    assert refused(f"{header}.{_segment([1])}.AAAA") in ("token-invalid", "token-invalid-signature")


def test_a_cookie_must_name_an_authorised_party():
    strict = clerk.Expectation(ISSUER, ("https://console.example.com",), azp_required=True)
    assert refused(token(claims(azp=None)), strict) == "token-invalid-authorized-parties"
    verify(token(claims(azp=None)))


def test_a_wrong_signature_is_told_apart_because_it_is_worth_a_refresh():
    with pytest.raises(clerk.BadSignature):
        verify(token(key=OTHER_KEY))
    with pytest.raises(clerk.UnknownKey):
        verify(token(kid="ins_9"))


def jwk(key=KEY, **changes):
    values = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    values.pop("key_ops", None)
    return {**values, "kid": "ins_1", "use": "sig", "alg": "RS256", **changes}


def test_a_key_set_is_read():
    keys = clerk.parse_keyset(json.dumps({"keys": [jwk()]}).encode())
    assert keys["ins_1"].public_numbers() == KEY.public_key().public_numbers()


SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.mark.parametrize(
    "bad",
    [
        "text",
        jwk(kty="EC"),
        jwk(kid=7),
        jwk(use="enc"),
        jwk(alg="RS512"),
        jwk(n=None),
        jwk(e="!"),
        jwk(SMALL),
    ],
)
def test_keys_we_would_not_use_are_skipped(bad):
    good = jwk(kid="ins_good")
    assert list(clerk.parse_keyset(json.dumps({"keys": [bad, good]}).encode())) == ["ins_good"]


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 1}', b'{"keys": []}', b"[" * 100_000])
def test_what_is_no_key_set_is_refused(document):
    with pytest.raises(clerk.KeySetError):
        clerk.parse_keyset(document)


def pem(key):
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def test_a_pem_is_read_also_with_escaped_line_ends():
    assert clerk.parse_pem(pem(KEY)).key_size == 2048
    assert clerk.parse_pem(pem(KEY).replace("\n", "\\n")).key_size == 2048


@pytest.mark.parametrize("text", ["", "nonsense", "\u00e9", pem(SMALL), pem(ec.generate_private_key(ec.SECP256R1()))])
def test_an_unfit_pem_is_refused(text):
    with pytest.raises(clerk.KeySetError):
        clerk.parse_pem(text)


def test_a_publishable_key_names_its_host():
    encoded = base64.b64encode(b"127.0.0.1:8081$").decode().rstrip("=")
    assert clerk.frontend_api_host(f"pk_test_{encoded}") == "127.0.0.1:8081"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "pk_test",
        "pk_test_abcde",
        "pk_test_////",
        "sk_test_abc",
        "pk_dev_abc",
        "pk_test_!!!!",
        "pk_test_bG9jYWxob3N0JA==",
    ],
)
def test_a_broken_publishable_key_is_refused(key):
    with pytest.raises(ValueError, match=r"must look|not base64|not name"):
        clerk.frontend_api_host(key)


def test_a_header_alone_tells_which_key_it_wants_if_its_form_is_a_sessions():
    assert clerk.peek_key_id(token()) == "ins_1"
    head, payload, signature = token().split(".")
    bad = (f"{head}.{payload}", f"{head}.{payload}.{signature}.x", "é.a.b", f"{head}.{'x' * 9000}.y", "e30.e30.")
    for text in (*bad, token(typ="at+jwt"), token(kid=None), token(algorithm="RS512")):
        with pytest.raises(clerk.SessionRefused):
            clerk.peek_key_id(text)


def test_a_pinned_key_answers_to_any_kid():
    pinned = clerk.OneKey(KEY.public_key())
    assert clerk.verify_session(token(kid="ins_whatever"), pinned, EXPECTED, NOW).user_id == "user_2alice"
    assert (len(pinned), list(pinned)) == (1, [])
