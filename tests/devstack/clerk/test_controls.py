"""devstack.clerk.controls: clock, keys, 429, counts; and the service's own API keys, which need a store as little."""

from __future__ import annotations

import time

import pytest
from flask.testing import FlaskClient

from contracts import clerk
from devstack.clerk import people

KEY = {"Authorization": f"Bearer {people.SECRET_KEY}"}
EXPECTED = clerk.Expectation(issuer="http://127.0.0.1:8081", authorized_parties=("http://localhost:8080",))


def keyset(browser: FlaskClient):
    return clerk.parse_keyset(browser.get("/.well-known/jwks.json").data)


def mint(browser: FlaskClient) -> str:
    return str(browser.post("/__dev/tokens", json={"person": "alice"}).json["jwt"])  # type: ignore[index]


def test_a_clock_that_is_wrong_makes_tokens_that_are_wrong(browser: FlaskClient) -> None:
    keys = keyset(browser)
    browser.post("/__dev/clock?skew=120")
    with pytest.raises(clerk.SessionRefused, match="nbf"):
        clerk.verify_session(mint(browser), keys, EXPECTED, time.time())
    browser.post("/__dev/clock?freeze=1700000000")
    frozen = clerk.verify_session(mint(browser), keys, EXPECTED, 1_700_000_000)
    time.sleep(0.01)
    assert frozen.issued_at == 1_700_000_000
    assert browser.post("/__dev/clock?freeze=1700000000&skew=-5").json == {"now": 1_699_999_995.0}
    browser.post("/__dev/clock")
    assert clerk.verify_session(mint(browser), keys, EXPECTED, time.time())
    for wrong in ("skew=soon", "skew=nan", "freeze=inf"):
        assert browser.post(f"/__dev/clock?{wrong}").status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"person": "nobody"},
        {"person": "alice", "kind": "id"},
        {"person": "alice", "machine": "mch_x"},
        {"person": "alice", "claims": "admin"},
        {"person": "alice", "flaw": "none-such"},
        {"kind": "machine", "machine": "mch_x"},
        {"kind": "oauth", "person": "alice", "client_id": "nobody"},
    ],
)
def test_a_wrong_wish_for_a_token_is_told_the_choices(browser: FlaskClient, body: object) -> None:
    answer = browser.post("/__dev/tokens", json=body)
    assert answer.status_code == 422 and answer.json["errors"][0]["message"]  # type: ignore[index]


def test_a_retired_key_is_listed_no_longer(browser: FlaskClient) -> None:
    old = mint(browser)
    browser.post("/__dev/keys/rotate?kid=new")
    assert len(keyset(browser)) == 2
    assert clerk.verify_session(old, keyset(browser), EXPECTED, time.time())
    browser.post("/__dev/keys/retire")
    with pytest.raises(clerk.UnknownKey):
        clerk.verify_session(old, keyset(browser), EXPECTED, time.time())
    assert clerk.verify_session(mint(browser), keyset(browser), EXPECTED, time.time())


def test_the_backend_api_can_be_too_busy_for_everything_but_the_keys(browser: FlaskClient) -> None:
    browser.post("/__dev/throttle?answers=2&retry_after=7")
    assert browser.get("/v1/jwks", headers=KEY).status_code == 200
    for path in ("/v1/users", "/v1/machines"):
        answer = browser.get(path, headers=KEY)
        assert answer.status_code == 429 and answer.headers["Retry-After"] == "7"
        assert answer.json["errors"][0]["code"] == "too_many_requests"  # type: ignore[index]
    assert browser.get("/v1/users", headers=KEY).status_code == 200
    assert browser.post("/__dev/throttle?answers=-1").status_code == 422


def test_requests_are_counted_by_endpoint_and_strangers_in_one_number(browser: FlaskClient) -> None:
    for _ in range(3):
        browser.get("/.well-known/jwks.json")
    for number in range(5):
        browser.get(f"/nowhere/{number}")
    counts = browser.get("/__dev/requests").json
    assert counts["/.well-known/jwks.json"] == 3 and counts["none"] == 5  # type: ignore[index]
    assert browser.post("/__dev/outage?mode=error").status_code == 200
    browser.get("/.well-known/jwks.json")
    assert browser.get("/__dev/requests").json["/.well-known/jwks.json"] == 4  # type: ignore[index]


def test_an_outage_may_be_of_one_path_alone(browser: FlaskClient) -> None:
    assert browser.post("/__dev/outage?mode=never").status_code == 422
    browser.post("/__dev/outage?mode=error&path=/v1/m2m_tokens")
    assert browser.post("/v1/m2m_tokens/verify").status_code == 503
    assert browser.get("/v1/users", headers=KEY).status_code == 200


def test_a_redirect_leads_to_what_a_careless_client_would_believe(browser: FlaskClient) -> None:
    true = keyset(browser)
    browser.post("/__dev/outage?mode=redirect")
    answer = browser.get("/.well-known/jwks.json")
    assert answer.status_code == 307
    elsewhere = browser.get(answer.headers["Location"])
    assert clerk.parse_keyset(elsewhere.data).keys() == true.keys()
    with pytest.raises(clerk.BadSignature):
        clerk.verify_session(mint(browser), clerk.parse_keyset(elsewhere.data), EXPECTED, time.time())
    assert elsewhere.json["active"] is True  # type: ignore[index]


def test_a_huge_answer_is_true_to_the_last_byte_and_says_no_length(browser: FlaskClient) -> None:
    browser.post("/__dev/outage?mode=huge")
    answer = browser.get("/.well-known/jwks.json")
    assert len(answer.data) > 4_000_000 and "Content-Length" not in answer.headers
    assert clerk.parse_keyset(answer.data)


def test_an_api_key_is_verified_as_long_as_it_is_good(browser: FlaskClient) -> None:
    wanted = {"name": "ci", "subject": people.DEMO_COMPANY.org_id, "scopes": ["read"], "seconds_until_expiration": 60}
    for wrong in ({"subject": "org_none"}, {"seconds_until_expiration": "60"}, {"scopes": "read"}, {"name": None}):
        assert browser.post("/v1/api_keys", json=wanted | wrong, headers=KEY).status_code == 422
    made = browser.post("/v1/api_keys", json=wanted, headers=KEY).json
    secret = {"secret": made["secret"]}  # type: ignore[index]
    told = browser.post("/v1/api_keys/verify", json=secret, headers=KEY).json
    assert told["id"] == made["id"] and told["scopes"] == ["read"] and not told["expired"]  # type: ignore[index]
    assert browser.post("/v1/api_keys/verify", json={"secret": "ak_x"}, headers=KEY).status_code == 404
    assert browser.post("/v1/api_keys/verify", json=secret).status_code == 401
    assert browser.post("/v1/api_keys/verify", json={}, headers=KEY).status_code == 400
    browser.post("/__dev/clock?skew=61")
    assert browser.post("/v1/api_keys/verify", json=secret, headers=KEY).json["expired"] is True  # type: ignore[index]
    revoked = browser.post(f"/v1/api_keys/{made['id']}/revoke", json={"revocation_reason": "x"}, headers=KEY).json  # type: ignore[index]
    assert revoked["revoked"] is True and revoked["revocation_reason"] == "x"  # type: ignore[index]
