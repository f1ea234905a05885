"""Where the parts of edge.net meet: deadlines across two connections, hand-overs of a read watcher, what TLS holds.

Everything between two sockets is real.

Longer than 400 lines because each joint is told as a whole story, with both of its ends.
"""

from __future__ import annotations

import _socket
import contextlib
import socket
import ssl
import threading
import time

import gevent
import pytest

from contracts.addresses import parse_networks
from edge.errors import ClientGone, GatewayError
from edge.http.forwarded import TrustedHops
from edge.http.messages import Reply
from edge.net.certificates import Certificates
from edge.net.sweeper import Sweeper
from edge.net.tls import TlsWire
from edge.net.wire import READ_BYTES, TimedOut, Wire
from edge.ports import UpstreamRequest
from tests.edge.fakes import a_route
from tests.edge.net import authority
from tests.edge.net.gateway import Client, Gateway, WholeGateway, eventually
from tests.edge.net.test_tls import behind_tls, certificate, trusting  # noqa: F401 - a fixture
from tests.edge.net.test_tunnel import SWITCHED, asks, opened, switches, tunnel
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

NOBODY = "http://127.0.0.1:9999"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: demo.example.com\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: demo.example.com\r\nContent-Length: 3\r\n\r\nabc"


class Records:
    """TLS by hand over a blocking socket, so that it is known what travels together."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str | None = None) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=name is None, server_hostname=name or None
        )
        self._until_done(self._tls.do_handshake)

    def sealed(self, *pieces: bytes) -> bytes:
        """Give one record for each piece."""
        for piece in pieces:
            self._tls.write(piece)
        return self._outgoing.read()

    def reads(self) -> bytes:
        with contextlib.suppress(ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return self._until_done(lambda: self._tls.read(65_536))
        return b""

    def until(self, mark: bytes) -> bytes:
        got = b""
        while mark not in got:
            piece = self.reads()
            if not piece:
                raise EOFError(got)
            got += piece
        return got

    def _until_done(self, step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush()
                octets = self._sock.recv(65_536)
                self._incoming.write(octets) if octets else self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())


# Deadlines


def test_a_deadline_set_in_the_middle_of_a_sweep_is_not_taken_for_the_one_before():
    """One greenlet waits on two connections in turn; both deadlines pass with the same sweep."""
    sweeper = Sweeper.of_this_hub()
    early: list[int] = []

    def waits(one: Wire, other: Wire) -> None:
        one.deadline_mono = other.deadline_mono = sweeper.now_mono
        with pytest.raises(TimedOut):
            one.recv()
        other.deadline_mono = sweeper.now_mono + 1.0
        with contextlib.suppress(TimedOut):
            assert other.recv() == b"in time"
            return
        early.append(1)

    wires, fars = [], []
    for _ in range(64):  # whichever of two comes first in the sweep
        near, far = socket.socketpair()
        near.setblocking(False)
        wires.append(Wire(_socket.socket(fileno=near.detach()), sweeper))
        fars.append(far)
    waiting = [gevent.spawn(waits, wires[at], wires[at + 1]) for at in range(0, 64, 2)]
    gevent.sleep(0.6)
    for far in fars:
        far.send(b"in time")
    gevent.joinall(waiting, 3, raise_error=True)
    for wire in wires:
        wire.close()
    for far in fars:
        far.close()
    assert not early


def asked(url: str, interim, **more) -> UpstreamRequest:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    return UpstreamRequest("tenant", "target", url, b"GET", head, None, 1.0, 0.5, 5.0, interim=interim, **more)


def test_time_spent_on_passing_an_interim_answer_on_does_not_take_the_origins_deadline_away():
    def hints(sock):
        origins.head(sock)
        sock.sendall(HINTS)
        sock.recv(1)

    ended: list[object] = []
    with Origin(hints) as origin, Gateway() as gateway:

        def sends() -> None:
            try:
                gateway.upstream.send(asked(origin.url, lambda head: gevent.sleep(1.0)))  # a client that reads slowly
            except GatewayError as error:
                ended.append(error.problem.slug)

        gateway.spawn(sends)
        eventually(lambda: bool(ended), 4)
    assert ended == ["origin-timeout"]


def test_nor_the_bound_on_waiting_for_a_100():
    got: list[bytes] = []

    def hints_and_reads(sock):
        origins.head(sock)
        sock.sendall(HINTS)
        got.append(origins.exactly(sock, 3))
        sock.sendall(OK)

    class Waits:
        length = 3
        trailers = b""
        waits = True

        def __init__(self) -> None:
            self._pieces = [b"abc", b""]

        def read(self) -> bytes:
            return self._pieces.pop(0)

        def close(self) -> None:
            pass

    ended: list[int] = []
    with Origin(hints_and_reads) as origin, Gateway() as gateway:
        request = asked(origin.url, lambda head: gevent.sleep(1.6), expects=True)
        request.body, request.head = Waits(), b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
        gateway.spawn(lambda: ended.append(gateway.upstream.send(request).head.status))
        eventually(lambda: bool(ended), 5)
    assert (ended, got) == ([200], [b"abc"])


def test_a_kept_connection_has_the_patience_of_the_request_that_uses_it():
    def answers_once(sock):
        origins.head(sock)
        sock.sendall(OK)
        time.sleep(5)  # and takes no more than fits

    ended: list[object] = []
    with Origin(answers_once) as origin, Gateway() as gateway:

        def sends() -> None:
            gateway.upstream.send(asked(origin.url, None))
            again = asked(origin.url, None)
            again.body, again.idle_timeout_s = bytes(20_000_000), 0.5
            try:
                gateway.upstream.send(again)
            except GatewayError as error:
                ended.append(error.problem.slug)

        gateway.spawn(sends)
        eventually(lambda: bool(ended), 3)
    assert ended == ["origin-timeout"]


def test_a_handshake_is_bounded_also_where_the_peer_takes_nothing(certificate):  # noqa: F811 - the fixture
    near, far = (_socket.socket(fileno=end.detach()) for end in socket.socketpair())
    near.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while near.send(bytes(4_096)):
            pass
    with contextlib.suppress(BlockingIOError):
        while near.send(b"0"):
            pass
    wire = TlsWire(near, Sweeper.of_this_hub(), ssl.create_default_context(), server_hostname="localhost")
    wire.deadline_mono = wire.sweeper.now_mono + 0.3
    with pytest.raises(TimedOut), gevent.Timeout(3):
        wire.handshake()
    wire.close()
    far.close()


# The empty line that some clients send behind a body


def test_an_empty_line_behind_a_body_is_no_beginning_of_a_request():
    """RFC 9112 section 2.2: "Older HTTP/1.0 user agent implementations might send an extra CRLF after a POST request
    [...]. A server that is expecting to receive and parse a request-line SHOULD ignore at least one empty line (CRLF)
    received prior to the request-line." """
    with (
        Origin(origins.echoes) as origin,
        WholeGateway(origin.url, head_timeout_s=0.5, idle_timeout_s=3.0) as gateway,
        gateway.client() as client,
    ):
        for later in (False, True):
            client.send(POST if later else POST + b"\r\n")
            assert client.answer().body.endswith(b"abc")
            for octet in b"\r\n" if later else b"":
                client.send(bytes([octet]))
                time.sleep(0.05)
            time.sleep(1.2)  # longer than a head may take
            client.send(GET)
            assert client.answer().status == 200
        client.send(POST + b"\r\n" + GET)
        assert client.answer().status == 200
        assert client.answer().status == 200
        assert gateway.stage.recorder.refusals == []
        assert origin.connections == 1


