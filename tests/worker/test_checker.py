import datetime as dt
import socket
import ssl
import threading
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contracts.addresses import parse_networks
from worker import checker

LOOPBACK = parse_networks("127.0.0.0/8,::1/128")


@pytest.fixture
def talker():
    """Start a server that answers each connection with given pieces, and remembers what it was sent."""
    opened = []

    def start(*pieces, pause_s=0.0, wrap=None, heard=None):
        listener = socket.create_server(("127.0.0.1", 0))
        opened.append(listener)

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                try:
                    connection.settimeout(5)
                    if wrap is not None:
                        connection = wrap(connection)
                    request = connection.recv(4_096)
                    if heard is not None:
                        heard.append(request)
                    for piece in pieces:
                        connection.sendall(piece)
                        time.sleep(pause_s)
                except OSError:
                    pass
                finally:
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        return listener.getsockname()[1]

    yield start
    for listener in opened:
        listener.close()


def ask(port, path="/health", allowed=LOOPBACK, host="127.0.0.1", scheme="http", timeout_s=1.0):
    return checker.probe(f"{scheme}://{host}:{port}", path, allowed, timeout_s)


@pytest.mark.parametrize("status", [200, 204, 301, 399])
def test_2xx_and_3xx_are_healthy(talker, status):
    finding = ask(talker(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status))
    assert (finding.healthy, finding.reason) == (True, "ok")
    assert 0 < finding.latency_ms < 1_000


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_other_statuses_are_not(talker, status):
    finding = ask(talker(b"HTTP/1.1 %d\r\n\r\n" % status))
    assert (finding.healthy, finding.reason) == (False, f"status-{status}")


def test_the_request_names_the_host_asks_for_base_path_and_path_and_says_who_we_are(talker):
    heard = []
    port = talker(b"HTTP/1.1 200 OK\r\n\r\n", heard=heard)
    assert checker.probe(f"http://127.0.0.1:{port}/base", "/health?x=1", LOOPBACK).healthy
    line, *lines = heard[0].split(b"\r\n")
    assert line == b"GET /base/health?x=1 HTTP/1.1"
    assert b"Host: 127.0.0.1:%d" % port in lines
    assert b"Connection: close" in lines
    assert any(field.startswith(b"User-Agent: VantageEdge-Health/") for field in lines)


def test_interim_responses_are_read_past(talker):
    port = talker(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n", b"\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ", b"503 No\r\n"
    )
    assert ask(port).reason == "status-503"


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ((b"SSH-2.0-OpenSSH\r\n",), "response-invalid"),
        ((b"HTTP/2 200\r\n",), "response-invalid"),
        ((b"HTTP/1.1 99999\r\n",), "response-invalid"),
        ((b"x" * 20_000,), "response-invalid"),
        ((b"HTTP/1.1 20",), "response-incomplete"),
        ((), "response-incomplete"),
    ],
)
def test_what_is_not_http_is_unhealthy_and_says_so(talker, pieces, reason):
    assert ask(talker(*pieces)).reason == reason


def test_a_silent_target_times_out(talker):
    began = time.monotonic()
    assert ask(talker(b"", pause_s=2), timeout_s=0.3).reason == "timeout"
    assert time.monotonic() - began < 1


def test_a_target_that_drips_costs_no_more_than_a_silent_one(talker):
    began = time.monotonic()
    assert ask(talker(*[b"x"] * 100, pause_s=0.05), timeout_s=0.4).reason == "timeout"
    assert time.monotonic() - began < 1


def test_a_closed_port_is_refused():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert ask(unused.getsockname()[1]).reason == "connect-refused"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"]
)
def test_a_forbidden_address_is_never_connected_to(talker, host):
    heard = []
    port = talker(b"HTTP/1.1 200 OK\r\n\r\n", heard=heard)
    assert ask(port, allowed=(), host=host).reason == "address-forbidden"
    assert heard == []


def test_a_name_of_which_one_address_is_forbidden_is_refused_as_a_whole(talker, monkeypatch):
    heard = []
    port = talker(b"HTTP/1.1 200 OK\r\n\r\n", heard=heard)
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    assert ask(port, host="rebind.example.com").reason == "address-forbidden"
    assert heard == []


def test_the_connection_goes_to_the_address_that_was_checked(talker, monkeypatch):
    """The name is resolved once: a second answer, as in DNS rebinding, is never asked for."""
    port = talker(b"HTTP/1.1 200 OK\r\n\r\n")
    resolve, asked = socket.getaddrinfo, []

    def once(host, *rest, **more):
        asked.append(host)
        return resolve("127.0.0.1" if host == "rebind.example.com" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    assert ask(port, host="rebind.example.com").healthy
    assert asked == ["rebind.example.com", "127.0.0.1"]  # the second is the literal address, at connect


def test_a_name_that_does_not_resolve_says_so():
    assert ask(80, host="nowhere.invalid", timeout_s=5).reason == "name-unresolved"


def test_a_path_that_would_split_the_request_is_never_sent(talker):
    heard = []
    assert ask(talker(heard=heard), path="/a\r\nX: y").reason == "path-invalid"
    assert heard == []


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """A certificate of localhost, signed by itself and trusted through SSL_CERT_FILE."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - dt.timedelta(1), now + dt.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    checker._tls.cache_clear()
    yield path
    checker._tls.cache_clear()


def test_tls_is_verified_for_the_name_and_sends_it(talker, certificate):
    names = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    port = talker(b"HTTP/1.1 200 OK\r\n\r\n", wrap=lambda c: context.wrap_socket(c, server_side=True))
    assert ask(port, host="localhost", scheme="https").reason == "ok"
    assert names == ["localhost"]
    assert ask(port, host="127.0.0.1", scheme="https").reason == "tls-invalid"


def test_a_certificate_nobody_vouches_for_is_refused(talker, certificate, monkeypatch):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    port = talker(b"HTTP/1.1 200 OK\r\n\r\n", wrap=lambda c: context.wrap_socket(c, server_side=True))
    monkeypatch.delenv("SSL_CERT_FILE")
    checker._tls.cache_clear()
    assert ask(port, host="localhost", scheme="https").reason == "tls-invalid"


def test_a_plain_server_behind_https_is_not_tls(talker):
    assert ask(talker(b"HTTP/1.1 400 Bad\r\n\r\n"), scheme="https").reason == "tls-failed"
