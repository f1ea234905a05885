"""axe finds nothing to complain about on any page, in either theme; nothing runs out of a narrow screen."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import Visit, Visitor
from tests.browser.stack import Stack
from tests.origins.authority import Authority


@pytest.fixture(scope="module")
def furnished(stack: Stack) -> dict[str, str]:
    origin_id = stack.origin("accessible")
    limit = {"requests_per_second": 100, "burst": 200}
    cache = {"enabled": True, "ttl_seconds": 300, "cache_key_pattern": "path+query"}
    route_id = stack.route("/accessible/{id}", origin_id, name="seen", rate_limit=limit, cache_policy=cache)
    stack.route("/accessible/off", origin_id, enabled=False, auth_mode="apikey_required", required_scopes=["read"])
    key = stack.api("alice", "POST", "/api-keys", {"name": "accessible", "scopes": ["read", "write"]})
    authority = Authority()
    client = authority.issue("client.test")
    tls = {"ca_certificates": authority.certificate, "server_name": "origin.internal.example.com"}
    tls |= {"client_certificate": client.certificate, "client_key": client.key}
    secured = stack.api("alice", "POST", "/origins", {"name": "secured", "url": "https://api.example.com", "tls": tls})
    return {"origin": origin_id, "secured": secured["id"], "route": route_id, "key": key["id"]}


PAGES = (
    "", "origins", "origins/new", "origins/{origin}", "origins/{origin}/edit", "origins/{origin}/delete",
    "origins/{secured}", "origins/{secured}/edit",
    "routes", "routes?q=nothing-fits", "routes/new", "routes/{route}", "routes/{route}/edit", "routes/{route}/delete",
    "keys", "keys/new", "keys/import", "keys/{key}/revoke", "cache", "config", "no-such-page",
)  # fmt: skip


def _complaints(visitor: Visitor, theme: str = "light") -> list[str]:
    """All rules in the light theme; in the dark one, what differs there: colours."""
    options = {"runOnly": ["color-contrast", "link-in-text-block"]} if theme == "dark" else None
    found = Axe().run(visitor.page, options=options).response["violations"]
    return [f"{visitor.page.url} {item['id']}: {[node['html'][:160] for node in item['nodes']][:3]}" for item in found]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_of_a_tenant_has_a_violation(visit: Visit, furnished: dict[str, str], theme: str) -> None:
    alice = visit("alice", theme=theme)
    complaints = []
    for path in PAGES:
        alice.go("/t/demo/" + path.format(**furnished))
        complaints += _complaints(alice, theme)
    alice.go("/t/demo/origins/new")
    alice.page.click("button:has-text('Create origin')")
    alice.page.wait_for_selector("[data-form-problems]")
    complaints += _complaints(alice, theme)
    alice.go("/t/demo/keys/new")
    alice.page.fill("#name", f"seen-{theme}")
    alice.page.click("button:has-text('Create key')")
    alice.page.wait_for_selector("dialog[open] #new-key")
    complaints += _complaints(alice, theme)
    assert complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_outside_a_tenant_have_none_either(visit: Visit, theme: str) -> None:
    visitor = visit(theme=theme)
    visitor.go("/sign-in")
    visitor.page.wait_for_selector("[data-person]")
    assert _complaints(visitor, theme) == []
    visitor.sign_in("charlie")
    visitor.go("/t/demo/")
    assert _complaints(visitor, theme) == []


def test_nothing_runs_out_of_a_narrow_screen(visit: Visit, furnished: dict[str, str]) -> None:
    alice = visit("alice", width=360)
    for path in PAGES:
        alice.go("/t/demo/" + path.format(**furnished))
        width = alice.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, f"{path} is {width} px wide"
    alice.go("/t/demo/")
    assert alice.page.is_hidden("nav[aria-label=Main]")
    alice.page.click("label[for=menu-box]")
    assert alice.page.is_visible("nav[aria-label=Main]")