def test_an_empty_line_alone_does_not_keep_a_connection_longer_than_idle():
    with WholeGateway(NOBODY, head_timeout_s=5.0, idle_timeout_s=1.0) as gateway, gateway.client() as c:
        began = time.monotonic()
        time.sleep(0.7)
        c.send(b"\r\n")
        assert c.closed()  # without a word: nobody asked for anything
        assert 0.9 < time.monotonic() - began < 1.6
        assert gateway.stage.recorder.refusals == []


def test_a_connection_is_idle_behind_an_empty_line_also_to_a_drain():
    with Origin(origins.echoes) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(POST + b"\r\n")
        assert client.answer().status == 200
        gateway.spawn(gateway.listener.drain)
        assert client.closed()
        eventually(lambda: gateway.listener.connections == 0)


def test_the_rest_of_a_head_behind_an_empty_line_has_a_heads_time():
    with WholeGateway(NOBODY, head_timeout_s=0.5) as gateway, gateway.client() as client:
        client.send(b"\r\nGET / HT")
        assert client.answer().status == 408


def test_an_answer_is_not_lost_to_the_empty_line_behind_the_last_body():
    """Unread octets would turn our close into a reset, which takes from the client what it has not read yet."""
    big = b"HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n" + bytes(400_000)

    def thinks(sock):
        origins.head(sock)
        origins.exactly(sock, 3)
        time.sleep(0.2)
        sock.sendall(big)

    with Origin(thinks) as origin, WholeGateway(origin.url) as gateway:
        for at_once in (True, False):
            with gateway.client() as client:
                request = POST.replace(b"Content-Length", b"Connection: close\r\nContent-Length")
                client.send(request if at_once else request[:-2])
                time.sleep(0.05)
                client.send(b"" if at_once else request[-2:])
                time.sleep(0.05)
                client.send(b"\r\n")
                eventually(lambda: len(gateway.records) > 0)
                time.sleep(0.1)
                assert len(client.answer().body) == 400_000
                assert client.closed()
            gateway.records.clear()


