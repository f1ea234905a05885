"""Twin of edge.net.tunnel: other protocols behind a 101, over real sockets on both sides (RFC 9110 section 7.8)."""

from __future__ import annotations

import contextlib
import hashlib
import resource
import socket
import threading
import time

import psutil
import pytest

from edge.errors import Retry
from tests.edge.net.gateway import Client, Gateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin, exactly, head, reset

ASKS = b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n"
GET = b"GET /chat HTTP/1.1\r\nHost: a\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"


def asks(protocols: bytes = b"echo") -> bytes:
    return GET + ASKS % protocols


def switches(then, protocols: bytes = b"echo", behind: bytes = b""):
    """Answer one request with 101, and `behind` in the same write; then be what it says."""

    def behave(sock: socket.socket) -> None:
        if head(sock):
            sock.sendall(SWITCHED % protocols + behind)
            then(sock)

    return behave


def echoes(sock: socket.socket) -> None:
    while octets := sock.recv(65_536):
        sock.sendall(octets)


def opened(client: Client, protocols: bytes = b"echo") -> bytes:
    client.send(asks(protocols))
    got = client.until(b"\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), got
    return got


@contextlib.contextmanager
def tunnel(behaviour, **limits):
    """A client, an origin that behaves so, and an open tunnel between them."""
    with Origin(behaviour) as origin, Gateway(origin.url, **limits) as gateway, gateway.client() as client:
        opened(client)
        yield client, gateway, origin


def all_is_gone(gateway: Gateway) -> None:
    eventually(lambda: not gateway.upstream.connections and not gateway.listener.connections)
    assert len(gateway.listener.tunnels) == 0


def test_octets_go_both_ways_and_are_counted():
    with tunnel(switches(echoes)) as (client, gateway, _):
        eventually(lambda: repr(gateway.listener.tunnels) == "<Tunnels 1 open>")
        for size in (1, 100, 100_000):
            client.send(bytes(size))
            assert client.exactly(size) == bytes(size)
        client.sock.close()
        all_is_gone(gateway)
        (exchange,) = gateway.pipeline.served
        asked = len(b"/chat") + len(b"Host: a\r\n") + len(ASKS % b"echo") - 2
        assert exchange.bytes_in == asked + 100_101
        assert 100_101 < exchange.bytes_out < 100_101 + 400  # the head of the 101
        assert (exchange.error, exchange.client_gone) == (None, False)


def test_a_101_carries_no_framing_and_names_the_protocol():
    """A server MUST NOT send a Content-Length (Transfer-Encoding) header field in any response with a status code of
    1xx (Informational)."""
    lines = b"X-A: 1\r\nKeep-Alive: x\r\n"
    raw = SWITCHED[:-2] % b"echo" + lines + b"\r\n"

    def behave(sock):
        head(sock)
        sock.sendall(raw)
        echoes(sock)

    with Origin(behave) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        fields = opened(client).split(b"\r\n")[1:-2]
        names = [field.split(b":")[0] for field in fields]
        assert names == [b"X-A", b"Date", b"Connection", b"Upgrade"]
        assert fields[-2:] == [b"Connection: Upgrade", b"Upgrade: echo"]


def test_what_came_behind_either_head_is_not_lost():
    with (
        Origin(switches(echoes, behind=b"hello")) as origin,
        Gateway(origin.url) as gateway,
        gateway.client() as client,
    ):
        client.send(asks() + b"early")
        client.until(b"\r\n\r\n")
        assert client.exactly(10) == b"helloearly"


def test_interim_answers_before_the_101_are_fine():
    def behave(sock):
        head(sock)
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" + SWITCHED % b"echo")
        echoes(sock)

    with tunnel(behave) as (client, _, _):
        client.send(b"x")
        assert client.exactly(1) == b"x"


def test_a_client_that_ends_its_direction_still_gets_the_answer():
    def counts(sock):
        total = 0
        while octets := sock.recv(65_536):
            total += len(octets)
        sock.sendall(b"got %d" % total)

    with tunnel(switches(counts)) as (client, gateway, _):
        client.send(bytes(300_000))
        client.sock.shutdown(socket.SHUT_WR)
        assert client.exactly(10) == b"got 300000"
        assert client.closed()
        all_is_gone(gateway)


def test_an_origin_that_ends_its_direction_is_still_spoken_to():
    heard: list[bytes] = []
    done = threading.Event()

    def says_and_listens(sock):
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        heard.append(exactly(sock, 200_000))
        done.set()

    with tunnel(switches(says_and_listens)) as (client, gateway, _):
        assert client.exactly(3) == b"bye"
        assert client.sock.recv(1) == b""
        client.send(bytes(200_000))
        assert done.wait(5)
        assert heard == [bytes(200_000)]
        client.sock.close()
        all_is_gone(gateway)


def test_a_reset_by_the_client_reaches_the_origin_at_once():
    lost = threading.Event()

    def listens(sock):
        try:
            sock.recv(1)
        except ConnectionResetError:
            lost.set()

    with tunnel(switches(listens)) as (client, gateway, _):
        began = time.monotonic()
        reset(client.sock)
        assert lost.wait(2)
        assert time.monotonic() - began < 1
        all_is_gone(gateway)


def test_a_reset_by_the_origin_reaches_the_client_at_once():
    with tunnel(switches(reset)) as (client, gateway, _):
        with pytest.raises(ConnectionResetError):
            client.sock.recv(1)
        all_is_gone(gateway)


def test_a_side_that_does_not_read_stops_the_other_and_nothing_is_held():
    go = threading.Event()
    digests: list[str] = []
    size = 96 * 1024 * 1024

    def waits_then_reads(sock):
        go.wait(10)
        digest = hashlib.sha256()
        while octets := sock.recv(1_048_576):
            digest.update(octets)
        digests.append(digest.hexdigest())
        sock.sendall(b"done")

    piece = bytes(range(256)) * 4096
    expected = hashlib.sha256(piece * (size // len(piece))).hexdigest()
    process = psutil.Process()
    with tunnel(switches(waits_then_reads)) as (client, _, _):
        sent = 0

        def sends():
            nonlocal sent
            while sent < size:
                client.send(piece)
                sent += len(piece)
            client.sock.shutdown(socket.SHUT_WR)

        before = process.memory_info().rss
        client.sock.settimeout(20)
        sender = threading.Thread(target=sends)
        sender.start()
        time.sleep(0.5)
        stalled = sent
        assert stalled < size / 2, "the kernel's buffers took it all: the test shows nothing"
        assert process.memory_info().rss - before < 16 * 1024 * 1024
        time.sleep(0.2)
        assert sent == stalled
        go.set()
        sender.join(20)
        assert client.exactly(4) == b"done"
        assert digests == [expected]
        assert process.memory_info().rss - before < 16 * 1024 * 1024


def test_an_idle_tunnel_is_ended_and_one_that_is_used_in_one_direction_is_not():
    def ticks(sock):
        for _ in range(8):
            time.sleep(0.25)
            sock.sendall(b".")
        sock.recv(1)

    with tunnel(switches(ticks), tunnel_idle_timeout_s=0.75) as (client, gateway, _):
        assert client.exactly(8) == b"." * 8  # two seconds
        began = time.monotonic()
        assert client.closed()
        assert 0.4 < time.monotonic() - began < 2
        all_is_gone(gateway)
        assert gateway.pipeline.gone == 0


@pytest.mark.parametrize("status", [b"200 OK", b"403 Forbidden", b"426 Upgrade Required"])
def test_an_origin_may_decline_and_then_it_was_an_ordinary_request(status):
    raw = b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\nUpgrade: echo\r\n\r\nno"
    with Origin(origins.answers(raw)) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        for _ in range(2):
            client.send(asks())
            answer = client.answer()
            assert (answer.status, answer.body) == (int(status[:3]), b"no")
            assert answer.field(b"Upgrade") is None
        assert origin.connections == 1
        assert len(gateway.listener.tunnels) == 0


def test_octets_behind_a_declined_upgrade_are_not_taken_for_a_request():
    """They may be of the protocol that was hoped for, chosen by somebody else than who speaks HTTP here."""
    heads: list[bytes] = []

    def declines(sock):
        while got := head(sock):
            heads.append(got)
            time.sleep(0.05)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")

    with Origin(declines) as origin, Gateway(origin.url) as gateway:
        for behind_at_once in (True, False):
            with gateway.client() as client:
                smuggled = b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
                client.send(asks() + smuggled if behind_at_once else asks())
                if not behind_at_once:
                    time.sleep(0.02)
                    client.send(smuggled)
                answer = client.answer()
                assert (answer.body, answer.field(b"Connection")) == (b"no", b"close")
                assert client.closed()
        assert [got.split(b" ")[1] for got in heads] == [b"/chat", b"/chat"]


@pytest.mark.parametrize(
    ("request_octets", "answer"),
    [
        (GET + b"\r\n", SWITCHED % b"echo"),
        (asks(b"h2c"), SWITCHED % b"h2c"),
        (asks(b"echo, h2c"), SWITCHED % b"h2c"),
        (asks(), SWITCHED % b"other"),
        (asks(), b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n"),
        (asks(), b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"),
        (asks(), SWITCHED[:-2] % b"echo" + b"Content-Length: 5\r\n\r\n"),
        (asks(), b"HTTP/1.0 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"),
        (b"GET / HTTP/1.0\r\nHost: a\r\n" + ASKS % b"echo", SWITCHED % b"echo"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n" + ASKS % b"echo" + b"x", SWITCHED % b"echo"),
    ],
    ids=[
        "unasked",
        "h2c",
        "h2c too",
        "other",
        "no Connection",
        "no Upgrade",
        "framing",
        "origin 1.0",
        "client 1.0",
        "body",
    ],
)
def test_a_101_that_answers_nothing_is_502_and_its_connection_thrown_away(request_octets, answer):
    with Origin(origins.answers(answer)) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        client.send(request_octets)
        assert client.answer().status == 502
        eventually(lambda: gateway.upstream.connections == 0)
        (error,) = gateway.pipeline.errors
        assert error.problem.slug == "origin-invalid-response"
        assert error.retry in (Retry.NEVER, Retry.IF_IDEMPOTENT)  # which the pipeline does not try again


@pytest.mark.parametrize("protocol", [b"h2c", b"HTTP/2.0", b"TLS/1.2"])
def test_no_other_http_is_offered_to_an_origin(protocol):
    lines = b"HTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: HTTP2-Settings, Upgrade\r\nUpgrade: " + protocol
    with Origin(origins.echoes) as origin, Gateway(origin.url) as gateway:
        seen = gateway.get(lines=lines + b"\r\n").body.lower()
        assert b"upgrade" not in seen
        assert b"http2-settings" not in seen


def test_a_kept_connection_that_closes_under_an_upgrade_may_be_tried_again_on_a_fresh_one():
    with Origin(origins.closes_on_reuse) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        assert gateway.get().body == b"ok"
        client.send(asks())
        assert client.answer().status == 502  # this stand-in for the pipeline tries once
        (error,) = gateway.pipeline.errors
        assert error.retry is Retry.REUSED_CONNECTION


def test_a_client_that_leaves_before_the_101_leaves_nothing_behind():
    go = threading.Event()

    def waits(sock):
        head(sock)
        go.wait(5)
        sock.sendall(SWITCHED % b"echo")
        sock.recv(1)

    with Origin(waits) as origin, Gateway(origin.url) as gateway:
        with gateway.client() as client:
            client.send(asks())
            eventually(lambda: origin.connections == 1)
        eventually(lambda: gateway.pipeline.gone == 1)
        go.set()
        all_is_gone(gateway)


def test_a_thousand_tunnels_at_once():
    count = 1_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * count + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    clients: list[Client] = []
    try:
        with (
            Origin(switches(echoes)) as origin,
            Gateway(origin.url, upstream_per_target_max=count, connections_per_client_max=count) as gateway,
        ):
            for _ in range(count):
                client = gateway.client(10)
                clients.append(client)
                opened(client)
            eventually(lambda: len(gateway.listener.tunnels) == count == gateway.upstream.connections)
            for number, client in enumerate(clients):
                client.send(b"%d." % number)
            for number, client in enumerate(clients):
                assert client.until(b".") == b"%d." % number
            for client in clients:
                client.sock.close()
            all_is_gone(gateway)
    finally:
        for client in clients:
            client.sock.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# The end of a worker


def frame(size: int) -> bytes:
    """A binary frame towards a client."""
    return b"\x82\x7e" + size.to_bytes(2, "big") + bytes(size)


def drained(gateway: Gateway) -> None:
    gateway.spawn(gateway.listener.drain)


def test_a_drain_leaves_tunnels_alone_until_shortly_before_its_end():
    with tunnel(switches(echoes)) as (client, gateway, _):  # 3 s, of which half is for the farewell
        began = time.monotonic()
        drained(gateway)
        while time.monotonic() - began < 1.2:
            client.send(b"x")
            assert client.exactly(1) == b"x"
        assert client.closed()
        assert 1.4 < time.monotonic() - began < 2.9
        all_is_gone(gateway)


def test_a_websocket_is_told_between_two_frames_that_we_go_away():
    """Control frames MAY be injected in the middle of a fragmented message; nowhere does the RFC allow one inside a
    frame."""
    heard: list[bytes] = []
    go = threading.Event()

    def half_a_frame(sock):
        sock.sendall(frame(1000)[:400])
        go.wait(5)
        sock.sendall(frame(1000)[400:] + frame(5))
        while octets := sock.recv(65_536):
            heard.append(octets)

    behaviour = switches(half_a_frame, b"WebSocket")
    with Origin(behaviour) as origin, Gateway(origin.url) as gateway, gateway.client() as client:
        opened(client, b"websocket")
        drained(gateway)
        time.sleep(1.8)
        assert client.exactly(400) == frame(1000)[:400]
        assert client.buffer == b"", "a Close frame inside a frame"
        client.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.sock.recv(1)
        client.sock.settimeout(5)
        go.set()
        rest = b""
        while octets := client.sock.recv(65_536):
            rest += octets
        assert rest == frame(1000)[400:] + b"\x88\x02\x03\xe9"
        client.sock.close()
        all_is_gone(gateway)
    (close,) = heard
    mask = close[2:6]
    assert close[:2] == b"\x88\x82"
    assert bytes(octet ^ key for octet, key in zip(close[6:], mask, strict=False)) == b"\x03\xe9"


def test_a_farewell_waits_for_a_reader_that_is_slow():
    size = 60_000
    enough = threading.Event()

    def floods(sock):
        with contextlib.suppress(OSError):
            sock.settimeout(0.3)
            while True:
                sock.sendall(frame(size))
        enough.set()
        sock.settimeout(5)
        with contextlib.suppress(OSError):
            while sock.recv(65_536):
                pass

    with (
        Origin(switches(floods, b"websocket")) as origin,
        Gateway(origin.url) as gateway,
        gateway.client() as client,
    ):
        opened(client, b"websocket")
        drained(gateway)
        assert enough.wait(5)
        time.sleep(1.6)
        got = client.buffer
        while octets := client.sock.recv(1_048_576):
            got += octets
        whole, rest = divmod(len(got), len(frame(size)))
        assert got == frame(size) * whole + b"\x88\x02\x03\xe9"[:rest]
        assert rest == 4
        client.sock.close()
        all_is_gone(gateway)


def test_who_does_not_take_leave_is_ended_when_the_time_is_up():
    def stays(sock):
        sock.sendall(frame(10)[:5])
        with contextlib.suppress(OSError):
            while sock.recv(65_536):
                pass
            time.sleep(5)

    with (
        Origin(switches(stays, b"websocket")) as origin,
        Gateway(origin.url) as gateway,
        gateway.client() as client,
    ):
        opened(client, b"websocket")
        drained(gateway)
        began = time.monotonic()
        assert client.exactly(5) == frame(10)[:5]
        assert client.closed()
        assert time.monotonic() - began < 3
        all_is_gone(gateway)
        assert len(gateway.pipeline.served) == 1
