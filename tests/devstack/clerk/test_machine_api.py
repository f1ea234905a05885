"""devstack.clerk.machine_api: machines, tokens opaque and JWT, who may verify and who may revoke."""

from __future__ import annotations

import jwt
import pytest
from flask.testing import FlaskClient

from devstack.clerk import machines, people

KEY = {"Authorization": f"Bearer {people.SECRET_KEY}"}
CALLER = {"Authorization": f"Bearer {machines.CALLER_SECRET}"}
GATEWAY = {"Authorization": f"Bearer {machines.GATEWAY_SECRET}"}


def make(browser: FlaskClient, headers: dict[str, str] = CALLER, **body: object) -> dict:
    answer = browser.post("/v1/m2m_tokens", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json)


def verify(browser: FlaskClient, text: str, headers: dict[str, str] = GATEWAY, member: str = "token"):
    return browser.post("/v1/m2m_tokens/verify", json={member: text}, headers=headers)


def stranger(browser: FlaskClient, **more: object) -> dict[str, str]:
    made = browser.post("/v1/machines", json={"name": "stranger", **more}, headers=KEY).json
    return {"Authorization": f"Bearer {made['secret_key']}"}  # type: ignore[index]


def test_the_settings_name_the_gateway_as_the_machine_that_is_spoken_to(browser: FlaskClient) -> None:
    told = browser.get("/__dev/settings").json
    assert told["CLERK_MACHINE_ID"] == machines.GATEWAY_ID  # type: ignore[index]
    assert told["CLERK_MACHINE_SECRET_KEY"] == machines.GATEWAY_SECRET  # type: ignore[index]
    named = {each["name"]: each for each in browser.get("/__dev/clients").json["machines"]}  # type: ignore[index]
    assert named["demo-caller"]["speaks_to"] == [machines.GATEWAY_ID]
    for machine_id in (machines.GATEWAY_ID, machines.CALLER_ID):
        assert machine_id.startswith("mch_") and len(machine_id) == 31 and machine_id[4:].isalnum()


def test_an_opaque_token_is_verified_by_the_one_it_is_for_and_by_the_instance(browser: FlaskClient) -> None:
    made = make(browser, claims={"role": "billing"}, seconds_until_expiration=60)
    assert made["token"].startswith("mt_") and made["id"].startswith("mt_") and made["id"] not in made["token"]
    for headers in (GATEWAY, KEY, CALLER):
        told = verify(browser, made["token"], headers).json
        assert (told["subject"], told["scopes"]) == (machines.CALLER_ID, [machines.GATEWAY_ID])
        assert (told["revoked"], told["expired"], told["claims"]) == (False, False, {"role": "billing"})
        assert told["expiration"] - told["created_at"] == 60_000 and "token" not in told
    assert verify(browser, made["token"], member="secret").status_code == 200  # as the SDK asks


def test_a_machine_it_is_not_for_gets_the_answer_of_an_unknown_token(browser: FlaskClient) -> None:
    text = make(browser)["token"]
    foreign = verify(browser, text, stranger(browser))
    unknown = verify(browser, "mt_unknown", stranger(browser))
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.json["errors"] == unknown.json["errors"]
    assert verify(browser, text, {"Authorization": "Bearer ak_guess"}).status_code == 401
    assert verify(browser, text, {}).status_code == 401
    assert browser.post("/v1/m2m_tokens/verify", json={}, headers=GATEWAY).status_code == 400


def test_a_jwt_says_whom_it_is_for_and_cannot_be_revoked(browser: FlaskClient) -> None:
    made = make(browser, token_format="jwt", claims={"role": "billing"}, seconds_until_expiration=90)
    pem = browser.application.extensions["clerk_instance"].keys.public_pem()
    said = jwt.decode(made["token"], pem, ["RS256"], audience=machines.GATEWAY_ID)
    assert jwt.get_unverified_header(made["token"])["cat"] == "cl_B7d4PD333AAA"
    assert (said["sub"], said["aud"]) == (machines.CALLER_ID, [machines.GATEWAY_ID])
    assert (said["scopes"], said["role"], said["jti"]) == (machines.GATEWAY_ID, "billing", made["id"])
    assert said["exp"] - said["iat"] == 90
    assert browser.post(f"/v1/m2m_tokens/{made['id']}/revoke", json={}, headers=CALLER).status_code == 404


def test_a_token_without_a_wish_lives_as_its_machine_says_and_null_is_for_ever(browser: FlaskClient) -> None:
    usual = make(browser)
    assert usual["expiration"] - usual["created_at"] == 3_600_000
    endless = make(browser, seconds_until_expiration=None)
    assert endless["expiration"] is None
    browser.post("/__dev/clock?skew=4000")
    assert verify(browser, usual["token"]).json["expired"] is True
    assert verify(browser, endless["token"]).json["expired"] is False


