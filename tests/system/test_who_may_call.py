"""What stands before authentication, at a running host of two workers behind a trusted proxy: addresses, pages of other
origins, and clients that fail too often."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from email.message import Message

import pytest

from contracts.snapshot import AccessConfig, AddressRules, CorsConfig
from devstack.valkey import Valkey
from tests.edge.publishing import HOST, KEY, Publisher, route, snapshot_of
from tests.system.edge_host import EdgeHost, Origin

pytestmark = pytest.mark.system

APP = "https://app.example.com"
CORS = CorsConfig(origins=(APP, "https://*.dev.example.com"), headers=("x-api-key",), credentials=True)
ROUTES = (
    route(1, "/open/*"),
    route(2, "/keyed/*", "apikey_required", access=AccessConfig(cors=CORS)),
    route(3, "/inside/*", access=AccessConfig(addresses=AddressRules(allow=("192.0.2.0/24",), deny=("192.0.2.7/32",)))),
)
BURST = 20


@pytest.fixture(scope="module")
def origin():
    origin = Origin()
    yield origin
    origin.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Valkey(tmp_path_factory.mktemp("store"), aof=True) as server:
        yield server


@pytest.fixture(scope="module")
def publisher(store, origin):
    publisher = Publisher(store.url)
    publisher.config(snapshot_of(1, ROUTES, origin.url))
    publisher.key()
    yield publisher
    publisher.close()


@pytest.fixture(scope="module")
def edge(store, publisher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("edge")
    with EdgeHost(store.url, folder, EDGE_TRUSTED_PROXIES="127.0.0.0/8", EDGE_AUTH_FAILURES_MAX="20") as edge:
        edge.eventually(lambda: edge.statuses("/open/x") == {200} and edge.metric("vantageedge_tenants_held") == 2)
        yield edge


@dataclass
class Answer:
    status: int
    headers: Message

    def __getitem__(self, name):
        return self.headers[name]


def ask(edge, path, client_ip, method="GET", **fields):
    """One request over a connection of its own, from a client as the proxy tells it."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, path, headers={"Host": HOST, "X-Forwarded-For": client_ip, **named})
        answer = connection.getresponse()
        answer.read()
        return Answer(answer.status, answer.headers)
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("client_ip", "status"),
    [("192.0.2.8", 200), ("::ffff:192.0.2.8", 200), ("192.0.2.7", 403), ("198.51.100.7", 403), ("2001:db8::1", 403)],
)
def test_an_address_is_judged_as_the_trusted_proxy_tells_it(edge, client_ip, status):
    assert {ask(edge, "/inside/x", client_ip).status for _ in range(4)} == {status}


def test_a_tenants_rules_follow_a_change_within_a_second(edge, publisher, origin):
    before = snapshot_of(2, ROUTES, origin.url)
    rules = AddressRules(deny=("198.51.100.0/24",))
    entry = publisher.config(_with_rules(before, rules))
    assert publisher.await_live(entry, workers=2) < 1.0
    assert {ask(edge, "/open/x", "198.51.100.7").status for _ in range(8)} == {403}
    assert ask(edge, "/open/x", "192.0.2.7").status == 200
    assert publisher.await_live(publisher.config(_with_rules(before, None)), workers=2) < 1.0
    assert ask(edge, "/open/x", "198.51.100.7").status == 200


def _with_rules(snapshot, rules):
    import msgspec

    version = snapshot.version + (rules is None)
    tenant = msgspec.structs.replace(snapshot.tenant, addresses=rules or msgspec.UNSET)
    return msgspec.structs.replace(snapshot, tenant=tenant, version=version)


