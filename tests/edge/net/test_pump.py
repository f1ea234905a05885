"""Twin of edge.net.pump: uploads that wait for their origin's word, and what it says in the middle of them.

Everything between two sockets is real; clients speak to demo.example.com.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import gevent
import pytest

from edge.net import pump
from tests.edge.fakes import a_bucket, a_cache, a_route
from tests.edge.net.gateway import Answer, Client, WholeGateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: demo.example.com\r\n\r\n"


def put(lines: bytes = b"Expect: 100-continue\r\nContent-Length: 3\r\n", version: bytes = b"1.1") -> bytes:
    return b"PUT / HTTP/" + version + b"\r\nHost: demo.example.com\r\n" + lines + b"\r\n"


class Plays:
    """An origin that plays one scene per request: each takes the socket; `heads` and `bodies` are what it read."""

    def __init__(self, *scenes) -> None:
        self._scenes = list(scenes)
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    def __call__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while head := origins.head(sock):
            self.heads.append(head)
            scene = self._scenes.pop(0) if len(self._scenes) > 1 else self._scenes[0]
            if scene(self, sock) is False:
                return

    def reads(self, sock: socket.socket, size: int = 3) -> bytes:
        self.bodies.append(origins.exactly(sock, size))
        return self.bodies[-1]


def goes_on(plays: Plays, sock: socket.socket) -> None:
    sock.sendall(CONTINUE)
    plays.reads(sock)
    sock.sendall(OK)


def refuses(plays: Plays, sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")


def only_reads(plays: Plays, sock: socket.socket) -> None:
    plays.reads(sock)
    sock.sendall(OK)


def only_answers(plays: Plays, sock: socket.socket) -> None:
    sock.sendall(OK)


def interims(client: Client) -> list[bytes]:
    """Read the heads before the final one, which stays in the buffer."""
    heads = []
    while True:
        while b"\r\n\r\n" not in client.buffer:
            assert client.more()
        if not client.buffer.startswith(b"HTTP/1.1 1"):
            return heads
        heads.append(client.until(b"\r\n\r\n"))


def final(client: Client) -> Answer:
    """Read the final answer; nothing interim comes before it."""
    assert interims(client) == []
    return client.answer()


# 100 (Continue)


def test_the_origin_lets_a_waiting_client_go_on_and_not_before(monkeypatch):
    """RFC 9110 section 10.1.1: a proxy forwards the expectation, and the 100 is the origin's to send."""
    monkeypatch.setattr(pump, "CONTINUE_S", 5.0)
    scene = []

    def thinks_first(plays, sock):
        time.sleep(0.2)
        scene.append(time.monotonic())
        goes_on(plays, sock)

    plays = Plays(thinks_first)
    with Origin(plays) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(put())
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue\r\n")
        assert time.monotonic() >= scene[0]
        assert (b"\r\nExpect: 100-continue\r\n" in plays.heads[0], plays.bodies) == (True, [])
        began = time.monotonic()
        client.send(b"abc")
        assert (final(client).body, plays.bodies) == (b"ok", [b"abc"])
        assert time.monotonic() - began < 3, "the origin's word is enough"
        client.send(put())
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        client.send(b"abc")
        assert final(client).body == b"ok"
        assert origin.connections == 1


def test_a_chunked_upload_waits_too():
    def takes_chunks(plays, sock):
        sock.sendall(CONTINUE)
        plays.reads(sock, len(b"3\r\nabc\r\n0\r\n\r\n"))
        sock.sendall(OK)

    plays = Plays(takes_chunks)
    with Origin(plays) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(put(b"Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n"))
        client.until(b"\r\n\r\n")
        client.send(b"3\r\nabc\r\n0\r\n\r\n")
        assert (final(client).body, plays.bodies) == (b"ok", [b"3\r\nabc\r\n0\r\n\r\n"])


def test_an_origin_that_refuses_is_believed_and_neither_connection_is_used_again():
    """RFC 9110 section 10.1.1: a final status instead of 100 comes before the body; whether that follows is unknown."""
    plays = Plays(refuses)
    with Origin(plays) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(put())
        answer = final(client)
        assert (answer.status, answer.body, answer.field(b"Connection")) == (403, b"no", b"close")
        assert answer.head.startswith(b"HTTP/1.1 403")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
        eventually(lambda: gateway.upstream.connections == 0)
        assert (plays.bodies, origin.connections) == ([], 1)


