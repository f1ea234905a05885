"""From an empty tenant to a proxied request, as alice does it in the console."""

from __future__ import annotations

import re

import requests

from tests.browser.conftest import Visit
from tests.browser.stack import Stack


def test_alice_makes_an_origin_a_route_and_a_key_and_a_request_flows_through_the_edge(
    visit: Visit, stack: Stack
) -> None:
    alice = visit("alice")
    page = alice.page
    page.click("nav >> text=Origins")
    page.click("main >> text=/New origin|Create the first origin/")
    page.fill("#name", "journey-origin")
    page.fill("#url", stack.origin_url)
    page.click("button:has-text('Create origin')")
    page.wait_for_url("**/t/demo/origins")
    assert "Origin journey-origin created" in alice.toast()
    assert "live on 2 of 2 edges" in alice.toast()

    page.click("nav >> text=Routes")
    page.click("main >> text=/New route|Create the first route/")
    page.fill("#path_pattern", "/journey/*")
    page.check("[name=auth_mode][value=apikey_required]")
    page.fill("#required_scopes", "read")
    page.fill("#strip_prefix", "/journey")
    page.select_option("#origin_id", label="journey-origin")
    page.wait_for_selector("#summary >> text=Requests of any method to /journey and everything below it.")
    page.wait_for_selector("#summary >> text=one of your API keys; others get 401. They need the scope read")
    page.click("button:has-text('Create route')")
    page.wait_for_url(re.compile("/routes/[0-9a-f-]{36}$"))
    assert "Route /journey/* created" in alice.toast()

    page.click("nav >> text=API keys")
    page.click("main >> text=/New key|Create the first key/")
    page.fill("#name", "journey-key")
    page.fill("#scopes", "read")
    page.click("button:has-text('Create key')")
    page.wait_for_selector("dialog[open] #new-key")
    key = page.inner_text("#new-key").strip()
    assert key.startswith("ve_live_")
    assert f"X-API-Key: {key}" in page.inner_text("#new-key-curl")

    port = stack.demo.ports["EDGE_PORT"]
    sent = {"Host": f"demo.localhost:{port}", "X-API-Key": key}
    answer = requests.get(f"http://127.0.0.1:{port}/journey/posts/1", headers=sent, timeout=10)
    assert (answer.status_code, answer.json()["id"]) == (200, 1)
    refused = requests.get(f"http://127.0.0.1:{port}/journey/posts/1", headers={"Host": sent["Host"]}, timeout=10)
    assert refused.status_code == 401

    page.check("dialog input[type=checkbox]")
    page.click("dialog >> text=Done")
    page.wait_for_url("**/t/demo/keys*")
    page.go_back()
    page.reload()
    assert key not in page.content()


def test_a_key_is_seen_once_and_its_dialog_closes_only_when_it_was_stored(visit: Visit) -> None:
    alice = visit("alice")
    page = alice.page
    alice.go("/t/demo/keys/new")
    page.fill("#name", "once")
    page.click("button:has-text('Create key')")
    page.wait_for_selector("dialog[open] #new-key")
    key = page.inner_text("#new-key").strip()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 1
    page.click("dialog >> text=Done")  # the browser asks for the tick first
    assert page.locator("dialog[open]").count() == 1
    assert key not in page.url
    page.reload()
    assert key not in page.content()
    assert key not in (alice.go("/t/demo/keys").text())


def test_a_key_is_revoked_only_by_typing_its_name(visit: Visit, stack: Stack) -> None:
    stack.api("alice", "POST", "/api-keys", {"name": "to-be-revoked"})
    alice = visit("alice")
    page = alice.page
    alice.go("/t/demo/keys")
    row = page.locator("tr", has_text="to-be-revoked")
    row.get_by_role("link", name="Revoke").click()
    page.wait_for_selector("dialog[open] #typed_name")
    page.fill("#typed_name", "something else")
    page.click("dialog >> button:has-text('Revoke key')")
    page.wait_for_selector("#typed_name-error")
    assert alice.has_focus("#typed_name")
    page.fill("#typed_name", "to-be-revoked")
    page.click("dialog >> button:has-text('Revoke key')")
    page.wait_for_selector("[data-toast]")
    assert "Key to-be-revoked revoked" in alice.toast()
    assert "revoked" in row.inner_text()


def test_an_origin_in_use_is_not_deleted_and_the_dialog_names_its_routes(visit: Visit, stack: Stack) -> None:
    origin_id = stack.origin("in-use")
    stack.route("/in-use/*", origin_id)
    alice = visit("alice")
    alice.go(f"/t/demo/origins/{origin_id}")
    alice.page.click("main .actions >> text=Delete")
    alice.page.wait_for_selector("dialog[open]")
    assert "/in-use/*" in alice.page.inner_text("dialog")
    assert alice.page.locator("dialog >> button:has-text('Delete origin')").count() == 0
    alice.page.keyboard.press("Escape")
    assert alice.page.locator("dialog[open]").count() == 0
    assert alice.has_focus("main .actions > *")
    assert "Delete" in alice.page.evaluate("document.activeElement.innerText")