def test_a_preflight_needs_no_credential_and_the_request_behind_it_does(edge):
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "x-api-key"}
    answer = ask(edge, "/keyed/x", "192.0.2.20", "OPTIONS", Origin="https://pr-1.dev.example.com", **asked)
    assert (answer.status, answer["Access-Control-Allow-Origin"]) == (204, "https://pr-1.dev.example.com")
    assert answer["Access-Control-Allow-Headers"] == "x-api-key"
    evil = ask(edge, "/keyed/x", "192.0.2.20", "OPTIONS", Origin="https://evil.example", **asked)
    assert (evil.status, [name for name in evil.headers if name.startswith("Access")]) == (204, [])
    refused = ask(edge, "/keyed/x", "192.0.2.20", Origin=APP)
    assert (refused.status, refused["Access-Control-Allow-Origin"]) == (401, APP)
    served = ask(edge, "/keyed/x", "192.0.2.20", Origin=APP, X_API_Key=KEY)
    assert (served.status, served["Access-Control-Allow-Credentials"], served["Vary"]) == (200, "true", "Origin")


def test_failures_are_counted_over_all_workers_and_one_client_waits_alone(edge):
    guesser, neighbour = "192.0.2.30", "192.0.2.31"
    statuses = [ask(edge, "/keyed/x", guesser, X_API_Key="a_wrong_key_123").status for _ in range(BURST + 10)]
    assert statuses[:BURST] == [401] * BURST
    # Each other worker learns of it by the next failure it sees.
    assert statuses.count(401) <= BURST + 1
    assert statuses.count(429) >= 9
    edge.eventually(lambda: edge.metric("vantageedge_auth_clients_blocked") >= 1)
    waits = [ask(edge, "/keyed/x", guesser, X_API_Key=KEY) for _ in range(8)]
    told = [int(answer["Retry-After"]) for answer in waits if answer.status == 429]
    assert told
    assert all(50 <= wait_s <= 60 for wait_s in told)
    assert {ask(edge, "/keyed/x", neighbour, X_API_Key=KEY).status for _ in range(8)} == {200}
    assert {ask(edge, "/open/x", guesser).status for _ in range(4)} == {200}
    assert edge.metric('vantageedge_errors_total{code="auth-attempts-exceeded"') >= 9


def test_tenants_are_counted_apart_by_every_worker_alike(edge, publisher, origin):
    """Whichever tenant a worker met first: both workers must count a tenant's failures in one place."""
    others = {f"0197a000-0000-7000-8000-00000000de0{number}": f"other-{number}" for number in (1, 2, 3)}
    for tenant_id, subdomain in others.items():
        other = snapshot_of(1, ROUTES, origin.url, tenant_id, subdomain)
        publisher.await_live(publisher.config(other, (f"{subdomain}.localhost",)), workers=2)
    statuses: dict[str, list[int]] = {subdomain: [] for subdomain in others.values()}
    for _ in range(BURST + 4):
        for subdomain, told in statuses.items():
            host = f"{subdomain}.localhost"
            told.append(ask(edge, "/keyed/x", "192.0.2.50", Host=host, X_API_Key="a_wrong_key_123").status)
    for told in statuses.values():
        assert told[:BURST] == [401] * BURST
        assert told.count(401) <= BURST + 1


def test_with_redis_away_failures_are_counted_by_each_worker(edge, store):
    """Last, because the store does not come back. Known keys go on; each worker counts to its share."""
    assert {ask(edge, "/keyed/x", "192.0.2.40", X_API_Key=KEY).status for _ in range(8)} == {200}
    store.stop()
    edge.eventually(lambda: edge.metric("vantageedge_redis_degraded") == 1)
    # A key in our own format with a wrong checksum is refused without a look-up, with Redis or without.
    wrong = "ve_live_" + "0" * 12 + "_" + "0" * 38
    statuses = [ask(edge, "/keyed/x", "192.0.2.41", X_API_Key=wrong).status for _ in range(2 * BURST)]
    assert statuses[:10] == [401] * 10
    assert statuses.count(401) <= BURST + 2
    assert 429 in statuses
    assert ask(edge, "/keyed/x", "192.0.2.40", X_API_Key=KEY).status == 200
