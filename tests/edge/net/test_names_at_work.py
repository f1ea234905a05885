"""Names at work: a gateway, a name server and origins, all real, on loopback."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from contracts.addresses import parse_networks
from edge.errors import Retry
from edge.net.address import Resolver
from edge.net.dns import DnsClient
from tests.edge.net.gateway import Gateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin
from tests.origins.name_server import SILENT, NameServer, a, none, nxdomain

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ONLY_TWO = parse_networks("127.0.0.2/32,127.0.0.3/32")
"""Stands for the public internet: everything else on loopback is forbidden."""


@pytest.fixture
def server(tmp_path: Path):
    with NameServer(tmp_path) as running:
        yield running


def going_by(gateway: Gateway, server: NameServer) -> Gateway:
    gateway.upstream._resolver = Resolver(DnsClient(server.conf, server.hosts))
    return gateway


def test_a_name_that_turns_to_loopback_or_metadata_is_refused_when_it_is_connected_to(server):
    """DNS rebinding: the first answer passes, the second is refused at connect time, and nothing is sent there."""
    server.names("a.test", [a("127.0.0.2", ttl=1), a("127.0.0.1", ttl=1), a("169.254.169.254", ttl=1)], none())
    with (
        Origin(origins.answers(OK), "127.0.0.2") as origin,
        Origin(origins.answers(OK), "127.0.0.1", origin.port) as forbidden,
        Gateway(f"http://a.test:{origin.port}", allowed=ONLY_TWO) as gateway,
    ):
        going_by(gateway, server)
        assert gateway.get().status == 200
        eventually(lambda: server.count("a.test") >= 3, 6)
        eventually(lambda: gateway.upstream.connections == 0, 6)  # DNS no longer names where it leads
        answer = gateway.get()
        assert (answer.status, answer.body) == (502, b"origin-forbidden")
        error = gateway.pipeline.errors[0]
        assert (error.retry, error.proxy_error) == (Retry.NEVER, "destination_ip_prohibited")
        assert forbidden.connections == 0


@pytest.mark.parametrize("bad", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
def test_one_forbidden_address_among_good_ones_makes_all_refused(server, bad):
    v4 = a("127.0.0.2", *([bad] if ":" not in bad else []))
    server.names("a.test", v4, a(bad) if ":" in bad else none())
    with (
        Origin(origins.answers(OK), "127.0.0.2") as origin,
        Gateway(f"http://a.test:{origin.port}", allowed=ONLY_TWO) as gateway,
    ):
        assert going_by(gateway, server).get().body == b"origin-forbidden"
        assert origin.connections == 0


def test_kept_connections_to_an_address_that_dns_no_longer_names_are_let_go(server):
    server.names("a.test", [a("127.0.0.2", ttl=1), a("127.0.0.3", ttl=1)], none())
    with (
        Origin(origins.answers(OK), "127.0.0.2") as old,
        Origin(origins.answers(OK), "127.0.0.3", old.port) as new,
        Gateway(f"http://a.test:{old.port}", allowed=ONLY_TWO) as gateway,
    ):
        going_by(gateway, server)
        assert gateway.get().status == 200
        # A connection that is used again and again is no exception.
        eventually(lambda: gateway.get().status == 200 and new.connections > 0, 8)
        assert old.connections == 1


def test_a_connection_that_was_in_use_when_dns_changed_is_not_used_again(server):
    released = threading.Event()

    def patient(sock) -> None:
        while origins.head(sock):
            released.wait(15)
            sock.sendall(OK)

    server.names("a.test", [a("127.0.0.2", ttl=1), a("127.0.0.3", ttl=1)], none())
    with (
        Origin(patient, "127.0.0.2") as old,
        Origin(origins.answers(OK), "127.0.0.3", old.port) as new,
        Gateway(f"http://a.test:{old.port}", allowed=ONLY_TWO, first_byte_s=15.0) as gateway,
        going_by(gateway, server).client(timeout_s=15) as client,
    ):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: old.connections == 1)
        (target,) = gateway.upstream._targets.values()
        eventually(lambda: target.kept == {"127.0.0.3"}, 10)
        released.set()
        assert client.answer().status == 200
        assert gateway.get().status == 200
        assert (old.connections, new.connections) == (1, 1)


def test_no_request_waits_for_a_name_in_use_and_none_fails_while_dns_is_away(server):
    server.names("a.test", a("127.0.0.2", ttl=1), none())
    closing = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    with (
        Origin(origins.answers(closing), "127.0.0.2") as origin,
        Gateway(f"http://a.test:{origin.port}", allowed=ONLY_TWO) as gateway,
    ):
        going_by(gateway, server)
        eventually(lambda: gateway.get().status == 200 and server.count("a.test") >= 3, 8)
        server.names("a.test", SILENT, SILENT)
        for _ in range(20):
            with gateway.client(timeout_s=2.5) as client:
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.answer().status == 200


def test_a_name_that_does_not_exist_is_a_dns_error(server):
    server.names("a.test", nxdomain(), nxdomain())
    with Gateway("http://a.test:8080", allowed=ONLY_TWO) as gateway:
        assert going_by(gateway, server).get().body == b"origin-unreachable"
        assert gateway.pipeline.errors[0].proxy_error == "dns_error"
