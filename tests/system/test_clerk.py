"""A running edge host and the issuer of its sessions: keys that change, an issuer that is away, a session that ends."""

from __future__ import annotations

import base64
import http.client
import json
import os
import secrets
import signal
import time
from dataclasses import dataclass
from types import SimpleNamespace

import msgspec
import pytest
import requests

from contracts.snapshot import ServiceConfig
from devstack.clerk import flaws, machines, people
from devstack.valkey import Valkey
from tests.devstack.serving import in_process
from tests.edge.publishing import HOST, Publisher, route, snapshot_of
from tests.system.edge_host import EdgeHost, Origin
from webapp.auth.verifier import Verifier

pytestmark = pytest.mark.system
GAP_S = 10.0
"""Requests make a worker ask for the keys at most once in this time."""
JWKS = "/.well-known/jwks.json"
PATHS = {"session": "/users/x", "oauth": "/apps/x", "machine": "/services/x"}
ROUTES = (
    route(1, "/users/*", "jwt_required"),
    route(2, "/public/*"),
    route(3, "/apps/*", "oauth_required"),
    route(4, "/services/*", "service_required"),
)
CALLER = ServiceConfig(id="caller", name="caller", kind="clerk_machine", key_id=machines.CALLER_ID)


@dataclass
class Issuer:
    url: str

    def control(self, path: str) -> None:
        requests.post(f"{self.url}/__dev/{path}", timeout=5).raise_for_status()

    def token(self, **wanted) -> str:
        return self.mint(**wanted)["jwt"]

    def mint(self, **wanted) -> dict:
        person = {} if wanted.get("kind") == "machine" else {"person": "bob"}
        answer = requests.post(f"{self.url}/__dev/tokens", json=person | wanted, timeout=5)
        answer.raise_for_status()
        return answer.json()

    def counted(self, path: str = JWKS) -> int:
        return requests.get(f"{self.url}/__dev/requests", timeout=5).json().get(path, 0)

    def environ(self) -> dict[str, str]:
        clerk = {"CLERK_ISSUER": self.url, "CLERK_JWKS_URL": self.url + JWKS, "CLERK_MACHINE_ID": machines.GATEWAY_ID}
        return {"VANTAGEEDGE_ENV": "development"} | clerk


@dataclass
class Answer:
    status: int
    fields: http.client.HTTPMessage
    body: bytes
    took_s: float


def ask(edge: EdgeHost, token: str, path: str = PATHS["session"]) -> Answer:
    """One request over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=10)
    began = time.monotonic()
    try:
        connection.request("GET", path, headers={"Host": HOST, "Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read(), time.monotonic() - began)
    finally:
        connection.close()


def statuses(edge: EdgeHost, token: str, times: int = 16) -> set[int]:
    """Over so many connections that every worker gets some."""
    return {ask(edge, token).status for _ in range(times)}


@pytest.fixture(scope="module")
def issuer(tmp_path_factory):
    program = "from devstack.clerk.__main__ import main; main()"
    with in_process(program, "--port", "--folder", str(tmp_path_factory.mktemp("issuer") / "clerk")) as url:
        yield Issuer(url)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    origin = Origin()
    with Valkey(tmp_path_factory.mktemp("store"), aof=False) as server:
        publisher = Publisher(server.url)
        published = snapshot_of(1, ROUTES, origin.url)
        tenant = msgspec.structs.replace(published.tenant, clerk_org_id=people.DEMO_COMPANY.org_id)
        publisher.config(msgspec.structs.replace(published, tenant=tenant, services=(CALLER,)))
        publisher.close()
        yield server
    origin.close()


@pytest.fixture(scope="module")
def edge(store, issuer, tmp_path_factory):
    """Two workers that have the keys. `asked_mono`: when they may have asked for them last."""
    with EdgeHost(store.url, tmp_path_factory.mktemp("edge"), **issuer.environ()) as edge:
        edge.eventually(lambda: statuses(edge, issuer.token()) == {200})
        edge.asked_mono = time.monotonic()
        yield edge


@pytest.fixture(scope="module")
def other(edge, store, issuer, tmp_path_factory):
    """A second pair, begun early: by the time it is needed it may ask for the keys again."""
    with EdgeHost(store.url, tmp_path_factory.mktemp("other"), **issuer.environ()) as other:
        other.eventually(lambda: statuses(other, issuer.token()) == {200})
        other.asked_mono = time.monotonic()
        yield other


def wait_until_it_may_ask_again(edge) -> None:
    time.sleep(max(0.0, edge.asked_mono + GAP_S + 0.3 - time.monotonic()))


def forged() -> str:
    """A token of nobody's with a kid of its own."""
    head = {"alg": "RS256", "typ": "JWT", "kid": f"ins_{secrets.token_hex(13)}"}
    said = {"sub": people.ALICE.user_id}
    first, second = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (head, said))
    return f"{first}.{second}.{'A' * 342}"


