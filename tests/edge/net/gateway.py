"""The rooms under test, running for real: a listener and an upstream pool in a thread with a hub of its own.

The pipeline between them is the smallest there is: everything goes to one origin. Clients are blocking sockets in the
test's thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent

from contracts.addresses import parse_networks
from contracts.snapshot import RouteConfig
from edge.errors import ClientGone, GatewayError
from edge.exchange import Exchange
from edge.http import headers, upgrade, writer
from edge.http.forwarded import TrustedHops
from edge.http.messages import Reply
from edge.net.address import Resolver
from edge.net.certificates import Certificates
from edge.net.issuer_keys import IssuerKeySets
from edge.net.listener import Listener
from edge.net.sweeper import Sweeper
from edge.net.upstream import UpstreamPool
from edge.pipeline import Pipeline
from edge.ports import Ports, UpstreamRequest
from edge.settings import Limits
from edge.snapshot import OriginTls
from tests.edge.fakes import Stage, a_route, a_snapshot, an_origin

LOOPBACK = parse_networks("127.0.0.0/8,::1/128")
NOTHING: frozenset[bytes] = frozenset()


class Clock:
    wall = staticmethod(time.time)
    mono = staticmethod(time.monotonic)


class Identifiers:
    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def request_id(self) -> bytes:
        return b"id-%d" % next(self._numbers)


class Forwarding:
    """Stands where the pipeline stands. `answer`, if given, replaces forwarding; `read_body` reads uploads first."""

    def __init__(self, url: str, upstream: UpstreamPool, first_byte_s: float, idle_s: float) -> None:
        self.url = url
        self.upstream = upstream
        self.tls: OriginTls | None = None
        self.tenant_id = "tenant"
        self.first_byte_s = first_byte_s
        self.idle_s = idle_s
        self.answer: Callable[[Exchange], Reply] | None = None
        self.served: list[Exchange] = []
        self.refused: list[GatewayError] = []
        self.errors: list[GatewayError] = []
        self.gone = 0
        self.reused: list[bool] = []

    def serve(self, exchange: Exchange, write: Callable[[Reply], None]) -> None:
        try:
            try:
                write(self.answer(exchange) if self.answer else self._forward(exchange))
            except GatewayError as error:
                exchange.error = error
                self.errors.append(error)
                if exchange.started_reply:
                    raise
                write(self._problem(error))
        except ClientGone:
            self.gone += 1
            exchange.client_gone = True
        finally:
            self.served.append(exchange)

    def refuse(self, error: GatewayError, client_ip: str, request_id: bytes) -> Reply:
        self.refused.append(error)
        return self._problem(error)

    @staticmethod
    def _problem(error: GatewayError) -> Reply:
        return Reply(error.problem.status, b"Problem", b"", error.problem.slug.encode())

    def _forward(self, exchange: Exchange) -> Reply:
        head, body = exchange.head, exchange.body
        length = 0 if body is None else len(body) if isinstance(body, bytes) else body.length
        lines = headers.request_lines(head.section, NOTHING)
        offer = upgrade.offered(head)
        offered = upgrade.lines(offer) if offer else b""
        raw = writer.request_start(head.method, head.target, b"origin", lines, offered)
        raw += writer.request_framing(head.method, length) + b"\r\n"
        times = (1.0, self.first_byte_s, self.idle_s)
        request = UpstreamRequest(
            self.tenant_id, "target", self.url, head.method, raw, body, *times, upgrade=offer, tls=self.tls
        )
        answer = self.upstream.send(request)
        self.reused.append(answer.reused)
        kept = headers.response_lines(answer.head.section, NOTHING)
        return Reply(answer.head.status, answer.head.reason, kept, answer.body, answer.head.announced_length)


class Gateway:
    def __init__(
        self,
        url: str = "http://127.0.0.1:1",
        *,
        first_byte_s: float = 5.0,
        idle_s: float = 5.0,
        allowed=LOOPBACK,
        sealing_keys=None,
        certificates: Certificates | None = None,
        hops: TrustedHops | None = None,
        proxy_protocol: bool = False,
        **limits: Any,
    ) -> None:
        self.limits = dataclasses.replace(Limits(), drain_timeout_s=3.0, **limits)
        self._url = url
        self._times = (first_byte_s, idle_s)
        self._allowed = allowed
        self._sealing_keys = sealing_keys
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._sock.getsockname()[1]
        self.more_socks: tuple[socket.socket, ...] = ()
        self._certificates = certificates
        self._tls_sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.tls_port = self._tls_sock.getsockname()[1]
        self._proxies = {"hops": hops, "proxy_protocol": proxy_protocol}
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.hub_errors: list[object] = []

    def __enter__(self) -> Gateway:
        self._thread.start()
        assert self._up.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop.set)
        self._thread.join(10)
        self._sock.close()
        self._tls_sock.close()
        assert not self._thread.is_alive()
        assert not self.hub_errors, self.hub_errors

    def _run(self) -> None:
        hub = gevent.get_hub()
        hub.print_exception = lambda context, kind, value, traceback: self.hub_errors.append((context, value))
        self._hub = hub
        self._stop = gevent.event.Event()
        alive = hub.loop.timer(3600)  # a loop without a watcher would end while we wait to be told
        alive.start(lambda: None)
        self.upstream = UpstreamPool(self.limits, self._allowed, Resolver(), sealing_keys=self._sealing_keys)
        self.pipeline = self._pipeline()
        self.listener = Listener(self._sock, self.pipeline, self.limits, Clock(), Identifiers(), **self._proxies)  # type: ignore[arg-type]
        for sock in self.more_socks:
            self.listener.accept_from(sock)
        if self._certificates is not None:
            self.listener.accept_from(self._tls_sock, self._certificates)
        self.listener.start()
        self.sweeper = Sweeper.of_this_hub()
        self._up.set()
        self._stop.wait()
        self.listener.drain()
        self.upstream.close_idle()
        self.left_open = len(self.sweeper.wires)
        hub.destroy(destroy_loop=True)

    def _pipeline(self) -> Any:
        return Forwarding(self._url, self.upstream, *self._times)

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Run something in the gateway's hub."""
        self._hub.loop.run_callback_threadsafe(function, *args)

    def spawn(self, function: Callable[..., Any]) -> None:
        self._hub.loop.run_callback_threadsafe(lambda: gevent.spawn(function))

    def client(self, timeout_s: float = 5.0) -> Client:
        return Client(self.port, timeout_s)

    def tls_client(self, trusted, name: str | None, timeout_s: float = 5.0, before: bytes = b"") -> Client:
        """A client that asks for `name` and verifies against the certificate file `trusted`; `before`: sent ahead."""
        client = Client(self.tls_port, timeout_s)
        if before:
            client.send(before)
        client.secure(trusted, name)
        return client

    def get(self, path: bytes = b"/", lines: bytes = b"", method: bytes = b"GET") -> Answer:
        with self.client() as client:
            client.send(method + b" " + path + b" HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
            return client.answer(method)


class WholeGateway(Gateway):
    """The very pipeline in the middle: one tenant at demo.example.com, its routes, an origin at `url`; no stores.

    `records`: finished exchanges; `stage`: the ports that are not sockets.
    """

    def __init__(
        self, url: str, *routes: RouteConfig, first_byte_s: float = 5.0, idle_s: float = 5.0, **limits: Any
    ) -> None:
        super().__init__(url, **limits)
        origin = an_origin(url, timeout_s=first_byte_s, idle_timeout_s=idle_s)
        self.stage = Stage(snapshot=a_snapshot(*(routes or (a_route(),)), origins=[origin]))
        self.records = self.stage.recorder.records

    def _pipeline(self) -> Any:
        stage = self.stage
        return Pipeline(
            Ports(
                Clock(), Identifiers(), stage.config, stage.keys, stage.sessions, stage.counters, stage.cache,
                stage.health, self.upstream, stage.recorder, IssuerKeySets(self.upstream), stage.tokens,
                stage.signer, stage.secrets, stage.nonces,
            )
        )  # fmt: skip


@dataclasses.dataclass
class Answer:
    status: int
    head: bytes
    body: bytes

    def field(self, name: bytes) -> bytes | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b": ")
            if key.lower() == name.lower():
                return value
        return None


