"""What authorities are asked, and what their answers mean (edge.phases.auth.introspection)."""

import base64
import json
from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.introspection import Introspector
from edge.phases.auth import introspection as words
from edge.phases.auth.introspection import UnreadableAnswer
from edge.ports import TokenStatus
from tests.edge.fakes import TENANT
from tests.edge.test_introspection import an_issuer

ASKED = Introspector(an_issuer(audience=("https://api.example.com", "api")), TENANT)
ACTIVE = {
    "active": True, "iss": "https://id.example.com", "aud": "api", "sub": "user-1", "client_id": "app",
    "scope": "read  posts:write read", "exp": 1_800_000_060, "nbf": 1_800_000_000, "token_type": "Bearer",
}  # fmt: skip


def issuer_says(**changes):
    answer = {name: value for name, value in (ACTIVE | changes).items() if value != "absent"}
    return words.issuer_answer(json.dumps(answer).encode(), ASKED)


# --- Questions ------------------------------------------------------------------------------------------------------


def test_the_client_proves_itself_by_basic_with_form_encoded_words():
    """RFC 6749 section 2.3.1: encoded using "application/x-www-form-urlencoded", then used as the username; the
    password likewise."""
    fields, body = words.issuer_question("gate way:1", b"p%+:\xc3\xa9", b"a+b/c==")
    lines = dict(fields)
    user, _, password = base64.b64decode(lines[b"Authorization"].removeprefix(b"Basic ")).decode().partition(":")
    assert (user, password) == ("gate+way%3A1", "p%25%2B%3A%C3%A9")
    assert (unquote_plus(user), unquote_plus(password)) == ("gate way:1", "p%+:é")
    assert lines[b"Accept"] == b"application/json"
    assert lines[b"Content-Type"] == b"application/x-www-form-urlencoded"
    assert body == b"token=a%2Bb%2Fc%3D%3D&token_type_hint=access_token"


def test_clerk_is_asked_with_a_bearer_and_json():
    fields, body = words.clerk_question("sk_live_1", "access_token", b"oat_1")
    assert (dict(fields)[b"Authorization"], body) == (b"Bearer sk_live_1", b'{"access_token": "oat_1"}')
    assert dict(fields)[b"Clerk-API-Version"] == b"2025-11-10"


# --- RFC 7662 -------------------------------------------------------------------------------------------------------


def test_what_an_issuer_says_of_an_active_token_is_taken_over():
    assert issuer_says(org_id="org_1") == TokenStatus(
        "user-1", ("read", "posts:write", "read"), "app", "org_1", 1_800_000_000.0, 1_800_000_060.0
    )


def test_everything_but_active_is_optional():
    """RFC 7662 section 2.2: of the top-level members, only "active" is REQUIRED."""
    said = words.issuer_answer(b'{"active": true, "client_id": "app"}', Introspector(an_issuer(), TENANT))
    assert said == TokenStatus("app", (), "app")


@pytest.mark.parametrize("active", ["true", "absent", False, None, 1, [True]])
def test_only_the_json_true_is_active(active):
    assert issuer_says(active=active).refusal == "the issuer does not call it active"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://id.example.com/"}, "iss is another issuer"),
        ({"iss": 7}, "iss cannot be understood, or is longer than 512 characters"),
        ({"aud": "other"}, "aud is somebody else"),
        ({"aud": "absent"}, "aud is somebody else"),
        ({"aud": None}, "aud is somebody else"),
        ({"aud": {"api": 1}}, "aud is somebody else"),
        ({"aud": [["api"], 7]}, "aud is somebody else"),
        ({"token_type": "DPoP"}, "token_type is not bearer"),
        ({"token_type": "refresh_token"}, "token_type is not bearer"),
        ({"cnf": {"jkt": "x"}}, "bound to a key (cnf), which is not checked here"),
        ({"cnf": False}, "bound to a key (cnf), which is not checked here"),
        ({"sub": "absent", "client_id": "absent"}, "neither sub nor client_id"),
        ({"sub": "", "client_id": ""}, "neither sub nor client_id"),
        ({"sub": "s" * 513}, "sub cannot be understood, or is longer than 512 characters"),
        ({"sub": "\ud800"}, "sub cannot be understood, or is longer than 512 characters"),
        ({"sub": "a\r\nb"}, "sub cannot be understood, or is longer than 512 characters"),
        ({"scope": ["read"]}, "scope cannot be understood, or is longer than 4096 characters"),
        ({"scope": " ".join(["s"] * 129)}, "scopes cannot be understood, or are more than 128 or 4096 characters"),
        ({"exp": "1800000060"}, "exp is not a time"),
        ({"exp": True}, "exp is not a time"),
        ({"exp": 10**400}, "exp is not a time"),
        ({"nbf": []}, "nbf is not a time"),
    ],
    ids=str,
)
def test_a_member_that_contradicts_or_cannot_be_understood_refuses_the_token(changes, reason):
    said = issuer_says(**changes)
    assert said.refusal == reason
    assert (said.subject, said.scopes) == ("", ())


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "absent"}, {"iss": None}, {"aud": ["x", "https://api.example.com"]}, {"token_type": "bearer"},
        {"token_type": None}, {"cnf": None}, {"exp": None}, {"scope": None}, {"scope": ""}, {"extra": {"a": [1]}},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_absent_or_null_or_unknown_does_not_harm(changes):
    assert issuer_says(**changes).refusal == ""


