"""Every task is done with scripts off: plain forms, answers that lead to pages."""

from __future__ import annotations

import re

from tests.browser.conftest import Visit
from tests.browser.stack import Stack


def test_alice_works_with_scripts_off(visit: Visit, stack: Stack) -> None:
    alice = visit(scripts=False)
    page = alice.page
    alice.go("/")
    page.click("text=Continue on the sign-in page")
    page.click("button:has-text('Alice')")
    page.wait_for_url("**/t/demo/")
    assert page.locator(".needs-js:visible").count() == 0

    alice.go("/t/demo/origins/new")
    page.fill("#name", "plain")
    page.fill("#url", stack.origin_url)
    page.fill("#timeout_seconds", "9999")
    page.click("button:has-text('Create origin')")
    assert "Timeout seconds: must be at most 300" in page.inner_text("[data-form-problems]")
    page.fill("#timeout_seconds", "20")
    page.click("button:has-text('Create origin')")
    assert "Origin plain created" in alice.toast()

    alice.go("/t/demo/routes/new")
    page.fill("#path_pattern", "/plain/*")
    page.select_option("#origin_id", label="plain")
    assert page.is_hidden("#ttl_seconds")
    page.check("#cache_enabled")
    assert page.is_visible("#ttl_seconds")
    page.click("button:has-text('Create route')")
    assert "Answers are stored for 5 minutes" in page.inner_text("main")
    page.click("main .actions >> text=Edit")
    page.uncheck("#cache_enabled")
    page.click("button:has-text('Save changes')")
    assert "Answers are not stored" in page.inner_text("main")
    page.click("main .actions >> text=Delete")
    page.click("button:has-text('Delete route')")
    assert "Route /plain/* deleted" in alice.toast()

    alice.go("/t/demo/keys/new")
    page.fill("#name", "plain-key")
    page.click("button:has-text('Create key')")
    key = page.inner_text("#new-key").strip()
    assert key.startswith("ve_live_")
    page.reload()  # the browser sends the form again
    assert key not in page.content()
    assert "made already" in alice.toast()
    assert page.locator("tr", has_text="plain-key").count() == 1
    page.locator("tr", has_text="plain-key").get_by_role("link", name="Revoke").click()
    page.fill("#typed_name", "plain-key")
    page.click("button:has-text('Revoke key')")
    assert "Key plain-key revoked" in alice.toast()

    page.click("[aria-label='Sign out']")
    assert re.search("/sign-in", page.url)