# Tunnels


def test_octets_sent_before_the_101_do_not_cost_a_client_its_half_closed_end():
    def answers_at_the_end(sock):
        got = b""
        while piece := sock.recv(65_536):
            got += piece
        time.sleep(0.8)  # several sweeps
        sock.sendall(b"you said " + got)

    def behave(sock):
        origins.head(sock)
        time.sleep(0.2)
        sock.sendall(SWITCHED % b"echo")
        answers_at_the_end(sock)

    with Origin(behave) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        client.send(asks())
        time.sleep(0.05)
        client.send(b"early ")
        client.until(b"\r\n\r\n")
        client.send(b"late")
        client.sock.shutdown(socket.SHUT_WR)
        while client.more():
            pass
        assert client.buffer == b"you said early late"
        eventually(lambda: not gateway.listener.connections)
        assert not gateway.listener.unread


def test_a_tunnel_that_is_given_up_with_octets_still_held_is_reset_and_not_ended():
    """What is lost must not look like an end."""
    go = threading.Event()

    def floods(sock):
        with contextlib.suppress(OSError):
            sock.sendall(bytes(64_000_000))
        go.wait(10)

    with tunnel(switches(floods), tunnel_idle_timeout_s=1.0) as (client, gateway, _):
        eventually(lambda: not gateway.listener.connections)
        go.set()
        with pytest.raises(ConnectionResetError):
            while client.sock.recv(1_048_576):
                pass


def test_asking_a_tunnel_to_end_that_just_ended_does_nothing():
    with Origin(switches(origins.silent, b"websocket")) as origin, Gateway(origin.url) as gateway:
        with gateway.client() as client:
            opened(client, b"websocket")

            def ends_and_retires() -> None:
                (tunnel,) = gateway.listener.tunnels._open
                tunnel.front.interrupt(ClientGone())
                tunnel.retire()
                tunnel.abandon()

            gateway.call(ends_and_retires)
            eventually(lambda: not gateway.listener.connections)
        assert not gateway.hub_errors


# What TLS holds


