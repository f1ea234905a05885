"""WebSockets through edge.net.tunnel, with a library at both ends that knows nothing of a gateway (RFC 6455)."""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from edge.net.certificates import Certificates
from tests.edge.net import authority
from tests.edge.net.gateway import Gateway, eventually


class Ends:
    """A WebSocket server that echoes, a gateway before it. `closes`: the codes the server was closed with."""

    def __init__(self, server: Server, gateway: Gateway) -> None:
        self.server = server
        self.gateway = gateway
        self.closes: list[int | None] = []

    def connect(self, **options) -> ClientConnection:
        return connect(f"ws://127.0.0.1:{self.gateway.port}/chat", max_size=None, proxy=None, **options)


@contextlib.contextmanager
def ends(certificates: Certificates | None = None, **options):
    made: list[Ends] = []

    def echo(socket: ServerConnection) -> None:
        try:
            for message in socket:
                if message == "close 4001":
                    socket.close(4001, "as you wish")
                else:
                    socket.send(message)
        finally:
            made[0].closes.append(socket.close_code)

    with serve(echo, "127.0.0.1", 0, max_size=None, **options) as server:
        port = server.socket.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with Gateway(f"http://127.0.0.1:{port}", certificates=certificates) as gateway:
            made.append(Ends(server, gateway))
            yield made[0]
        server.shutdown()
        thread.join(5)


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_of_any_kind_and_size_arrive_whole(compression):
    noise = random.Random(7).randbytes(16 * 1024 * 1024)
    with ends(compression=compression) as both, both.connect(compression=compression) as client:
        assert ("Sec-WebSocket-Extensions" in client.response.headers) == (compression is not None)
        for message in ("", "a", "ünïcode", "x" * 126, "y" * 70_000, b"", b"\x00\xff", noise):
            client.send(message)
            assert client.recv() == message
        client.send(["frag", "men", "ted"])
        assert client.recv() == "fragmented"


def test_a_subprotocol_is_chosen_by_the_origin_alone():
    with ends(subprotocols=["chat.v2", "chat.v1"]) as both:
        for wanted in (["chat.v1", "other"], ["chat.v2"]):
            with both.connect(subprotocols=wanted) as client:
                assert client.subprotocol == wanted[0]


def test_pings_and_pongs_pass():
    with ends() as both, both.connect() as client:
        assert client.ping(b"are you there").wait(2)


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_the_clients_close_code_reaches_the_origin(code):
    with ends() as both:
        with both.connect() as client:
            client.send("x")
            client.recv()
            client.close(code, "reason")
            assert client.close_code == code
        eventually(lambda: both.closes == [code])
        eventually(lambda: len(both.gateway.listener.tunnels) == both.gateway.upstream.connections == 0)


def test_the_origins_close_code_reaches_the_client():
    with ends() as both, both.connect() as client:
        client.send("close 4001")
        with pytest.raises(ConnectionClosed):
            client.recv()
        assert (client.close_code, client.close_reason) == (4001, "as you wish")


def test_a_browser_over_tls_has_the_same_tunnel(tmp_path):
    authority.put(tmp_path, "a", "a.example")
    certificates = Certificates(tmp_path, "a")
    certificates.check()
    trusting = ssl.create_default_context(cafile=str(tmp_path / "a.crt"))
    noise = random.Random(7).randbytes(4 * 1024 * 1024)
    with ends(certificates, compression=None) as both:
        address = ("127.0.0.1", both.gateway.tls_port)
        with connect("wss://a.example/", address=address, ssl=trusting, max_size=None, proxy=None) as client:
            for message in ("x", noise):
                client.send(message)
                assert client.recv() == message
        assert client.close_code == 1000
        eventually(lambda: both.closes == [1000])
        eventually(lambda: both.gateway.listener.connections == both.gateway.upstream.connections == 0)


def test_an_origin_may_refuse_with_a_status_of_its_own():
    with ends(process_request=lambda socket, request: socket.respond(403, "no entry\n")) as both:
        with pytest.raises(InvalidStatus) as refused, both.connect():
            pass
        assert refused.value.response.status_code == 403
        assert refused.value.response.body == b"no entry\n"
        assert len(both.gateway.listener.tunnels) == 0


def test_a_draining_gateway_closes_both_ends_with_1001():
    """1001 indicates that an endpoint is "going away", such as a server going down."""
    with ends() as both, contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(both.connect()) for _ in range(20)]
        for client in clients:
            client.send("x")
            assert client.recv() == "x"
        began = time.monotonic()
        both.gateway.spawn(both.gateway.listener.drain)
        for client in clients:
            with pytest.raises(ConnectionClosed):
                client.recv(5)
            assert client.close_code == 1001
        assert time.monotonic() - began < 2.5  # of 3: nobody had to be cut off
        eventually(lambda: both.closes == [1001] * 20)
        eventually(lambda: both.gateway.listener.connections == 0)
