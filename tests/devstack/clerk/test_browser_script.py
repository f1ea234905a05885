"""The browser script in a real Chromium, on a console of another origin under a strict content security policy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from contracts import clerk
from devstack.clerk import people
from tests.devstack.serving import in_process

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Console</title>
<script defer data-clerk-publishable-key="pk" data-clerk-proxy-url="{fapi}"
 src="{fapi}/npm/@clerk/clerk-js@6/dist/clerk.browser.js"></script>
<script defer src="/start.js"></script><div id="sign-in"></div><div id="user"></div><div id="org"></div></html>"""
START = """addEventListener("load", async () => { await Clerk.load();
  if (Clerk.session) { Clerk.mountUserButton(document.getElementById("user"));
    Clerk.mountOrganizationSwitcher(document.getElementById("org"), { hidePersonal: true }); }
  else Clerk.mountSignIn(document.getElementById("sign-in"), { forceRedirectUrl: "/inside" });
  document.body.dataset.ready = "yes"; });"""


class Console:
    def __init__(self, fapi: str) -> None:
        policy = f"default-src 'none'; script-src 'self' {fapi}; connect-src 'self' {fapi}; style-src 'self'"

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                script = self.path.startswith("/start.js")
                body = (START if script else PAGE.replace("{fapi}", fapi)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/javascript" if script else "text/html")
                self.send_header("Content-Security-Policy", policy)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.origin = f"http://localhost:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def page(real_browser: Browser) -> Iterator[Page]:
    context = real_browser.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    yield page
    context.close()


@pytest.fixture
def fapi(tmp_path: Path) -> Iterator[str]:
    program = "from devstack.clerk.__main__ import main; main()"
    with in_process(program, "--port", "--folder", str(tmp_path / "clerk")) as url:
        yield url


@pytest.fixture
def console(fapi: str) -> Iterator[str]:
    served = Console(fapi)
    yield served.origin
    served.close()


def cookie(page: Page, name: str, host: str = "localhost") -> str:
    found = [each for each in page.context.cookies() if each["name"] == name and each["domain"] == host]
    return found[0]["value"] if found else ""


def believe(fapi: str, token: str, origin: str) -> clerk.Session:
    keys = clerk.parse_keyset(requests.get(f"{fapi}/.well-known/jwks.json", timeout=5).content)
    return clerk.verify_session(token, keys, clerk.Expectation(fapi, (origin,), azp_required=True), time.time())


def test_sign_in_switch_and_sign_out_without_breaking_the_policy(page: Page, fapi: str, console: str) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{console}/")
    page.get_by_role("button", name="Alice Archer").click()
    page.wait_for_url(f"{console}/inside")
    page.wait_for_selector("[data-ready]")
    session = believe(fapi, cookie(page, "__session"), console)
    assert (session.user_id, session.org_id) == (people.ALICE.user_id, people.DEMO_COMPANY.org_id)
    suffix = people.cookie_suffix(people.publishable_key(fapi.removeprefix("http://")))
    assert cookie(page, f"__session_{suffix}") == cookie(page, "__session")
    assert int(cookie(page, "__client_uat")) <= session.issued_at
    assert page.evaluate("Clerk.session.getToken({skipCache: true})").count(".") == 2

    page.evaluate("Clerk.setActive({organization: null})")
    assert believe(fapi, cookie(page, "__session"), console).org_id is None
    page.get_by_label("Organisation").select_option(label="Demo Company")
    deadline_mono = time.monotonic() + 10
    while page.evaluate("Clerk.organization ? Clerk.organization.slug : ''") != "demo-company":
        assert time.monotonic() < deadline_mono
        page.wait_for_timeout(50)

    page.get_by_role("button", name="Account of Alice Archer").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{console}/")
    expect(page.get_by_role("button", name="Bob Baker")).to_be_visible()
    assert cookie(page, "__session") == "" and cookie(page, "__client_uat") == "0"
    assert complaints == []


def test_the_portal_signs_in_and_comes_back(page: Page, fapi: str, console: str) -> None:
    page.goto(f"{fapi}/sign-in?redirect_url={console}/after")
    page.get_by_role("button", name="Bob Baker").click()
    page.wait_for_selector("[data-ready]")
    assert page.url == f"{console}/after"  # the dev-browser token has left the address
    assert believe(fapi, cookie(page, "__session"), console).user_id == people.BOB.user_id


def test_a_session_ended_elsewhere_ends_in_this_tab(page: Page, fapi: str, console: str) -> None:
    page.goto(f"{console}/")
    page.get_by_role("button", name="Charlie Cooper").click()
    page.wait_for_url(f"{console}/inside")
    page.wait_for_selector("[data-ready]")
    key = {"Authorization": f"Bearer {people.SECRET_KEY}"}
    session_id = page.evaluate("Clerk.session.id")
    assert requests.post(f"{fapi}/v1/sessions/{session_id}/revoke", headers=key, timeout=5).ok
    assert page.evaluate("Clerk.session.getToken({skipCache: true})") is None
    assert page.evaluate("Clerk.session") is None and cookie(page, "__session") == ""


def test_a_person_signs_in_allows_an_application_and_comes_back_with_a_code(
    page: Page, fapi: str, console: str
) -> None:
    key = {"Authorization": f"Bearer {people.SECRET_KEY}"}
    wanted = {"name": "Charts", "redirect_uris": [f"{console}/after"], "scopes": "profile email"}
    made = requests.post(f"{fapi}/v1/oauth_applications", json=wanted, headers=key, timeout=5).json()
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    said = {
        "response_type": "code", "client_id": made["client_id"], "redirect_uri": f"{console}/after", "state": "s-1",
        "code_challenge": challenge, "code_challenge_method": "S256",
    }  # fmt: skip
    page.goto(f"{fapi}/oauth/authorize?{urlencode(said)}")
    page.get_by_role("button", name="Bob Baker").click()
    expect(page.get_by_role("heading", name="Allow Charts?")).to_be_visible()
    expect(page.get_by_text("It asks to act for Bob Baker with: profile, email.")).to_be_visible()
    page.get_by_role("button", name="Allow").click()
    page.wait_for_url(f"{console}/after?*")
    back = parse_qs(urlsplit(page.url).query)
    assert (back["state"], back["iss"]) == (["s-1"], [fapi])
    form = {
        "grant_type": "authorization_code", "code": back["code"][0], "redirect_uri": f"{console}/after",
        "code_verifier": verifier, "client_id": made["client_id"], "client_secret": made["client_secret"],
    }  # fmt: skip
    access = requests.post(f"{fapi}/oauth/token", data=form, timeout=5).json()["access_token"]
    told = requests.get(f"{fapi}/oauth/userinfo", headers={"Authorization": f"Bearer {access}"}, timeout=5).json()
    assert told["sub"] == people.BOB.user_id