def test_octets_behind_a_declined_upgrade_are_noticed_though_tls_holds_them(tmp_path):
    heads: list[bytes] = []
    path = authority.put(tmp_path, "a", "a")
    certificates = Certificates(tmp_path, "a")
    certificates.check()

    def declines(sock):
        while got := origins.head(sock):
            heads.append(got)
            sock.sendall(OK)

    with (
        Origin(declines) as origin,
        Gateway(origin.url, certificates=certificates) as gateway,
        Client(gateway.tls_port, 5.0) as client,
    ):
        tls = Records(client.sock, ssl.create_default_context(cafile=str(path)), "a")
        client.send(tls.sealed(asks(), b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"))
        assert b"Connection: close\r\n" in tls.until(b"ok")
        assert tls.reads() == b""
    assert [got.split(b" ")[1] for got in heads] == [b"/chat"]


def test_a_kept_connection_behind_tls_is_watched_again_after_it_was_read_ahead(certificate):  # noqa: F811
    """A slow client lets the origin's last records be read while nobody reads; the origin may close later."""
    closes, ended = threading.Event(), threading.Event()

    def two_records(sock):
        origins.head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        time.sleep(0.3)
        sock.sendall(b"two")
        closes.wait(5)
        sock.unwrap()  # close_notify, then the end
        ended.set()

    with (
        Origin(behind_tls(certificate, two_records)) as origin,
        Gateway(f"https://localhost:{origin.port}") as gateway,
    ):
        trusting(gateway, certificate)
        got: list[bytes] = []

        def sends() -> None:
            body = gateway.upstream.send(asked(gateway.pipeline.url, None)).body
            got.append(body.read())
            gevent.sleep(0.8)  # the client takes its time
            got.append(body.read())
            assert body.read() == b""
            body.close()

        gateway.spawn(sends)
        eventually(lambda: got == [b"one", b"two"])
        (target,) = gateway.upstream._targets.values()
        eventually(lambda: target.books.idle == 1)
        closes.set()
        eventually(lambda: target.books.idle == 0, 3)


def test_what_stands_behind_a_body_that_ends_with_a_read_is_nobodys_answer():
    """An answer as long as some reads of ours, and a second one right behind it: it must not meet the next request."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    size = 2 * READ_BYTES

    def splits(sock):
        origins.head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        time.sleep(0.1)
        sock.sendall(bytes(size) + evil)
        while origins.head(sock):
            sock.sendall(OK)

    got: list[object] = []
    with Origin(splits) as origin, Gateway() as gateway:

        def sends() -> None:
            body = gateway.upstream.send(asked(origin.url, None)).body
            gevent.sleep(0.3)
            pieces = []
            while piece := body.read():
                pieces.append(len(piece))
            body.close()
            got.append(pieces)
            got.append(gateway.upstream._targets.popitem()[1].books.idle)

        gateway.spawn(sends)
        eventually(lambda: len(got) >= 2)
    assert got[:2] == [[READ_BYTES, READ_BYTES], 0]


def test_a_refusal_that_came_together_with_the_100_ends_an_upload_though_tls_holds_it(certificate):  # noqa: F811
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def lets_go_on_and_refuses(sock):
        tls = Records(sock, context)
        tls.until(b"\r\n\r\n")
        sock.sendall(tls.sealed(CONTINUE, b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"))
        time.sleep(6)

    size = 1_000_000
    with Origin(lets_go_on_and_refuses) as origin, WholeGateway(
        f"https://localhost:{origin.port}", a_route("/*", body_bytes_max=size)
    ) as gateway, gateway.client() as client:  # fmt: skip
        trusting(gateway, certificate)
        client.send(b"PUT / HTTP/1.1\r\nHost: demo.example.com\r\nExpect: 100-continue\r\n")
        client.send(b"Content-Length: %d\r\n\r\n" % size)
        assert b" 100 " in client.until(b"\r\n\r\n")
        client.send(b"abc")  # and nothing more for now
        assert client.answer().status == 403


def test_what_came_behind_a_proxy_header_is_not_kept_for_the_life_of_the_connection():
    with Gateway(hops=TrustedHops(parse_networks("127.0.0.0/8")), proxy_protocol=True) as gateway:
        gateway.pipeline.answer = lambda exchange: Reply(200, b"OK", b"", b"ok")
        with gateway.client() as client:
            client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n" + GET.replace(b"\r\n\r\n", b"\r\nA: " + b"x" * 9_000))
            time.sleep(0.05)
            client.send(b"\r\n\r\n")
            assert client.answer().status == 200
            (downstream,) = gateway.listener._downstreams
            assert not any(isinstance(part, bytes) and len(part) > 99 for part in downstream.arrival)
