"""How exchanges end when one side has had enough: early answers, clients and origins that leave, old versions.

Everything between two sockets is real; clients speak to demo.example.com.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from tests.edge.fakes import a_route
from tests.edge.net.gateway import WholeGateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BIG = a_route("/*", body_bytes_max=100_000_000)


def get(path: bytes = b"/", lines: bytes = b"", version: bytes = b"1.1", method: bytes = b"GET") -> bytes:
    return method + b" " + path + b" HTTP/" + version + b"\r\nHost: demo.example.com\r\n" + lines + b"\r\n"


def post(length: int, version: bytes = b"1.1", lines: bytes = b"") -> bytes:
    return get(b"/", b"Content-Length: %d\r\n%b" % (length, lines), version, b"POST")


class Watched:
    """An origin's behaviour that tells when its peer closed the connection: `ended_mono`."""

    def __init__(self, behaviour) -> None:
        self._behaviour = behaviour
        self.ended_mono = 0.0
        self.reached = threading.Event()

    def __call__(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._behaviour(sock, self.reached)
            while sock.recv(65_536):
                pass
        self.ended_mono = time.monotonic()


def one_record(gateway: WholeGateway):
    eventually(lambda: len(gateway.records) == 1)
    return gateway.records[0]


# The client leaves


def thinks(sock, reached):
    origins.head(sock)
    reached.set()


def streams(sock, reached):
    origins.head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    reached.set()


def floods(sock, reached):
    origins.head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    reached.set()
    while True:
        sock.sendall(bytes(65_536))


def takes_nothing(sock, reached):
    origins.head(sock)
    reached.set()
    time.sleep(3)


@pytest.mark.parametrize(
    ("behaviour", "request_octets"),
    [
        pytest.param(thinks, get(), id="waiting for the first byte"),
        pytest.param(streams, get(), id="waiting for more of a body"),
        pytest.param(floods, get(), id="not reading a download"),
        pytest.param(thinks, post(6) + b"abc", id="in an upload"),
        pytest.param(thinks, post(3) + b"abc", id="behind an upload"),
        pytest.param(thinks, post(6, lines=b"Expect: 100-continue\r\n"), id="waiting for 100"),
    ],
)
@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
def test_a_client_that_leaves_takes_its_origins_request_along(behaviour, request_octets, leave):
    watched = Watched(behaviour)
    with Origin(watched) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(request_octets)
        assert watched.reached.wait(3)
        time.sleep(0.1)
        left_mono = time.monotonic()
        if leave == "reset":
            origins.reset(client.sock)
        elif leave == "close":
            client.sock.close()
        else:
            client.sock.shutdown(socket.SHUT_WR)
        eventually(lambda: watched.ended_mono > 0.0, 2.5)
        assert watched.ended_mono - left_mono < 2
        record = one_record(gateway)
        assert (record.client_gone, record.error) == (True, None)
        eventually(lambda: gateway.upstream.connections == 0)
        eventually(lambda: gateway.listener.connections == 0)


@pytest.mark.parametrize(
    ("behaviour", "request_octets", "leave"),
    [
        # an orderly close waits in the client's kernel behind octets for which there is no room: only a reset arrives
        pytest.param(takes_nothing, post(50_000_000) + bytes(30_000_000), "reset", id="an upload that stands still"),
        pytest.param(thinks, get() + get(b"/next"), "close", id="a pipelined request, closed"),
        pytest.param(thinks, get() + get(b"/next"), "reset", id="a pipelined request, reset"),
    ],
)
def test_a_client_that_leaves_behind_octets_nobody_read_is_noticed_too(behaviour, request_octets, leave):
    """Nothing wakes the edge: what lies unread before the end hides it."""
    watched = Watched(behaviour)
    with Origin(watched) as origin, WholeGateway(origin.url, BIG) as gateway, gateway.client() as client:
        head, _, rest = request_octets.partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert watched.reached.wait(3)
        client.sock.settimeout(0.3)
        with contextlib.suppress(OSError):
            client.send(rest)
        time.sleep(0.1)
        left_mono = time.monotonic()
        if leave == "reset":
            origins.reset(client.sock)
        else:
            client.sock.close()
        eventually(lambda: gateway.upstream.connections == 0, 2.0)
        assert time.monotonic() - left_mono < 1.0
        assert one_record(gateway).client_gone
        eventually(lambda: not gateway.listener.unread)


# The origin leaves


def breaks_off(framing: bytes, body: bytes, *, reset: bool):
    def behave(sock):
        origins.head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + body)
        time.sleep(0.1)
        if reset:
            origins.reset(sock)

    return behave


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    ("framing", "body"),
    [(b"Content-Length: 10\r\n", b"half."), (b"Transfer-Encoding: chunked\r\n", b"5\r\nhalf.\r\n")],
)
def test_an_origin_that_breaks_off_is_a_message_that_breaks_off_and_the_log_says_so(version, reset, framing, body):
    """RFC 9112 section 8: a message is incomplete without its last chunk or its length; until-close has neither, so
    only a reset tells the client."""
    with (
        Origin(breaks_off(framing, body, reset=reset)) as origin,
        WholeGateway(origin.url) as gateway,
        gateway.client() as client,
    ):
        client.send(get(version=version))
        head = client.until(b"\r\n\r\n")
        until_close = b"Content-Length" not in head and b"chunked" not in head
        client.until(b"half.")
        with pytest.raises((ConnectionResetError, EOFError)) as caught:
            while client.more():
                pass
            raise EOFError
        assert b"0\r\n\r\n" not in client.buffer
        if until_close:
            assert caught.type is ConnectionResetError
        record = one_record(gateway)
        assert (record.error.problem.slug, record.reply.status) == ("origin-invalid-response", 200)
        assert record.client_gone is False
        eventually(lambda: gateway.upstream.connections == 0)


