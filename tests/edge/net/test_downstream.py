"""Twin of edge.net.downstream: one client connection, for real.

Longer than 400 lines because a module has one twin, and each play needs its words on the wire.
"""

from __future__ import annotations

import socket
import time

import pytest

from edge.errors import GatewayError
from edge.http.messages import Reply
from tests.edge.net.gateway import Gateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def fixed(body: bytes = b"hello", status: int = 200, lines: bytes = b"", announced: int | None = None):
    return lambda exchange: Reply(status, b"OK", lines, body, announced)


@pytest.fixture
def gateway():
    with Gateway(head_timeout_s=0.5, idle_timeout_s=1.0, body_idle_timeout_s=0.5) as running:
        running.pipeline.answer = fixed()
        yield running
    assert running.left_open == 0


def test_a_connection_serves_many_requests_and_gives_each_a_date(gateway):
    with gateway.client() as client:
        for _ in range(5):
            client.send(GET)
            answer = client.answer()
            assert (answer.status, answer.body) == (200, b"hello")
            assert answer.field(b"Date").endswith(b"GMT")
            assert answer.field(b"Connection") is None
    eventually(lambda: len(gateway.pipeline.served) == 5)


def test_pipelined_requests_are_answered_in_order(gateway):
    gateway.pipeline.answer = lambda exchange: Reply(200, b"OK", b"", exchange.head.target)
    with gateway.client() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(50)))
        assert [client.answer().body for _ in range(50)] == [b"/%d" % number for number in range(50)]


def test_a_flood_of_pipelined_requests_leaves_turns_to_others(gateway):
    import gevent

    turns, seen = [0], []

    def others() -> None:
        while len(seen) < 500:
            turns[0] += 1
            gevent.sleep(0)

    def answer(exchange) -> Reply:
        if not seen:
            gevent.spawn(others)
        seen.append(turns[0])
        return Reply(204, b"OK", b"", b"")

    gateway.pipeline.answer = answer
    with gateway.client() as client:
        client.send(GET * 500)
        assert all(client.answer().status == 204 for _ in range(500))
    assert max(seen.count(turn) for turn in set(seen)) <= 17


def test_a_head_that_comes_octet_by_octet_is_read(gateway):
    with gateway.client() as client:
        for at in range(len(GET)):
            client.send(GET[at : at + 1])
        assert client.answer().status == 200


def test_http_1_0_is_closed_unless_it_asks_to_be_kept(gateway):
    with gateway.client() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        assert client.answer().field(b"Connection") == b"keep-alive"
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert client.answer().field(b"Connection") == b"close"
        assert client.closed()


def test_connection_close_ends_the_connection_and_what_follows_is_ignored(gateway):
    with gateway.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET)
        assert client.answer().field(b"Connection") == b"close"
        assert client.closed()
    assert len(gateway.pipeline.served) == 1


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\x00", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"GET /" + b"a" * 9000, 414),
        (GET[:-2] + b"A: " + b"a" * 40_000, 431),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ],
)
def test_what_is_no_request_is_answered_and_the_connection_closed(gateway, raw, status):
    with gateway.client() as client:
        client.send(raw)
        answer = client.answer()
        assert answer.status == status
        assert answer.field(b"Connection") == b"close"
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
    assert [error.problem.status for error in gateway.pipeline.refused] == [status]


