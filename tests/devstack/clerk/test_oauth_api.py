"""devstack.clerk.oauth_api: code, PKCE, refresh, introspection and revocation, and each way they are refused."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient

from devstack.clerk import people
from devstack.clerk.applications import DEMO_REDIRECT, DEMO_SECRET

JWT_APP, OPAQUE_APP, PUBLIC_APP = "2vGtDemoWithJwt0", "2vGtDemoOpaque00", "2vGtDemoPub1ic00"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"  # RFC 7636 appendix B
KEY = {"Authorization": f"Bearer {people.SECRET_KEY}"}


def asked(client_id: str = JWT_APP, **changes: str | None) -> dict[str, str]:
    said = {
        "response_type": "code", "client_id": client_id, "redirect_uri": DEMO_REDIRECT, "scope": "openid profile email",
        "state": "xyz", "code_challenge": CHALLENGE, "code_challenge_method": "S256", "nonce": "n-0S6",
    } | changes  # fmt: skip
    return {name: value for name, value in said.items() if value is not None}


def sign_in(browser: FlaskClient, name: str = "alice") -> None:
    assert browser.post("/v1/client/sign_ins", data={"identifier": name}).status_code == 200


def back(answer) -> dict[str, str]:
    assert answer.status_code == 303, answer.text
    location = urlsplit(answer.headers["Location"])
    assert answer.headers["Location"].startswith(DEMO_REDIRECT)
    return {name: values[0] for name, values in parse_qs(location.query).items()}


def allow(browser: FlaskClient, said: dict[str, str]) -> str:
    returned = back(browser.post("/oauth/authorize", data={**said, "decision": "allow"}))
    assert returned["state"] == "xyz" and returned["iss"] == "http://127.0.0.1:8081"
    return returned["code"]


def basic(client_id: str = JWT_APP, secret: str = DEMO_SECRET) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


def exchange(browser: FlaskClient, code: str, client_id: str = JWT_APP, **changes: str):
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": DEMO_REDIRECT, "code_verifier": VERIFIER}
    return browser.post("/oauth/token", data=form | changes, headers=basic(client_id))


def tokens_of(browser: FlaskClient, client_id: str = JWT_APP, **changes: str) -> dict:
    sign_in(browser)
    answer = exchange(browser, allow(browser, asked(client_id, **changes)), client_id)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    return dict(answer.json)


def test_the_metadata_names_endpoints_that_are_there(browser: FlaskClient, app: Flask) -> None:
    metadata = browser.get("/.well-known/oauth-authorization-server").json
    assert metadata == browser.get("/.well-known/openid-configuration").json
    assert metadata["issuer"] == "http://127.0.0.1:8081"  # type: ignore[index]
    rules = {str(rule) for rule in app.url_map.iter_rules()}
    for name, value in metadata.items():  # type: ignore[union-attr]
        if name.endswith(("_endpoint", "_uri")):
            assert value.removeprefix("http://127.0.0.1:8081") in rules


def test_a_person_who_is_not_signed_in_signs_in_first_and_comes_back_to_be_asked(browser: FlaskClient) -> None:
    first = browser.get("/oauth/authorize", query_string=asked())
    assert first.status_code == 303 and "/sign-in?redirect_url=" in first.headers["Location"]
    target = parse_qs(urlsplit(first.headers["Location"]).query)["redirect_url"][0]
    signed_in = browser.post("/sign-in", data={"person": "alice", "redirect_url": target})
    page = browser.get(signed_in.headers["Location"])
    assert page.status_code == 200
    assert "Allow Demo JWT?" in page.text and "Alice Archer" in page.text and "openid, profile, email" in page.text
    assert "<script" not in page.text and "style=" not in page.text
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
    assert fields.pop("decision") == "deny"  # the last of the two buttons
    assert fields == asked()
    nobody = browser.application.test_client().get("/oauth/authorize", query_string=asked() | {"prompt": "none"})
    assert back(nobody)["error"] == "login_required"


def test_code_and_pkce_give_a_jwt_access_token_that_names_person_client_and_scope(browser: FlaskClient) -> None:
    got = tokens_of(browser, scope="openid profile email user:org:read")
    pem = browser.application.extensions["clerk_instance"].keys.public_pem()
    said = jwt.decode(got["access_token"], pem, ["RS256"])
    assert jwt.get_unverified_header(got["access_token"])["typ"] == "at+jwt"
    assert (said["sub"], said["client_id"]) == (people.ALICE.user_id, JWT_APP)
    assert said["scope"] == got["scope"] == "openid profile email user:org:read"
    assert said["org_id"] == people.DEMO_COMPANY.org_id
    assert got["expires_in"] == said["exp"] - said["iat"] == 86_400 and got["token_type"] == "Bearer"
    identity = jwt.decode(got["id_token"], pem, ["RS256"], audience=JWT_APP)
    assert (identity["sub"], identity["nonce"]) == (people.ALICE.user_id, "n-0S6")


def test_an_application_of_the_other_setting_gives_opaque_tokens(browser: FlaskClient) -> None:
    got = tokens_of(browser, OPAQUE_APP, scope="profile user:org:read")
    assert got["access_token"].startswith("oat_") and "." not in got["access_token"]
    assert "id_token" not in got
    told = browser.post("/oauth/token_info", data={"token": got["access_token"]}, headers=basic(OPAQUE_APP)).json
    assert told["active"] is True and told["sub"] == people.ALICE.user_id  # type: ignore[index]
    assert (told["client_id"], told["scope"]) == (OPAQUE_APP, "profile user:org:read")  # type: ignore[index]
    assert told["org_id"] == people.DEMO_COMPANY.org_id  # type: ignore[index]
    shown = browser.post(
        "/v1/oauth_applications/access_tokens/verify", json={"access_token": got["access_token"]}, headers=KEY
    ).json
    assert shown["id"] not in got["access_token"] and shown["subject"] == people.ALICE.user_id  # type: ignore[index]


def test_a_public_client_needs_no_secret_and_an_application_without_consent_asks_nobody(browser: FlaskClient) -> None:
    sign_in(browser, "bob")
    form = {"grant_type": "authorization_code", "redirect_uri": DEMO_REDIRECT, "code_verifier": VERIFIER}
    code = allow(browser, asked(PUBLIC_APP))
    assert browser.post("/oauth/token", data={**form, "code": code, "client_id": PUBLIC_APP}).status_code == 200
    wanted = {"name": "quiet", "redirect_uris": [DEMO_REDIRECT], "consent_screen_enabled": False, "scopes": "email"}
    made = browser.post("/v1/oauth_applications", json=wanted, headers=KEY).json
    said = asked(made["client_id"], scope="email")  # type: ignore[index]
    code = back(browser.get("/oauth/authorize", query_string=said))["code"]
    posted = {**form, "code": code, "client_id": made["client_id"], "client_secret": made["client_secret"]}  # type: ignore[index]
    assert browser.post("/oauth/token", data=posted).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"redirect_uri": None},
        {"redirect_uri": DEMO_REDIRECT + "/"},
        {"redirect_uri": DEMO_REDIRECT + "?x=1"},
        {"redirect_uri": DEMO_REDIRECT.upper()},
        {"redirect_uri": DEMO_REDIRECT.replace("localhost", "127.0.0.1")},
        {"redirect_uri": "https://evil.example/callback"},
    ],
)
def test_nothing_is_sent_to_an_address_that_is_not_registered_to_the_letter(
    browser: FlaskClient, changes: dict[str, str | None]
) -> None:
    """RFC 9700 section 2.1: "authorization servers MUST ensure that the two URIs are equal"."""
    sign_in(browser)
    answer = browser.get("/oauth/authorize", query_string=asked(**changes))
    assert answer.status_code == 400 and "Location" not in answer.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "profile admin"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
    ],
)
def test_a_wrong_question_goes_back_with_its_error_and_state(
    browser: FlaskClient, changes: dict[str, str | None], error: str
) -> None:
    sign_in(browser)
    returned = back(browser.get("/oauth/authorize", query_string=asked(**changes)))
    assert (returned["error"], returned["state"]) == (error, "xyz") and "code" not in returned
    assert returned["iss"] == "http://127.0.0.1:8081"


def test_no_parameter_may_be_given_twice(browser: FlaskClient) -> None:
    """RFC 6749 section 3.1: "Request and response parameters MUST NOT be included more than once"."""
    sign_in(browser)
    twice = [*asked().items(), ("scope", "profile")]
    assert back(browser.get("/oauth/authorize", query_string=twice))["error"] == "invalid_request"
    twice = [*asked().items(), ("redirect_uri", DEMO_REDIRECT)]
    assert browser.get("/oauth/authorize", query_string=twice).status_code == 400
    form = {"grant_type": ["refresh_token", "refresh_token"], "refresh_token": "x"}
    assert browser.post("/oauth/token", data=form, headers=basic()).json["error"] == "invalid_request"  # type: ignore[index]


def test_a_person_may_say_no_and_only_the_page_itself_asks(browser: FlaskClient) -> None:
    sign_in(browser)
    assert back(browser.post("/oauth/authorize", data={**asked(), "decision": "deny"}))["error"] == "access_denied"
    foreign = {"Origin": "http://localhost:9999"}
    answer = browser.post("/oauth/authorize", data={**asked(), "decision": "allow"}, headers=foreign)
    assert answer.status_code == 403


def test_a_code_is_good_once_and_its_second_use_takes_back_what_came_of_it(browser: FlaskClient) -> None:
    """RFC 6749 section 4.1.2: "the authorization server MUST deny the request and SHOULD revoke ... all tokens"."""
    sign_in(browser)
    code = allow(browser, asked(OPAQUE_APP))
    got = exchange(browser, code, OPAQUE_APP).json
    info = {"token": got["access_token"]}  # type: ignore[index]
    assert browser.post("/oauth/token_info", data=info, headers=basic(OPAQUE_APP)).json["active"] is True  # type: ignore[index]
    assert exchange(browser, code, OPAQUE_APP).json["error"] == "invalid_grant"  # type: ignore[index]
    assert browser.post("/oauth/token_info", data=info, headers=basic(OPAQUE_APP)).json == {"active": False}
    again = {"grant_type": "refresh_token", "refresh_token": got["refresh_token"]}  # type: ignore[index]
    assert browser.post("/oauth/token", data=again, headers=basic(OPAQUE_APP)).status_code == 400


def test_a_code_lives_ten_minutes(browser: FlaskClient) -> None:
    sign_in(browser)
    early, late = allow(browser, asked()), allow(browser, asked())
    browser.post("/__dev/clock?skew=595")
    assert exchange(browser, early).status_code == 200
    browser.post("/__dev/clock?skew=601")
    assert exchange(browser, late).json["error"] == "invalid_grant"  # type: ignore[index]


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": VERIFIER[:-1] + "X"},
        {"redirect_uri": DEMO_REDIRECT + "/"},
    ],
)
def test_a_code_needs_its_own_verifier_and_address_and_is_not_spent_by_a_wrong_one(
    browser: FlaskClient, changes: dict[str, str]
) -> None:
    sign_in(browser)
    code = allow(browser, asked())
    assert exchange(browser, "nothing").json["error"] == "invalid_grant"  # type: ignore[index]
    assert exchange(browser, code, **changes).json["error"] == "invalid_grant"  # type: ignore[index]
    assert exchange(browser, code, code_verifier="short").json["error"] == "invalid_request"  # type: ignore[index]
    assert exchange(browser, code, OPAQUE_APP).json["error"] == "invalid_grant"  # type: ignore[index]
    assert exchange(browser, code).status_code == 200


def test_a_refresh_token_is_good_once_for_no_more_than_was_granted_and_its_reuse_ends_the_grant(
    browser: FlaskClient,
) -> None:
    got = tokens_of(browser)
    form = {"grant_type": "refresh_token", "refresh_token": got["refresh_token"], "scope": "email"}
    assert browser.post("/oauth/token", data=form, headers=basic(OPAQUE_APP)).json["error"] == "invalid_grant"  # type: ignore[index]
    narrowed = browser.post("/oauth/token", data=form, headers=basic()).json
    assert narrowed["scope"] == "email"  # type: ignore[index]
    form = {"grant_type": "refresh_token", "refresh_token": narrowed["refresh_token"], "scope": "email profile"}  # type: ignore[index]
    assert browser.post("/oauth/token", data=form, headers=basic()).json["error"] == "invalid_scope"  # type: ignore[index]
    form = {"grant_type": "refresh_token", "refresh_token": got["refresh_token"]}
    assert browser.post("/oauth/token", data=form, headers=basic()).json["error"] == "invalid_grant"  # type: ignore[index]
    info = browser.post("/oauth/token_info", data={"token": narrowed["access_token"]}, headers=basic())  # type: ignore[index]
    assert info.json == {"active": False}


def test_a_client_authenticates_by_one_method_and_its_own_secret(browser: FlaskClient) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    for headers in (
        basic(secret="guess"),
        basic("nobody"),
        {"Authorization": "Basic !"},
        {"Authorization": "Bearer x"},
    ):
        answer = browser.post("/oauth/token", data=form, headers=headers)
        assert answer.status_code == 401 and answer.json["error"] == "invalid_client"  # type: ignore[index]
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    both = {**form, "client_id": JWT_APP, "client_secret": DEMO_SECRET}
    assert browser.post("/oauth/token", data=both, headers=basic()).json["error"] == "invalid_request"  # type: ignore[index]
    assert browser.post("/oauth/token", data={**form, "client_id": JWT_APP}).status_code == 401  # no secret, not public
    odd = {"grant_type": "password", "client_id": JWT_APP, "client_secret": DEMO_SECRET}
    assert browser.post("/oauth/token", data=odd).json["error"] == "unsupported_grant_type"  # type: ignore[index]
    assert browser.post("/oauth/token_info", data={"client_id": PUBLIC_APP, "token": "x"}).status_code == 401


def test_userinfo_tells_what_the_scopes_allow_and_only_to_a_live_token(browser: FlaskClient) -> None:
    text = tokens_of(browser, scope="email")["access_token"]
    told = browser.get("/oauth/userinfo", headers={"Authorization": f"Bearer {text}"}).json
    assert told["sub"] == people.ALICE.user_id and told["email"] == people.ALICE.email  # type: ignore[index]
    assert "name" not in told  # type: ignore[operator]
    for bad in ("Bearer oat_x", "", f"Basic {text}"):
        answer = browser.get("/oauth/userinfo", headers={"Authorization": bad})
        assert answer.status_code == 401 and 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    browser.post("/__dev/clock?skew=86500")
    assert browser.get("/oauth/userinfo", headers={"Authorization": f"Bearer {text}"}).status_code == 401


def test_introspection_says_active_only_of_a_live_token_of_the_same_client(browser: FlaskClient) -> None:
    text = tokens_of(browser, OPAQUE_APP)["access_token"]

    def told(client_id: str = OPAQUE_APP, token: str = text) -> dict:
        return dict(browser.post("/oauth/token_info", data={"token": token}, headers=basic(client_id)).json)

    assert told()["active"] is True
    assert told(JWT_APP) == told(token="oat_unknown") == {"active": False}
    browser.post("/__dev/clock?skew=86500")
    assert told() == {"active": False}
    browser.post("/__dev/clock")
    foreign = browser.post("/oauth/token/revoke", data={"token": text}, headers=basic(JWT_APP))
    assert foreign.status_code == 200 and told()["active"] is True
    assert browser.post("/oauth/token/revoke", data={"token": text}, headers=basic(OPAQUE_APP)).status_code == 200
    assert told() == {"active": False}
    assert browser.post("/oauth/token_info", data={}, headers=basic(OPAQUE_APP)).status_code == 400


def test_to_revoke_a_refresh_token_ends_the_grant(browser: FlaskClient) -> None:
    """RFC 7009 section 2.1: for a refresh token also "all access tokens based on the same authorization grant"."""
    got = tokens_of(browser, OPAQUE_APP)
    browser.post("/oauth/token/revoke", data={"token": got["refresh_token"]}, headers=basic(OPAQUE_APP))
    info = browser.post("/oauth/token_info", data={"token": got["access_token"]}, headers=basic(OPAQUE_APP))
    assert info.json == {"active": False}


def test_the_backend_api_shows_what_a_token_is(browser: FlaskClient) -> None:
    path = "/v1/oauth_applications/access_tokens/verify"
    opaque, signed = (tokens_of(browser, client)["access_token"] for client in (OPAQUE_APP, JWT_APP))
    for text in (opaque, signed):
        shown = browser.post(path, json={"access_token": text}, headers=KEY).json
        assert shown["object"] == "clerk_idp_oauth_access_token"  # type: ignore[index]
        assert (shown["revoked"], shown["expired"]) == (False, False)  # type: ignore[index]
        assert shown["expiration"] - shown["created_at"] == 86_400_000  # type: ignore[index]
    assert browser.post(path, json={"access_token": "oat_none"}, headers=KEY).status_code == 404
    assert browser.post(path, json={}, headers=KEY).status_code == 400
    assert browser.post(path, json={"access_token": opaque}).status_code == 401
    browser.post("/oauth/token/revoke", data={"token": opaque}, headers=basic(OPAQUE_APP))
    assert browser.post(path, json={"access_token": opaque}, headers=KEY).json["revoked"] is True  # type: ignore[index]
    browser.post("/__dev/clock?skew=86500")
    assert browser.post(path, json={"access_token": opaque}, headers=KEY).json["expired"] is True  # type: ignore[index]
    assert browser.post(path, json={"access_token": signed}, headers=KEY).json == {"active": False}


def test_applications_are_made_with_loopback_addresses_only(browser: FlaskClient) -> None:
    for uris in (["https://evil.example/cb"], ["http://localhost:1/cb#part"], [], "http://localhost:1/cb"):
        answer = browser.post("/v1/oauth_applications", json={"name": "x", "redirect_uris": uris}, headers=KEY)
        assert answer.status_code == 422
    good = {"name": "x", "redirect_uris": [DEMO_REDIRECT]}
    assert browser.post("/v1/oauth_applications", json=good | {"scopes": "admin"}, headers=KEY).status_code == 422
    made = browser.post(
        "/v1/oauth_applications", json=good | {"access_token_format": "opaque", "public": True}, headers=KEY
    ).json
    assert made["public"] is True and made["client_secret"] == ""  # type: ignore[index]
    assert browser.get(f"/v1/oauth_applications/{made['id']}", headers=KEY).json["name"] == "x"  # type: ignore[index]
    assert browser.get("/v1/oauth_applications/none", headers=KEY).status_code == 404
    assert browser.get("/v1/oauth_applications", headers=KEY).json["total_count"] == 4  # type: ignore[index]
    application = browser.get("/v1/oauth_applications/oauthapp_2vGtDemoWithJwtTokens000000", headers=KEY).json
    assert "client_secret" not in application  # type: ignore[operator]


def test_a_token_minted_by_the_control_is_known_to_introspection(browser: FlaskClient) -> None:
    for client_id in (OPAQUE_APP, JWT_APP):
        minted = browser.post("/__dev/tokens", json={"kind": "oauth", "person": "bob", "client_id": client_id}).json
        told = browser.post("/oauth/token_info", data={"token": minted["token"]}, headers=basic(client_id)).json  # type: ignore[index]
        assert told["active"] is True and told["sub"] == people.BOB.user_id  # type: ignore[index]
    wanted = {"kind": "oauth", "person": "bob", "client_id": OPAQUE_APP, "flaw": "expired"}
    assert browser.post("/__dev/tokens", json=wanted).status_code == 422
    with_audience = {"kind": "oauth", "person": "bob", "audience": ["https://api.example"]}
    text = browser.post("/__dev/tokens", json=with_audience).json["jwt"]  # type: ignore[index]
    said = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    assert said["aud"] == ["https://api.example"]


def test_the_challenge_is_that_of_the_rfc() -> None:
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == CHALLENGE
