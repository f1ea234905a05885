"""Twin of edge.net.connecting: which address is connected to, and what is said when none can be."""

from __future__ import annotations

import socket

import gevent
import pytest

from contracts.addresses import parse_networks
from edge.errors import GatewayError, Retry
from edge.net.address import Resolver
from edge.net.connecting import Destination, connect
from edge.net.dns import Answer
from edge.net.sweeper import Sweeper

LOOPBACK = parse_networks("127.0.0.0/8,::1/128")


def attempt(port: int, *addresses: str, timeout_s: float = 1.0):
    resolver = Resolver(lambda host: Answer(addresses, 60.0))
    destination = Destination("origin.test", port, tls=False)
    return gevent.spawn(
        connect, destination, resolver, LOOPBACK, Sweeper.of_this_hub(), timeout_s, None
    ).get(timeout=5)  # fmt: skip


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.test", Destination("a.test", 80, tls=False)),
        ("https://a.test/base", Destination("a.test", 443, tls=True)),
        ("http://[::1]:8080", Destination("::1", 8080, tls=False)),
    ],
)
def test_a_destination_is_where_a_url_leads(url, expected):
    assert Destination.of(url) == expected


def test_the_next_address_is_tried_when_one_refuses(listening):
    port = listening.getsockname()[1]
    wire = attempt(port, "127.0.0.2", "127.0.0.1")
    assert wire.sock.getpeername() == ("127.0.0.1", port)
    wire.close()


def test_when_all_refuse_nothing_was_sent(listening):
    with pytest.raises(GatewayError) as caught:
        attempt(listening.getsockname()[1], "127.0.0.2", "127.0.0.3")
    assert (caught.value.retry, caught.value.proxy_error) == (Retry.NOTHING_SENT, "connection_refused")


def test_a_connect_that_is_not_answered_is_a_timeout():
    """A backlog of none, filled: the kernel drops what comes next."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        gevent.sleep(0.05)
        with pytest.raises(GatewayError) as caught:
            attempt(port, "127.0.0.1", timeout_s=0.3)
        for filler in fillers:
            filler.close()
    assert caught.value.problem.slug == "origin-timeout"
    assert caught.value.retry is Retry.NOTHING_SENT


def test_no_wire_is_left_behind_by_a_failure(listening):
    sweeper = Sweeper.of_this_hub()
    before = len(sweeper.wires)
    with pytest.raises(GatewayError):
        attempt(listening.getsockname()[1], "127.0.0.2")
    assert len(sweeper.wires) == before
