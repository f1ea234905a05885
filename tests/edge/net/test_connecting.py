"""Twin of edge.net.connecting: which address is connected to, and what is said when none can be."""

from __future__ import annotations

import socket
import ssl

import gevent
import pytest

from contracts.addresses import parse_networks
from edge.errors import GatewayError, Retry
from edge.net import racing
from edge.net.address import Resolver
from edge.net.connecting import Destination, connect
from edge.net.dns import Answer
from edge.net.sweeper import Sweeper
from tests.origins import misbehaving
from tests.origins.authority import Authority, behind, server_context
from tests.origins.misbehaving import Origin

LOOPBACK = parse_networks("127.0.0.0/8,::1/128")


def attempt(port: int, *addresses: str, timeout_s: float = 1.0):
    resolver = Resolver(lambda host: Answer(addresses, 60.0))
    destination = Destination("origin.test", port, tls=False)
    return gevent.spawn(
        connect, destination, resolver, LOOPBACK, Sweeper.of_this_hub(), timeout_s, None
    ).get(timeout=5)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_failed_lately():
    racing._failed.clear()
    yield
    racing._failed.clear()


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


@pytest.mark.parametrize(
    "url",
    [
        "http://127.1", "http://2130706433", "http://0x7f000001", "http://0177.0.0.1", "http://127.0.0.1.",
        "http://[fe80::1%25eth0]", "http://user@a.test", "ftp://a.test", "http://a.test:25", "http://a.test:6379",
    ],
)  # fmt: skip
def test_a_url_that_an_older_release_may_have_stored_is_refused_at_use(url):
    with pytest.raises(GatewayError) as caught:
        Destination.of(url)
    assert caught.value.problem.slug == "origin-forbidden"


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::"]
)
def test_a_literal_address_is_checked_at_use(address):
    resolver = Resolver(lambda host: pytest.fail("a literal is not asked for"))
    with pytest.raises(GatewayError) as caught:
        connect(Destination(address, 80, tls=False), resolver, LOOPBACK, Sweeper.of_this_hub(), 1.0, None)
    assert (caught.value.problem.slug, caught.value.retry) == ("origin-forbidden", Retry.NEVER)


def test_an_address_that_fails_in_tls_hands_over_to_the_next(tmp_path):
    authority = Authority()
    wrong, right = (server_context(authority.issue(name), tmp_path) for name in ("other.test", "origin.test"))
    trust = ssl.create_default_context(cadata=authority.certificate)
    with (
        Origin(behind(wrong, misbehaving.silent), "127.0.0.2") as bad,
        Origin(behind(right, misbehaving.silent), "127.0.0.3", bad.port) as good,
    ):
        resolver = Resolver(lambda host: Answer(("127.0.0.2", "127.0.0.3"), 60.0))
        destination = Destination("origin.test", bad.port, tls=True)
        for _ in range(4):
            wire = gevent.spawn(
                connect, destination, resolver, LOOPBACK, Sweeper.of_this_hub(), 2.0, trust
            ).get(timeout=5)  # fmt: skip
            assert wire.address == wire.sock.getpeername()[0] == "127.0.0.3"
            wire.close()
        assert good.connections == 4
        assert bad.connections == 2  # they take turns; what one tenant does not trust is not held against the address


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


def test_a_loop_that_stood_still_before_a_connect_takes_no_time_from_it(listening):
    """The clock of the sweeps is as old as the last of them."""
    sweeper = Sweeper.of_this_hub()
    sweeper.now_mono -= 10.0
    wire = attempt(listening.getsockname()[1], "127.0.0.2", "127.0.0.1")
    wire.close()