def test_a_silent_origin_is_not_waited_for_longer_than_a_second():
    plays = Plays(only_reads)
    with Origin(plays) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        began = time.monotonic()
        client.send(put())
        assert client.until(b"\r\n\r\n") == CONTINUE
        assert 0.9 < time.monotonic() - began < 2.5
        client.send(b"abc")
        assert (final(client).body, plays.bodies) == (b"ok", [b"abc"])


def test_a_client_that_goes_on_by_itself_is_not_told_to():
    """RFC 9110 section 10.1.1: a server MAY omit the 100 if it has already received some of the content."""
    plays = Plays(only_reads)
    with Origin(plays) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(put())
        time.sleep(0.2)
        client.send(b"abc")
        assert final(client).head.startswith(b"HTTP/1.1 200")
        assert client.buffer == b""


def test_who_does_not_wait_has_nobody_wait(monkeypatch):
    monkeypatch.setattr(pump, "CONTINUE_S", 5.0)
    plays = Plays(only_reads)
    with Origin(plays) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        began = time.monotonic()
        client.send(put() + b"ab")
        time.sleep(0.1)
        client.send(b"c")
        assert final(client).head.startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < 3
        client.send(put() + b"abc")
        assert final(client).status == 200
        assert all(b"Expect" not in head for head in plays.heads)


def test_a_late_100_is_not_told_twice():
    def slow(plays, sock):
        plays.reads(sock, 1)
        sock.sendall(CONTINUE)
        plays.reads(sock, 2)
        sock.sendall(OK)

    with Origin(Plays(slow)) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(put())
        client.until(CONTINUE)
        client.send(b"a")
        time.sleep(0.1)
        client.send(b"bc")
        assert client.until(b"\r\n").startswith(b"HTTP/1.1 200")


def test_an_origin_seen_to_speak_http_1_0_is_not_asked_and_the_client_goes_on_at_once(monkeypatch):
    """RFC 9110 section 10.1.1: a proxy that believes the next server to be HTTP/1.0 MAY generate the 100 itself."""
    monkeypatch.setattr(pump, "CONTINUE_S", 5.0)

    def old(plays, sock):
        if b"PUT " in plays.heads[-1]:
            plays.reads(sock)
        sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok")

    plays = Plays(old)
    with Origin(plays) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(GET)
        assert final(client).field(b"Via") == b"1.0 vantageedge"
        began = time.monotonic()
        client.send(put())
        assert client.until(b"\r\n\r\n") == CONTINUE
        assert time.monotonic() - began < 3
        client.send(b"abc")
        assert final(client).body == b"ok"
        assert b"Expect" not in plays.heads[1]
        assert origin.connections == 1


