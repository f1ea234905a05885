"""Twin of edge.net.pace: slow bodies and slow readers, in numbers and over real sockets."""

from __future__ import annotations

import contextlib
import socket
import time

import gevent
import pytest

from edge.http.messages import Reply
from edge.net import pace as paces
from edge.net.pace import GRACE_S, Pace
from tests.edge.net.gateway import Gateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PIECE = b"x" * 65_536


def test_waiting_costs_and_octets_earn():
    pace = Pace(240, 60.0)
    assert pace.credit_s == GRACE_S == 5.0
    pace.account(0, 4.0)
    pace.account(240, 1.0)
    assert pace.credit_s == 1.0
    pace.account(1, 1.5)
    assert pace.credit_s < 0
    assert repr(Pace(240, 60.0)) == "<Pace 240 octets/s, 5.0 s left>"


def test_a_fast_beginning_pays_for_no_stall_beyond_the_cap():
    pace = Pace(240, 60.0)
    pace.account(10_000_000, 0.0)
    assert pace.credit_s == 60.0
    assert Pace(240, 1.0).credit_s == GRACE_S


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(paces, "GRACE_S", 0.6)
    with Gateway(body_rate_min=240, body_idle_timeout_s=1.5) as running:
        yield running
    assert running.left_open == 0


def reads(exchange) -> Reply:
    total = 0
    while octets := exchange.body.read():
        total += len(octets)
    return Reply(200, b"OK", b"", b"%d" % total)


def upload(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size


def test_an_upload_that_trickles_is_a_timeout_and_says_why(impatient):
    """RFC 9110 section 15.5.9: "the server did not receive a complete request message within the time that it was
    prepared to wait"."""
    impatient.pipeline.answer = reads
    began = time.monotonic()
    with impatient.client() as client:
        client.send(upload(1000))
        with contextlib.suppress(OSError):
            for _ in range(30):  # 20 octets a second: it never stalls
                client.send(b"xx")
                time.sleep(0.1)
        answer = client.answer()
    assert (answer.status, answer.field(b"Connection")) == (408, b"close")
    assert time.monotonic() - began < 4.5
    (error,) = impatient.pipeline.errors
    assert error.problem.slug == "request-timeout" and "240 octets/s" in error.internal


def test_an_upload_at_the_rate_goes_through_however_long_it_takes(impatient):
    impatient.pipeline.answer = reads
    with impatient.client() as client:
        client.send(upload(1000))
        for _ in range(20):  # 500 octets a second, 2 s
            time.sleep(0.1)
            client.send(b"x" * 50)
        assert client.answer().body == b"1000"


def test_time_that_the_origin_takes_is_not_the_clients(impatient):
    def slowly(exchange) -> Reply:
        total = 0
        while octets := exchange.body.read():
            total += len(octets)
            gevent.sleep(0.5)  # an origin that takes the body slowly
        return Reply(200, b"OK", b"", b"%d" % total)

    impatient.pipeline.answer = slowly
    with impatient.client() as client:
        client.send(upload(5))
        for _ in range(5):
            client.send(b"x")
            time.sleep(0.4)
        assert client.answer().body == b"5"


def test_time_in_which_the_edge_stood_still_is_not_the_clients(impatient):
    impatient.pipeline.answer = reads
    with impatient.client() as client:
        client.send(upload(2) + b"x")
        eventually(lambda: impatient.listener.connections == 1)
        impatient.call(time.sleep, 1.5)
        time.sleep(1.6)
        client.send(b"x")
        assert client.answer().body == b"2"


def test_a_rate_of_zero_asks_for_nothing(monkeypatch):
    monkeypatch.setattr(paces, "GRACE_S", 0.2)
    with Gateway(body_rate_min=0, body_idle_timeout_s=2.0) as gateway, gateway.client() as client:
        gateway.pipeline.answer = reads
        client.send(upload(3))
        for _ in range(3):
            time.sleep(0.5)
            client.send(b"x")
        assert client.answer().body == b"3"


class Endless:
    length = None

    def __init__(self, piece: bytes = PIECE, pause_s: float = 0.0) -> None:
        self.closed = 0
        self.sent = 0
        self._piece = piece
        self._pause_s = pause_s

    def read(self) -> bytes:
        if self._pause_s:
            gevent.sleep(self._pause_s)
        self.sent += 1
        return self._piece

    def close(self) -> None:
        self.closed += 1


def small_reader(gateway: Gateway) -> socket.socket:
    """A client whose kernel takes little: what it does not read is soon felt."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(5)
    sock.connect(("127.0.0.1", gateway.port))
    return sock


def test_a_reader_that_takes_nothing_is_cut_with_what_it_is_owed(impatient):
    body = Endless()
    impatient.pipeline.answer = lambda exchange: Reply(200, b"OK", b"", body)
    with small_reader(impatient) as client:
        client.sendall(GET)
        began = time.monotonic()
        eventually(lambda: impatient.pipeline.gone == 1)
        assert time.monotonic() - began < 3.5  # what its kernel took at first pays for 1.5 s, the cap
        (exchange,) = impatient.pipeline.served
        assert exchange.error.problem.slug == "reader-too-slow" and exchange.client_gone
        assert body.closed == 1
        with pytest.raises(ConnectionResetError):
            while client.recv(65_536):
                pass


def test_a_reader_below_the_rate_is_cut_though_it_never_stalls(monkeypatch):
    """What counts is what its kernel took, not what ours could still hold."""
    monkeypatch.setattr(paces, "GRACE_S", 0.6)
    with Gateway(body_rate_min=200_000, body_idle_timeout_s=60.0) as gateway, small_reader(gateway) as client:
        gateway.pipeline.answer = lambda exchange: Reply(200, b"OK", b"", Endless())
        client.sendall(GET)
        began = time.monotonic()
        while not gateway.pipeline.gone:
            assert client.recv(2048)  # 20 KB a second
            assert time.monotonic() - began < 6
            time.sleep(0.1)
        (exchange,) = gateway.pipeline.served[-1:]
        assert exchange.error.problem.slug == "reader-too-slow"


def test_a_reader_at_the_rate_is_served_though_our_kernel_takes_no_more(impatient):
    """Several seconds pass in which no octet fits into our socket: its reader reads all the same."""
    impatient.pipeline.answer = lambda exchange: Reply(200, b"OK", b"", Endless())
    with small_reader(impatient) as client:
        client.sendall(GET)
        began = time.monotonic()
        while time.monotonic() - began < 3.5:
            assert client.recv(2048)  # 20 KB a second
            time.sleep(0.1)
        assert impatient.pipeline.gone == 0
    eventually(lambda: impatient.pipeline.gone == 1)


def test_events_that_come_seldom_make_no_slow_reader(impatient):
    body = Endless(b"data: x\n\n", pause_s=0.3)
    impatient.pipeline.answer = lambda exchange: Reply(200, b"OK", b"", body)
    with impatient.client() as client:
        client.send(GET)
        eventually(lambda: body.sent >= 8)
        assert impatient.pipeline.gone == 0
    eventually(lambda: impatient.pipeline.gone == 1)


def test_an_origin_that_is_slow_costs_its_client_nothing(impatient):
    def dribbles(sock) -> None:
        origins.head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            time.sleep(0.2)
            sock.sendall(b"x")

    with Origin(dribbles) as origin, Gateway(origin.url, body_rate_min=240) as gateway:
        assert gateway.get().body == b"x" * 10
