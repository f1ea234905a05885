"""A browser for the tests: the system's Chromium against a stack of real processes, with one visitor per person.

Laws:  1. Whatever the console writes to the browser's console as an error, every violation of the policy and every
       uncaught exception fails the test.
Not here: the browser itself (tests.conftest).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from devstack.postgres import Postgres
from devstack.valkey import Valkey
from tests.browser.stack import Stack

# A browser reports each refused form or page as a failed resource; that the server refuses is what a test asks for.
_EXPECTED = re.compile(r"Failed to load resource: .* with a status of 4\d\d|Response Status Error Code 4")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def stack(chromium: str, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Console, two edge workers, stand-in and origin; alice's tenant `demo` and charlie's `charlie-labs` exist."""
    folder = tmp_path_factory.mktemp("browser")
    with Valkey(folder / "valkey", aof=False) as valkey, Stack(folder, postgres, valkey) as running:
        running.seed()
        yield running


class Visitor:
    """One person at one browser, and all that went wrong on their screen."""

    def __init__(self, stack: Stack, context: BrowserContext) -> None:
        self.stack, self.context = stack, context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _EXPECTED.search(message.text):
            self.complaints.append(f"{message.type}: {message.text} at {self.page.url}")

    def url(self, path: str) -> str:
        return self.stack.console_url + path

    def go(self, path: str) -> Any:
        return self.page.goto(self.url(path))

    def sign_in(self, person: str) -> Page:
        self.go("/")
        self.page.click(f'[data-person="{person}"]')
        self.page.wait_for_url(re.compile("/t/|/welcome"))
        return self.page

    def has_focus(self, selector: str) -> bool:
        """Whether the focus comes to rest there: it moves a moment after the page has changed."""
        script = "(selector) => document.activeElement?.matches(selector)"
        try:
            self.page.wait_for_function(script, arg=selector, timeout=5_000)
        except PlaywrightTimeout:
            return False
        return True

    def toast(self) -> str:
        return self.page.locator("[data-toast]").last.inner_text()


Visit = Callable[..., Visitor]


@pytest.fixture(scope="session")
def signed_in(real_browser: Browser, stack: Stack) -> Callable[[str], Any]:
    """Give a person's cookies; they sign in once for all tests."""
    states: dict[str, Any] = {}

    def state_of(person: str) -> Any:
        if person not in states:
            with closing(real_browser.new_context()) as context:
                Visitor(stack, context).sign_in(person)
                states[person] = context.storage_state()
        return states[person]

    return state_of


@pytest.fixture
def visit(real_browser: Browser, stack: Stack, signed_in: Callable[[str], Any]) -> Iterator[Visit]:
    """visit(person=None, scripts=True, theme="light", width=1280) -> Visitor, at their first page when signed in."""
    visitors: list[Visitor] = []

    def arrive(person: str | None = None, *, scripts: bool = True, theme: str = "light", width: int = 1280) -> Visitor:
        context = real_browser.new_context(
            color_scheme=theme,  # type: ignore[arg-type]
            java_script_enabled=scripts,
            viewport={"width": width, "height": 800},
            storage_state=None if person is None else signed_in(person),
        )
        visitor = Visitor(stack, context)
        visitors.append(visitor)
        if person is not None:
            visitor.go("/")
        return visitor

    yield arrive
    for visitor in visitors:
        visitor.context.close()
    assert [complaint for visitor in visitors for complaint in visitor.complaints] == []
