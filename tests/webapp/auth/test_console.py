"""The console's door: cookies, handshakes, tenants of URLs, forged requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from flask import Flask, g, jsonify
from werkzeug.test import Client, TestResponse

from devstack.postgres import Postgres
from devstack.valkey import Valkey
from tests.webapp import cast
from tests.webapp.cast import CONSOLE, environment, session_token
from webapp.app import create_app
from webapp.auth import console, cookies
from webapp.extensions import db
from webapp.services.actor import Actor
from webapp.settings import load

PAGE = {"Sec-Fetch-Dest": "document", "Accept": "text/html"}
HTMX = {"HX-Request": "true", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}
TEST_KEY = "pk_test_Y2xlcmsuZXhhbXBsZS5jb20k"


def _with_pages(postgres: Postgres, valkey: Valkey, **changed: str) -> Iterator[Flask]:
    owner = postgres.url("owner", "webapp_shared")
    made = create_app(load(environment(postgres.url("app", "webapp_shared"), owner, valkey.url, **changed)))

    @console.signed_in
    def of_tenant(subdomain: str) -> Any:
        return jsonify(who=g.actor.clerk_user_id, tenant=g.tenant.subdomain, csrf=console.csrf_token())

    @console.signed_in_anywhere
    def anywhere() -> Any:
        return jsonify(tenant=None if g.tenant is None else g.tenant.subdomain, caller=g.caller is not None)

    @console.signed_in_anywhere
    def leave() -> Any:
        return console.sign_out()

    made.add_url_rule("/t/<subdomain>/probe", "probe", of_tenant, methods=["GET", "POST"])
    made.add_url_rule("/probe", "anywhere", anywhere, methods=["GET", "POST"])
    made.add_url_rule("/probe/leave", "leave", leave, methods=["POST"])
    yield made
    with made.app_context():
        db.engine.dispose()
    made.extensions["vantageedge.redis"].close()


@pytest.fixture
def pages(app: Flask, demo: Actor, other: Actor, postgres: Postgres, shared_valkey: Valkey) -> Iterator[Flask]:
    yield from _with_pages(postgres, shared_valkey)


@pytest.fixture
def dev_pages(app: Flask, demo: Actor, postgres: Postgres, shared_valkey: Valkey) -> Iterator[Flask]:
    """Over a development instance of Clerk."""
    yield from _with_pages(postgres, shared_valkey, CLERK_PUBLISHABLE_KEY=TEST_KEY)


def _browser(app: Flask, token: str = "", seen_at: int = 1, **more: str) -> Client:
    client = app.test_client()
    if token:
        client.set_cookie("__session", token)
    if seen_at:
        client.set_cookie("__client_uat", str(seen_at))
    for name, value in more.items():
        client.set_cookie(name, value)
    return client


def _expired() -> str:
    import time

    now = int(time.time())
    return session_token("alice", iat=now - 90, nbf=now - 95, exp=now - 30)


def _handshake_of(answer: TestResponse) -> dict[str, str]:
    assert answer.status_code == 307, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    parts = urlsplit(answer.headers["Location"])
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "https://clerk.example.com/v1/client/handshake"
    return {name: values[0] for name, values in parse_qs(parts.query).items()}


def test_a_cookie_opens_a_page_of_its_own_tenant_and_of_no_other(pages: Flask) -> None:
    browser = _browser(pages, session_token("alice"))
    own = browser.get("/t/demo/probe", headers=PAGE)
    assert (own.status_code, own.get_json()["who"], own.get_json()["tenant"]) == (200, "user_alice", "demo")
    for foreign in ("charlie", "nowhere"):
        assert browser.get(f"/t/{foreign}/probe", headers=PAGE).status_code == 404
    assert browser.get("/probe", headers=PAGE).get_json() == {"tenant": "demo", "caller": True}


def test_a_suffixed_cookie_wins(pages: Flask) -> None:
    suffix = cookies.suffix_of("pk_live_Y2xlcmsuZXhhbXBsZS5jb20k")
    browser = _browser(
        pages, session_token("alice"), **{f"__session_{suffix}": session_token("charlie", org="org_other")}
    )
    assert browser.get("/t/charlie/probe", headers=PAGE).get_json()["who"] == "user_charlie"
    # The start of a name is not the name.
    evil = _browser(pages, "", seen_at=0, __session_evil=session_token("alice"))
    assert evil.get("/t/demo/probe", headers=PAGE).status_code == 303


def test_a_cookie_must_name_its_party_and_a_header_is_not_looked_at(pages: Flask) -> None:
    without = _browser(pages, session_token("alice", azp=None))
    assert (
        without.get("/t/demo/probe", headers=HTMX).headers["X-Clerk-Auth-Reason"] == "token-invalid-authorized-parties"
    )
    bearer = {"Authorization": f"Bearer {session_token('alice')}", **HTMX}
    assert pages.test_client().get("/t/demo/probe", headers=bearer).status_code == 401


def test_whoever_is_signed_out_goes_to_the_sign_in_page_and_comes_back(pages: Flask) -> None:
    answer = _browser(pages, seen_at=0).get("/t/demo/probe?tab=2&__clerk_db_jwt=x", headers=PAGE)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/sign-in?next=%2Ft%2Fdemo%2Fprobe%3Ftab%3D2"


@pytest.mark.parametrize(
    ("token", "seen_at", "reason"),
    [
        (_expired, 1, "session-token-expired"),
        (lambda: "", 1, "client-uat-but-no-session-token"),
        (lambda: session_token("alice"), 0, "session-token-but-no-client-uat"),
        (lambda: session_token("alice"), 99_999_999_999, "session-token-iat-before-client-uat"),
    ],
)
def test_a_page_with_a_stale_session_shakes_hands(pages: Flask, token: Any, seen_at: int, reason: str) -> None:
    query = _handshake_of(_browser(pages, token(), seen_at).get("/t/demo/probe?tab=2", headers=PAGE))
    assert query["__clerk_hs_reason"] == reason
    assert query["redirect_url"] == CONSOLE + "/t/demo/probe?tab=2"


def test_htmx_and_forms_never_shake_hands(pages: Flask) -> None:
    browser = _browser(pages, _expired())
    fragment = browser.get("/t/demo/probe", headers=HTMX)
    assert (fragment.status_code, fragment.headers["X-Clerk-Auth-Reason"]) == (401, "session-token-expired")
    assert browser.post("/t/demo/probe", headers=HTMX).status_code == 401
    form = browser.post("/t/demo/probe", headers={**PAGE, "Referer": CONSOLE + "/t/demo/probe?tab=2"})
    assert (form.status_code, form.headers["Location"]) == (303, "/sign-in?next=%2Ft%2Fdemo%2Fprobe%3Ftab%3D2")


def test_a_handshake_that_leads_nowhere_ends(pages: Flask) -> None:
    browser = _browser(pages, _expired())
    for _ in range(3):
        assert browser.get("/t/demo/probe", headers=PAGE).status_code == 307
    assert browser.get("/t/demo/probe", headers=PAGE).headers["Location"].startswith("/sign-in")


def _orders(*directives: str, **header: str) -> str:
    return jwt.encode({"handshake": list(directives)}, cast._KEY, "RS256", headers={"kid": "ins_test", **header})


def test_a_finished_handshake_sets_clerks_cookies_and_nothing_else(pages: Flask) -> None:
    browser = _browser(pages, seen_at=0)
    order = _orders(
        f"__session={session_token('alice')}; Path=/; SameSite=Lax",
        "__client_uat=5; Path=/",
        "other=1; Path=/",
        "__session_x=1; Path=/; Domain=example.com",
        "__clerk_x=1; Path=/\r\nSet-Cookie: a=b",
    )
    browser.set_cookie("__clerk_handshake", order)
    answer = browser.get("/t/demo/probe?tab=2", headers=PAGE)
    assert (answer.status_code, answer.headers["Location"]) == (307, CONSOLE + "/t/demo/probe?tab=2")
    set_now = [line.split("=")[0] for line in answer.headers.getlist("Set-Cookie")]
    assert sorted(set_now) == ["__clerk_handshake", "__client_uat", "__session"]
    assert browser.get("/t/demo/probe", headers=PAGE).get_json()["who"] == "user_alice"


@pytest.mark.parametrize(
    "header", [{"cat": "cl_B7d4PD222AAA"}, {"kid": "ins_other", "alg": "HS256"}, {"typ": "at+jwt"}]
)
def test_orders_that_a_template_could_make_are_not_followed(pages: Flask, header: dict[str, str]) -> None:
    if header.get("alg") == "HS256":
        order = jwt.encode({"handshake": ["__session=x"]}, "x" * 32, "HS256", headers={"kid": "ins_test"})
    else:
        order = _orders("__session=x", **header)
    answer = _browser(pages, seen_at=0, __clerk_handshake=order).get("/t/demo/probe", headers=PAGE)
    assert answer.headers["Location"].startswith("/sign-in")


def test_orders_in_a_link_are_followed_on_development_instances_alone(pages: Flask, dev_pages: Flask) -> None:
    link = f"/t/demo/probe?__clerk_handshake={_orders('__session=x; Path=/')}"
    production = _browser(pages, seen_at=0).get(link, headers=PAGE)
    assert (production.status_code, production.headers["Location"]) == (303, "/sign-in?next=%2Ft%2Fdemo%2Fprobe")
    development = _browser(dev_pages, seen_at=0).get(link, headers=PAGE)
    assert (development.status_code, development.headers["Location"]) == (307, CONSOLE + "/t/demo/probe")


def test_a_development_instance_asks_for_its_browser_first(dev_pages: Flask) -> None:
    query = _handshake_of(_browser(dev_pages, seen_at=0).get("/t/demo/probe", headers=PAGE))
    assert query["__clerk_hs_reason"] == "dev-browser-missing"
    link = "/t/demo/probe?__clerk_db_jwt=dvb_1"
    query = _handshake_of(_browser(dev_pages, session_token("alice")).get(link, headers=PAGE))
    assert (query["__clerk_hs_reason"], query["__clerk_db_jwt"]) == ("dev-browser-sync", "dvb_1")
    known = _browser(dev_pages, session_token("alice"), __clerk_db_jwt="dvb_1")
    assert known.get("/t/demo/probe", headers=PAGE).status_code == 200


def test_without_an_organisation_one_sees_pages_outside_tenants_only(pages: Flask) -> None:
    browser = _browser(pages, session_token("alice", org=None))
    assert browser.get("/probe", headers=PAGE).get_json() == {"tenant": None, "caller": False}
    assert browser.get("/t/demo/probe", headers=PAGE).status_code == 404
    new = _browser(pages, session_token("dora", org="org_new"))
    assert new.get("/probe", headers=PAGE).get_json() == {"tenant": None, "caller": True}


def test_a_change_needs_our_page_and_the_sessions_token(pages: Flask) -> None:
    browser = _browser(pages, session_token("alice"))
    csrf = browser.get("/t/demo/probe", headers=PAGE).get_json()["csrf"]
    foreign = _browser(pages, session_token("charlie", org="org_other")).get("/t/charlie/probe", headers=PAGE)
    good = {"Sec-Fetch-Site": "same-origin"}
    assert browser.post("/t/demo/probe", headers={**good, "X-CSRF-Token": csrf}).status_code == 200
    assert browser.post("/t/demo/probe", headers={"Origin": CONSOLE}, data={"csrf_token": csrf}).status_code == 200
    refused: list[dict[str, Any]] = [
        {"headers": good},
        {"headers": {**good, "X-CSRF-Token": csrf[:-1] + "0"}},
        {"headers": {**good, "X-CSRF-Token": "é"}},
        {"headers": {**good, "X-CSRF-Token": foreign.get_json()["csrf"]}},
        {"headers": {"X-CSRF-Token": csrf}},
        {"headers": {"X-CSRF-Token": csrf, "Sec-Fetch-Site": "same-site"}},
        {"headers": {"X-CSRF-Token": csrf, "Sec-Fetch-Site": "cross-site", "Origin": CONSOLE}},
        {"headers": {"X-CSRF-Token": csrf, "Origin": "http://evil.example"}},
    ]
    for options in refused:
        assert browser.post("/t/demo/probe", **options).status_code == 403, options


def test_signing_out_ends_the_session_here_and_says_so_to_the_edges(pages: Flask, store: Any) -> None:
    from contracts import keyspace, messages

    browser = _browser(pages, session_token("alice"))
    csrf = browser.get("/t/demo/probe", headers=PAGE).get_json()["csrf"]
    answer = browser.post("/probe/leave", headers={"Sec-Fetch-Site": "same-origin", "X-CSRF-Token": csrf})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sign-in")
    assert browser.get_cookie("__session") is None
    kept = _browser(pages, session_token("alice"))
    assert kept.get("/t/demo/probe", headers=HTMX).headers["X-Clerk-Auth-Reason"] == "session-denied"
    last = messages.decode_change(store.xrevrange(keyspace.CHANGES, count=1)[0][1][messages.FIELD])
    assert (last.kind, last.session_id) == ("session", "sess_alice")


@pytest.mark.parametrize(
    "target", ["//evil.example", "/\\evil.example", "https://evil.example", "", "x", "/a\nb", "/é"]
)
def test_next_leads_nowhere_but_here(target: str) -> None:
    assert console.safe_next(target) == "/"
    assert console.safe_next("/t/demo/routes?x=1") == "/t/demo/routes?x=1"
