"""Twin of edge.net.tls and edge.net.connecting: origins behind TLS, verified."""

from __future__ import annotations

import _socket
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time

import gevent
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.errors import Retry
from edge.net.origin_tls import default_context
from edge.net.sweeper import Sweeper
from edge.net.tls import TlsWire
from tests.edge.fakes import a_route
from tests.edge.net.gateway import Gateway, WholeGateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost, its own root. Gives (chain and key file)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.9"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "origin.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def behind_tls(certificate, behaviour):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def behave(sock: socket.socket) -> None:
        try:
            with context.wrap_socket(sock, server_side=True) as wrapped:
                behaviour(wrapped)
        except (ssl.SSLError, OSError):
            sock.close()

    return behave


def trusting(gateway: Gateway, certificate) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    gateway.upstream._tls_context = context


def test_an_origin_behind_tls_is_verified_and_its_connection_kept(certificate):
    with (
        Origin(behind_tls(certificate, origins.answers(OK))) as origin,
        Gateway(f"https://localhost:{origin.port}") as gateway,
    ):
        trusting(gateway, certificate)
        for _ in range(4):
            assert gateway.get().body == b"ok"
        assert origin.connections == 1  # session tickets that arrive on an idle connection do not end it
        assert gateway.pipeline.reused == [False, True, True, True]


def test_large_bodies_pass_both_ways(certificate):
    with (
        Origin(behind_tls(certificate, origins.echoes)) as origin,
        Gateway(f"https://localhost:{origin.port}") as gateway,
        gateway.client() as client,
    ):
        trusting(gateway, certificate)
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        client.send(b"x" * 1_000_000)
        assert client.answer().body.endswith(b"\r\n\r\n" + b"x" * 1_000_000)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_that_nobody_vouches_for_or_of_another_name_is_refused(certificate, host):
    with (
        Origin(behind_tls(certificate, origins.answers(OK))) as origin,
        Gateway(f"https://{host}:{origin.port}") as gateway,
    ):
        if host == "127.0.0.1":  # vouched for, but for other names
            trusting(gateway, certificate)
        assert gateway.get().status == 502
        (error,) = gateway.pipeline.errors
        assert (error.proxy_error, error.retry) == ("tls_certificate_error", Retry.NOTHING_SENT)
        eventually(lambda: gateway.upstream.connections == 0)


def test_an_origin_that_does_not_speak_tls_is_unreachable():
    with (
        Origin(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as origin,
        Gateway(f"https://localhost:{origin.port}") as gateway,
    ):
        assert gateway.get().status == 502
        assert gateway.pipeline.errors[0].proxy_error == "tls_protocol_error"


def test_a_handshake_that_does_not_end_is_a_timeout():
    with Origin(origins.silent) as origin, Gateway(f"https://localhost:{origin.port}") as gateway:
        assert gateway.get().status == 504
        assert gateway.pipeline.errors[0].proxy_error == "connection_timeout"


def test_a_body_until_close_without_close_notify_is_not_complete(certificate):
    """A truncation attack: the TCP connection ends, TLS says nothing."""

    def truncates(sock) -> None:
        origins.head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        socket.socket.shutdown(sock, socket.SHUT_RDWR)

    with (
        Origin(behind_tls(certificate, truncates)) as origin,
        Gateway(f"https://localhost:{origin.port}") as gateway,
        gateway.client() as client,
    ):
        trusting(gateway, certificate)
        client.send(GET)
        client.until(b"half")
        with pytest.raises((EOFError, ConnectionResetError)):
            client.until(b"0\r\n\r\n")


def test_the_default_context_verifies():
    context = default_context()
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert default_context() is context


def test_what_an_origin_says_unasked_in_a_record_of_its_own_is_nobodys_answer(certificate):
    def behave(sock: socket.socket) -> None:
        for number in range(3):
            origins.head(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # all of it arrives at once
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % number)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    with Origin(behind_tls(certificate, behave)) as origin, Gateway(f"https://localhost:{origin.port}") as gateway:
        trusting(gateway, certificate)
        assert [gateway.get().body for _ in range(3)] == [b"00", b"00", b"00"]
        assert origin.connections == 3


def test_an_origin_behind_tls_decides_on_an_upload_and_speaks_in_the_middle_of_it(certificate):
    """Session tickets wake the pump too; they are nobody's word."""

    def play(sock):
        while head := origins.head(sock):
            heads.append(head)
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = origins.exactly(sock, 3)
            sock.sendall(b"HTTP/1.1 102 Processing\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")
            body += origins.exactly(sock, 3)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + body)

    heads = []
    with (
        Origin(behind_tls(certificate, play)) as origin,
        WholeGateway(f"https://localhost:{origin.port}") as gateway,
        gateway.client() as client,
    ):
        trusting(gateway, certificate)
        for _ in range(2):
            client.send(
                b"PUT / HTTP/1.1\r\nHost: demo.example.com\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n"
            )
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            client.send(b"abc")
            assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 102 ")
            client.send(b"def")
            assert client.answer().body == b"abcdef"
        assert all(b"\r\nExpect: 100-continue\r\n" in head for head in heads)
        assert origin.connections == 1


def test_an_early_answer_behind_tls_ends_an_upload_the_origin_does_not_take(certificate):
    def refuse(sock):
        origins.head(sock)
        time.sleep(0.3)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        time.sleep(2)

    with (
        Origin(behind_tls(certificate, refuse)) as origin,
        WholeGateway(f"https://localhost:{origin.port}", a_route("/*", body_bytes_max=100_000_000)) as gateway,
        gateway.client() as client,
    ):
        trusting(gateway, certificate)
        client.send(b"PUT / HTTP/1.1\r\nHost: demo.example.com\r\nContent-Length: 50000000\r\n\r\n")
        client.sock.settimeout(0.2)
        began = time.monotonic()
        with contextlib.suppress(OSError):
            client.send(bytes(30_000_000))
        client.sock.settimeout(5)
        assert (client.answer().status, time.monotonic() - began < 1.5) == (413, True)
        eventually(lambda: gateway.upstream.connections == 0)


def test_records_that_came_together_are_taken_together(certificate):
    """Nothing would wake whoever took only the first: the socket is empty."""
    here, there = socket.socketpair()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    sent, seen = threading.Event(), threading.Event()

    def speak():
        with server.wrap_socket(there, server_side=True) as wrapped:
            wrapped.sendall(bytes(40_000))
            sent.set()
            seen.wait(5)

    speaker = threading.Thread(target=speak)
    speaker.start()
    here.setblocking(False)
    wire = TlsWire(
        _socket.socket(fileno=here.detach()), Sweeper.of_this_hub(),
        ssl.create_default_context(cafile=str(certificate)), server_hostname="localhost",
    )  # fmt: skip
    gevent.spawn(wire.handshake).get(timeout=5)
    assert sent.wait(5)
    taken = wire.take()
    nothing = wire.take()
    seen.set()
    speaker.join(5)
    wire.close()
    assert (taken, nothing) == (bytes(40_000), None)