def test_a_route_is_switched_off_in_place_and_the_edge_obeys(visit: Visit, stack: Stack) -> None:
    stack.route("/switch/*", stack.origin("switched"), rewrite={"strip_prefix": "/switch"})
    alice = visit("alice")
    alice.go("/t/demo/routes?q=/switch")
    switch = alice.page.get_by_role("switch", name="/switch/* is on")
    switch.click()
    alice.page.wait_for_selector("[role=switch][aria-checked=false]")
    assert "Route /switch/* is off" in alice.toast()
    assert alice.has_focus("[role=switch]")
    port = stack.demo.ports["EDGE_PORT"]
    answer = requests.get(
        f"http://127.0.0.1:{port}/switch/posts/1", headers={"Host": f"demo.localhost:{port}"}, timeout=10
    )
    assert answer.status_code == 404


def test_wrong_fields_come_back_with_messages_and_the_first_has_the_focus(visit: Visit) -> None:
    alice = visit("alice")
    page = alice.page
    alice.go("/t/demo/origins/new")
    page.fill("#name", "wrong")
    page.fill("#url", "http://10.0.0.1")
    page.fill("#timeout_seconds", "soon")
    page.click("button:has-text('Create origin')")
    page.wait_for_selector("#timeout_seconds-error")
    assert page.inner_text("#timeout_seconds-error") == "Must be a number"
    assert alice.has_focus("#timeout_seconds")
    page.fill("#timeout_seconds", "30")
    page.click("button:has-text('Create origin')")
    page.wait_for_selector("#url-error")
    assert "not allowed" in page.inner_text("#url-error")
    assert page.input_value("#name") == "wrong"
    assert alice.has_focus("#url")


def test_two_editors_of_one_origin_do_not_overwrite_each_other(visit: Visit, stack: Stack) -> None:
    origin_id = stack.origin("edited-twice")
    alice = visit("alice")
    alice.go(f"/t/demo/origins/{origin_id}/edit")
    stack.api("alice", "POST", "/origins", {"name": "another", "url": stack.origin_url})
    other = alice.context.new_page()
    other.goto(alice.url(f"/t/demo/origins/{origin_id}/edit"))
    other.fill("#timeout_seconds", "11")
    other.click("button:has-text('Save changes')")
    other.wait_for_url(f"**/origins/{origin_id}")
    alice.page.fill("#timeout_seconds", "22")
    alice.page.click("button:has-text('Save changes')")
    alice.page.wait_for_selector("[data-form-problems]")
    assert "Somebody changed this" in alice.page.inner_text("[data-form-problems]")
    assert stack.api("alice", "GET", f"/origins/{origin_id}")["timeout_seconds"] == 11


def test_slash_finds_the_search_of_the_routes(visit: Visit, stack: Stack) -> None:
    stack.route("/findable/*", stack.origin("findable"))
    alice = visit("alice")
    alice.go("/t/demo/routes")
    alice.page.keyboard.press("/")
    alice.page.keyboard.type("findable")
    alice.page.keyboard.press("Enter")
    alice.page.wait_for_url("**q=findable")
    assert alice.page.locator("tbody tr").count() == 1


def test_limits_that_the_editor_has_no_controls_for_are_said_and_kept(visit: Visit, stack: Stack) -> None:
    bucket = {"name": "burst", "algorithm": "token_bucket", "requests_per_second": 5, "burst": 10, "scope": ["ip"]}
    window = {"name": "day", "algorithm": "sliding_window", "limit": 900, "window_seconds": 86_400, "scope": ["user"]}
    limits = {"policies": [bucket, window]}
    route_id = stack.route("/two-limits/*", stack.origin("limited"), rate_limit=limits)
    alice = visit("alice")
    alice.go(f"/t/demo/routes/{route_id}")
    said = "At most 5 requests per second for each address; bursts up to 10; more are answered 429. At most 900"
    assert said in alice.page.inner_text("main")
    alice.go(f"/t/demo/routes/{route_id}/edit")
    assert alice.page.locator("[name=limit_kind]:checked").input_value() == "keep"
    assert not alice.page.locator("#limit_scope").is_visible()
    alice.page.check("[name=limit_kind][value=token_bucket]")
    assert alice.page.locator("#limit_scope").is_visible()
    alice.page.check("[name=limit_kind][value=keep]")
    before = stack.api("alice", "GET", f"/routes/{route_id}")["rate_limit"]
    alice.page.click("button:has-text('Save changes')")
    alice.page.wait_for_url(re.compile("/routes/[0-9a-f-]{36}$"))
    assert stack.api("alice", "GET", f"/routes/{route_id}")["rate_limit"] == before
