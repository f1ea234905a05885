"""From an organisation without a tenant to the checklist of an empty one, as charlie does it."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Visit


@pytest.mark.parametrize("subdomain", ["www", "Not A Name", "demo", ""])
def test_a_subdomain_that_cannot_be_had_is_refused_by_name(visit: Visit, subdomain: str) -> None:
    charlie = visit("charlie")
    assert "/welcome" in charlie.page.url
    charlie.page.fill("#name", "Charlie Labs")
    charlie.page.fill("#subdomain", subdomain)
    charlie.page.click("button:has-text('Create gateway')")
    charlie.page.wait_for_selector("#subdomain-error")
    assert charlie.page.input_value("#name") == "Charlie Labs"
    assert charlie.has_focus("#subdomain")


def test_charlie_creates_a_gateway_and_is_told_what_to_do_next(visit: Visit) -> None:
    charlie = visit("charlie")
    page = charlie.page
    page.fill("#name", "Charlie Labs")
    page.fill("#subdomain", "charlie-labs")
    page.click("button:has-text('Create gateway')")
    page.wait_for_url("**/t/charlie-labs/")
    assert "1 of 3 done" in page.inner_text("main")
    assert "live on 2 of 2 edges" in page.inner_text("main")
    charlie.go("/t/charlie-labs/routes")
    page.get_by_role("link", name="Create an origin").click()
    assert page.url.endswith("/t/charlie-labs/origins/new")
    charlie.go("/welcome")
    assert page.url.endswith("/t/charlie-labs/")