def test_who_made_it_or_the_instance_may_revoke_it(browser: FlaskClient) -> None:
    made, other = make(browser), make(browser)
    path = f"/v1/m2m_tokens/{made['id']}/revoke"
    assert browser.post(path, json={}, headers=GATEWAY).status_code == 404
    told = browser.post(path, json={"revocation_reason": "leaked"}, headers=CALLER).json
    assert (told["revoked"], told["revocation_reason"]) == (True, "leaked")  # type: ignore[index]
    assert verify(browser, made["token"]).json["revoked"] is True
    assert verify(browser, other["token"]).json["revoked"] is False
    assert browser.post(f"/v1/m2m_tokens/{other['id']}/revoke", json={}, headers=KEY).status_code == 200


def test_a_live_token_of_the_same_content_is_given_again_where_that_is_asked(browser: FlaskClient) -> None:
    first = make(browser, min_remaining_ttl_seconds=60)
    assert make(browser, min_remaining_ttl_seconds=60)["token"] == first["token"]
    assert make(browser)["token"] != first["token"]
    assert make(browser, claims={"a": 1}, min_remaining_ttl_seconds=60)["token"] != first["token"]
    browser.post(f"/v1/m2m_tokens/{first['id']}/revoke", json={}, headers=CALLER)
    assert make(browser, min_remaining_ttl_seconds=60)["token"] != first["token"]


@pytest.mark.parametrize(
    "body",
    [
        {"token_format": "paseto"},
        {"seconds_until_expiration": 0},
        {"seconds_until_expiration": True},
        {"seconds_until_expiration": "60"},
        {"scopes": ["mch_2v0000000000000000000000000"]},
        {"scopes": "all"},
        {"claims": {"sub": "mch_other"}},
        {"claims": "admin"},
        {"min_remaining_ttl_seconds": 3_600},
    ],
)
def test_a_wrong_wish_is_refused(browser: FlaskClient, body: dict[str, object]) -> None:
    assert browser.post("/v1/m2m_tokens", json=body, headers=CALLER).status_code == 400


def test_a_token_is_made_with_its_machines_key_and_listed_to_its_machine(browser: FlaskClient) -> None:
    assert browser.post("/v1/m2m_tokens", json={}, headers=KEY).status_code == 401
    made = make(browser)
    path = f"/v1/m2m_tokens?subject={machines.CALLER_ID}"
    assert [each["id"] for each in browser.get(path, headers=CALLER).json["m2m_tokens"]] == [made["id"]]  # type: ignore[index]
    assert browser.get(path, headers=KEY).json["total_count"] == 1  # type: ignore[index]
    assert browser.get(path, headers=GATEWAY).status_code == 404


def test_machines_are_the_instances_to_manage(browser: FlaskClient) -> None:
    assert browser.get("/v1/machines", headers=CALLER).status_code == 401
    assert browser.post("/v1/machines", json={"name": ""}, headers=KEY).status_code == 422
    assert (
        browser.post("/v1/machines", json={"name": "x", "scoped_machines": ["mch_x"]}, headers=KEY).status_code == 422
    )
    assert browser.post("/v1/machines", json={"name": "x", "default_token_ttl": 0}, headers=KEY).status_code == 422
    speaks = stranger(browser, scoped_machines=[machines.GATEWAY_ID])
    text = make(browser, speaks)["token"]
    assert verify(browser, text).status_code == 200
    listed = browser.get("/v1/machines", headers=KEY).json
    assert listed["total_count"] == 3  # type: ignore[index]
    made = listed["data"][2]  # type: ignore[index]
    assert [each["id"] for each in made["scoped_machines"]] == [machines.GATEWAY_ID]
    path = f"/v1/machines/{made['id']}"
    assert browser.get(f"{path}/secret_key", headers=KEY).json["secret"] == speaks["Authorization"][7:]  # type: ignore[index]
    scope = {"to_machine_id": machines.CALLER_ID}
    assert browser.post(f"{path}/scopes", json=scope, headers=KEY).json["from_machine_id"] == made["id"]  # type: ignore[index]
    assert len(browser.get(path, headers=KEY).json["scoped_machines"]) == 2  # type: ignore[index]
    assert browser.delete(path, headers=KEY).json["deleted"] is True  # type: ignore[index]
    assert browser.get(path, headers=KEY).status_code == 404
    assert browser.post("/v1/m2m_tokens", json={}, headers=speaks).status_code == 401
