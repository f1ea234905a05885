"""Twin of edge.net.upstream: the gateway against origins that behave and origins that do not."""

from __future__ import annotations

import resource
import socket
import time

import pytest

from edge.errors import GatewayError, Retry, Source
from tests.edge.net.gateway import Gateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def failed(gateway: Gateway, slug: str, retry: Retry) -> GatewayError:
    """The one exchange failed in this way, as the origin's fault."""
    (error,) = gateway.pipeline.errors
    assert (error.problem.slug, error.retry, error.source) == (slug, retry, Source.UPSTREAM), repr(error)
    return error


def no_connection_is_left(gateway: Gateway) -> None:
    eventually(lambda: gateway.upstream.connections == 0)


def test_one_connection_to_the_origin_serves_one_request_after_the_other():
    with Origin(origins.answers(OK)) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        for _ in range(5):
            client.send(GET)
            assert client.answer().body == b"ok"
        assert origin.connections == 1
        assert gateway.pipeline.reused == [False, True, True, True, True]
    assert gateway.left_open == 0


def test_head_and_body_arrive_as_they_were_sent():
    lines = b"X-A: 1\r\nConnection: x-b\r\nX-B: 2\r\nContent-Length: 3\r\n\r\nabc"
    with Origin(origins.echoes) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        client.send(b"PUT /a/b?c=%20 HTTP/1.1\r\nHost: a\r\n" + lines)
        assert (
            client.answer().body == b"PUT /a/b?c=%20 HTTP/1.1\r\nHost: origin\r\nX-A: 1\r\nContent-Length: 3\r\n\r\nabc"
        )


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (OK, b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_whole_answers_are_given_as_bytes_and_the_connection_is_kept(raw, body):
    with Origin(origins.answers(raw)) as origin, Gateway(origin.url) as gateway:
        for _ in range(3):
            assert gateway.get().body == body
        assert origin.connections == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nSet-Cookie: a\r\n\r\nhello world",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n",
    ],
)
def test_an_answer_octet_by_octet_is_the_same_answer(raw):
    with Origin(origins.one_octet_at_a_time(raw)) as origin, Gateway(origin.url) as gateway:
        for _ in range(2):
            assert gateway.get().body == b"hello world"
        assert origin.connections == 1


def test_an_answer_until_close_is_complete_and_the_connection_gone():
    with Origin(origins.answers_and_closes(b"HTTP/1.1 200 OK\r\n\r\nhello")) as origin, Gateway(origin.url) as gateway:
        assert gateway.get().body == b"hello"
        assert gateway.get().body == b"hello"
        assert origin.connections == 2
        no_connection_is_left(gateway)


def test_an_http_1_0_origin_is_understood():
    with (
        Origin(origins.answers_and_closes(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")) as origin,
        Gateway(origin.url) as gateway,
    ):
        assert gateway.get().body == b"ok"
        no_connection_is_left(gateway)


def test_head_has_a_length_without_a_body_and_the_connection_is_kept():
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with Origin(origins.answers(raw, OK)) as origin, Gateway(origin.url) as gateway:
        assert gateway.get(method=b"HEAD").field(b"Content-Length") == b"1000"
        assert gateway.get().body == b"ok"
        assert origin.connections == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
    ],
)
def test_a_malformed_answer_is_502_and_its_connection_is_not_used_again(raw):
    with Origin(origins.answers(raw)) as origin, Gateway(origin.url) as gateway:
        answer = gateway.get()
        assert (answer.status, answer.body) == (502, b"origin-invalid-response")
        failed(gateway, "origin-invalid-response", Retry.IF_IDEMPOTENT)
        no_connection_is_left(gateway)