def test_an_http_1_0_client_never_sees_an_interim_answer():
    """RFC 9110 section 15.2: a server MUST NOT send a 1xx response to an HTTP/1.0 client."""

    def chatty(plays, sock):
        sock.sendall(CONTINUE + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        plays.reads(sock)
        sock.sendall(OK)

    plays = Plays(chatty)
    with Origin(plays) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(put(version=b"1.0"))
        time.sleep(0.1)
        client.send(b"abc")
        while client.more():
            pass
        assert client.buffer.startswith(b"HTTP/1.1 200 OK\r\n") and client.buffer.endswith(b"\r\n\r\nok")
        assert b"Expect" not in plays.heads[0]


@pytest.mark.parametrize(
    ("route", "lines", "status"),
    [
        (a_route("/*", "apikey_required"), b"Content-Length: 3\r\n", 401),
        (a_route("/*", body_bytes_max=2), b"Content-Length: 3\r\n", 413),
        (a_route("/*", policies=(a_bucket(rate=0.001, burst=0),)), b"Content-Length: 3\r\n", 429),
        (a_route("/elsewhere"), b"Content-Length: 3\r\n", 404),
        (a_route("/*", methods=("GET",)), b"Transfer-Encoding: chunked\r\n", 405),
    ],
)
def test_our_own_refusals_come_instead_of_the_100_and_nobody_is_asked(route, lines, status):
    with Origin(origins.silent) as origin, WholeGateway(origin.url, route) as gateway, gateway.client() as client:
        client.send(put(b"Expect: 100-continue\r\n" + lines))
        answer = final(client)
        assert answer.head.startswith(b"HTTP/1.1 %d " % status)
        assert answer.field(b"Connection") == b"close"
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
        assert origin.connections == 0


def test_another_expectation_is_417():
    with Origin(origins.silent) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(put(b"Expect: 200-ok\r\nContent-Length: 3\r\n"))
        assert final(client).status == 417


def test_a_kept_connection_that_closes_before_any_word_is_replaced_as_nothing_of_the_body_is_gone():
    def first_only(plays, sock):
        sock.sendall(OK)
        origins.head(sock)
        origins.reset(sock)
        return False

    plays = Plays(first_only, goes_on)
    with Origin(plays) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(GET)
        final(client)
        client.send(put())
        client.until(b"\r\n\r\n")
        client.send(b"abc")
        assert (final(client).body, plays.bodies, origin.connections) == (b"ok", [b"abc"], 2)
        eventually(lambda: gateway.records[-1].attempts == 2)


def test_a_client_that_leaves_while_it_waits_ends_the_origins_request():
    with Origin(origins.silent) as origin, WholeGateway(origin.url) as gateway:
        with gateway.client() as client:
            client.send(put())
            eventually(lambda: origin.connections == 1)
        eventually(lambda: gateway.upstream.connections == 0, 0.8)
        eventually(lambda: bool(gateway.records))
        assert gateway.records[0].client_gone


# Interim answers


def test_interim_answers_pass_on_end_to_end_as_they_come():
    """RFC 9110 section 15.2: "a proxy MUST forward 1xx responses unless the proxy itself requested" them."""
    hinted = threading.Event()

    def hints(plays, sock):
        sock.sendall(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
            b"Keep-Alive: 5\r\n\r\n"
        )
        assert hinted.wait(5)  # the first has reached the client before the next is said
        sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n" + CONTINUE + OK)

    with Origin(Plays(hints)) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(GET)
        assert client.until(b"\r\n\r\n") == (
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nVia: 1.1 vantageedge\r\n\r\n"
        )
        hinted.set()
        assert [head[9:12] for head in interims(client)] == [b"102", b"100"]
        assert client.answer().body == b"ok"
        client.send(GET)
        assert client.until(b"\r\n").startswith(b"HTTP/1.1 103")
        assert origin.connections == 1


def test_an_interim_answer_in_the_middle_of_an_upload_does_not_end_it():
    def in_between(plays, sock):
        plays.reads(sock, 3)
        sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 1")
        time.sleep(0.05)
        sock.sendall(b"03 Early Hints\r\nLink: x\r\n\r\n")
        plays.reads(sock, 3)
        sock.sendall(OK)

    plays = Plays(in_between)
    with Origin(plays) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(put(b"Content-Length: 6\r\n"))
        client.send(b"abc")
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 102 ")
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 103 ")
        client.send(b"def")
        assert (client.answer().body, plays.bodies) == (b"ok", [b"abc", b"def"])
        client.send(put(b"Content-Length: 6\r\n") + b"abc")
        client.until(b"\r\n\r\n")
        client.until(b"\r\n\r\n")
        client.send(b"def")
        assert client.answer().body == b"ok"
        assert origin.connections == 1


def test_an_interim_answer_while_the_origin_takes_nothing_costs_no_octet_of_the_upload():
    size = 8_000_000

    def slow_to_take(plays, sock):
        time.sleep(0.2)
        sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        time.sleep(0.3)
        got = plays.reads(sock, size)
        answer = b"all" if got == bytes(range(256)) * (size // 256) else b"not"
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + answer)

    with Origin(Plays(slow_to_take)) as origin, WholeGateway(origin.url) as gateway, gateway.client(20) as client:
        client.send(put(b"Content-Length: %d\r\n" % size) + bytes(range(256)) * (size // 256))
        assert interims(client)[0].startswith(b"HTTP/1.1 102")
        assert client.answer().body == b"all"


def test_a_final_answer_ends_an_upload_though_an_interim_one_came_before():
    """The origin takes nothing more: only its own word, taken where nothing can wait, ends the pump."""

    said = []

    def hint_then_413(plays, sock):
        time.sleep(0.3)
        sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        time.sleep(0.3)
        said.append(time.monotonic())
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        time.sleep(2)
        return False

    route = a_route("/*", body_bytes_max=100_000_000)
    with Origin(Plays(hint_then_413)) as origin, WholeGateway(origin.url, route) as gateway, gateway.client() as client:
        client.send(put(b"Content-Length: 50000000\r\n"))
        client.sock.settimeout(0.2)
        for _ in range(150):
            try:
                client.send(bytes(262_144))
            except OSError:
                break
        client.sock.settimeout(5)
        heads = interims(client)
        answer = client.answer()
        assert time.monotonic() - said[0] < 1.2
        assert (len(heads), answer.status, answer.body, answer.field(b"Connection")) == (1, 413, b"big", b"close")
        eventually(lambda: gateway.upstream.connections == 0)


def test_an_origin_that_answers_before_it_is_asked_is_heard_though_it_takes_nothing():
    def speaks_first(sock):
        sock.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy")
        time.sleep(2)

    route = a_route("/*", body_bytes_max=100_000_000)
    with Origin(speaks_first) as origin, WholeGateway(origin.url, route) as gateway, gateway.client() as client:
        connect = gateway.upstream._connection

        def slowly(target, request):
            made = connect(target, request)
            gevent.sleep(0.1)  # the origin's word arrives before the pump begins
            return made

        gateway.upstream._connection = slowly
        began = time.monotonic()
        client.send(put(b"Content-Length: 50000000\r\n"))
        client.sock.settimeout(0.2)
        with contextlib.suppress(OSError):
            client.send(bytes(30_000_000))
        client.sock.settimeout(5)
        assert (client.answer().status, time.monotonic() - began < 1.5) == (503, True)


@pytest.mark.parametrize("upload", [b"", b"abc"])
def test_interim_answers_are_bounded_and_101_was_not_asked_for(upload):
    many, switch = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    for said in (many, switch):

        def talks(plays, sock, said=said):
            sock.sendall(said)
            sock.recv(10)
            return False

        with Origin(Plays(talks)) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
            client.send(put(b"Content-Length: 6\r\n") + upload if upload else GET)
            heads = interims(client)
            assert len(heads) == (16 if said is many else 0)
            assert client.answer().status == 502
            eventually(lambda: gateway.upstream.connections == 0)


def test_interim_answers_buy_an_origin_no_time():
    def never_ends(plays, sock):
        for _ in range(12):
            sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
            time.sleep(0.25)
        return False

    with (
        Origin(Plays(never_ends)) as origin,
        WholeGateway(origin.url, first_byte_s=0.4) as gateway,
        gateway.client() as client,
    ):
        began = time.monotonic()
        client.send(GET)
        interims(client)
        assert client.answer().status == 504
        assert time.monotonic() - began < 2


def test_what_is_kept_is_the_final_answer_alone():
    def hints(plays, sock):
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)

    route = a_route("/*", cache=a_cache())
    with Origin(Plays(hints)) as origin, WholeGateway(origin.url, route) as gateway, gateway.client() as client:
        client.send(GET)
        assert len(interims(client)) == 1
        assert client.answer().field(b"X-Cache") == b"MISS"
        client.send(GET)
        assert interims(client) == []
        answer = client.answer()
        assert (answer.field(b"X-Cache"), answer.body, answer.field(b"Via")) == (b"HIT", b"ok", b"1.1 vantageedge")


def test_an_answer_that_is_no_answer_in_the_middle_of_an_upload_is_502():
    def rubbish(plays, sock):
        plays.reads(sock, 3)
        sock.sendall(b"HTTP/1.1 1xx\r\n\r\n")
        sock.recv(10)
        return False

    with Origin(Plays(rubbish)) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(put(b"Content-Length: 6\r\n"))
        client.send(b"abc")
        answer = client.answer()
        assert (answer.status, answer.field(b"Connection")) == (502, None)  # the little that is left is read
        client.send(b"def" + GET.replace(b"demo", b"nobody"))
        assert client.answer().status == 404
