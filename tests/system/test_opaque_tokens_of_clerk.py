"""A running edge host and the stand-in for Clerk: its opaque tokens, and its own introspection as a tenant's issuer."""

from __future__ import annotations

import os

import msgspec
import pytest
import requests

from contracts import sealing
from contracts.snapshot import AccessConfig, IssuerConfig, ServiceConfig, issuer_secret_place
from devstack.clerk import machines, people
from devstack.valkey import Valkey
from tests.devstack.serving import in_process
from tests.edge.publishing import DEMO, Publisher, route, snapshot_of
from tests.system.edge_host import EdgeHost, Origin
from tests.system.test_opaque_tokens import KEYS, get

pytestmark = pytest.mark.system
OPAQUE = "2vGtDemoOpaque00"
INVALID = (401, "credentials-invalid", None)
OK = (200, None, None)


@pytest.fixture(scope="module")
def clerk(tmp_path_factory):
    program = "from devstack.clerk.__main__ import main; main()"
    with in_process(program, "--port", "--folder", str(tmp_path_factory.mktemp("clerk") / "clerk")) as url:
        yield url


@pytest.fixture(scope="module")
def host(clerk, tmp_path_factory):
    secrets = requests.get(f"{clerk}/__dev/clients", timeout=5).json()["oauth_applications"]
    secret = next(each["client_secret"] for each in secrets if each["client_id"] == OPAQUE)
    place = issuer_secret_place(DEMO, "issuer-1")
    info = IssuerConfig(
        id="issuer-1", name="clerk by RFC 7662", kind="introspection", issuer=clerk, client_id=OPAQUE,
        introspection_url=f"{clerk}/oauth/token_info",
        client_secret=sealing.seal(sealing.parse_keys(KEYS), secret.encode(), place, os.urandom(12)),
    )  # fmt: skip
    caller = ServiceConfig(id="svc-1", name="caller", kind="clerk_machine", key_id=machines.CALLER_ID)
    routes = (
        route(1, "/anybody/*", "oauth_required", any_user=True), route(2, "/oauth/*", "oauth_required"),
        route(3, "/info/*", "oauth_required", access=AccessConfig(issuers=("issuer-1",))),
        route(4, "/machines/*", "service_required"), route(5, "/public"),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("edge")
    origin = Origin()
    settings = requests.get(f"{clerk}/__dev/settings", timeout=5).json()
    with Valkey(folder / "store", aof=False) as store:
        publisher = Publisher(store.url)
        publisher.config(
            msgspec.structs.replace(snapshot_of(1, routes, origin.url), issuers=(info,), services=(caller,))
        )
        publisher.close()
        names = "CLERK_ISSUER CLERK_JWKS_URL CLERK_API_URL CLERK_SECRET_KEY CLERK_MACHINE_ID CLERK_MACHINE_SECRET_KEY"
        environ = {name: settings[name] for name in names.split()}
        with EdgeHost(store.url, folder, 1, SEALING_KEYS=KEYS, VANTAGEEDGE_ENV="development", **environ) as host:
            host.eventually(lambda: host.statuses("/public", 1) == {200})
            yield host
    origin.close()


def test_an_opaque_access_token_of_clerk_says_no_organisation_but_opens_routes_for_anybody(host, clerk):
    wanted = {"kind": "oauth", "person": "bob", "client_id": OPAQUE}
    token = requests.post(f"{clerk}/__dev/tokens", json=wanted, timeout=5).json()["token"]
    assert token.startswith("oat_")
    assert get(host, "/anybody/x", token) == OK
    assert get(host, "/oauth/x", token) == INVALID
    assert get(host, "/info/x", token) == OK, "a tenant may have Clerk introspected as an issuer of its own"
    assert get(host, "/info/x", "oat_unknown") == INVALID
    assert get(host, "/anybody/x", "oat_unknown") == INVALID


def test_a_machines_opaque_token_opens_what_its_tenant_says_until_it_is_revoked(host, clerk):
    asking = {"Authorization": f"Bearer {machines.CALLER_SECRET}"}
    made = requests.post(f"{clerk}/v1/m2m_tokens", json={}, headers=asking, timeout=5).json()
    assert get(host, "/machines/x", made["token"]) == OK
    again = requests.post(f"{clerk}/v1/m2m_tokens", json={}, headers=asking, timeout=5).json()
    requests.post(f"{clerk}/v1/m2m_tokens/{again['id']}/revoke", json={}, headers=asking, timeout=5).raise_for_status()
    assert get(host, "/machines/x", again["token"]) == INVALID
    named = {"Authorization": f"Bearer {people.SECRET_KEY}"}
    other = requests.post(
        f"{clerk}/v1/machines",
        json={"name": "other", "scoped_machines": [machines.GATEWAY_ID]},
        headers=named,
        timeout=5,
    ).json()
    asking = {"Authorization": f"Bearer {other['secret_key']}"}
    strangers = requests.post(f"{clerk}/v1/m2m_tokens", json={}, headers=asking, timeout=5).json()
    assert get(host, "/machines/x", strangers["token"]) == INVALID, "a machine that is not the tenant's"
    assert host.metric('vantageedge_introspections_total{authority="clerk_machine",outcome="active"}') == 2
