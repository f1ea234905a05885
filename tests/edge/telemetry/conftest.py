"""Exchanges as the pipeline leaves them."""

from __future__ import annotations

import pytest

from edge.exchange import Exchange
from edge.http.messages import FieldSection, Reply, RequestHead
from edge.snapshot import compile_snapshot
from tests.edge.publishing import route, snapshot_of


@pytest.fixture
def tenant():
    return compile_snapshot(snapshot_of(1, (route(1, "/public/*"),)))


@pytest.fixture
def make_exchange(tenant):
    """Make one; `fields` are (lower-cased name, value)."""

    def make(path=b"/public/x", query=None, status=200, fields=(), method=b"GET", matched=True, host=b"demo.localhost"):
        section = FieldSection(b"", tuple(fields), {name: (value,) for name, value in fields})
        head = RequestHead(method, path, path, query, 11, section, host, 0, False, True, False)
        exchange = Exchange(head, None, "127.0.0.1", b"http", b"0197-id", 1_700_000_000.25, 50.0)
        if matched:
            exchange.tenant, exchange.route = tenant, tenant.routes[0]
            exchange.path = path
            exchange.target = exchange.route.origin.targets[0]
            exchange.attempts = 1
            exchange.upstream_start_mono, exchange.upstream_first_mono = 50.001, 50.003
        exchange.finished_mono = 50.004
        exchange.bytes_in, exchange.bytes_out = 100, 300
        exchange.reply = Reply(status, b"", b"", b"")
        return exchange

    return make
