"""Thousands of exchanges among clients and origins that misbehave in turn: nobody gets what belongs to another, and
afterwards nothing is left: no connection, descriptor, greenlet, place or count.
"""

from __future__ import annotations

import contextlib
import gc
import random
import socket
import ssl
import struct
import threading
import time
from collections import Counter

import gevent
import psutil

from contracts.addresses import parse_networks
from edge.http.forwarded import TrustedHops
from edge.net.certificates import Certificates
from edge.net.downstream import Downstream
from edge.net.upstream import Connection
from edge.net.wire import Wire
from tests.edge.fakes import a_route
from tests.edge.net import authority
from tests.edge.net.gateway import Client, WholeGateway, eventually
from tests.edge.net.test_tls import behind_tls, certificate, trusting  # noqa: F401 - a fixture
from tests.edge.net.test_tunnel import SWITCHED
from tests.origins.misbehaving import Origin, exactly, head, reset

THREADS = 20
SESSIONS = 50
HOST = b"Host: demo.example.com\r\n"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


# The origin: each request says by its path what happens to it, and every honest answer says by its token whose it is.


def plays(sock: socket.socket) -> None:
    while asked := head(sock):
        method, target, _ = asked.split(b" ", 2)
        kind, _, token = target.lstrip(b"/").partition(b"?")
        scene = SCENES[kind.decode()]
        if scene not in _UNREAD and not _read_body(sock, asked):
            return
        if scene(sock, b"token=" + token, method) is False:
            return


def _read_body(sock: socket.socket, asked: bytes) -> bool:
    lower = asked.lower()
    if b"expect: 100-continue" in lower:
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if b"content-length: " in lower:
        size = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
        return len(exactly(sock, size)) == size
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            piece = sock.recv(65_536)
            if not piece:
                return False
            body += piece
    return True


def whole(sock, token, method):
    body = b"" if method == b"HEAD" else token
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(token) + body)


def slow(sock, token, method):
    time.sleep(0.05)
    whole(sock, token, method)


def hints(sock, token, method):
    sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n")
    whole(sock, token, method)


def chunks(sock, token, method):
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    if method != b"HEAD":
        sock.sendall(b"%x\r\n" % len(token) + token)
        sock.sendall(b"\r\n0\r\nX-Sum: 1\r\n\r\n")


def large(sock, token, method):
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (400_000 + len(token)))
    if method != b"HEAD":
        sock.sendall(bytes(400_000) + token)


def until_close(sock, token, method):
    sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + token)
    return False


def not_modified(sock, token, method):
    sock.sendall(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")


def says_more(sock, token, method):
    body = b"" if method == b"HEAD" else token
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(token) + body + EVIL)


def body_where_none_can_be(sock, token, method):
    sock.sendall(b"HTTP/1.1 204 No Content\r\n\r\n" + EVIL)


def half(sock, token, method):
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + token)
    return False


def half_and_reset(sock, token, method):
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
    time.sleep(0.01)
    reset(_beneath(sock))
    return False


