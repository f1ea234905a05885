"""Pages of the console that are asked for what no link or form of theirs asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client

from tests.webapp.cast import Person, a_route, an_issuer, an_origin, session_token
from webapp.services.actor import Actor

HTMX = {"HX-Request": "true", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def browser(app: Flask, demo: Actor) -> Iterator[Client]:
    with app.test_client() as client:
        client.set_cookie("__session", session_token("alice"))
        client.set_cookie("__client_uat", "1")
        yield client


@pytest.mark.parametrize("path", ["origins?cursor=x", "keys?cursor=x", "keys?cursor=" + "A" * 300])
def test_a_cursor_that_is_none_is_refused_and_named(browser: Client, path: str) -> None:
    answer = browser.get(f"/t/demo/{path}", headers=HTMX)
    assert answer.status_code == 422
    assert "cursor" in answer.text


def test_a_version_beyond_all_versions_is_the_first_page(browser: Client) -> None:
    assert browser.get(f"/t/demo/config?cursor={2**64}", headers=HTMX).status_code == 200


def test_what_only_looks_like_a_number_of_days_never_ends_in_an_error(browser: Client, alice: Person) -> None:
    token = browser.get("/t/demo/keys/new", headers=HTMX).text.partition('name="csrf_token" value="')[2][:64]
    fields: dict[str, Any] = {"name": "k", "expires_in": "\u00b2", "csrf_token": token}
    assert browser.post("/t/demo/keys/new", data=fields, headers=HTMX).status_code < 500


ACCESS: dict[str, Any] = {
    "auth_mode": "any",
    "accept": ["jwt", "oauth", "apikey"],
    "required_roles": ["org:admin"],
    "required_permissions": ["org:invoices:create"],
    "cors": {"allow_origins": ["https://app.example.com"], "allow_credentials": True},
    "addresses": {"allow": ["192.0.2.0/24"], "deny": []},
    "identity_token": True,
}


def _fields(page: str) -> dict[str, Any]:
    """Read the editor's controls as a browser would send them back."""
    found: dict[str, Any] = {}
    for tag in re.findall(r"<(?:input|option)[^>]*>", page):
        value = re.search(r'value="([^"]*)"', tag)
        name = re.search(r'name="([^"]*)"', tag)
        kind = re.search(r'type="([^"]*)"', tag)
        if name and (kind is None or kind[1] not in ("radio", "checkbox") or " checked" in tag):
            found[name[1]] = value[1] if value else "on"
    return found


def test_the_editor_keeps_what_it_does_not_show(browser: Client, alice: Person) -> None:
    issuer = alice.make("/issuers", an_issuer())["id"]
    origin = alice.make("/origins", an_origin())["id"]
    made = alice.make("/routes", a_route(origin, cache_policy=None, issuers=[issuer], **ACCESS))
    page = browser.get(f"/t/demo/routes/{made['id']}/edit").text
    assert "session token, OAuth token, API key, set through the API" in page
    assert "Only clients from 1 network may call it." in page
    fields = {
        **_fields(page),
        "origin_id": origin,
        "limit_scope": "route",
        "on_store_failure": "share",
        "name": "shown",
    }
    typed = browser.post(f"/t/demo/routes/summary?route_id={made['id']}", data=fields, headers=HTMX).text
    assert "Users need the role org:admin" in typed
    assert "several kinds" in browser.post("/t/demo/routes/summary", data=fields, headers=HTMX).text
    answer = browser.post(f"/t/demo/routes/{made['id']}/edit", data=fields, headers=HTMX)
    assert answer.status_code in (200, 204, 302, 303), answer.text
    after = alice.get(f"/routes/{made['id']}").get_json()
    assert after["name"] == "shown"
    assert {name for name in after if after[name] != made[name]} == {"name", "row_version", "updated_at"}
    listed = browser.get("/t/demo/routes").text
    assert "several kinds" in listed


@pytest.mark.parametrize("mode", ["oauth_required", "service_required"])
def test_the_pages_have_words_for_every_mode(browser: Client, alice: Person, mode: str) -> None:
    made = alice.make("/routes", a_route(alice.make("/origins", an_origin())["id"], auth_mode=mode))
    for path in ("routes", f"routes/{made['id']}", f"routes/{made['id']}/edit", "keys", ""):
        assert browser.get(f"/t/demo/{path}").status_code == 200, path