def test_switching_protocols_unasked_is_502():
    with Origin(origins.answers(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")) as origin, Gateway(origin.url) as gateway:
        assert gateway.get().status == 502
        no_connection_is_left(gateway)


def test_endless_interim_answers_are_502():
    with Origin(origins.answers(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20)) as origin, Gateway(origin.url) as gateway:
        assert gateway.get().status == 502


def test_more_than_announced_is_cut_and_the_connection_thrown_away():
    with Origin(origins.says_more_than_it_announced) as origin, Gateway(origin.url) as gateway:
        for _ in range(3):
            assert gateway.get().body == b"ok"
        assert origin.connections == 3
        no_connection_is_left(gateway)


def test_an_answer_nobody_asked_for_is_never_given_to_the_next_request():
    with Origin(origins.speaks_unasked) as origin, Gateway(origin.url) as gateway:
        assert gateway.get().body == b"ok"
        no_connection_is_left(gateway)  # it spoke: closed
        assert gateway.get().body == b"ok"


def test_nobody_listening_is_502_and_nothing_was_sent():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Gateway(f"http://127.0.0.1:{port}") as gateway:
        assert gateway.get().status == 502
        error = failed(gateway, "origin-unreachable", Retry.NOTHING_SENT)
        assert error.proxy_error == "connection_refused"
        assert "127.0.0.1" not in error.detail
        no_connection_is_left(gateway)


@pytest.mark.parametrize("behaviour", [origins.resets, origins.closes_at_once])
def test_an_origin_that_ends_without_an_answer_is_502(behaviour):
    with Origin(behaviour) as origin, Gateway(origin.url) as gateway:
        assert gateway.get().status == 502
        failed(gateway, "origin-unreachable", Retry.IF_IDEMPOTENT)
        no_connection_is_left(gateway)


def test_no_answer_in_time_is_504():
    with Origin(origins.silent) as origin, Gateway(origin.url, first_byte_s=0.3) as gateway:
        began = time.monotonic()
        assert gateway.get().status == 504
        assert 0.2 < time.monotonic() - began < 2
        failed(gateway, "origin-timeout", Retry.IF_IDEMPOTENT)
        no_connection_is_left(gateway)


@pytest.mark.parametrize(
    ("behaviour", "slug"),
    [
        (origins.half_body, "origin-invalid-response"),
        (origins.half_body_then_reset, "origin-invalid-response"),
        (origins.stalls_in_the_body, "origin-timeout"),
    ],
)
def test_half_a_body_reaches_the_client_as_half_a_body(behaviour, slug):
    with Origin(behaviour) as origin, Gateway(origin.url, idle_s=0.3) as gateway, gateway.client() as client:
        client.send(GET)
        client.until(b"half.")
        with pytest.raises((EOFError, ConnectionResetError)):
            client.exactly(1)
        eventually(lambda: len(gateway.pipeline.errors) == 1)
        failed(gateway, slug, Retry.NEVER)
        no_connection_is_left(gateway)


def test_a_malformed_chunk_from_the_origin_never_looks_complete():
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n"
    with Origin(origins.answers(raw)) as origin, Gateway(origin.url) as gateway:
        assert gateway.get().status == 502
        no_connection_is_left(gateway)


def test_an_idle_connection_that_its_origin_closes_is_noticed_when_it_happens():
    with Origin(origins.keep_alive_liar) as origin, Gateway(origin.url) as gateway:
        for _ in range(3):
            assert gateway.get().status == 200
            no_connection_is_left(gateway)
        assert origin.connections == 3
        assert gateway.pipeline.reused == [False, False, False]


def test_a_kept_connection_that_breaks_under_a_request_says_so():
    with Origin(origins.closes_on_reuse) as origin, Gateway(origin.url) as gateway:
        assert gateway.get().status == 200
        assert gateway.get().status == 502
        failed(gateway, "origin-unreachable", Retry.REUSED_CONNECTION)


def test_a_fresh_connection_is_opened_when_it_is_asked_for():
    with Origin(origins.answers(OK)) as origin, Gateway(origin.url) as gateway:
        gateway.get()
        send = gateway.upstream.send

        def fresh(request):
            request.fresh = True
            return send(request)

        gateway.upstream.send = fresh  # type: ignore[method-assign]
        gateway.get()
        assert origin.connections == 2


def test_idle_connections_expire():
    with Origin(origins.answers(OK)) as origin, Gateway(origin.url, upstream_idle_timeout_s=0.3) as gateway:
        gateway.get()
        assert gateway.upstream.connections == 1
        no_connection_is_left(gateway)
        eventually(lambda: not gateway.upstream._targets)  # and what was known of the target is forgotten


def test_connections_to_a_target_are_bounded():
    with (
        Origin(origins.silent) as origin,
        Gateway(origin.url, upstream_per_target_max=1) as gateway,
        gateway.client() as first,
    ):
        first.send(GET)
        eventually(lambda: origin.connections == 1)
        answer = gateway.get()
        assert (answer.status, answer.body) == (503, b"tenant-overloaded")
        assert gateway.pipeline.errors[0].retry is Retry.NOTHING_SENT


def test_only_so_many_idle_connections_are_kept():
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with (
        Origin(origins.one_octet_at_a_time(raw, 0.003)) as origin,
        Gateway(origin.url, upstream_idle_per_target_max=1) as gateway,
    ):
        with gateway.client() as a, gateway.client() as b, gateway.client() as c:
            for client in (a, b, c):
                client.send(GET)
            for client in (a, b, c):
                assert client.answer().body == b"ok"
        assert origin.connections == 3
        eventually(lambda: gateway.upstream.connections == 1)


def test_forbidden_addresses_are_never_connected_to():
    with Origin(origins.answers(OK)) as origin, Gateway(origin.url, allowed=()) as gateway:
        answer = gateway.get()
        assert (answer.status, answer.body) == (502, b"origin-forbidden")
        assert origin.connections == 0
        assert "loopback" in gateway.pipeline.errors[0].internal


def test_a_url_that_is_no_longer_allowed_is_refused_and_not_tried():
    with Gateway("http://user@127.0.0.1:1") as gateway:
        assert gateway.get().body == b"origin-forbidden"
        no_connection_is_left(gateway)


# Uploads


def test_an_upload_by_length_is_pumped_through():
    with Origin(origins.echoes) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n")
        for _ in range(30):
            client.send(b"x" * 10_000)
        body = client.answer().body
        assert body.endswith(b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000)
        client.send(GET)
        assert client.answer().status == 200
        assert origin.connections == 1


def test_an_upload_in_chunks_stays_in_chunks():
    with Origin(origins.echoes) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        time.sleep(0.05)
        client.send(b"3;x=y\r\ndef\r\n0\r\nTrailer: dropped\r\n\r\n")
        body = client.answer().body
        assert body.endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        assert b"Content-Length" not in body


def test_an_early_answer_ends_an_upload_that_waits_for_its_client():
    """The client has sent the head and nothing more: only the origin's answer can end this."""
    with Origin(origins.early_answer) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.body, answer.field(b"Connection")) == (413, b"big", b"close")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
        no_connection_is_left(gateway)


def test_an_early_answer_ends_an_upload_that_the_origin_does_not_take():
    with Origin(origins.early_answer) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
        client.sock.settimeout(0.2)
        for _ in range(100):
            try:
                client.send(bytes(262_144))
            except OSError:
                break
        client.sock.settimeout(5)
        assert client.answer().status == 413
        no_connection_is_left(gateway)


def test_a_broken_upload_is_never_retried():
    with Origin(origins.resets) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        client.send(bytes(50_000))
        assert client.answer().status == 502
        failed(gateway, "origin-unreachable", Retry.NEVER)


# Flat memory


def test_a_large_download_and_upload_pass_in_flat_memory():
    size = 200 * 1024 * 1024
    with Origin(origins.downloads(size)) as origin, Gateway(origin.url) as gateway, gateway.client(30) as client:
        client.send(GET)
        client.until(b"\r\n\r\n")
        got = len(client.buffer)
        client.buffer = b""
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        buffer = bytearray(262_144)
        while got < size:
            got += client.sock.recv_into(buffer)
        assert got == size
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 16 * 1024


def test_a_reader_that_stops_stops_the_origin():
    sent = []

    def endless(sock: socket.socket) -> None:
        origins.head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            sock.sendall(bytes(65_536))
            sent.append(1)

    with Origin(endless) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        client.send(GET)
        time.sleep(0.6)
        first = len(sent)
        time.sleep(0.3)
        assert len(sent) == first < 400


def test_chunks_are_passed_on_as_they_come():
    with (
        Origin(origins.chunked(b"one", b"two", pause_s=0.3)) as origin,
        Gateway(origin.url) as gateway,
        gateway.client() as client,
    ):
        client.send(GET)
        client.until(b"one")
        assert b"two" not in client.buffer
        client.until(b"two\r\n0\r\n\r\n")
        client.send(GET)
        assert client.answer().body == b"onetwo"
        assert origin.connections == 1