def bad_head(sock, token, method):
    sock.sendall(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n")


def unasked_101(sock, token, method):
    sock.sendall(SWITCHED % b"other")


def closes(sock, token, method):
    return False


def resets(sock, token, method):
    reset(_beneath(sock))
    return False


def refuses_early(sock, token, method):
    sock.sendall(b"HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n" % len(token) + (b"" if method == b"HEAD" else token))
    with contextlib.suppress(OSError):
        sock.settimeout(0.2)
        while sock.recv(65_536):
            pass
    return False


def stalls(sock, token, method):
    time.sleep(0.8)
    return False


def echoes_until_end(sock, token, method):
    sock.sendall(SWITCHED % b"echo")
    while octets := sock.recv(65_536):
        sock.sendall(octets)
    return False


def switches_and_resets(sock, token, method):
    sock.sendall(SWITCHED % b"echo")
    sock.recv(10)
    reset(_beneath(sock))
    return False


def _beneath(sock: socket.socket) -> socket.socket:
    return socket.socket(fileno=sock.detach()) if isinstance(sock, ssl.SSLSocket) else sock


_UNREAD = {refuses_early, resets, stalls}
TUNNELS = {scene.__name__: scene for scene in (echoes_until_end, switches_and_resets)}
SCENES = TUNNELS | {
    scene.__name__: scene
    for scene in (
        whole, slow, hints, chunks, large, until_close, not_modified, says_more, body_where_none_can_be, half,
        half_and_reset, bad_head, unasked_101, closes, resets, refuses_early, stalls,
    )
}  # fmt: skip
ASKED = [name for name in SCENES if name not in TUNNELS]
HONEST = ["whole", "slow", "hints", "chunks", "large", "says_more"]


# The clients


class Session:
    """One connection of a client, from its first octet to whatever end it takes."""

    def __init__(self, client: Client, chance: random.Random, tokens, seen: Counter) -> None:
        self.client = client
        self.chance = chance
        self._tokens = tokens
        self._seen = seen

    def request(self, kind: str, method: bytes = b"GET", lines: bytes = b"") -> tuple[bytes, bytes]:
        token = next(self._tokens)
        return method + b" /%b?%b HTTP/1.1\r\n" % (kind.encode(), token) + HOST + lines + b"\r\n", b"token=" + token

    def run(self) -> None:
        act = self.chance.choice(ACTS)
        with contextlib.suppress(OSError, EOFError):
            act(self)
            self._seen[act.__name__] += 1

    def takes(self, token: bytes, method: bytes = b"GET") -> bytes:
        """Read an answer: if it is a whole one of the origin's, it must be ours. Gives what it says of Connection."""
        answer = self.client.answer(method)
        while 100 < answer.status < 200:
            answer = self.client.answer(method)
        self._seen[answer.status] += 1
        if method != b"HEAD" and answer.status in (200, 403) and not answer.body.endswith(token):
            self._seen["stolen"] += 1
        return answer.field(b"Connection") or b""

    def leaves(self) -> None:
        how = self.chance.randrange(3)
        sock = self.client.sock
        if how == 0 and not isinstance(sock, ssl.SSLSocket):
            sock.shutdown(socket.SHUT_WR)
            sock.settimeout(0.3)
            while sock.recv(65_536):
                pass
        elif how == 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def asks_in_turn(session: Session) -> None:
    for _ in range(session.chance.randrange(1, 6)):
        method = session.chance.choice((b"GET", b"GET", b"HEAD"))
        octets, token = session.request(session.chance.choice(ASKED), method)
        session.client.send(octets)
        if session.takes(token, method) == b"close":
            return


def pipelines(session: Session) -> None:
    asked = [session.request(session.chance.choice(HONEST)) for _ in range(session.chance.randrange(2, 8))]
    session.client.send(b"".join(octets for octets, _ in asked))
    for _, token in asked[: session.chance.randrange(len(asked) + 1)]:
        if session.takes(token) == b"close":
            return


def uploads(session: Session) -> None:
    size = session.chance.choice((3, 5_000, 300_000))
    framing = session.chance.choice((b"Content-Length: %d\r\n" % size, b"Transfer-Encoding: chunked\r\n"))
    expects = session.chance.choice((b"", b"Expect: 100-continue\r\n"))
    octets, token = session.request(session.chance.choice(ASKED), b"POST", framing + expects)
    body = bytes(size)
    if b"chunked" in framing:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    session.client.send(octets)
    if expects:
        time.sleep(0.03)
    session.client.send(body + session.chance.choice((b"", b"\r\n")))
    if session.takes(token, b"POST") != b"close":
        octets, token = session.request("whole")
        session.client.send(octets)
        session.takes(token)


def leaves_while_served(session: Session) -> None:
    octets, _ = session.request(session.chance.choice(ASKED))
    session.client.send(octets + session.chance.choice((b"", b"GET ", octets)))
    time.sleep(session.chance.random() * 0.06)
    session.leaves()


def leaves_in_an_upload(session: Session) -> None:
    octets, _ = session.request(session.chance.choice(ASKED), b"PUT", b"Content-Length: 200000\r\n")
    session.client.send(octets + bytes(session.chance.randrange(150_000)))
    session.leaves()


def leaves_in_a_download(session: Session) -> None:
    octets, _ = session.request("large")
    session.client.send(octets)
    session.client.sock.recv(session.chance.randrange(1, 50_000))
    session.leaves()


def says_nonsense(session: Session) -> None:
    octets, _ = session.request("whole")
    session.client.send(
        session.chance.choice((b"GET\r\n\r\n", b"\x16\x03\x01\x00", octets[:20], b"A" * 40_000, b"\r\n"))
    )
    if session.chance.randrange(2):
        session.client.answer()
    session.leaves()


def sends_a_broken_body(session: Session) -> None:
    octets, token = session.request("whole", b"POST", b"Transfer-Encoding: chunked\r\n")
    session.client.send(octets + b"3\r\nabc\r\nxyz\r\n")
    session.takes(token)


def tunnels(session: Session) -> None:
    kind = session.chance.choice([*TUNNELS, "whole"])
    octets, _ = session.request(kind, lines=b"Connection: Upgrade\r\nUpgrade: echo\r\n")
    session.client.send(octets + session.chance.choice((b"", b"early")))
    time.sleep(session.chance.random() * 0.02)
    session.client.send(b"later")
    if kind == "echoes_until_end" and session.chance.randrange(2):
        session.client.until(b"later")
    session.leaves()


ACTS = [
    asks_in_turn, asks_in_turn, pipelines, uploads, uploads, leaves_while_served, leaves_in_an_upload,
    leaves_in_a_download, says_nonsense, sends_a_broken_body, tunnels,
]  # fmt: skip


def crowd(open_client, seed: int, tokens, seen: Counter) -> None:
    chance = random.Random(seed)
    for _ in range(SESSIONS):
        with contextlib.suppress(OSError, EOFError), open_client() as client:
            Session(client, chance, tokens, seen).run()


def all_crowds(open_client) -> Counter:
    seen: Counter = Counter()
    tokens = (b"%09d" % number for number in range(10_000_000))
    lock = threading.Lock()

    class Tokens:
        def __iter__(self):
            return self

        def __next__(self) -> bytes:
            with lock:
                return next(tokens)

    threads = [threading.Thread(target=crowd, args=(open_client, seed, Tokens(), seen)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    return seen


CHORES = 4
"""The listener's two and the pool's two."""


def left(gateway: WholeGateway) -> dict[str, object]:
    """Everything that counts something, where it is not at rest."""
    listener, targets = gateway.listener, list(gateway.upstream._targets.values())
    counts = {
        "connections": listener.connections,
        "of clients": dict(listener._per_client),
        "unread": len(listener.unread),
        "tunnels": len(listener.tunnels),
        "bulkhead": dict(gateway.pipeline._bulkhead._in_flight),
        "in use": sum(target.books.in_use for target in targets),
        "idle but closed": sum(entry[0].wire.closed for target in targets for entry in target.books._idle),
        "wires without books": len(gateway.sweeper.wires) - sum(target.books.idle for target in targets),
        "chores": len(gateway.sweeper.chores) - CHORES,
    }
    return {name: count for name, count in counts.items() if count}


def alive() -> Counter:
    """Count what is still in memory; other tests may have left some of it. By type: a lazy proxy among all objects
    would be woken by isinstance."""
    gc.collect()
    things = [thing for thing in gc.get_objects() if issubclass(type(thing), _COUNTED)]
    return Counter(type(thing).__name__ for thing in things if not getattr(thing, "dead", False))


_COUNTED = (Wire, Connection, Downstream, gevent.Greenlet)
LIMITS = {"head_timeout_s": 0.5, "idle_timeout_s": 1.0, "body_idle_timeout_s": 1.0, "handshake_timeout_s": 2.0}
ORIGIN = {"first_byte_s": 0.5, "idle_s": 0.5}
BIG = a_route("/*", body_bytes_max=1_000_000)


def comes_to_rest(gateway: WholeGateway, open_client) -> None:
    descriptors, before = psutil.Process().num_fds(), alive()
    seen = all_crowds(open_client)
    assert seen["stolen"] == 0
    assert len(gateway.records) > THREADS * SESSIONS / 2, seen
    assert {200, 204, 304, 400, 403, 502, 504} <= seen.keys(), seen
    eventually(lambda: not left(gateway), 10)
    gateway.call(gateway.upstream.close_idle)
    eventually(lambda: not gateway.sweeper.wires)
    eventually(lambda: psutil.Process().num_fds() <= descriptors + 2, 5)
    gateway.records.clear()
    gateway.stage.recorder.refusals.clear()
    eventually(lambda: alive() <= before)


def test_over_plain_sockets():
    with Origin(plays) as origin, WholeGateway(origin.url, BIG, **ORIGIN, **LIMITS) as gateway:
        comes_to_rest(gateway, gateway.client)


def test_over_tls_on_both_sides_behind_a_proxy_header(certificate, tmp_path):  # noqa: F811 - the fixture
    path = authority.put(tmp_path, "a", "demo.example.com")
    certificates = Certificates(tmp_path, "a")
    certificates.check()
    hops = TrustedHops(parse_networks("127.0.0.0/8"))
    with (
        Origin(behind_tls(certificate, plays)) as origin,
        WholeGateway(
            f"https://localhost:{origin.port}", BIG, certificates=certificates, hops=hops, proxy_protocol=True,
            **ORIGIN, **LIMITS,
        ) as gateway,
    ):  # fmt: skip
        trusting(gateway, certificate)
        chance = random.Random(0)

        def open_client() -> Client:
            address = b"192.0.2.%d" % chance.randrange(1, 9)
            header = b"PROXY TCP4 " + address + b" 192.0.2.1 1234 443\r\n"
            if not chance.randrange(20):
                header = chance.choice((b"", b"PROXY UNKNOWN\r\n", b"PROXY TCP4", b"\r\n\r\n\x00\r\nQUIT\n\x21"))
            return gateway.tls_client(path, "demo.example.com", before=header)

        comes_to_rest(gateway, open_client)
