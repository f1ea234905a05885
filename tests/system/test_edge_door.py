"""A running edge host and how connections come in: TLS and its certificates, the PROXY header, trusted hops, floods."""

from __future__ import annotations

import http.server
import json
import signal
import socket
import ssl
import threading
import time

import psutil
import pytest

from devstack.child import free_port
from devstack.valkey import Valkey
from tests.edge.net import authority
from tests.edge.publishing import HOST, Publisher, route, snapshot_of
from tests.system.edge_host import EdgeHost
from tests.system.test_edge_host import start
from tests.system.test_restart import gone, grown

pytestmark = pytest.mark.system
GET = f"GET /public/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


class Mirror:
    """An origin that answers with the header section it got."""

    def __init__(self) -> None:
        class Answers(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = str(self.headers).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    mirror = Mirror()
    with Valkey(tmp_path_factory.mktemp("store"), aof=False) as server:
        publisher = Publisher(server.url)
        publisher.config(snapshot_of(1, (route(1, "/public/*"),), mirror.url))
        publisher.close()
        yield server
    mirror.close()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "certificates"
    folder.mkdir()
    authority.put(folder, "main", HOST, "localhost")
    return folder


def tls(port: int, trusted, name: str | None = HOST) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(trusted))
    context.check_hostname = name is not None
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        return context.wrap_socket(raw, server_hostname=name)
    except BaseException:
        raw.close()
        raise


def answer(sock: socket.socket, request: bytes = GET) -> bytes:
    sock.sendall(request)
    got = b""
    while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < length(got):
        piece = sock.recv(65_536)
        assert piece, got
        got += piece
    return got


def length(got: bytes) -> int:
    return next(int(line[15:]) for line in got.split(b"\r\n") if line.lower().startswith(b"content-length:"))


def serial(port: int, trusted) -> int:
    with tls(port, trusted) as client:
        certificate = client.getpeercert()
        assert certificate is not None
        return int(certificate["serialNumber"], 16)


def test_tls_is_served_and_a_renewed_certificate_is_presented_within_seconds(store, tmp_path, folder):
    port = free_port()
    with EdgeHost(store.url, tmp_path, EDGE_TLS_PORT=str(port), EDGE_TLS_CERTIFICATES=str(folder)) as edge:
        trusted = tmp_path / "old.crt"
        trusted.write_bytes((folder / "main.crt").read_bytes())
        edge.eventually(lambda: edge.get("/public/x")[0] == 200)
        with tls(port, trusted) as kept:
            got = answer(kept)
            assert got.startswith(b"HTTP/1.1 200") and b"X-Forwarded-Proto: https" in got
            assert answer(kept, GET.replace(HOST.encode(), b"other.localhost")).startswith(b"HTTP/1.1 421")
        with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
            tls(port, trusted, "nobody.localhost")
        with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
            tls(port, trusted, None)
        expires = "vantageedge_tls_certificate_expires_seconds"
        assert 86_000 < edge.metric(expires) < 86_400

        with tls(port, trusted) as kept:
            answer(kept)
            (folder / "main.key").write_bytes(authority.make(HOST)[1])  # the first half of a careless copy
            edge.eventually(lambda: edge.metric("vantageedge_tls_certificates_broken") == 1)
            assert all(answer_over(port, trusted) for _ in range(10))
            authority.put(folder, "main", HOST, days=30)
            replaced = time.monotonic()
            edge.eventually(lambda: {both(port, folder / "main.crt") for _ in range(12)} == {True})
            assert time.monotonic() - replaced < 10
            edge.eventually(lambda: edge.metric(expires) > 29 * 86_400)
            assert edge.metric("vantageedge_tls_certificates_broken") == 0
            assert answer(kept).startswith(b"HTTP/1.1 200")
        assert edge.log.read_text().count("certificate main:") == 2  # once a worker
        assert edge.metric('vantageedge_connections_refused_total{reason="tls-name-unknown"}') == 2
        assert edge.stop() == 0
    schemes = {json.loads(line).get("url.scheme") for line in edge.access_log.read_text().splitlines()}
    assert {"http", "https"} <= schemes