def test_an_until_close_answer_that_is_reset_is_not_complete():
    with (
        Origin(breaks_off(b"", b"half.", reset=True)) as origin,
        WholeGateway(origin.url) as gateway,
        gateway.client() as client,
    ):
        client.send(get())
        client.until(b"half.")
        with pytest.raises((ConnectionResetError, EOFError)):
            client.until(b"0\r\n\r\n")
        assert one_record(gateway).error.problem.slug == "origin-invalid-response"


# Early answers


def test_an_answer_before_the_uploads_end_passes_at_once_and_both_connections_end():
    """RFC 9112 section 9.5: a client that sees a final answer while it still sends may close; so does the edge."""

    def answers_early(sock, reached):
        origins.head(sock)
        origins.exactly(sock, 3)
        sock.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")
        reached.set()

    watched = Watched(answers_early)
    with Origin(watched) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(post(1_000_000) + b"abc")
        began = time.monotonic()
        answer = client.answer()
        assert (answer.status, answer.body, answer.field(b"Connection")) == (401, b"no", b"close")
        assert time.monotonic() - began < 1
        eventually(lambda: watched.ended_mono > 0.0)
        assert client.more() == b""
        assert (one_record(gateway).error, gateway.upstream.connections) == (None, 0)


def test_a_small_rest_of_an_upload_is_read_behind_an_early_answer_and_the_client_goes_on():
    def answers_early(sock, reached):
        origins.head(sock)
        sock.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno")

    with Origin(Watched(answers_early)) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(post(6) + b"abc")
        assert (client.answer().status, origin.connections) == (401, 1)
        client.send(b"def" + get())
        assert client.answer().status == 401
        assert origin.connections == 2, "the first did not get its request whole"


def test_an_early_answer_in_pieces_streams_while_the_upload_is_dropped():
    def answers_early(sock, reached):
        origins.head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        time.sleep(0.1)
        sock.sendall(b"3\r\ntwo\r\n0\r\n\r\n")

    with Origin(Watched(answers_early)) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(post(1_000_000) + b"abc")
        assert client.answer().body == b"onetwo"
        eventually(lambda: gateway.upstream.connections == 0)


# Old versions


def test_an_http_1_0_client_keeps_its_connection_by_length_and_uploads():
    with Origin(origins.echoes) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        for body in (b"abc", b"defg"):
            client.send(post(len(body), b"1.0", b"Connection: keep-alive\r\n") + body)
            answer = client.answer()
            assert answer.field(b"Connection") == b"keep-alive"
            assert answer.body.endswith(b"\r\n\r\n" + body)
            assert b"\r\nVia: 1.0 vantageedge\r\n" in answer.body
        client.send(get(version=b"1.0"))
        assert client.answer().field(b"Connection") == b"close"
        assert client.closed()


