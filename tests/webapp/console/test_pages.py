"""Pages of the console that are asked for what no link or form of theirs asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client

from tests.webapp.cast import Person, session_token
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