def test_a_session_signed_out_at_the_console_is_refused_by_both_workers_within_a_second(edge, other, issuer, store):
    mine, others = issuer.mint(person="alice"), issuer.token()
    assert statuses(edge, mine["jwt"]) == {200}
    clerk = SimpleNamespace(jwt_key=None, jwks_url="", issuer=issuer.url, authorized_parties=())
    publisher = Publisher(store.url)
    Verifier(clerk, publisher.redis).deny(mine["session_id"])
    time.sleep(1.0)
    assert statuses(edge, mine["jwt"]) == {401}
    assert statuses(edge, others) == {200}
    publisher.close()


def test_a_session_revoked_at_the_issuer_gives_no_more_tokens_and_its_last_one_ends_by_itself(edge, issuer):
    """Nothing tells the edge of it, so what is left is the life of the last token: a minute."""
    mine = issuer.mint(person="charlie", organization="", claims={"o": {"id": people.DEMO_COMPANY.org_id, "rol": "x"}})
    key = {"Authorization": f"Bearer {people.SECRET_KEY}"}
    path = f"{issuer.url}/v1/sessions/{mine['session_id']}"
    assert requests.post(f"{path}/revoke", headers=key, timeout=5).json()["status"] == "revoked"
    assert requests.post(f"{path}/tokens", headers=key, timeout=5).status_code == 404
    assert statuses(edge, mine["jwt"]) == {200}
    past = {name: int(time.time()) - ago for name, ago in (("iat", 120), ("nbf", 130), ("exp", 60))}
    assert statuses(edge, issuer.token(claims=past)) == {401}


@pytest.mark.parametrize("mode", ["error", "timeout", "garbage", "redirect", "huge", "drip", "reset"])
def test_an_issuer_that_is_away_is_not_noticed_by_those_whose_key_is_known(edge, issuer, mode):
    token = issuer.token()
    issuer.control(f"outage?mode={mode}")
    try:
        answers = [ask(edge, token) for _ in range(8)]
    finally:
        issuer.control("outage?mode=off")
    assert {answer.status for answer in answers} == {200}
    assert max(answer.took_s for answer in answers) < 2.0


@pytest.mark.parametrize("mode", ["error", "garbage", "redirect", "huge", "reset", "timeout"])
def test_a_cold_edge_says_503_and_soon_whatever_is_wrong_with_the_issuer(issuer, store, tmp_path, mode):
    """Who cannot be checked is neither believed nor called a liar."""
    presented = (issuer.token(), forged())
    issuer.control(f"outage?mode={mode}")
    try:
        with EdgeHost(store.url, tmp_path, workers=1, **issuer.environ()) as cold:
            for token in presented:
                answer = ask(cold, token)
                assert answer.status == 503
                assert json.loads(answer.body)["code"] == "identity-unavailable"
                assert 0 < int(answer.fields["Retry-After"]) <= 60
                assert answer.took_s < (5.0 if mode == "timeout" else 2.0)
    finally:
        issuer.control("outage?mode=off")
    assert issuer.counted("/__dev/elsewhere") == 0  # no redirect was followed


def test_a_key_rotated_under_its_own_kid_keeps_users_in_with_one_fetch_a_worker_and_ends_the_old_ones(edge, issuer):
    before = issuer.token()
    assert statuses(edge, before) == {200}
    wait_until_it_may_ask_again(edge)
    asked = issuer.counted()
    issuer.control("keys/rotate?kid=same")
    assert statuses(edge, issuer.token()) == {200}
    assert statuses(edge, before) == {401}
    assert statuses(edge, issuer.token()) == {200}
    assert 1 <= issuer.counted() - asked <= edge.workers


def test_a_hundred_forged_kids_cost_one_fetch_a_worker_and_a_new_key_is_known_by_it_beside_the_old(other, issuer):
    before = issuer.token()
    wait_until_it_may_ask_again(other)
    asked = issuer.counted()
    issuer.control("keys/rotate?kid=new")
    assert {ask(other, forged()).status for _ in range(100)} == {401}
    assert 1 <= issuer.counted() - asked <= other.workers
    after = issuer.token()
    assert statuses(other, before) == statuses(other, after) == {200}
    assert 1 <= issuer.counted() - asked <= other.workers

    issuer.control("keys/retire")
    old = other.pids()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    other.eventually(lambda: len(set(other.pids()) - set(old)) == 2 and statuses(other, after) == {200})
    assert statuses(other, before) == {401}
    assert statuses(other, after) == {200}


@pytest.mark.parametrize("kind", flaws.KINDS)
def test_each_kind_of_token_opens_its_own_routes_and_every_bad_one_none(other, issuer, kind):
    wanted = {"scope": "profile user:org:read"} if kind == "oauth" else {}
    good = issuer.token(kind=kind, **wanted)
    assert {name: ask(other, good, path).status for name, path in PATHS.items()} == {
        name: 200 if name == kind else 401 for name in PATHS
    }
    for name, flaw in flaws.FLAWS.items():
        if kind in flaw.kinds:
            answer = ask(other, issuer.token(kind=kind, flaw=name, **wanted), PATHS[kind])
            assert answer.status == 401, name
            assert answer.fields["WWW-Authenticate"].startswith("Bearer "), name
