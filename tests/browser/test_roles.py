"""What bob (a member) and charlie (a stranger) can and cannot do."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Visit, Visitor
from tests.browser.stack import Stack

READ = ("", "origins", "routes", "keys", "cache", "config")


def _post(visitor: Visitor, path: str, form: dict[str, str]) -> int:
    """Send a form the page does not offer, with the page's own cookies and token."""
    sent = visitor.page.evaluate(
        """async ([path, form]) => {
            const token = document.querySelector('input[name="csrf_token"]').value;
            const body = new URLSearchParams({...form, csrf_token: token});
            return (await fetch(path, {method: "POST", body, redirect: "manual"})).status;
        }""",
        [path, form],
    )
    return int(sent)


def test_bob_reads_everything_and_is_offered_no_write(visit: Visit, stack: Stack) -> None:
    route_id = stack.route("/bob/*", stack.origin("bob-reads"))
    bob = visit("bob")
    for path in READ:
        assert bob.go(f"/t/demo/{path}").status == 200
        assert bob.page.locator("main form[method=post], main a.button-primary").count() == 0
    assert bob.go(f"/t/demo/routes/{route_id}").status == 200
    assert bob.page.locator("main >> text=Edit").count() == 0


def test_the_server_refuses_bobs_writes_too(visit: Visit, stack: Stack) -> None:
    origin_id = stack.origin("bob-writes")
    route_id = stack.route("/bob-writes/*", origin_id)
    bob = visit("bob")
    assert bob.go("/t/demo/origins/new").status == 403
    bob.go("/t/demo/")
    assert _post(bob, "/t/demo/origins/new", {"name": "bobs", "url": stack.origin_url}) == 403
    assert _post(bob, f"/t/demo/origins/{origin_id}/delete", {}) == 403
    assert _post(bob, f"/t/demo/routes/{route_id}/toggle", {"enabled": "off"}) == 403
    alices = stack.api("alice", "POST", "/api-keys", {"name": "alices"})["id"]
    assert _post(bob, f"/t/demo/keys/{alices}/revoke", {}) == 403
    assert _post(bob, "/t/demo/cache", {"purge": "all"}) == 403


@pytest.mark.parametrize("path", READ)
def test_charlie_gets_the_404_of_a_tenant_that_does_not_exist(visit: Visit, path: str) -> None:
    charlie = visit("charlie")
    theirs = charlie.go(f"/t/demo/{path}")
    said = charlie.page.inner_text("main")
    nobodys = charlie.go(f"/t/no-such-tenant/{path}")
    assert (theirs.status, nobodys.status) == (404, 404)
    request_id = charlie.page.inner_text("main code")
    assert said.split("Request")[0] == charlie.page.inner_text("main").split("Request")[0]
    assert request_id not in said
    assert "Demo Company" not in said


def test_a_form_without_the_sessions_token_is_refused(visit: Visit) -> None:
    alice = visit("alice")
    status = alice.page.evaluate(
        """async () => (await fetch("/t/demo/origins/new", {method: "POST",
            body: new URLSearchParams({name: "forged", url: "https://example.com"})})).status"""
    )
    assert status == 403


def test_nobody_is_let_in_without_signing_in_and_comes_back_to_the_page_they_wanted(visit: Visit) -> None:
    stranger = visit()
    stranger.go("/t/demo/routes")
    assert "/sign-in?next=%2Ft%2Fdemo%2Froutes" in stranger.page.url
    stranger.page.click('[data-person="alice"]')
    stranger.page.wait_for_url("**/t/demo/routes")


def test_signing_out_ends_the_session_for_good(visit: Visit) -> None:
    alice = visit()
    alice.sign_in("alice")
    kept = alice.context.cookies()
    alice.page.click("[aria-label='Sign out']")
    alice.page.wait_for_url("**/sign-in?signed_out=*")
    assert "You are signed out" in alice.page.inner_text("main")
    alice.go("/t/demo/")
    assert "/sign-in" in alice.page.url
    thief = visit()
    thief.context.add_cookies([cookie for cookie in kept if cookie["name"].startswith(("__session", "__client_uat"))])  # type: ignore[arg-type]
    thief.go("/t/demo/")
    assert "/sign-in" in thief.page.url