def answer_over(port: int, trusted) -> bool:
    with tls(port, trusted) as client:
        return answer(client).startswith(b"HTTP/1.1 200")


def both(port: int, trusted) -> bool:
    try:
        return answer_over(port, trusted)
    except ssl.SSLCertVerificationError:
        return False


def test_a_proxy_header_says_who_the_client_is_before_tls_too(store, tmp_path, folder):
    port = free_port()
    with EdgeHost(
        store.url, tmp_path, EDGE_TLS_PORT=str(port), EDGE_TLS_CERTIFICATES=str(folder), EDGE_TLS_DEFAULT="main",
        EDGE_PROXY_PROTOCOL="on", EDGE_TRUSTED_PROXIES="127.0.0.1/32",
    ) as edge:  # fmt: skip
        header = b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 443\r\n"
        with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as plain:
            assert b"X-Forwarded-For: 192.0.2.7\n" in answer(plain, header + GET)
        context = ssl.create_default_context(cafile=str(folder / "main.crt"))
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        raw.sendall(header)
        with context.wrap_socket(raw, server_hostname=HOST) as client:
            got = answer(client)
            assert b"X-Forwarded-For: 192.0.2.7\n" in got and b"X-Forwarded-Proto: https\n" in got
        with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as headless:
            headless.sendall(GET)
            assert headless.recv(1) == b""
        edge.eventually(
            lambda: edge.metric('vantageedge_connections_refused_total{reason="proxy-header-malformed"}') == 1
        )
        assert edge.stop() == 0


def test_a_trusted_hop_is_believed_and_its_word_passed_on(store, tmp_path):
    with EdgeHost(store.url, tmp_path, workers=1, EDGE_TRUSTED_PROXIES="127.0.0.0/8") as edge:
        edge.eventually(lambda: edge.get("/public/x")[0] == 200)
        told = b"X-Forwarded-For: 6.6.6.6, 192.0.2.7, 127.0.0.2\r\nX-Forwarded-Proto: https\r\n\r\n"
        with socket.create_connection(("127.0.0.1", edge.port), timeout=10) as hop:
            got = answer(hop, GET[:-2] + told)
        assert b"X-Forwarded-For: 192.0.2.7, 127.0.0.2, 127.0.0.1\n" in got
        assert b"X-Forwarded-Proto: https\n" in got
        assert b"Forwarded: for=192.0.2.7;proto=https;host=demo.localhost, for=127.0.0.2, for=127.0.0.1\n" in got
        assert edge.stop() == 0
    assert json.loads(edge.access_log.read_text().splitlines()[-1])["client.address"] == "192.0.2.7"


def test_slow_and_idle_floods_cost_bounded_memory_and_no_healthy_client_waits(store, tmp_path):
    """Slow heads, slow bodies, huge heads, bombs of fields, idle connections and pipelined requests, all at once."""
    with EdgeHost(
        store.url, tmp_path, workers=1, EDGE_HEAD_TIMEOUT_S="3",
    ) as edge:  # fmt: skip
        edge.eventually(lambda: edge.get("/public/x")[0] == 200)
        (pid,) = edge.pids()
        quiet = psutil.Process(pid).memory_info().rss
        floods = (
            b"GET / HTTP/1.1\r\nHost: demo.localhost\r\nA: " + b"a" * 30_000,
            b"GET / HTTP/1.1\r\nHost: demo.localhost\r\n" + b"a:\r\n" * 7_000,
            b"POST /public/x HTTP/1.1\r\nHost: demo.localhost\r\nContent-Length: 9999999\r\n\r\nx",
            b"",
            GET * 200,
        )
        sockets = []
        try:
            for number in range(900):
                sock = socket.create_connection(("127.0.0.1", edge.port), timeout=10)
                sock.setblocking(False)
                sock.send(floods[number % len(floods)] or b"G")
                sockets.append(sock)
            began = time.monotonic()
            for _ in range(20):
                assert edge.get("/public/x")[0] == 200
            assert time.monotonic() - began < 5
            grown = psutil.Process(pid).memory_info().rss - quiet
            assert grown < 200 * 1024 * 1024, f"{grown / 1e6:.0f} MB for 900 hostile connections"
            # Heads are late after 3 s, bodies below the rate after 5.
            edge.eventually(lambda: edge.metric('vantageedge_requests_total{tenant="none"') >= 350, timeout_s=20)
            edge.eventually(lambda: edge.metric('vantageedge_errors_total{code="request-timeout"') >= 500, timeout_s=20)
        finally:
            for sock in sockets:
                sock.close()
        edge.eventually(lambda: edge.metric("vantageedge_active_connections") < 5)
        assert edge.stop() == 0