@pytest.mark.parametrize(
    "document",
    [
        b"", b"active", b"\xff\xfe", b"[true]", b"true", b'{"active":true', b'{"active":false,"active":true}',
        b"[" * 60_000, b'{"active":true,"exp":NaN}', b'{"active":true,"exp":' + b"9" * 5_000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_object_says_nothing_about_the_token(document):
    for read in (words.clerk_access_answer, words.clerk_machine_answer, lambda text: words.issuer_answer(text, ASKED)):
        with pytest.raises(UnreadableAnswer):
            read(document)


def test_a_number_beyond_all_numbers_is_no_time():
    assert words.issuer_answer(b'{"active":true,"aud":"api","sub":"u","exp":1e999}', ASKED).refusal == (
        "exp is not a time"
    )


anything = st.one_of(
    st.none(), st.booleans(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.lists(st.text(max_size=3) | st.integers(), max_size=3), st.sampled_from(["bearer", "api", ASKED.issuer]),
)  # fmt: skip
MEMBERS = (
    "active iss aud sub client_id scope exp nbf token_type cnf org_id object revoked expired subject scopes".split()
)


@given(st.dictionaries(st.sampled_from([*MEMBERS, "expiration"]), anything, max_size=8))
def test_whatever_members_an_answer_has_it_is_read_or_refused_and_nothing_else_happens(members):
    try:
        document = json.dumps(members).encode()
        said = words.issuer_answer(document, ASKED)
        clerks = [words.clerk_access_answer(document), words.clerk_machine_answer(document)]
    except UnreadableAnswer:
        return
    if members.get("active") is not True:
        assert said.refusal
    if members.get("revoked") is not False or members.get("expired") is not False:
        assert all(word.refusal for word in clerks)
    for word in (said, *clerks):
        assert word.refusal or (word.subject.isprintable() and 0 < len(word.subject) <= words.NAME_CHARS_MAX)
        assert not word.refusal or word == TokenStatus(refusal=word.refusal)


# --- Clerk ----------------------------------------------------------------------------------------------------------

OAUTH = {
    "object": "clerk_idp_oauth_access_token", "id": "oat_1", "client_id": "app_1", "subject": "user_alice",
    "scopes": ["profile", "email"], "revoked": False, "revocation_reason": None, "expired": False,
    "expiration": 1_800_000_060_000, "created_at": 1_799_999_000_000, "updated_at": 1_799_999_000_000,
}  # fmt: skip
M2M = {
    "object": "machine_to_machine_token", "id": "mt_1", "subject": "mch_1", "claims": None, "scopes": ["mch_2"],
    "revoked": False, "revocation_reason": None, "expired": False, "expiration": None, "last_used_at": None,
    "created_at": 1_799_999_000_000, "updated_at": 1_799_999_000_000,
}  # fmt: skip


def clerk_says(read=words.clerk_access_answer, **changes):
    answer = {name: value for name, value in (OAUTH | changes).items() if value != "absent"}
    return read(json.dumps(answer).encode())


def test_what_clerk_says_is_taken_over_and_its_milliseconds_become_seconds():
    assert clerk_says() == TokenStatus("user_alice", ("profile", "email"), "app_1", expires_at=1_800_000_060.0)
    assert clerk_says(org_id="org_demo").org_id == "org_demo"
    assert words.clerk_machine_answer(json.dumps(M2M).encode()) == TokenStatus("mch_1", ("mch_2",))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"active": False}, "Clerk does not call it active"),
        ({"object": "machine_to_machine_token"}, "Clerk calls it something else"),
        ({"object": "absent"}, "Clerk calls it something else"),
        ({"revoked": True}, "revoked, says Clerk"),
        ({"revoked": "absent"}, "revoked, says Clerk"),
        ({"revoked": None}, "revoked, says Clerk"),
        ({"expired": True}, "expired, says Clerk"),
        ({"expired": 0}, "expired, says Clerk"),
        ({"subject": "absent"}, "no subject"),
        ({"expiration": "never"}, "expiration is not a time"),
        ({"scopes": "profile"}, "scopes cannot be understood"),
        ({"scopes": ["a", 7]}, "scopes cannot be understood, or are more than 128 or 4096 characters"),
        ({"scopes": ["s" * 4_097]}, "scopes cannot be understood, or are more than 128 or 4096 characters"),
    ],
    ids=str,
)
def test_whatever_else_clerk_says_refuses_the_token(changes, reason):
    assert clerk_says(**changes).refusal == reason


def test_a_token_of_one_kind_is_not_taken_for_the_other():
    assert clerk_says(words.clerk_machine_answer).refusal == "Clerk calls it something else"
    assert clerk_says(scopes=None).scopes == ()