class Client:
    def __init__(self, port: int, timeout_s: float) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def secure(self, trusted, name: str | None) -> None:
        context = ssl.create_default_context(cafile=str(trusted))
        context.check_hostname = name is not None
        context.set_alpn_protocols(["h2", "http/1.1"])
        try:
            self.sock = context.wrap_socket(self.sock, server_hostname=name)
        except BaseException:
            self.sock.close()
            raise

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def more(self) -> bytes:
        piece = self.sock.recv(65_536)
        self.buffer += piece
        return piece

    def closed(self) -> bool:
        """Wait for the end of the connection; False when something came instead."""
        with contextlib.suppress(ConnectionResetError):
            return self.buffer == b"" and self.sock.recv(1) == b""
        return True

    def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if not self.more():
                raise EOFError(self.buffer)
        got, _, self.buffer = self.buffer.partition(mark)
        return got + mark

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self.more():
                raise EOFError(self.buffer)
        got, self.buffer = self.buffer[:size], self.buffer[size:]
        return got

    def answer(self, method: bytes = b"GET") -> Answer:
        """Read one final response, framed as its head says."""
        head = self.until(b"\r\n\r\n")
        status = int(head[9:12])
        if status == 100:
            return self.answer(method)
        answer = Answer(status, head, b"")
        if method == b"HEAD" or status in (204, 304):
            return answer
        if (length := answer.field(b"Content-Length")) is not None:
            answer.body = self.exactly(int(length))
        elif answer.field(b"Transfer-Encoding") == b"chunked":
            while size := int(self.until(b"\r\n"), 16):
                answer.body += self.exactly(size)
                assert self.exactly(2) == b"\r\n"
            assert self.exactly(2) == b"\r\n"
        else:
            while self.more():
                pass
            answer.body, self.buffer = self.buffer, b""
        return answer


def eventually(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