def test_what_is_wrong_with_the_certificates_is_one_line_that_names_the_setting(store, tmp_path, folder):
    environ = EdgeHost(store.url, tmp_path).environ | {"EDGE_TLS_PORT": str(free_port())}
    empty = tmp_path / "empty"
    empty.mkdir()
    for setting, more in (
        ("EDGE_TLS_CERTIFICATES", {}),
        ("EDGE_TLS_CERTIFICATES", {"EDGE_TLS_CERTIFICATES": str(tmp_path / "absent")}),
        ("EDGE_TLS_CERTIFICATES", {"EDGE_TLS_CERTIFICATES": str(empty)}),
        ("EDGE_TLS_DEFAULT", {"EDGE_TLS_CERTIFICATES": str(folder), "EDGE_TLS_DEFAULT": "absent"}),
    ):
        code, lines = start(environ | more)
        assert code == 2
        assert lines[-1].startswith(f"edge: {setting}")


class Callers:
    """Clients that ask over kept TLS connections, again and again; whatever goes wrong is kept."""

    def __init__(self, port: int, trusted) -> None:
        self._context = ssl.create_default_context(cafile=str(trusted))
        self._context.check_hostname = False  # it connects by address, and asks for the host by SNI
        self._port = port
        self._stop = threading.Event()
        self.answered = 0
        self.failures: list[object] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(4)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                raw = socket.create_connection(("127.0.0.1", self._port), timeout=10)
                with self._context.wrap_socket(raw, server_hostname=HOST) as client:
                    while not self._stop.is_set():
                        got = answer(client)
                        self.answered += 1
                        if not got.startswith(b"HTTP/1.1 200"):
                            self.failures.append(got[:100])
                        if b"\r\nConnection: close" in got:
                            break
                        time.sleep(0.005)
            except (OSError, AssertionError) as error:
                self.failures.append(error)


def test_a_reload_and_a_new_parent_lose_no_request_over_tls(store, tmp_path, folder):
    port = free_port()
    edge = EdgeHost(store.url, tmp_path, EDGE_TLS_PORT=str(port), EDGE_TLS_CERTIFICATES=str(folder)).start()
    new = None
    try:
        first = set(edge.pids())
        with Callers(port, folder / "main.crt") as callers:
            edge.eventually(lambda: callers.answered > 50)
            assert edge.process is not None
            old = psutil.Process(edge.process.pid)
            old.send_signal(signal.SIGHUP)
            edge.eventually(lambda: len(set(edge.pids()) - first) == 2 and not first & set(edge.pids()), timeout_s=30)
            old.send_signal(signal.SIGUSR2)
            edge.eventually(lambda: any(grown(child) for child in old.children()), timeout_s=30)
            (new,) = [child for child in old.children() if grown(child)]
            edge.eventually(lambda: edge.metric("vantageedge_workers") == 4, timeout_s=30)
            assert edge.stop() == 0
            answered = callers.answered
            edge.eventually(lambda: callers.answered > answered + 50)
        assert callers.failures == []
    finally:
        edge.stop()
        if new is not None:
            new.terminate()
            gone(new)
