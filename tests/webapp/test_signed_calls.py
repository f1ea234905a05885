"""From the call that makes a service to the origin it calls: the control plane, two edge workers, and the client that
docs/signing-requests.md shows."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from contracts import sealing
from contracts.addresses import parse_networks
from devstack.valkey import Valkey
from tests.origins.misbehaving import Origin, echoes
from tests.system.edge_host import EdgeHost
from tests.webapp.cast import Person, a_route, an_origin
from webapp.services.actor import Actor

pytestmark = pytest.mark.system
KEYS = f"1:{'5a' * 32}"
HOST = "demo.edge.test"
PAGE = Path(__file__).parents[2] / "docs" / "signing-requests.md"
# The client asks for the tenant's name; the test's edge listens on loopback.
_RESOLVE = "import socket; ask = socket.getaddrinfo; socket.getaddrinfo = lambda host, *rest: ask('127.0.0.1', *rest)\n"


@pytest.fixture
def opened(app: Flask) -> Iterator[None]:
    """The application with sealing keys, and with loopback open for origins."""
    before = app.extensions["vantageedge.settings"]
    app.extensions["vantageedge.settings"] = dataclasses.replace(
        before, sealing_keys=sealing.parse_keys(KEYS), allowed_private_origins=parse_networks("127.0.0.0/8")
    )
    yield
    app.extensions["vantageedge.settings"] = before


@pytest.fixture
def edge(shared_valkey: Valkey, tmp_path: Path) -> Iterator[EdgeHost]:
    with EdgeHost(shared_valkey.url, tmp_path, SEALING_KEYS=KEYS, EDGE_BASE_DOMAIN="edge.test") as edge:
        yield edge


def run_example(edge: EdgeHost, made: dict[str, Any], target: str = "/orders?of=today") -> str:
    """Run the page's client as it stands there; give what it printed."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    environ = {
        "SERVICE_URL": f"http://{HOST}:{edge.port}{target}",
        "SERVICE_KEY_ID": made["key_id"],
        "SERVICE_SECRET": made["secret"],
    }
    done = subprocess.run(
        [sys.executable, "-c", _RESOLVE + program], env=environ, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("opened")
def test_the_client_of_the_page_calls_until_its_secret_is_replaced_and_its_service_revoked(
    alice: Person, demo: Actor, edge: EdgeHost
) -> None:
    with Origin(echoes) as origin:
        origin_id = alice.make("/origins", an_origin(url=origin.url, health_check_path=None))["id"]
        route = a_route(origin_id, path_pattern="/*", auth_mode="service_required", required_scopes=["orders:write"])
        alice.make("/routes", {**route, "rate_limit": None, "cache_policy": None})
        made = alice.make("/services", {"name": "shop", "scopes": ["orders:write"], "addresses": ["127.0.0.1"]})
        edge.eventually(lambda: run_example(edge, made).startswith("200 "))

        got = run_example(edge, made)
        assert "POST /orders?of=today HTTP/1.1" in got and '{"amount": 1}' in got
        assert f'"kind":"service","sub":"{made["id"]}","scopes":["orders:write"]' in got
        assert "signature" not in got.lower()
        assert run_example(edge, made, "").startswith("200 "), "no path and no query"
        assert run_example(edge, {**made, "key_id": "svc_other"}).startswith("401 ")

        path, in_force = f"/services/{made['id']}", {"Prefer": "wait=5"}
        answer = alice.post(f"{path}/rotate", {}, headers=in_force)
        assert answer.headers["X-Vantage-Live"] == "2/2"
        assert run_example(edge, answer.get_json()).startswith("200 ")
        assert run_example(edge, made).startswith("200 "), "it has a day's grace"

        answer = alice.post(f"{path}/revoke", headers=in_force)
        assert answer.headers["X-Vantage-Live"] == "2/2"
        assert run_example(edge, made).startswith("401 ")
