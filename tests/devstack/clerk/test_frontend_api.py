"""devstack.clerk.frontend_api: sign in, tokens, organisations and the handshake as a browser and a server see them."""

from __future__ import annotations

import time
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

import jwt
from flask import Flask
from flask.testing import FlaskClient

from contracts import clerk
from devstack.clerk import people

CONSOLE = "http://localhost:8080"
EXPECTED = clerk.Expectation("http://127.0.0.1:8081", (CONSOLE,), azp_required=True)


def sign_in(browser: FlaskClient, name: str = "alice") -> str:
    answer = browser.post("/v1/client/sign_ins", data={"identifier": name})
    assert answer.status_code == 200
    return str(answer.json["client"]["last_active_session_id"])  # type: ignore[index]


def believe(browser: FlaskClient, token: str) -> clerk.Session:
    keys = clerk.parse_keyset(browser.get("/.well-known/jwks.json").data)
    return clerk.verify_session(token, keys, EXPECTED, time.time())


def handshake(browser: FlaskClient, query: str = "") -> tuple[dict[str, str], str]:
    """Give the cookies the directives set, and the address gone back to."""
    answer = browser.get(f"/v1/client/handshake?redirect_url={CONSOLE}/t/demo%3Fx%3D1{query}")
    assert answer.status_code == 307
    assert answer.headers["Cache-Control"] == "no-store"
    back = answer.headers["Location"]
    pem = browser.application.extensions["clerk_instance"].keys.public_pem()
    payload = jwt.decode(parse_qs(urlsplit(back).query)["__clerk_handshake"][0], pem, ["RS256"])
    cookies: dict[str, str] = {}
    for directive in payload["handshake"]:
        assert "Path=/" in directive and "SameSite=Lax" in directive
        cookies |= {name: morsel.value for name, morsel in SimpleCookie(directive).items()}
    return cookies, back


def test_a_session_gives_tokens_for_the_origin_that_asks(browser: FlaskClient) -> None:
    session_id = sign_in(browser)
    answer = browser.post(f"/v1/client/sessions/{session_id}/tokens", headers={"Origin": CONSOLE})
    assert believe(browser, answer.json["jwt"]).session_id == session_id  # type: ignore[index]
    assert answer.headers["Access-Control-Allow-Origin"] == CONSOLE
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    foreign = browser.post(f"/v1/client/sessions/{session_id}/tokens", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in foreign.headers


def test_a_signed_out_session_gives_none(browser: FlaskClient) -> None:
    session_id = sign_in(browser)
    assert browser.post("/v1/client/sessions?_method=DELETE").status_code == 200
    answer = browser.post(f"/v1/client/sessions/{session_id}/tokens")
    assert answer.status_code == 401
    assert answer.json["errors"][0]["code"] == "authentication_invalid"  # type: ignore[index]


def test_another_browser_has_no_part_in_the_session(app: Flask, browser: FlaskClient) -> None:
    session_id = sign_in(browser)
    stranger = app.test_client()
    assert stranger.post(f"/v1/client/sessions/{session_id}/tokens").status_code == 401
    assert stranger.get("/v1/client").json["response"] is None  # type: ignore[index]


def test_a_dev_browser_token_stands_for_the_cookie(app: Flask, browser: FlaskClient) -> None:
    token = browser.post("/v1/dev_browser").json["id"]  # type: ignore[index]
    browser.post(f"/v1/client/sign_ins?__clerk_db_jwt={token}", data={"identifier": "bob"})
    elsewhere = app.test_client()
    seen = elsewhere.get(f"/v1/client?__clerk_db_jwt={token}").json["response"]  # type: ignore[index]
    assert seen["sessions"][0]["user"]["id"] == people.BOB.user_id


def test_the_handshake_of_a_signed_in_browser_sets_a_session_the_console_believes(browser: FlaskClient) -> None:
    session_id = sign_in(browser)
    cookies, back = handshake(browser)
    session = believe(browser, cookies["__session"])
    suffix = people.cookie_suffix(people.publishable_key("127.0.0.1:8081"))
    assert session.session_id == session_id
    assert cookies[f"__session_{suffix}"] == cookies["__session"]
    assert int(cookies["__client_uat"]) <= session.issued_at
    assert back.startswith(f"{CONSOLE}/t/demo?x=1&__clerk_handshake=")


def test_the_handshake_of_a_stranger_clears_the_session(browser: FlaskClient) -> None:
    cookies, _ = handshake(browser)
    assert (cookies["__session"], cookies["__client_uat"]) == ("", "0")


def test_the_handshake_activates_the_organisation_asked_for(browser: FlaskClient) -> None:
    sign_in(browser)
    assert believe(browser, handshake(browser, "&organization_id=")[0]["__session"]).org_id is None
    cookies, _ = handshake(browser, "&organization_id=demo-company")
    assert believe(browser, cookies["__session"]).org_id == people.DEMO_COMPANY.org_id
    cookies, _ = handshake(browser, "&organization_id=charlie-labs")  # not hers: nothing changes
    assert believe(browser, cookies["__session"]).org_id == people.DEMO_COMPANY.org_id


def test_the_handshake_by_nonce_is_redeemed_once_at_the_backend(browser: FlaskClient) -> None:
    sign_in(browser)
    answer = browser.get(f"/v1/client/handshake?redirect_url={CONSOLE}/&format=nonce")
    nonce = parse_qs(urlsplit(answer.headers["Location"]).query)["__clerk_handshake_nonce"][0]
    key = {"Authorization": f"Bearer {people.SECRET_KEY}"}
    payload = browser.get(f"/v1/clients/handshake_payload?nonce={nonce}", headers=key)
    assert any(each.startswith("__session=ey") for each in payload.json["directives"])  # type: ignore[index]
    assert browser.get(f"/v1/clients/handshake_payload?nonce={nonce}", headers=key).status_code == 404


def test_nobody_is_sent_to_a_foreign_host(browser: FlaskClient) -> None:
    for target in ("https://evil.example/", "//evil.example", "javascript:alert(1)", "http://localhost@evil.example/"):
        assert browser.get("/v1/client/handshake", query_string={"redirect_url": target}).status_code == 400
        answer = browser.post("/sign-in", data={"person": "alice", "redirect_url": target})
        assert urlsplit(answer.headers["Location"]).netloc == "localhost:8080"


def test_switching_organisation_shows_in_the_next_token_only_where_one_is_a_member(browser: FlaskClient) -> None:
    session_id = sign_in(browser)
    path = f"/v1/client/sessions/{session_id}"
    assert browser.post(f"{path}/touch", data={"active_organization_id": ""}).status_code == 200
    answer = browser.post(f"{path}/tokens", headers={"Origin": CONSOLE})
    assert believe(browser, answer.json["jwt"]).org_id is None  # type: ignore[index]
    foreign = {"active_organization_id": people.CHARLIE_LABS.org_id}
    assert browser.post(f"{path}/touch", data=foreign).status_code == 404
    wanted = {"organization_id": people.CHARLIE_LABS.org_id}
    assert browser.post(f"{path}/tokens", data=wanted).status_code == 404
