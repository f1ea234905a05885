"""What a signed token says and when it is believed (contracts.tokens): the attack matrix on each verifier."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import clerk, keysets, tokens
from contracts.tokens import Terms, TokenRefused
from tests import forging
from tests.forging import AUDIENCE, CLERK, GONE, MINTS, OUR_MACHINE, PARTY

NOW = 1_800_000_000.0
EXPECTED = clerk.Expectation(CLERK, (PARTY,), machine_id=OUR_MACHINE)
INSTANCE = {"ins_1": forging.RSA.public_key()}
CLERKS = {
    "session": clerk.believe_session, "access-clerk": clerk.believe_access, "machine": clerk.believe_machine,
}  # fmt: skip
# Whose tenant a token opens is decided at the edge.
AT_THE_EDGE = {"another organisation", "no organisation", "its organisation in the words of version 1 only",
               "a machine of another tenant", "the category of a machine of Clerk"}  # fmt: skip
MATRIX = [row for row in forging.matrix() if row[1] not in AT_THE_EDGE]


def believe(name, token, now=NOW):
    mint = MINTS[name]
    apart = tokens.take_apart(token.encode())
    if name in CLERKS:
        return CLERKS[name](apart, INSTANCE, EXPECTED, now)
    form = "user" if mint.kind == "user_token" else "access"
    terms = Terms(form, mint.said(now)["iss"], (mint.algorithm,), (AUDIENCE,))
    keys = keysets.parse_jwks(forging.jwks(forging.jwk(mint.key, mint.kid)), (mint.algorithm,))
    return tokens.verify(apart, keys, terms, now)


@pytest.mark.parametrize("name", MINTS)
def test_a_good_token_of_each_kind_is_believed_to_its_last_second(name):
    good = MINTS[name].good(NOW)
    assert believe(name, good)
    expires_at = MINTS[name].said(NOW)["exp"]
    assert believe(name, good, expires_at + 4.9)
    with pytest.raises(TokenRefused):
        believe(name, good, expires_at + 5)


@pytest.mark.parametrize("name", MINTS)
def test_five_seconds_of_skew_are_forgiven_and_no_more(name):
    for claim in ("iat", "nbf"):
        assert believe(name, MINTS[name].token(NOW, **{claim: NOW + 4.9}))
        with pytest.raises(TokenRefused):
            believe(name, MINTS[name].token(NOW, **{claim: NOW + 5.1}))


@pytest.mark.parametrize(("name", "attack", "make"), MATRIX, ids=lambda value: value if isinstance(value, str) else "")
def test_each_attack_on_each_kind_of_token_is_refused_with_a_reason_and_nothing_else(name, attack, make):
    token = make(MINTS[name], NOW)
    with pytest.raises(TokenRefused) as caught:
        believe(name, token)
    assert caught.value.reason
    assert len(caught.value.reason) < 60, "a reason says nothing of the token"


@pytest.mark.parametrize("of", MINTS)
@pytest.mark.parametrize("name", MINTS)
def test_no_kind_of_token_passes_for_another(name, of):
    """RFC 8725 section 3.12: "Use Mutually Exclusive Validation Rules for Different Kinds of JWTs"."""
    if name != of:
        with pytest.raises(TokenRefused):
            believe(name, MINTS[of].good(NOW))


def test_a_bad_signature_and_an_unknown_key_are_told_apart_because_they_are_worth_a_refresh():
    with pytest.raises(tokens.BadSignature):
        believe("user-ES256", forging.ATTACKS["another key under the same kid"](MINTS["user-ES256"], NOW))
    with pytest.raises(tokens.UnknownKey):
        believe("user-ES256", MINTS["user-ES256"].token(NOW, {"kid": "other"}))


def test_a_key_is_not_used_for_an_algorithm_that_is_not_its_own():
    """RFC 8725 section 3.1, also where a caller got it wrong."""
    apart = tokens.take_apart(MINTS["user-ES256"].good(NOW).encode())
    for key in (forging.RSA, forging.ED):
        with pytest.raises(tokens.BadSignature):
            tokens.check_signature(apart, (key.public_key(),))


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, ()),
        ({"scope": ""}, ()),
        ({"scope": "a"}, ("a",)),
        ({"scope": "a b:c  d"}, ("a", "b:c", "d")),
        ({"scp": ["a", "b"]}, ("a", "b")),
        ({"scp": []}, ()),
        ({"scp": "a b"}, ("a", "b")),
        ({"scope": "a", "scp": ["b"]}, ("a",)),
        ({"scope": "a " * 128}, ("a",) * 128),
    ],
)
def test_scopes_are_words_with_spaces_between_or_a_list(claims, scopes):
    assert tokens.read_scopes(claims) == scopes


@pytest.mark.parametrize(
    "claims",
    [
        {"scope": ["a"]}, {"scope": None}, {"scope": " a"}, {"scope": 'a"b'}, {"scp": ["a b"]}, {"scp": {"a": 1}},
        {"scp": [""]}, {"scope": "a\n"}, {"scp": [None]}, {"scp": ["a"] * 129}, {"scope": "a " * 129},
    ],
)  # fmt: skip
def test_scopes_of_another_form_are_refused(claims):
    with pytest.raises(TokenRefused):
        tokens.read_scopes(claims)


def test_an_audience_is_one_string_or_a_list_of_them():
    """RFC 7519 section 4.1.3."""
    assert tokens.read_audience({"aud": "a"}) == ("a",)
    assert tokens.read_audience({"aud": ["a", "b"]}) == ("a", "b")
    assert tokens.read_audience({}) == ()


def test_a_client_is_known_where_it_is_named():
    believed = believe("user-RS256", MINTS["user-RS256"].token(NOW, client_id="app", nbf=NOW - 1, iat=GONE))
    assert (believed.client_id, believed.valid_from) == ("app", NOW - 1)
    assert believe("user-RS256", MINTS["user-RS256"].token(NOW, iat=GONE)).valid_from == 0


def test_an_access_token_that_may_leave_out_its_audience_must_name_ours_if_it_names_one():
    expected = clerk.Expectation(CLERK, (PARTY,), oauth_audiences=(AUDIENCE,))
    for aud, good in ((GONE, True), (AUDIENCE, True), ([AUDIENCE], True), ("other", False), ([], False)):
        apart = tokens.take_apart(MINTS["access-clerk"].token(NOW, aud=aud).encode())
        if good:
            assert clerk.believe_access(apart, INSTANCE, expected, NOW).client_id == "app"
        else:
            with pytest.raises(TokenRefused, match="audience"):
                clerk.believe_access(apart, INSTANCE, expected, NOW)


def test_the_two_spellings_of_the_type_of_an_access_token_are_one():
    """RFC 9068 section 4: "at+jwt" or "application/at+jwt"; RFC 7515 section 4.1.9 compares without case."""
    for typ in ("at+jwt", "application/at+jwt", "AT+JWT"):
        assert believe("access-own", MINTS["access-own"].token(NOW, {"typ": typ})).subject == "bob"


def test_what_a_token_says_of_itself_is_good_for_looking_up():
    apart = tokens.take_apart(MINTS["machine"].token(NOW, iss=7, sub=["x"]).encode())
    assert (apart.issuer, apart.subject) == ("", "")


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_refused(octets):
    for token in (octets, b"eyJ" + octets, b"e30.e30." + octets, octets + b".e30."):
        tokens.is_signed(token)
        with pytest.raises(TokenRefused):
            tokens.take_apart(token)


VALUES = st.sampled_from([None, True, 0, "", "a", "\ud800", "none", "at+jwt", ["a"], {}])


@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "cat", "x"]), VALUES))
def test_no_header_is_more_than_read_or_refused(members):
    try:
        header = tokens.read_header(forging.b64(forging.compact(members)).encode())
    except TokenRefused:
        return
    assert header.algorithm == members["alg"]
