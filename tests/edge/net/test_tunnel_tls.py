"""Tunnels with TLS on either side, both or none: edge.net.tunnel over edge.net.tls and edge.net.wire."""

from __future__ import annotations

import _socket
import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import gevent
import pytest

from edge.http.messages import Reply
from edge.net.sweeper import Sweeper
from edge.net.tls import TlsWire
from edge.net.tunnel import Switched, Tunnels
from edge.net.wire import Wire
from tests.edge.net.gateway import Gateway, eventually
from tests.edge.net.test_tls import behind_tls, certificate, trusting  # noqa: F401 - a fixture
from tests.edge.net.test_tunnel import echoes, opened, switches
from tests.origins.misbehaving import Origin, reset

NOISE = hashlib.shake_128(b"noise").digest(4_000_000)
BUFFERS = 131_072
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Held:
    """The origin's connection without a pool."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def discard(self) -> None:
        self.wire.close()


class Peer:
    """One far end, in the same hub: a Wire used as one that waits, which is another half of it than a tunnel uses."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._read = b""

    def reads(self, size: int) -> bytes:
        with gevent.Timeout(10):
            while len(self._read) < size and (octets := self.wire.recv()):
                self._read += octets
        got, self._read = self._read[:size], self._read[size:]
        return got

    def reads_to_the_end(self) -> bytes:
        with gevent.Timeout(10):
            while octets := self.wire.recv():
                self._read += octets
        got, self._read = self._read, b""
        return got

    def sends(self, octets: bytes) -> gevent.Greenlet:
        return gevent.spawn(self.wire.send, octets)

    def ends(self) -> None:
        """End this direction as its layer does: by close_notify and a FIN, or by a FIN."""
        while not self.wire.finish():
            self.wire.wait_writable()

    def vanishes(self, how: Callable[[socket.socket], None]) -> None:
        """Close the socket beneath whatever layer."""
        how(socket.socket(fileno=os.dup(self.wire.sock.fileno())))
        self.wire.close()


def tcp_pair() -> tuple[_socket.socket, _socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname(), timeout=10)
        near = listening.accept()[0]
    ends = []
    for end in (near, far):  # four megabytes must not fit into the kernel
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFERS)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFERS)
        ends.append(_socket.socket(fileno=end.detach()))
        ends[-1].setblocking(False)
    return ends[0], ends[1]


def an_end(chain, tls: bool, server_side: bool) -> tuple[Wire, Peer]:
    """Give a wire and who is behind it, handshakes done. `server_side`: the wire is a listener's."""
    near, far = tcp_pair()
    sweeper = Sweeper.of_this_hub()
    if not tls:
        return Wire(near, sweeper), Peer(Wire(far, sweeper))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain)
    client = ssl.create_default_context(cafile=str(chain))
    listening = TlsWire(near if server_side else far, sweeper, server, server_side=True)
    calling = TlsWire(far if server_side else near, sweeper, client, server_hostname="localhost")
    gevent.joinall([gevent.spawn(wire.handshake) for wire in (listening, calling)], 5, raise_error=True)
    return (listening, Peer(calling)) if server_side else (calling, Peer(listening))


@pytest.fixture(params=["plain-plain", "plain-tls", "tls-plain", "tls-tls"])
def joined(request, certificate):  # noqa: F811 - the fixture
    """A tunnel between two peers, `client` and `origin`."""
    front_tls, back_tls = (word == "tls" for word in request.param.split("-"))
    front, client = an_end(certificate, front_tls, server_side=True)
    back, origin = an_end(certificate, back_tls, server_side=False)
    exchange = SimpleNamespace(bytes_in=0, bytes_out=0, started_reply=False)
    tunnels = Tunnels(30.0)
    reply = Reply(101, b"Switching Protocols", b"", Switched(Held(back), b"websocket", b""))
    carrying = gevent.spawn(tunnels.carry, exchange, front, reply, b"", b"")
    assert client.reads(len(HEAD)) == HEAD
    yield SimpleNamespace(client=client, origin=origin, tunnels=tunnels, exchange=exchange, carrying=carrying)
    client.wire.close()
    origin.wire.close()
    carrying.join(3)
    assert carrying.ready()
    assert front.closed
    assert back.closed
    assert len(tunnels) == 0


def is_over(joined) -> bool:
    joined.carrying.join(3)
    return joined.carrying.ready()


