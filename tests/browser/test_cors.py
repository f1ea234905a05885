"""A page of another origin in a real browser: it reads what a route allows, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.stack import Stack

_FETCH = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        const text = await answer.text();
        return {status: answer.status, text, id: answer.headers.get("x-request-id"), via: answer.headers.get("via")};
    } catch (error) { return {blocked: error.name}; }
}"""
KEY = {"X-API-Key": "cors-browser-key-1"}


def page_origin(stack: Stack) -> str:
    """Give the origin of the page: the demo's origin by another name, so that it shares a site with the edge (and its
    cookies) and is another origin all the same."""
    return f"http://{urlsplit(stack.edge_url).hostname}:{urlsplit(stack.origin_url).port}"


@pytest.fixture(scope="module")
def routes(stack: Stack) -> None:
    """What the page may and may not call."""
    origin = stack.origin("cors-backend")
    page = page_origin(stack)
    keyed = {"auth_mode": "apikey_required", "forward_credential": False}
    cors = {"allow_origins": [page], "allow_headers": ["x-api-key"], "allow_credentials": True,
            "expose_headers": ["x-request-id"]}  # fmt: skip
    stack.route("/cors/with/*", origin, rewrite={"strip_prefix": "/cors/with"}, cors=cors, **keyed)
    stack.route("/cors/without/*", origin, rewrite={"strip_prefix": "/cors/without"}, **keyed)
    other = {**cors, "allow_origins": ["https://other.example"]}
    stack.route("/cors/other/*", origin, rewrite={"strip_prefix": "/cors/other"}, cors=other, **keyed)
    everybody = {"allow_origins": ["*"], "allow_headers": ["*"]}
    stack.route("/cors/all/*", origin, rewrite={"strip_prefix": "/cors/all"}, cors=everybody)
    stack.api(
        "alice", "POST", "/api-keys/import", {"name": "cors", "key": KEY["X-API-Key"], "scopes": ["read", "write"]}
    )


@pytest.fixture
def page(stack: Stack, routes: None, real_browser: Browser) -> Iterator[Page]:
    context = real_browser.new_context()
    host = urlsplit(stack.edge_url).hostname or ""
    context.add_cookies([
        {"name": "seen", "value": "yes", "domain": host, "path": "/", "sameSite": "Lax"}
    ])  # fmt: skip
    opened = context.new_page()
    opened.goto(f"{page_origin(stack)}/health")
    yield opened
    context.close()


def fetched(page: Page, url: str, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = page.evaluate(_FETCH, [url, options])
    return result


def test_a_page_calls_a_route_that_allows_it_with_key_and_cookies(page: Page, stack: Stack) -> None:
    url = f"{stack.edge_url}/cors/with/anything"
    answer = fetched(page, url, method="PUT", headers=KEY, credentials="include")
    assert answer.get("status") == 200, answer
    assert "seen=yes" in answer["text"]
    assert answer["id"], "exposed"
    assert answer["via"] is None, "not exposed"


def test_it_can_read_why_it_was_refused(page: Page, stack: Stack) -> None:
    url = f"{stack.edge_url}/cors/with/anything"
    answer = fetched(page, url, headers={"X-API-Key": "a-wrong-key-123"}, credentials="include")
    assert answer.get("status") == 401, answer
    assert "credentials-invalid" in answer["text"]


@pytest.mark.parametrize("path", ["/cors/without/anything", "/cors/other/anything"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_it_reads_nothing_of_a_route_that_does_not_allow_it(page: Page, stack: Stack, path: str, method: str) -> None:
    assert fetched(page, stack.edge_url + path, method=method, headers=KEY) == {"blocked": "TypeError"}


def test_it_may_not_use_a_header_or_credentials_that_are_not_allowed(page: Page, stack: Stack) -> None:
    url = f"{stack.edge_url}/cors/with/anything"
    assert fetched(page, url, headers={**KEY, "X-Other": "1"}) == {"blocked": "TypeError"}
    everybody = f"{stack.edge_url}/cors/all/anything"
    assert fetched(page, everybody, credentials="include") == {"blocked": "TypeError"}
    assert fetched(page, everybody, method="DELETE", headers={"X-Any": "1", "Authorization": "x"})["status"] == 200
