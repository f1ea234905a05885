"""devstack.clerk.tokens against contracts.clerk: the product's verifier believes the good and refuses each bad one."""

from __future__ import annotations

import base64
import json
import time

import pytest
from flask.testing import FlaskClient

from contracts import clerk
from devstack.clerk import people, tokens

EXPECTED = clerk.Expectation(issuer="http://127.0.0.1:8081", authorized_parties=("http://localhost:8080",))
REASONS = {
    "expired": "session-token-expired",
    "not-yet": "session-token-nbf",
    "wrong-issuer": "token-invalid-issuer",
    "wrong-azp": "token-invalid-authorized-parties",
    "wrong-key": "token-invalid-signature",
    "unknown-kid": "jwk-kid-mismatch",
    "tampered": "token-invalid-signature",
    "pending": "session-pending",
    "alg-none": "token-invalid-algorithm",
    "alg-hs256": "token-invalid-algorithm",
    "at+jwt": "token-type-mismatch",
    "template": "token-type-mismatch",
    "machine": "token-type-mismatch",
    "no-sid": "token-invalid",
    "no-exp": "token-invalid",
    "long-life": "token-invalid",
    "version-3": "token-invalid",
    "critical": "token-invalid",
}


def mint(browser: FlaskClient, person: str = "alice", **options: object) -> str:
    answer = browser.post("/__dev/tokens", json={"person": person, **options})
    assert answer.status_code == 200, answer.text
    return str(answer.json["jwt"])  # type: ignore[index]


def believe(browser: FlaskClient, token: str, expected: clerk.Expectation = EXPECTED) -> clerk.Session:
    keys = clerk.parse_keyset(browser.get("/.well-known/jwks.json").data)
    return clerk.verify_session(token, keys, expected, time.time())


@pytest.mark.parametrize("version", [1, 2])
def test_a_good_token_of_either_version_names_person_organisation_and_role(browser: FlaskClient, version: int) -> None:
    for name, role in (("alice", "org:admin"), ("bob", "org:member"), ("charlie", "org:admin")):
        session = believe(browser, mint(browser, name, version=version))
        assert session.user_id == people.PEOPLE[name].user_id
        assert session.org_role == role
        held = people.memberships_of(session.user_id)[0]
        assert (session.org_id, session.org_slug) == (held.org_id, people.ORGANISATIONS[held.org_id].slug)
        assert session.expires_at - session.issued_at == 60
        assert session.email == people.PEOPLE[name].email


def test_the_token_has_the_headers_and_times_of_the_real_service(browser: FlaskClient) -> None:
    token = mint(browser)
    head, said = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    assert head == {"alg": "RS256", "cat": "cl_B7d4PD111AAA", "kid": people.INSTANCE_ID, "typ": "JWT"}
    assert said["nbf"] == said["iat"] - 10
    assert said["exp"] == said["iat"] + 60
    assert said["v"] == 2 and said["sts"] == "active" and said["o"]["rol"] == "admin"
    assert believe(browser, token).actor is None


def test_no_organisation_is_no_tenant(browser: FlaskClient) -> None:
    session = believe(browser, mint(browser, organization=""))
    assert session.org_id is None and session.org_role is None


def test_the_matrix_of_flaws_is_whole() -> None:
    assert set(REASONS) == set(tokens.FLAWS)


@pytest.mark.parametrize("flaw", sorted(REASONS))
def test_each_flawed_token_is_refused_for_its_own_reason(browser: FlaskClient, flaw: str) -> None:
    with pytest.raises(clerk.SessionRefused) as caught:
        believe(browser, mint(browser, flaw=flaw))
    assert caught.value.reason == REASONS[flaw]


def test_a_token_without_party_passes_a_header_but_not_a_cookie(browser: FlaskClient) -> None:
    token = mint(browser, azp=None)
    assert believe(browser, token).user_id == people.ALICE.user_id
    strict = clerk.Expectation(EXPECTED.issuer, EXPECTED.authorized_parties, azp_required=True)
    with pytest.raises(clerk.SessionRefused, match="authorized-parties"):
        believe(browser, token, strict)


def test_a_key_rotated_under_the_same_kid_is_a_bad_signature_and_under_a_new_one_unknown(browser: FlaskClient) -> None:
    old_keys = clerk.parse_keyset(browser.get("/.well-known/jwks.json").data)
    old_token = mint(browser)
    browser.post("/__dev/keys/rotate?kid=same")
    with pytest.raises(clerk.BadSignature):
        clerk.verify_session(mint(browser), old_keys, EXPECTED, time.time())
    with pytest.raises(clerk.BadSignature):
        believe(browser, old_token)
    same_kid_token = mint(browser)
    browser.post("/__dev/keys/rotate?kid=new")
    with pytest.raises(clerk.UnknownKey):
        clerk.verify_session(mint(browser), old_keys, EXPECTED, time.time())
    assert believe(browser, same_kid_token)
    assert believe(browser, mint(browser))


def test_ids_have_the_shapes_of_the_real_service() -> None:
    for prefix, ids in {
        "user_": [person.user_id for person in people.PEOPLE.values()],
        "org_": list(people.ORGANISATIONS),
        "orgmem_": [held.membership_id for held in people.MEMBERSHIPS],
        "ins_": [people.INSTANCE_ID],
    }.items():
        for each in ids:
            assert each.startswith(prefix) and len(each) == len(prefix) + 27 and each.removeprefix(prefix).isalnum()
    assert clerk.frontend_api_host(people.publishable_key("127.0.0.1:8081")) == "127.0.0.1:8081"
    assert people.publishable_key("127.0.0.1:5500") == "pk_test_MTI3LjAuMC4xOjU1MDAk"
