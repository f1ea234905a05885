"""devstack.clerk.app: the pages, the Backend API, the controls, and where the stand-in refuses to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from devstack.child import DevstackError
from devstack.clerk import people
from devstack.clerk.app import create_app

KEY = {"Authorization": f"Bearer {people.SECRET_KEY}"}


def test_it_refuses_production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VANTAGEEDGE_ENV", "production")
    with pytest.raises(DevstackError, match="never runs with VANTAGEEDGE_ENV=production"):
        create_app(tmp_path, "127.0.0.1:8081", "http://localhost:8080")


def test_a_foreign_host_name_is_refused(browser: FlaskClient) -> None:
    assert browser.get("/v1/client", headers={"Host": "rebound.example"}).status_code == 400


def test_the_sign_in_page_lists_the_cast_without_any_script(browser: FlaskClient) -> None:
    page = browser.get("/sign-in?redirect_url=http://localhost:8080/t/demo")
    for person in people.PEOPLE.values():
        assert person.email in page.text
    assert "<script" not in page.text and "style=" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    answer = browser.post("/sign-in", data={"person": "bob", "redirect_url": "http://localhost:8080/t/demo"})
    assert answer.headers["Location"].startswith("http://localhost:8080/t/demo?__clerk_db_jwt=dvb_")
    assert "signed in" in browser.get("/sign-in").text


def test_a_foreign_page_cannot_sign_anybody_in(browser: FlaskClient) -> None:
    foreign = {"Origin": "http://localhost:9999"}
    assert browser.post("/sign-in", data={"person": "bob"}, headers=foreign).status_code == 403
    assert browser.post("/__dev/tokens", json={"person": "bob"}, headers=foreign).status_code == 403


def test_the_browser_script_knows_its_instance(browser: FlaskClient) -> None:
    script = browser.get("/npm/@clerk/clerk-js@6/dist/clerk.browser.js")
    assert script.mimetype == "text/javascript"
    assert "http://127.0.0.1:8081" in script.text
    assert "%FAPI_URL%" not in script.text and "%COOKIE_SUFFIX%" not in script.text


def test_the_backend_api_asks_for_the_secret_key(browser: FlaskClient) -> None:
    path = f"/v1/users/{people.ALICE.user_id}"
    assert browser.get(path).status_code == 401
    assert browser.get(path, headers={"Authorization": "Bearer sk_test_guess"}).status_code == 401
    assert browser.get(path, headers=KEY).json["first_name"] == "Alice"  # type: ignore[index]
    assert browser.get("/v1/users/user_none", headers=KEY).status_code == 404


def test_the_backend_api_lists_members_in_pages(browser: FlaskClient) -> None:
    path = f"/v1/organizations/{people.DEMO_COMPANY.org_id}/memberships"
    whole = browser.get(path, headers=KEY).json
    assert whole["total_count"] == 2  # type: ignore[index]
    assert [each["role"] for each in whole["data"]] == ["org:admin", "org:member"]  # type: ignore[index]
    page = browser.get(f"{path}?limit=1&offset=1", headers=KEY).json
    assert [each["public_user_data"]["user_id"] for each in page["data"]] == [people.BOB.user_id]  # type: ignore[index]
    assert browser.get("/v1/organizations/demo-company", headers=KEY).json["name"] == "Demo Company"  # type: ignore[index]


def test_a_revoked_session_gives_no_more_tokens(browser: FlaskClient) -> None:
    answer = browser.post("/v1/client/sign_ins", data={"identifier": "alice"})
    session_id = answer.json["client"]["last_active_session_id"]  # type: ignore[index]
    assert browser.post(f"/v1/sessions/{session_id}/revoke", headers=KEY).json["status"] == "revoked"  # type: ignore[index]
    assert browser.post(f"/v1/client/sessions/{session_id}/tokens").status_code == 401


def test_an_outage_is_switched_on_and_off(browser: FlaskClient) -> None:
    browser.post("/__dev/outage?mode=error")
    assert browser.get("/.well-known/jwks.json").status_code == 503
    browser.post("/__dev/outage?mode=garbage")
    assert browser.get("/.well-known/jwks.json").mimetype == "text/html"
    browser.post("/__dev/outage?mode=off")
    assert browser.get("/.well-known/jwks.json").status_code == 200


def test_the_signing_key_is_private_and_survives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "clerk"
    first = create_app(folder, "127.0.0.1:8081", "http://localhost:8080").extensions["clerk_instance"].keys
    second = create_app(folder, "127.0.0.1:8081", "http://localhost:8080").extensions["clerk_instance"].keys
    assert first.jwks() == second.jwks()
    assert (folder / "signing-key.pem").stat().st_mode & 0o077 == 0
    (folder / "signing-key.pem").write_text("-----BEGIN half a key")
    third = create_app(folder, "127.0.0.1:8081", "http://localhost:8080").extensions["clerk_instance"].keys
    assert third.jwks() != second.jwks()