def test_a_slow_head_is_told_so(gateway):
    with gateway.client() as client:
        client.send(b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        answer = client.answer()
        assert answer.status == 408
        assert 0.4 < time.monotonic() - began < 2


def test_a_head_cannot_be_prolonged_by_trickling(gateway):
    with gateway.client() as client:
        client.send(b"GET / HTTP/1.1\r\nA: ")
        began = time.monotonic()
        client.sock.settimeout(0.1)
        while time.monotonic() - began < 3:
            try:
                client.send(b"x")
                if client.more():
                    break
            except TimeoutError:
                continue
        assert client.buffer.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed_in_silence(gateway):
    with gateway.client() as client:
        client.send(GET)
        client.answer()
        assert client.closed()
    assert not gateway.pipeline.refused


def test_head_and_bodiless_statuses_have_no_body(gateway):
    with gateway.client() as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer(b"HEAD").field(b"Content-Length") == b"5"
        gateway.pipeline.answer = fixed(b"", 204)
        client.send(GET)
        assert client.answer().field(b"Content-Length") is None
        gateway.pipeline.answer = fixed(b"", 304, announced=7)
        client.send(GET)
        assert client.answer().field(b"Content-Length") == b"7"
        gateway.pipeline.answer = fixed(b"end")
        client.send(GET)
        assert client.answer().body == b"end"


# Request bodies


def reads(exchange) -> Reply:
    body = exchange.body
    if not isinstance(body, bytes) and body is not None:
        body = b"".join(iter(body.read, b""))
        exchange.body.close()
    return Reply(200, b"OK", b"", body or b"nothing")


def test_a_small_body_that_came_with_its_head_is_given_as_bytes(gateway):
    kinds = []
    gateway.pipeline.answer = lambda exchange: (kinds.append(type(exchange.body)), reads(exchange))[1]
    with gateway.client() as client:
        for raw in (b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"):
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + raw + GET)
            assert client.answer().body == b"abc"
            assert client.answer().body == b"nothing"
    assert kinds == [bytes, type(None), bytes, type(None)]


@pytest.mark.parametrize(
    "pieces",
    [
        (b"Content-Length: 6\r\n\r\nab", b"cd", b"ef"),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nab", b"\r\n4\r\ncdef\r", b"\n0\r\n\r\n"),
    ],
)
def test_a_body_in_pieces_is_streamed_and_the_next_request_follows(gateway, pieces):
    gateway.pipeline.answer = reads
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + pieces[0])
        for piece in pieces[1:]:
            time.sleep(0.03)
            client.send(piece)
        client.send(GET)
        assert client.answer().body == b"abcdef"
        assert client.answer().body == b"nothing"


def test_continue_is_sent_when_the_body_is_first_read(gateway):
    """RFC 9110 section 10.1.1: a 100 response tells the client to go on; it comes before the final one."""
    gateway.pipeline.answer = reads
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert client.answer().body == b"abc"
        client.send(GET)
        assert client.answer().body == b"nothing"


def test_a_refused_upload_that_waits_for_continue_is_closed_without_one(gateway):
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        answer = client.answer()
        assert answer.head.startswith(b"HTTP/1.1 200") and answer.field(b"Connection") == b"close"
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()


def test_a_small_unread_body_is_drained_and_the_connection_kept(gateway):
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        assert client.answer().field(b"Connection") is None
        client.send(b"def" + GET)
        assert client.answer().body == b"hello"


def test_a_large_unread_body_closes_the_connection_but_the_reply_arrives(gateway):
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"x" * 200_000)
        answer = client.answer()
        assert (answer.status, answer.field(b"Connection")) == (200, b"close")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()


def test_a_malformed_chunk_is_the_clients_fault(gateway):
    gateway.pipeline.answer = reads
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        answer = client.answer()
        assert (answer.status, answer.body, answer.field(b"Connection")) == (400, b"request-malformed", b"close")


def test_a_malformed_chunk_behind_a_good_one_and_last_chunk_look_alike(gateway):
    gateway.pipeline.answer = reads
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n")
        assert client.answer().status == 400
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab0\r\n\r\n")
        time.sleep(0.05)
        client.send(b"\r\n\r\n0\r\n\r\n")
        assert client.answer().body == b"ab0\r\n\r\n\r\n"


def test_a_body_that_stalls_is_a_timeout(gateway):
    gateway.pipeline.answer = reads
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        assert client.answer().status == 408
        assert gateway.pipeline.errors[0].close


def test_a_client_that_leaves_in_its_upload_is_gone(gateway):
    gateway.pipeline.answer = reads
    with gateway.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        eventually(lambda: gateway.listener.connections == 1)
    eventually(lambda: gateway.pipeline.gone == 1)
    eventually(lambda: gateway.listener.connections == 0)


# Replies in pieces