def test_each_direction_ends_for_itself(joined):
    sending = joined.client.sends(NOISE)
    assert joined.origin.reads(len(NOISE)) == NOISE
    sending.get()
    joined.client.ends()
    assert joined.origin.reads_to_the_end() == b""
    sending = joined.origin.sends(NOISE)
    assert joined.client.reads(len(NOISE)) == NOISE
    sending.get()
    joined.origin.ends()
    assert joined.client.reads_to_the_end() == b""
    assert is_over(joined)
    assert (joined.exchange.bytes_in, joined.exchange.bytes_out) == (len(NOISE), len(HEAD) + len(NOISE))


def test_both_directions_at_once_do_not_wait_for_each_other(joined):
    sending = [joined.client.sends(NOISE), joined.origin.sends(NOISE[::-1])]
    gevent.sleep(0.2)  # both are full
    assert not any(one.ready() for one in sending)
    reading = gevent.spawn(joined.origin.reads, len(NOISE))
    assert joined.client.reads(len(NOISE)) == NOISE[::-1]
    assert reading.get(timeout=10) == NOISE


def test_the_end_of_one_direction_leaves_what_the_other_holds(joined):
    """OpenSSL takes octets that it finds behind its own close_notify for an error, unless they were read before."""
    sending = joined.origin.sends(NOISE)
    gevent.sleep(0.2)  # the client does not read: the gateway holds what it has
    joined.client.ends()
    assert joined.origin.reads_to_the_end() == b""
    assert joined.client.reads(len(NOISE)) == NOISE
    sending.get()
    joined.origin.ends()
    assert joined.client.reads_to_the_end() == b""
    assert is_over(joined)


def test_an_end_without_close_notify_is_an_end(joined):
    """What is spoken in a tunnel says itself whether it is complete; many a WebSocket server ends so."""
    joined.origin.sends(b"bye").get()
    joined.origin.vanishes(socket.socket.close)
    assert joined.client.reads_to_the_end() == b"bye"
    joined.client.ends()
    assert is_over(joined)


@pytest.mark.parametrize("by", ["client", "origin"])
def test_a_reset_of_one_side_is_a_reset_of_the_other(joined, by):
    lost, other = (joined.client, joined.origin) if by == "client" else (joined.origin, joined.client)
    gevent.sleep(0.05)
    lost.vanishes(reset)
    began = time.monotonic()
    with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):  # with TLS, an end without close_notify is as bad
        other.reads(1)
    assert time.monotonic() - began < 1
    assert is_over(joined)


def test_both_sides_are_told_that_we_go_away(joined):
    joined.client.sends(b"\x82\x01x").get()
    assert joined.origin.reads(3) == b"\x82\x01x"
    joined.tunnels.retire()
    assert joined.client.reads_to_the_end() == b"\x88\x02\x03\xe9"
    assert joined.origin.reads_to_the_end()[:2] == b"\x88\x82"
    joined.client.sends(b"\x88\x02\x03\xe9")  # read, and given to nobody
    for peer in (joined.client, joined.origin):
        peer.ends()
    assert is_over(joined)


def test_what_is_to_end_now_ends_now(joined):
    gevent.sleep(0.05)
    joined.tunnels.abandon()
    assert joined.client.reads_to_the_end() == b""
    assert joined.origin.reads_to_the_end() == b""
    assert is_over(joined)


def test_retiring_or_ending_twice_does_nothing(joined):
    gevent.sleep(0.05)
    for _ in range(2):
        joined.tunnels.retire()
    assert joined.client.reads_to_the_end() == b"\x88\x02\x03\xe9"
    for _ in range(2):
        joined.tunnels.abandon()
    assert is_over(joined)


def test_an_origin_behind_tls_may_switch(certificate):  # noqa: F811 - the fixture
    done = threading.Event()

    def echoes_to_the_end(sock):
        echoes(sock)
        done.set()

    with (
        Origin(behind_tls(certificate, switches(echoes_to_the_end, behind=b"first"))) as origin,
        Gateway(f"https://localhost:{origin.port}") as gateway,
    ):
        trusting(gateway, certificate)
        with gateway.client() as client:
            opened(client)
            assert client.exactly(5) == b"first"
            client.send(bytes(200_000))
            assert client.exactly(200_000) == bytes(200_000)
            client.sock.shutdown(socket.SHUT_WR)
            assert done.wait(5)
            assert client.closed()
        eventually(lambda: gateway.upstream.connections == gateway.listener.connections == 0)
