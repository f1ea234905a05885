"""An origin's TLS settings on its page and in its form."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client, TestResponse

from contracts import sealing
from tests.origins.authority import Authority
from tests.webapp.cast import Person, an_origin, session_token
from webapp.services.actor import Actor

HTMX = {"HX-Request": "true", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}
CA = Authority()
CLIENT = CA.issue("gateway.test")


@pytest.fixture
def browser(app: Flask, demo: Actor) -> Iterator[Client]:
    before = app.extensions["vantageedge.settings"]
    keys = sealing.parse_keys("1:" + "5a" * 32)
    app.extensions["vantageedge.settings"] = dataclasses.replace(before, sealing_keys=keys)
    with app.test_client() as client:
        client.set_cookie("__session", session_token("alice"))
        client.set_cookie("__client_uat", "1")
        yield client
    app.extensions["vantageedge.settings"] = before


def submit(browser: Client, path: str, **fields: Any) -> TestResponse:
    form = browser.get(f"/t/demo/{path}", headers=HTMX).text
    token = form.partition('name="csrf_token" value="')[2][:64]
    etag = form.partition('name="etag" value="')[2].partition('"')[0]
    base = {"name": "api-backend", "url": "https://api.example.com", "csrf_token": token, "etag": etag}
    return browser.post(f"/t/demo/{path}", data={**base, **fields}, headers=HTMX)


def test_settings_are_made_shown_kept_and_cleared(browser: Client, alice: Person) -> None:
    windows = CA.certificate.replace("\n", "\r\n")
    given = {"tls_client_certificate": CLIENT.certificate, "tls_client_key": CLIENT.key}
    made = submit(browser, "origins/new", tls_ca_certificates=windows, tls_server_name="a.test", **given)
    assert made.status_code == 204 or made.headers.get("HX-Redirect") or made.status_code == 302, made.text
    (origin,) = alice.get("/origins").get_json()["items"]
    assert origin["tls"]["ca_certificates"] == CA.certificate
    page = browser.get(f"/t/demo/origins/{origin['id']}", headers=HTMX).text
    assert "the origin's own authorities, as <code>a.test</code>" in html.unescape(page)
    assert "<dt>Client certificate</dt><dd>expires <time" in page
    edit = f"origins/{origin['id']}/edit"
    form = html.unescape(browser.get(f"/t/demo/{edit}", headers=HTMX).text)
    assert CLIENT.certificate.strip() in form
    assert CLIENT.key.splitlines()[1] not in form
    assert "it stays while this is empty" in form
    submit(browser, edit, tls_client_certificate=CLIENT.certificate, tls_server_name="b.test")
    kept = alice.get(f"/origins/{origin['id']}").get_json()["tls"]
    assert (kept["server_name"], kept["ca_certificates"]) == ("b.test", None)
    assert kept["client_certificate"] == CLIENT.certificate
    submit(browser, edit)
    assert alice.get(f"/origins/{origin['id']}").get_json()["tls"] is None


def test_a_refused_form_names_the_control_and_never_gives_the_key_back(browser: Client, alice: Person) -> None:
    other = CA.issue("other.test")
    given = {"tls_client_certificate": CLIENT.certificate, "tls_client_key": other.key}
    answer = submit(browser, "origins/new", **given)
    assert answer.status_code == 422
    assert 'id="tls_client_key-error"' in answer.text
    assert "not the key of the client certificate" in html.unescape(answer.text)
    assert CLIENT.certificate.strip() in html.unescape(answer.text)
    assert other.key.splitlines()[1] not in answer.text
    for control, value in (("tls_ca_certificates", "x"), ("tls_server_name", "a b"), ("tls_client_certificate", "x")):
        answer = submit(browser, "origins/new", **{control: value})
        assert answer.status_code == 422
        assert f'id="{control}-error"' in answer.text
    assert alice.get("/origins").get_json()["items"] == []


def test_an_origin_without_settings_says_so(browser: Client, alice: Person) -> None:
    origin = alice.make("/origins", an_origin())
    page = browser.get(f"/t/demo/origins/{origin['id']}", headers=HTMX).text
    assert "verified by the system's authorities" in html.unescape(page)
    assert "Client certificate" not in page
    plain = alice.make("/origins", an_origin(name="plain", url="http://plain.example.com"))
    page = browser.get(f"/t/demo/origins/{plain['id']}", headers=HTMX).text
    assert '<dt>TLS</dt><dd><span class="muted">none</span></dd>' in page
