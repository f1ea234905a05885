"""devstack.clerk.tokens against contracts.clerk: the product's verifier believes the good and refuses each bad one."""

from __future__ import annotations

import base64
import json
import time

import pytest
from flask.testing import FlaskClient

from contracts import clerk
from devstack.clerk import flaws, people, tokens

EXPECTED = clerk.Expectation(issuer="http://127.0.0.1:8081", authorized_parties=("http://localhost:8080",))
REASONS = {
    "expired": "session-token-expired",
    "expired-fraction": "session-token-expired",
    "not-yet": "session-token-nbf",
    "no-exp": "token-invalid",
    "no-iat": "token-invalid",
    "no-nbf": "token-invalid",
    "long-life": "token-invalid",
    "exp-bool": "token-invalid",
    "exp-text": "token-invalid",
    "exp-nan": "token-invalid",
    "exp-infinite": "token-invalid",
    "exp-endless": "token-invalid",
    "iat-bool": "token-invalid",
    "iat-negative": "token-invalid",
    "wrong-key": "token-invalid-signature",
    "unknown-kid": "jwk-kid-mismatch",
    "tampered": "token-invalid-signature",
    "alg-none": "token-invalid-algorithm",
    "alg-none-mixed": "token-invalid-algorithm",
    "alg-hs256": "token-invalid-algorithm",
    "alg-es256": "token-invalid-algorithm",
    "alg-ps256": "token-invalid-algorithm",
    "alg-rs512": "token-invalid-algorithm",
    "alg-lower": "token-invalid-algorithm",
    "alg-list": "token-invalid-algorithm",
    "alg-object": "token-invalid-algorithm",
    "alg-null": "token-invalid-algorithm",
    "jku": "token-invalid-signature",
    "x5u": "token-invalid-signature",
    "x5c": "token-invalid-signature",
    "jwk": "token-invalid-signature",
    "no-kid": "jwk-kid-mismatch",
    "kid-empty": "jwk-kid-mismatch",
    "kid-list": "jwk-kid-mismatch",
    "kid-number": "jwk-kid-mismatch",
    "kid-path": "jwk-kid-mismatch",
    "kid-sql": "jwk-kid-mismatch",
    "kid-nul": "jwk-kid-mismatch",
    "kid-long": "jwk-kid-mismatch",
    "critical": "token-invalid",
    "duplicate-header": "token-invalid",
    "duplicate-claims": "token-invalid",
    "header-list": "token-invalid",
    "claims-list": "token-invalid",
    "nested": "token-invalid",
    "huge": "token-invalid",
    "two-parts": "token-invalid",
    "five-parts": "token-invalid",
    "wrong-issuer": "token-invalid-issuer",
    "issuer-slash": "token-invalid-issuer",
    "issuer-list": "token-invalid-issuer",
    "no-issuer": "token-invalid",
    "no-subject": "token-invalid",
    "subject-number": "token-type-mismatch",
    "bound": "token-invalid",
    "wrong-azp": "token-invalid-authorized-parties",
    "azp-list": "token-invalid-authorized-parties",
    "pending": "session-pending",
    "at+jwt": "token-type-mismatch",
    "template": "token-type-mismatch",
    "template-claims": "token-invalid",
    "machine": "token-type-mismatch",
    "no-sid": "token-invalid",
    "version-3": "token-invalid",
    "version-text": "token-invalid",
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


def test_compact_permissions_are_those_of_the_services_own_example(browser: FlaskClient) -> None:
    """`fea=o:dashboard,o:teams  o.per=manage,read  o.fpm=3,2`, decoded by the service's own SDK."""
    granted = ("org:dashboard:manage", "org:dashboard:read", "org:teams:read")
    assert tokens.compact(("dashboard", "teams"), granted) == ("manage,read", "3,2")
    token = mint(browser, "charlie")
    said = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert (said["fea"], said["o"]["per"], said["o"]["fpm"]) == ("o:dashboard,o:teams", "manage,read", "3,2")
    assert believe(browser, token).org_permissions == granted


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_give_everybody_the_permissions_of_the_membership(browser: FlaskClient, version: int) -> None:
    for held in people.MEMBERSHIPS:
        person = people.person_by_id(held.user_id)
        assert person is not None
        session = believe(browser, mint(browser, person.name, version=version))
        assert session.org_permissions == held.permissions


def test_no_organisation_is_no_tenant(browser: FlaskClient) -> None:
    session = believe(browser, mint(browser, organization=""))
    assert session.org_id is None and session.org_role is None


def test_the_matrix_of_flaws_is_whole() -> None:
    assert set(REASONS) == {name for name, flaw in flaws.FLAWS.items() if "session" in flaw.kinds}


@pytest.mark.parametrize("flaw", sorted(REASONS))
def test_each_flawed_token_is_refused_for_its_own_reason(shared: FlaskClient, flaw: str) -> None:
    with pytest.raises(clerk.SessionRefused) as caught:
        believe(shared, mint(shared, flaw=flaw))
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
