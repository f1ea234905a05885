"""A running edge host and authorities of opaque tokens: from the client's word to the origin, over real processes."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time

import msgspec
import pytest

from contracts import sealing
from contracts.snapshot import IssuerConfig, ServiceConfig, issuer_secret_place
from tests.edge.publishing import DEMO, HOST, Publisher, route, snapshot_of
from tests.origins.token_authority import ClerkApi, Introspection, a_machine_token, an_oauth_token, answer
from tests.stored import everything_in
from tests.system.edge_host import EdgeHost, Origin

pytestmark = pytest.mark.system
KEYS = "1:" + "5a" * 32
CHARLIES = "0197a000-0000-7000-8000-00000000c001"
CHARLIES_HOST = "charlie.localhost"
CARD = {"active": True, "sub": "carol", "scope": "read"}


def published(issuer: Introspection, origin: str, tenant_id: str = DEMO, subdomain: str = "demo"):
    secret = sealing.seal(sealing.parse_keys(KEYS), b"hush", issuer_secret_place(tenant_id, "issuer-1"), os.urandom(12))
    asked = IssuerConfig(
        id="issuer-1", name="partners", kind="introspection", issuer=issuer.url, client_id="gateway",
        client_secret=secret, introspection_url=issuer.introspection_url,
    )  # fmt: skip
    machine = ServiceConfig(
        id="svc-1", name="billing", kind="clerk_machine", key_id=a_machine_token()["subject"], scopes=("bill",)
    )
    routes = (
        route(1, "/oauth/*", "oauth_required"), route(2, "/anybody/*", "oauth_required", any_user=True),
        route(3, "/machines/*", "service_required"), route(4, "/public"),
    )  # fmt: skip
    base = snapshot_of(1, routes, origin, tenant_id, subdomain)
    return msgspec.structs.replace(base, issuers=(asked,), services=(machine,))


def get(host: EdgeHost, path: str, token: str, at: str = HOST):
    """(status, problem code or None, Retry-After)."""
    connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": at, "Authorization": f"Bearer {token}"})
        reply = connection.getresponse()
        body = reply.read()
        code = json.loads(body)["code"] if reply.status >= 400 else None
        return reply.status, code, reply.headers["Retry-After"]
    finally:
        connection.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory, _session_valkey):
    folder = tmp_path_factory.mktemp("opaque")
    origin = Origin()
    publisher = Publisher(_session_valkey.url)
    publisher.redis.flushall()
    with Introspection() as issuer, ClerkApi() as clerk:
        publisher.config(published(issuer, origin.url))
        publisher.config(published(issuer, origin.url, CHARLIES, "charlie"), (CHARLIES_HOST,))
        settings = {"CLERK_API_URL": clerk.url, "CLERK_SECRET_KEY": "sk_test_x", "CLERK_MACHINE_SECRET_KEY": "ak_x"}
        with EdgeHost(_session_valkey.url, folder, workers=1, SEALING_KEYS=KEYS, VANTAGEEDGE_ENV="development",
                      **settings) as host:  # fmt: skip
            host.eventually(lambda: host.statuses("/public", 1) == {200})
            yield host, issuer, clerk, publisher, folder
    publisher.close()
    origin.close()


def test_tokens_of_every_authority_open_what_they_should_and_nothing_else(world):
    host, issuer, clerk, publisher, folder = world
    issuer.words["c4ro1+/s=="] = dict(CARD)
    clerk.words |= {"oat_a1ice": an_oauth_token(), "oat_demo": an_oauth_token(org_id="org_demo"),
                    "mt_bi11ing": a_machine_token(), "mt_0ther": a_machine_token(subject="mch_other")}  # fmt: skip
    invalid = (401, "credentials-invalid", None)
    for path, token, expected in (
        ("/oauth/x", "c4ro1+/s==", (200, None, None)),
        ("/oauth/x", "unknown", invalid),
        ("/oauth/x", "oat_demo", (200, None, None)),
        ("/oauth/x", "oat_a1ice", invalid),
        ("/anybody/x", "oat_a1ice", (200, None, None)),
        ("/anybody/x", "oat_unknown", invalid),
        ("/machines/x", "mt_bi11ing", (200, None, None)),
        ("/machines/x", "mt_0ther", invalid),
        ("/machines/x", "mt_unknown", invalid),
        ("/machines/x", "c4ro1+/s==", invalid),
        ("/oauth/x", "mt_bi11ing", invalid),
    ):
        assert get(host, path, token) == expected, (path, token)
    asked = len(issuer.asked)
    assert get(host, "/oauth/x", "c4ro1+/s==", CHARLIES_HOST) == (200, None, None)
    assert len(issuer.asked) == asked + 1, "what demo-company was told is not charlie's to know"
    assert host.metric('vantageedge_introspections_total{authority="clerk_access",outcome="active"}') >= 2
    # Nothing of a token or a secret is anywhere in clear.
    places = everything_in(publisher.redis) + b"".join(
        path.read_bytes() for path in folder.rglob("*") if path.is_file()
    )
    assert b"s1.1." in places, "the search looks where the sealed secret is"
    for secret in (b"c4ro1", b"oat_a1ice", b"mt_bi11ing", b"hush", b"sk_test_x", b"ak_x"):
        assert secret not in places


def test_an_authority_that_is_down_is_503_at_once_and_the_neighbours_do_not_notice(world):
    host, issuer, clerk, _, _ = world
    clerk.words["mt_bi11ing"] = a_machine_token()
    issuer.instead = answer(500, {})
    for number in range(10):
        assert get(host, "/oauth/x", f"down-{number}")[:2] == (503, "identity-unavailable")
    asked, began = len(issuer.asked), time.monotonic()
    for number in range(20):
        status, code, wait = get(host, "/oauth/x", f"down-{number}")
        assert (status, code) == (503, "identity-unavailable") and 1 <= int(wait) <= 5
    assert time.monotonic() - began < 2
    assert len(issuer.asked) == asked
    assert host.metric("vantageedge_introspection_breakers_open") == 1
    assert get(host, "/machines/x", "mt_bi11ing")[0] == 200
    issuer.instead = None
    issuer.words["back"] = dict(CARD)
    assert get(host, "/oauth/x", "back", CHARLIES_HOST)[0] == 200, "charlie has a breaker of his own"
    host.eventually(lambda: get(host, "/oauth/x", "back")[0] == 200)
    assert host.metric("vantageedge_introspection_breakers_open") == 0


def test_a_flood_of_random_tokens_at_an_authority_that_hangs_uses_up_no_worker(world):
    host, issuer, _, _, _ = world
    issuer.takes_s = 2.0
    statuses: list[int] = []
    flood = [threading.Thread(target=lambda n=n: statuses.append(get(host, "/oauth/x", f"flood-{n}")[0]))
             for n in range(120)]  # fmt: skip
    began = time.monotonic()
    for thread in flood:
        thread.start()
    time.sleep(0.3)
    quiet = time.monotonic()
    assert host.statuses("/public", 20) == {200}
    assert time.monotonic() - quiet < 1.5
    for thread in flood:
        thread.join(10)
    issuer.takes_s = 0.0
    assert time.monotonic() - began < 8
    assert statuses.count(401) == 32
    assert statuses.count(503) == 88


def test_what_is_remembered_ends_with_the_token_and_then_a_revocation_counts(world):
    host, issuer, _, _, _ = world
    issuer.words["short"] = CARD | {"exp": time.time() + 2}
    assert get(host, "/oauth/x", "short")[0] == 200
    issuer.words["short"] = {"active": False}
    assert get(host, "/oauth/x", "short")[0] == 200, "for as long as its answer is remembered"
    host.eventually(lambda: get(host, "/oauth/x", "short")[0] == 401, 4)