class Pieces:
    trailers = b""

    def __init__(self, *pieces: bytes, length: int | None = None, error: Exception | None = None) -> None:
        self.length = length
        self._pieces = [*pieces]
        self._error = error
        self.closed = 0

    def read(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._error:
            raise self._error
        return b""

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("length", [None, 6])
def test_a_reply_in_pieces_is_chunked_or_counted_and_its_body_closed_once(gateway, length):
    body = Pieces(b"abc", b"def", length=length)
    gateway.pipeline.answer = fixed(body)
    with gateway.client() as client:
        client.send(GET)
        answer = client.answer()
        assert answer.body == b"abcdef"
        assert (answer.field(b"Transfer-Encoding") == b"chunked") is (length is None)
        gateway.pipeline.answer = fixed()
        client.send(GET)
        assert client.answer().body == b"hello"
    assert body.closed == 1


def test_an_http_1_0_client_gets_an_unknown_length_until_close(gateway):
    gateway.pipeline.answer = fixed(Pieces(b"abc", b"def"))
    with gateway.client() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        answer = client.answer()
        assert (answer.body, answer.field(b"Connection"), answer.field(b"Transfer-Encoding")) == (
            b"abcdef",
            b"close",
            None,
        )


def test_a_head_request_for_a_streamed_reply_closes_the_body_unread(gateway):
    body = Pieces(b"abc", length=3)
    gateway.pipeline.answer = fixed(body)
    answer = gateway.get(method=b"HEAD")
    assert answer.status == 200
    eventually(lambda: body.closed == 1)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_reply_that_breaks_is_cut_so_that_nobody_takes_it_for_complete(gateway, version):
    gateway.pipeline.answer = fixed(Pieces(b"abc", error=GatewayError("origin-invalid-response", "broke")))
    with gateway.client() as client:
        client.send(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n")
        client.until(b"abc")
        with pytest.raises((ConnectionResetError, EOFError)) as caught:
            client.until(b"0\r\n\r\n")
        if version == b"1.0":
            assert caught.type is ConnectionResetError


def test_a_crash_ends_its_connection_and_no_other(gateway, caplog):
    def crash(exchange):
        raise RuntimeError("on purpose")

    with gateway.client() as bystander, gateway.client() as client:
        bystander.send(GET)
        bystander.answer()
        gateway.pipeline.answer = crash
        client.send(GET)
        assert client.closed()
        gateway.pipeline.answer = fixed()
        bystander.send(GET)
        assert bystander.answer().status == 200
    assert "a connection crashed" in caplog.text


def test_a_slow_reader_holds_nothing_but_the_socket_buffers(gateway):
    produced = []

    class Endless(Pieces):
        def read(self) -> bytes:
            produced.append(1)
            return bytes(65_536)

    gateway.pipeline.answer = fixed(Endless())
    with gateway.client() as client:
        client.send(GET)
        time.sleep(0.2)
        first = len(produced)
        time.sleep(0.1)
        assert len(produced) == first < 200  # it stopped: the client does not read
        eventually(lambda: gateway.pipeline.gone == 1)  # and after body_idle_timeout_s without progress it is let go


def test_octets_are_counted_both_ways(gateway):
    gateway.pipeline.answer = reads
    with gateway.client() as client:
        client.send(b"POST /abc HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n")
        time.sleep(0.05)
        client.send(b"x" * 5000)
        answer = client.answer()
    eventually(lambda: bool(gateway.pipeline.served))
    exchange = gateway.pipeline.served[0]
    assert 5000 < exchange.bytes_in < 5200
    assert exchange.bytes_out == len(answer.head) + 5000


# A client that leaves


def test_a_client_that_leaves_while_its_origin_thinks_is_noticed_at_once():
    with Origin(origins.silent) as origin, Gateway(origin.url) as gateway:
        with gateway.client() as client:
            client.send(GET)
            eventually(lambda: origin.connections == 1)
        began = time.monotonic()
        eventually(lambda: gateway.pipeline.gone == 1)
        assert time.monotonic() - began < 1
        assert gateway.pipeline.served[0].client_gone
        eventually(lambda: gateway.upstream.connections == 0)


def test_a_client_that_leaves_while_nobody_can_be_interrupted_is_let_go_later(gateway):
    import gevent

    reached = []

    def busy(exchange):
        gevent.sleep(0.4)  # somewhere else than on a wire
        reached.append(1)
        return Reply(200, b"OK", b"", b"late")

    gateway.pipeline.answer = busy
    with gateway.client() as client:
        client.send(GET)
        time.sleep(0.1)
    eventually(lambda: reached == [1])
    eventually(lambda: gateway.listener.connections == 0)
    eventually(lambda: not [chore for chore in gateway.sweeper.chores if "gone" in chore.__name__])


def test_a_pipelining_client_is_not_taken_for_one_that_left():
    with (
        Origin(origins.one_octet_at_a_time(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as origin,
        Gateway(origin.url) as gateway,
        gateway.client() as client,
    ):
        client.send(GET)
        time.sleep(0.02)
        client.send(GET + GET)
        assert [client.answer().body for _ in range(3)] == [b"ok"] * 3