def test_an_http_1_0_client_gets_chunks_as_octets_until_the_connection_closes():
    with (
        Origin(origins.chunked(b"one", b"two", pause_s=0.05)) as origin,
        WholeGateway(origin.url) as gateway,
        gateway.client() as client,
    ):
        client.send(get(version=b"1.0", lines=b"Connection: keep-alive\r\n"))
        answer = client.answer()
        assert (answer.body, answer.field(b"Connection"), answer.field(b"Transfer-Encoding")) == (
            b"onetwo", b"close", None,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "connections"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 3),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", 1),
        (b"HTTP/1.0 200 OK\r\n\r\nok", 3),
    ],
)
def test_an_http_1_0_origin_is_kept_only_where_it_says_so(raw, connections):
    """RFC 9112 section 9.3: an HTTP/1.0 connection persists only if its "keep-alive" option is present."""

    def old(sock):
        while origins.head(sock):
            sock.sendall(raw)
            if b"keep-alive" not in raw:
                return

    with Origin(old) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        for _ in range(3):
            client.send(get())
            answer = client.answer()
            assert (answer.status, answer.body, answer.field(b"Via")) == (200, b"ok", b"1.0 vantageedge")
            assert answer.field(b"Connection") is None
        assert origin.connections == connections


def test_an_http_1_0_origin_that_speaks_in_chunks_is_502():
    """RFC 9112 section 6.1: a Transfer-Encoding in HTTP/1.0 makes the framing faulty."""
    raw = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    with Origin(origins.answers(raw)) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(get())
        assert client.answer().status == 502
        eventually(lambda: gateway.upstream.connections == 0)


# Answers that have no body


@pytest.mark.parametrize(
    ("method", "status"), [(b"HEAD", b"200 OK"), (b"GET", b"204 No Content"), (b"GET", b"304 Not Modified")]
)
def test_a_body_where_none_can_be_is_dropped_with_its_connection(method, status):
    """RFC 9112 section 6.3, rule 1: such a response "is always terminated by the first empty line"."""
    evil = b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(OK) + OK
    with Origin(origins.answers(evil)) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        for turn in (1, 2):
            client.send(get(method=method))
            answer = client.answer(method)
            assert answer.head.startswith(b"HTTP/1.1 " + status.split()[0])
            assert client.buffer == b""
            assert origin.connections == turn
        assert (answer.field(b"Content-Length") is None) is (status[:3] == b"204")


# Order


def test_pipelined_requests_are_answered_in_order_behind_an_upload_and_an_error():
    with Origin(origins.echoes) as origin, WholeGateway(origin.url, a_route("/x/*"), BIG) as gateway:
        with gateway.client() as client:
            upload = post(200_000).replace(b"POST /", b"POST /first") + b"x" * 200_000
            chunks = b"3\r\nabc\r\n" * 1000 + b"0\r\n\r\n"
            chunked = get(b"/second", b"Transfer-Encoding: chunked\r\n", method=b"POST") + chunks
            error = get(b"/x/%zz") + get(b"/x", lines=b"Max-Forwards: x\r\n", method=b"OPTIONS")
            sender = threading.Thread(target=client.send, args=(upload + chunked + error + get(b"/last"),))
            sender.start()
            answers = [client.answer() for _ in range(5)]
            sender.join()
        assert [answer.status for answer in answers] == [200, 200, 400, 400, 200]
        assert answers[0].body.startswith(b"POST /first ") and answers[0].body.endswith(b"x" * 200_000)
        assert answers[1].body.startswith(b"POST /second ")
        assert answers[4].body.startswith(b"GET /last ")


def test_what_stands_behind_a_broken_request_is_not_served():
    with Origin(origins.echoes) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(get(b"/one") + get(b"/two", b"A : b\r\n") + get(b"/three"))
        assert [client.answer().status, client.answer().status] == [200, 400]
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
        assert len(gateway.records) == 1


# Unbuffered


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked\r\n", b"", b"Content-Length: 20\r\n"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_small_piece_from_the_origin_reaches_the_client_at_once(framing, version):
    heard = threading.Semaphore(1)

    def events(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        origins.head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n")
        for number in range(2):
            assert heard.acquire(timeout=5)  # nothing more is said until the client has this one
            event = b"data: %02d\n\n" % number
            sock.sendall(b"%x\r\n%b\r\n" % (len(event), event) if b"chunked" in framing else event)
        sock.sendall(b"0\r\n\r\n" if b"chunked" in framing else b"")

    with Origin(events) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(get(version=version))
        client.until(b"\r\n\r\n")
        for number in range(2):
            client.until(b"data: %02d\n\n" % number)
            heard.release()
