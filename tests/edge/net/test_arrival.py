"""Twin of edge.net.arrival: TLS and the PROXY protocol in front of a request, over real sockets.

Longer than 400 lines because what comes before a first request comes in every order.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import gevent
import pytest

from contracts.addresses import parse_networks
from edge.http.forwarded import TrustedHops
from edge.http.messages import Reply
from edge.net.arrival import LOG_EVERY_S, Refusals
from edge.net.certificates import Certificates
from tests.edge.net import authority
from tests.edge.net.gateway import Gateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

LOCAL = TrustedHops(parse_networks("127.0.0.0/8"))
HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n"


def get(host: bytes = b"a.example") -> bytes:
    return b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"


def tells(exchange) -> Reply:
    return Reply(200, b"OK", b"", f"{exchange.client_ip} {exchange.scheme.decode()}".encode())


def slow(seconds: float):
    def answer(exchange) -> Reply:
        gevent.sleep(seconds)
        return Reply(200, b"OK", b"", b"done")

    return answer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    authority.put(folder, "a", "a.example", "b.example")
    authority.put(folder, "wild", "*.wild.example")
    return folder


@pytest.fixture
def certificates(folder):
    certificates = Certificates(folder, "a")
    certificates.check()
    return certificates


@pytest.fixture
def gateway(certificates):
    with Gateway(certificates=certificates, handshake_timeout_s=0.5, head_timeout_s=0.5) as running:
        running.pipeline.answer = tells
        yield running
    assert running.left_open == 0


def refused(gateway: Gateway) -> dict[str, int]:
    return gateway.listener.refusals.total


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_requests_over_tls_are_https_and_share_the_connection(gateway, folder):
    with gateway.tls_client(folder / "a.crt", "a.example") as client:
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        for _ in range(3):
            client.send(get())
            assert client.answer().body == b"127.0.0.1 https"
    with gateway.client() as plain:
        plain.send(get())
        assert plain.answer().body == b"127.0.0.1 http"
    eventually(lambda: gateway.listener.connections == 0)
    assert not gateway.listener._per_client


def test_a_host_that_the_certificate_does_not_cover_is_misdirected_and_never_served(gateway, folder):
    """RFC 9110 section 15.5.20: "the request was directed at a server that is unable or unwilling to produce an
    authoritative response for the target URI"."""
    with gateway.tls_client(folder / "a.crt", "a.example") as client:
        client.send(get(b"b.example"))
        assert client.answer().status == 200  # another name of the same certificate
        client.send(get(b"x.wild.example"))
        answer = client.answer()
        assert (answer.status, answer.body, answer.field(b"Connection")) == (421, b"misdirected", b"close")
        assert client.closed()
    eventually(lambda: gateway.listener.connections == 0)
    assert [exchange.head.host for exchange in gateway.pipeline.served] == [b"b.example"]


def test_a_wildcard_certificate_serves_its_hosts(gateway, folder):
    with gateway.tls_client(folder / "wild.crt", "x.wild.example") as client:
        client.send(get(b"y.wild.example"))
        assert client.answer().status == 200


def test_without_a_name_the_default_is_presented_and_checked(gateway, folder):
    with gateway.tls_client(folder / "a.crt", None) as client:
        client.send(get(b"a.example"))
        assert client.answer().status == 200
        client.send(get(b"127.0.0.1"))
        assert client.answer().status == 421


def test_an_unknown_name_is_refused_with_an_alert_and_counted(gateway, folder):
    with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
        gateway.tls_client(folder / "a.crt", "nobody.example")
    eventually(lambda: refused(gateway) == {"tls-name-unknown": 1})
    eventually(lambda: gateway.listener.connections == 0)


def test_what_is_no_tls_is_closed_and_counted(gateway):
    with socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=5) as client:
        client.sendall(get())
        client.settimeout(5)
        while client.recv(1000):
            pass
    eventually(lambda: refused(gateway) == {"tls-handshake-failed": 1})


def test_a_stalled_handshake_is_ended_and_delays_nobody(certificates, folder):
    with Gateway(certificates=certificates, handshake_timeout_s=1.5) as gateway:
        gateway.pipeline.answer = tells
        stall(gateway, folder)


def stall(gateway, folder):
    context = ssl.create_default_context(cafile=str(folder / "a.crt"))
    out = ssl.MemoryBIO()
    hello = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    octets = out.read()
    stalled = [socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=5) for _ in range(20)]
    trickling = socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=5)
    began = time.monotonic()
    for client in stalled:
        client.sendall(octets[:50])
    with gateway.tls_client(folder / "a.crt", "a.example") as client:
        client.send(get())
        assert client.answer().status == 200
    assert refused(gateway) == {}  # all of them are still at it
    with pytest.raises(OSError):
        for octet in range(40):  # an octet now and then does not prolong it
            trickling.sendall(octets[octet : octet + 1])
            time.sleep(0.1)
    assert time.monotonic() - began < 3
    for client in (*stalled, trickling):
        client.close()
    eventually(lambda: gateway.listener.connections == 0)
    assert refused(gateway)["tls-handshake-late"] == 21


