"""A session's minute passes; the theme stays; the way back never leads away."""

from __future__ import annotations

from playwright.sync_api import Response

from tests.browser.conftest import Visit
from tests.browser.stack import Stack


def test_a_session_that_ran_out_in_the_middle_of_a_form_loses_nothing(visit: Visit, stack: Stack) -> None:
    alice = visit("alice")
    page = alice.page
    alice.go("/t/demo/origins/new")
    page.fill("#name", "typed-slowly")
    page.fill("#url", stack.origin_url)
    page.wait_for_function("window.Clerk && window.Clerk.session")
    answers: list[int] = []

    def heard(answer: Response) -> None:
        if answer.request.method == "POST" and "/origins" in answer.url:
            answers.append(answer.status)

    page.on("response", heard)
    # What the console sees when the minute is over, while the script still holds a token it thinks is fresh.
    page.evaluate(
        """() => { for (const name of document.cookie.split("; ").map((pair) => pair.split("=")[0]))
            if (name.startsWith("__session")) document.cookie = `${name}=; path=/; max-age=0`; }"""
    )
    page.click("button:has-text('Create origin')")
    page.wait_for_url("**/t/demo/origins")
    assert "Origin typed-slowly created" in alice.toast()
    assert answers == [401, 204]


def test_without_scripts_the_form_waits_for_a_renewed_session(visit: Visit, stack: Stack) -> None:
    alice = visit(scripts=False)
    page = alice.page
    alice.go("/")
    page.click("text=Continue on the sign-in page")
    page.click("button:has-text('Alice')")
    page.wait_for_url("**/t/demo/")
    alice.go("/t/demo/origins/new")
    page.fill("#name", "typed-very-slowly")
    page.fill("#url", stack.origin_url)
    alice.context.clear_cookies(name="__session")
    for cookie in alice.context.cookies():
        if cookie["name"].startswith("__session"):
            alice.context.clear_cookies(name=cookie["name"])
    page.click("button:has-text('Create origin')")
    assert "nothing you typed is lost" in page.inner_text("main")
    with alice.context.expect_page() as opened:
        page.click("text=Renew the session")
    opened.value.wait_for_load_state()
    assert "renewed" in opened.value.inner_text("main")
    page.click("button:has-text('Send the form again')")
    page.wait_for_url("**/t/demo/origins")
    assert "Origin typed-very-slowly created" in alice.toast()


def test_the_theme_follows_the_system_until_one_is_chosen_and_is_remembered(visit: Visit) -> None:
    alice = visit("alice", theme="dark")
    page = alice.page
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("[data-theme-choice=light]")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light
    assert page.get_attribute("[data-theme-choice=light]", "aria-pressed") == "true"


def test_next_leads_to_no_other_site(visit: Visit) -> None:
    visitor = visit()
    visitor.go("/sign-in?next=//evil.example/")
    assert visitor.page.get_attribute("[data-clerk-sign-in]", "data-next") == "/"