def test_handshakes_count_against_both_ceilings(certificates, folder):
    with Gateway(certificates=certificates, connections_per_client_max=1) as gateway, gateway.client():
        eventually(lambda: gateway.listener.connections == 1)
        with socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=5) as client:
            assert client.recv(1) == b""
        assert refused(gateway) == {"ceiling": 1}
    with (
        Gateway(certificates=certificates, connections_max=1) as gateway,
        socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=5),
    ):
        eventually(lambda: gateway.listener.connections == 1)
        with gateway.client() as client:
            assert client.answer().status == 503


def test_bodies_pass_both_ways_over_tls(certificates, folder):
    with (
        Origin(origins.echoes) as origin,
        Gateway(origin.url, certificates=certificates) as gateway,
        gateway.tls_client(folder / "a.crt", "a.example") as client,
    ):
        client.send(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000000\r\n\r\n")
        client.send(b"x" * 1_000_000)
        assert client.answer().body.endswith(b"\r\n\r\n" + b"x" * 1_000_000)


class Pieces:
    def __init__(self, *pieces: bytes, breaks: bool = False) -> None:
        self.length = None
        self._pieces = list(pieces)
        self._breaks = breaks

    def read(self) -> bytes:
        if self._breaks and not self._pieces:
            from edge.errors import GatewayError

            raise GatewayError("origin-timeout", "late")
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None: ...


def test_only_a_complete_reply_until_close_ends_with_close_notify(gateway, folder):
    """RFC 9112 section 9.8: "A response that has neither chunked transfer coding nor Content-Length is complete only if
    a valid closure alert has been received."
    """
    for breaks in (False, True):
        gateway.pipeline.answer = lambda exchange, breaks=breaks: Reply(200, b"OK", b"", Pieces(b"half", breaks=breaks))
        with gateway.tls_client(folder / "a.crt", "a.example") as client:
            client.sock.suppress_ragged_eofs = False
            client.send(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
            if breaks:
                with pytest.raises(OSError):
                    while client.more():
                        pass
            else:
                while client.more():
                    pass
                assert client.buffer.endswith(b"half")


def test_a_client_that_leaves_over_tls_is_noticed_while_its_origin_thinks(certificates, folder):
    with Origin(origins.silent) as origin, Gateway(origin.url, certificates=certificates) as gateway:
        client = gateway.tls_client(folder / "a.crt", "a.example")
        client.send(get())
        eventually(lambda: origin.connections == 1)
        time.sleep(0.1)
        with contextlib.suppress(OSError):  # we need not answer the close_notify of one who left
            client.sock.unwrap()
        client.sock.close()
        eventually(lambda: gateway.pipeline.gone == 1)


def test_drain_over_tls_closes_the_idle_and_lets_the_busy_finish(certificates, folder):
    with (
        Gateway(certificates=certificates) as gateway,
        gateway.tls_client(folder / "a.crt", "a.example") as idle,
        gateway.tls_client(folder / "a.crt", "a.example") as busy,
        socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=5) as entering,
    ):
        gateway.pipeline.answer = slow(0.0)
        idle.send(get())
        idle.answer()
        gateway.pipeline.answer = slow(0.4)
        busy.send(get())
        eventually(lambda: gateway.listener.connections == 3)
        time.sleep(0.1)
        drained = threading.Event()
        gateway.spawn(lambda: (gateway.listener.drain(), drained.set()))
        assert idle.closed()
        context = ssl.create_default_context(cafile=str(folder / "a.crt"))
        late = context.wrap_socket(entering, server_hostname="a.example")  # it was accepted: it may come in, and ask
        time.sleep(0.1)
        late.sendall(get())
        assert late.recv(1000).startswith(b"HTTP/1.1 200")
        late.close()
        answer = busy.answer()
        assert (answer.status, answer.field(b"Connection")) == (200, b"close")
        assert drained.wait(3)


def test_a_handshake_that_outlasts_the_drain_is_cut(certificates):
    with (
        Gateway(certificates=certificates, handshake_timeout_s=30.0) as gateway,
        socket.create_connection(("127.0.0.1", gateway.tls_port), timeout=8) as entering,
    ):
        eventually(lambda: gateway.listener.connections == 1)
        drained = threading.Event()
        gateway.spawn(lambda: (gateway.listener.drain(), drained.set()))
        assert entering.recv(1) == b""
        assert drained.wait(2)
        assert gateway.listener.connections == 0


def test_a_reload_touches_no_live_connection(tmp_path):
    authority.put(tmp_path, "a", "a.example")
    certificates = Certificates(tmp_path)
    certificates.check()
    with Gateway(certificates=certificates) as gateway:
        gateway.pipeline.answer = tells
        with gateway.tls_client(tmp_path / "a.crt", "a.example") as before:
            authority.put(tmp_path, "a", "new.example")
            certificates.scan()
            with gateway.tls_client(tmp_path / "a.crt", "new.example") as after:
                after.send(get(b"new.example"))
                assert after.answer().status == 200
            before.send(get(b"a.example"))
            assert before.answer().status == 200
            before.send(get(b"new.example"))
            assert before.answer().status == 421  # what was presented to it does not cover that


def test_a_session_is_resumed_across_a_reload_and_checked_by_what_it_asks_for_now(tmp_path):
    authority.put(tmp_path, "a", "a.example")
    authority.put(tmp_path, "b", "b.example")
    certificates = Certificates(tmp_path)
    certificates.check()
    with Gateway(certificates=certificates) as gateway:
        gateway.pipeline.answer = tells
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        address = ("127.0.0.1", gateway.tls_port)
        session = None
        for name, host, status in (("a", "a", 200), ("a", "a", 200), ("b", "b", 200), ("b", "a", 421)):
            with (
                socket.create_connection(address, timeout=5) as raw,
                context.wrap_socket(raw, server_hostname=f"{name}.example", session=session) as client,
            ):
                client.sendall(get(f"{host}.example".encode()))
                assert client.recv(1000).startswith(b"HTTP/1.1 %d" % status)
                if session is not None and name == "a":
                    assert client.session_reused
                session = client.session
            authority.put(tmp_path, "a", "a.example")
            certificates.scan()


# --- The PROXY protocol -----------------------------------------------------------------------------------------------


@pytest.fixture
def proxied(certificates):
    with Gateway(
        certificates=certificates, hops=LOCAL, proxy_protocol=True, handshake_timeout_s=0.5,
        connections_per_client_max=2,
    ) as running:  # fmt: skip
        running.pipeline.answer = tells
        yield running
    assert running.left_open == 0


V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24" + b"\x20\x01\x0d\xb8" + b"\x00" * 11 + b"\x09" + b"\x00" * 20


@pytest.mark.parametrize(
    ("header", "client_ip"),
    [
        (HEADER, b"192.0.2.7"), (V2, b"2001:db8::9"), (b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
        (b"PROXY TCP6 ::ffff:192.0.2.9 ::1 1 2\r\n", b"192.0.2.9"),
    ],
)  # fmt: skip
def test_the_header_says_who_the_client_is(proxied, header, client_ip):
    with proxied.client() as client:
        client.send(header + get() + get())
        assert client.answer().body == client_ip + b" http"
        assert client.answer().body == client_ip + b" http"
    with proxied.client() as client:
        for octet in header + get():
            client.send(bytes([octet]))
        assert client.answer().body == client_ip + b" http"


def test_the_header_comes_before_tls(proxied, folder):
    for before in (HEADER, V2):
        with proxied.tls_client(folder / "a.crt", "a.example", before=before) as client:
            client.send(get())
            assert client.answer().body.endswith(b" https")
    context = ssl.create_default_context(cafile=str(folder / "a.crt"))
    incoming, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = context.wrap_bio(incoming, out, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    with socket.create_connection(("127.0.0.1", proxied.tls_port), timeout=5) as client:
        client.sendall(HEADER + out.read())  # in one piece
        assert client.recv(1) == b"\x16"


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (get(), "proxy-header-malformed"),
        (b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n" + get(), "proxy-header-malformed"),
        (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "proxy-header-malformed"),
        (HEADER[:20], "proxy-header-late"),
        (b"", "proxy-header-late"),
    ],
)
def test_without_a_good_header_in_time_the_connection_is_closed(proxied, octets, reason):
    began = time.monotonic()
    with proxied.client() as client:
        client.send(octets)
        assert client.closed()
    assert time.monotonic() - began < 2
    eventually(lambda: refused(proxied) == {reason: 1})
    assert proxied.pipeline.served == []


def test_a_proxy_that_leaves_in_its_header_is_counted(proxied):
    with proxied.client() as client:
        client.send(HEADER[:9])
    eventually(lambda: refused(proxied) == {"proxy-header-missing": 1})


def test_ceilings_count_the_client_and_not_its_proxy(proxied):
    with proxied.client() as one, proxied.client() as two, proxied.client() as three, proxied.client() as other:
        for client in (one, two):
            client.send(HEADER + get())
            assert client.answer().status == 200
        three.send(HEADER + get())
        assert three.answer().status == 503
        assert three.closed()
        other.send(HEADER.replace(b"192.0.2.7", b"192.0.2.8") + get())
        assert other.answer().status == 200
        assert proxied.listener._per_client == {"192.0.2.7": 2, "192.0.2.8": 1}
    eventually(lambda: not proxied.listener._per_client)


def test_from_elsewhere_nobody_is_heard(certificates):
    elsewhere = TrustedHops(parse_networks("192.0.2.0/24"))
    with Gateway(certificates=certificates, hops=elsewhere, proxy_protocol=True) as gateway:
        for port in (gateway.port, gateway.tls_port):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                try:
                    client.sendall(HEADER + get())
                    assert client.recv(1) == b""
                except ConnectionError:
                    pass
        eventually(lambda: refused(gateway) == {"proxy-untrusted": 2})


def test_refusals_are_logged_at_a_bounded_rate(caplog):
    refusals = Refusals()
    for number in range(1_000):
        refusals.note("proxy-untrusted", "192.0.2.1", "why", 5.0 + number * 0.001)
    refusals.note("tls-handshake-late", "192.0.2.2", "slow", 5.5)
    refusals.note("proxy-untrusted", "192.0.2.3", "why", 5.1 + LOG_EVERY_S)
    assert refusals.total == {"proxy-untrusted": 1_001, "tls-handshake-late": 1}
    assert caplog.messages == [
        "connections refused, proxy-untrusted: 1 more, the last from 192.0.2.1: why",
        "connections refused, tls-handshake-late: 1 more, the last from 192.0.2.2: slow",
        "connections refused, proxy-untrusted: 1000 more, the last from 192.0.2.3: why",
    ]


# --- Trusted forwarding hops ------------------------------------------------------------------------------------------


def asked(forwarded_for: bytes, more: bytes = b"") -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: " + forwarded_for + b"\r\n" + more + b"\r\n"


def test_a_trusted_hop_says_who_the_client_is_and_how_it_came():
    with Gateway(hops=LOCAL) as gateway, gateway.client() as client:
        gateway.pipeline.answer = tells
        client.send(asked(b"6.6.6.6, 192.0.2.7", b"X-Forwarded-Proto: https\r\n"))
        assert client.answer().body == b"192.0.2.7 https"
        client.send(asked(b"192.0.2.8, 127.0.0.9"))
        assert client.answer().body == b"192.0.2.8 http"
        client.send(get())
        assert client.answer().body == b"127.0.0.1 http"
        eventually(lambda: len(gateway.pipeline.served) == 3)
        assert gateway.pipeline.served[0].told.hops == ("127.0.0.1",)


def test_from_anybody_else_nothing_is_believed():
    with Gateway(hops=TrustedHops(parse_networks("192.0.2.0/24"))) as gateway, gateway.client() as client:
        gateway.pipeline.answer = tells
        client.send(asked(b"192.0.2.7", b"X-Forwarded-Proto: https\r\n"))
        assert client.answer().body == b"127.0.0.1 http"
        eventually(lambda: [exchange.told for exchange in gateway.pipeline.served] == [None])


def test_a_client_behind_a_trusted_hop_has_a_ceiling_of_requests_and_the_hop_has_none():
    with Gateway(hops=LOCAL, connections_per_client_max=2) as gateway:
        gateway.pipeline.answer = slow(0.5)
        clients = [gateway.client() for _ in range(5)]
        for client in clients[:3]:
            client.send(asked(b"192.0.2.7"))
            time.sleep(0.02)
        clients[3].send(asked(b"192.0.2.8"))
        assert [client.answer().status for client in clients[:4]] == [200, 200, 503, 200]
        clients[4].send(asked(b"192.0.2.7"))
        assert clients[4].answer().status == 200
        eventually(lambda: not gateway.listener._per_client)
        assert [error.problem.slug for error in gateway.pipeline.refused] == ["gateway-overloaded"]
        for client in clients:
            client.sock.close()


def test_behind_a_proxy_header_the_trusted_hop_is_the_one_it_names(certificates):
    both = TrustedHops(parse_networks("127.0.0.0/8,192.0.2.7/32"))
    with Gateway(certificates=certificates, hops=both, proxy_protocol=True) as gateway:
        gateway.pipeline.answer = tells
        for header, client_ip in ((HEADER, b"198.51.100.1"), (HEADER.replace(b".7 ", b".8 "), b"192.0.2.8")):
            with gateway.client() as client:
                client.send(header + asked(b"198.51.100.1"))
                assert client.answer().body == client_ip + b" http"
