"""A running edge host of two workers, a client that signs, and an origin that writes down what it really got."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence

import msgspec
import pytest

from contracts import sealing
from contracts.snapshot import ServiceConfig, service_secret_place
from devstack.valkey import Valkey
from tests.edge.publishing import DEMO, HOST, Publisher, route, snapshot_of
from tests.edge.signing import KEY_ID, SECRET, Signer
from tests.origins.misbehaving import Origin, head
from tests.stored import everything_in
from tests.system.edge_host import EdgeHost

pytestmark = pytest.mark.system
KEYS = f"1:{'5a' * 32}"
OTHER, OTHER_HOST = "0197a000-0000-7000-8000-0000000000c4", "charlie.localhost"
NEW_SECRET = b"n" * 32
JSON = ("Content-Type", "application/json")
BODY = b'{"amount": 1}'
BIG = bytes(range(256)) * 4096 * 3
"""3 MiB."""


class Ledger:
    """An origin that notes of each request its head, its body, and whether the body came to its end."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, bytes, bool]] = []

    def __call__(self, sock: socket.socket) -> None:
        while first := head(sock):
            body, whole = self._body(sock, first.lower())
            self.got.append((first, body, whole))
            if not whole:
                return
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if first[:4] == b"HEAD" else b"ok"))

    def _body(self, sock: socket.socket, first: bytes) -> tuple[bytes, bool]:
        stream = sock.makefile("rb", buffering=0)
        if (length := re.search(rb"content-length: ([0-9]+)", first)) is not None:
            body = self._exactly(stream, int(length[1]))
            return body, len(body) == int(length[1])
        body = b""
        if b"transfer-encoding: chunked" in first:
            while size := self._line(stream):
                octets = self._exactly(stream, int(size, 16) + 2)
                if int(size, 16) == 0:
                    return body, octets == b"\r\n"
                body += octets[:-2]
            return body, False
        return body, True

    @staticmethod
    def _exactly(stream, size: int) -> bytes:
        got = bytearray()
        while len(got) < size and (piece := stream.read(size - len(got))):
            got += piece
        return bytes(got)

    @staticmethod
    def _line(stream) -> bytes:
        got = b""
        while not got.endswith(b"\r\n"):
            octet = stream.read(1)
            if not octet:
                return b""
            got += octet
        return got[:-2]


def sealed(secret: bytes, tenant: str = DEMO, service: str = "service-1") -> str:
    return sealing.seal(sealing.parse_keys(KEYS), secret, service_secret_place(tenant, service), os.urandom(12))


def a_service(**fields) -> ServiceConfig:
    fields = {
        "id": "service-1",
        "name": "shop",
        "kind": "hmac",
        "key_id": KEY_ID,
        "secrets": (sealed(SECRET),),
        **fields,
    }
    return ServiceConfig(**fields)


class World:
    def __init__(self, edge: EdgeHost, publisher: Publisher, origin: Origin, ledger: Ledger) -> None:
        self.edge = edge
        self.publisher = publisher
        self.ledger = ledger
        self._origin = origin
        self._version = 0

    def publish(self, *services: ServiceConfig) -> float:
        """Put services in force at demo; gives the seconds until both workers had them."""
        self._version += 1
        routes = (route(1, "/s/*", "service_required"), route(2, "/public/*"))
        base = snapshot_of(self._version, routes, self._origin.url)
        entry = self.publisher.config(msgspec.structs.replace(base, services=services))
        return self.publisher.await_live(entry, 2)

    def send(
        self, method: str, target: str, fields: Sequence[tuple[str, str]], body: bytes | None = None,
        chunk_bytes: int = 0, host: str = HOST, version: str = "1.1", pause_s: float = 0.0,
    ) -> int:  # fmt: skip
        """One request over a connection of its own; gives the status."""
        lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in fields]
        if body is not None:
            lines.append("Transfer-Encoding: chunked" if chunk_bytes else f"Content-Length: {len(body)}")
        with socket.create_connection(("127.0.0.1", self.edge.port), 20) as sock:
            first = "\r\n".join([*lines, "", ""]).encode()
            if pause_s or body is None or len(body) > 60_000:
                sock.sendall(first)
                time.sleep(pause_s)
                first = b""
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(first + self._framed(body or b"", chunk_bytes))
            answer = http.client.HTTPResponse(sock, method=method)
            answer.begin()
            answer.read()
            return answer.status

    @staticmethod
    def _framed(body: bytes, chunk_bytes: int) -> bytes:
        if not chunk_bytes:
            return body
        pieces = [body[start : start + chunk_bytes] for start in range(0, len(body), chunk_bytes)]
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))

    def ask(
        self, method: str = "POST", target: str = "/s/x?q=1", body: bytes | None = BODY, fields=(JSON,), **changed
    ) -> int:
        """Sign and send; `sent` is the body that goes out instead, other words are Signer.sign's or send's."""
        on_wire = {k: changed.pop(k) for k in list(changed) if k in ("chunk_bytes", "host", "version", "pause_s")}
        sent = changed.pop("sent", body)
        signer = changed.pop("signer", Signer())
        signed = signer.sign(method, target, on_wire.get("host", HOST), body, fields, **changed)
        return self.send(method, target, signed, sent, **on_wire)


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("signed")
    ledger = Ledger()
    with Valkey(folder / "store", aof=False) as store, Origin(ledger) as origin:
        publisher = Publisher(store.url)
        edge = EdgeHost(store.url, folder, SEALING_KEYS=KEYS, EDGE_AUTH_FAILURES_MAX="0")
        with edge:
            world = World(edge, publisher, origin, ledger)
            other = snapshot_of(1, (route(1, "/s/*", "service_required"),), origin.url, OTHER, "charlie")
            its = (a_service(key_id="svc_charlie", secrets=(sealed(SECRET, OTHER),)),)
            publisher.config(msgspec.structs.replace(other, services=its), (OTHER_HOST,))
            world.publish(a_service())
            edge.eventually(lambda: {world.ask() for _ in range(10)} == {200})
            yield world
        publisher.close()


@pytest.fixture
def world(host) -> World:
    host.publish(a_service())
    host.ledger.got.clear()
    return host


# --- What is believed -----------------------------------------------------------------------------------------------


def test_requests_of_every_shape_are_believed(world):
    assert world.ask() == 200
    assert world.ask("GET", body=None, fields=()) == 200
    assert world.ask("HEAD", "/s/", body=None, fields=()) == 200
    assert world.ask("DELETE", "/s/x?", body=None, fields=()) == 200
    assert world.ask("GET", "/s/%7Ea/./b//c?x=%41&x&=", body=None, fields=()) == 200
    assert world.ask(chunk_bytes=5) == 200
    assert world.ask(body=b"", fields=()) == 200
    assert world.ask(version="1.0") == 200
    order = ["date", "@query", "@path", "@authority", "@method", "content-type", "content-digest"]
    assert world.ask(fields=(JSON, ("Date", "today")), components=order) == 200
    for first, _, whole in world.ledger.got:
        assert whole
        assert b"X-Vantage-Principal: " in first
        assert b"signature" not in first.lower()


def test_an_absolute_form_target_is_signed_by_what_is_in_it(world):
    """RFC 9421 section 2.2.6: @path is that of the target URI, whatever form the request line has."""
    signed = Signer().sign("GET", "/s/x?q=1", HOST)
    assert world.send("GET", f"http://{HOST}/s/x?q=1", signed) == 200
    signed = Signer().sign("GET", "/s/x", HOST)
    assert world.send("GET", f"http://{HOST.upper()}:80/s/x", signed, host=HOST.upper()) == 200


def test_the_host_is_signed_in_lower_case_without_the_default_port(world):
    signed = Signer().sign("GET", "/s/x", HOST)
    assert world.send("GET", "/s/x", signed, host=f"{HOST.upper()}:80") == 200
    with_port = Signer().sign("GET", "/s/x", f"{HOST}:8000")
    assert world.send("GET", "/s/x", with_port, host=f"{HOST}:8000") == 200
    assert world.send("GET", "/s/x", Signer().sign("GET", "/s/x", HOST), host=f"{HOST}:8000") == 401


def test_signatures_on_a_public_route_pass_through_untouched(world):
    assert world.ask(target="/public/x", tag='"webhooks"', sent=b"other octets") == 200
    first, body, _ = world.ledger.got[-1]
    assert b"Signature-Input: ve=(" in first and body == b"other octets"


# --- What is not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"signer": Signer(b"x" * 32)},
        {"signer": Signer(bytes(32))},
        {"signer": Signer(bytes(32), "svc_unknown")},
        {"signer": Signer(SECRET, "svc_charlie")},
        {"at": time.time() + 3600},
        {"at": time.time() - 3600},
        {"expires": int(time.time()) - 1},
        {"expires": int(time.time()) + 3600},
        {"tag": '"other"'},
        {"alg": '"hmac-sha512"'},
        {"nonce": None},
        {"nonce": '"short"'},
        {"without": ["@method"]},
        {"without": ["@authority"]},
        {"without": ["@path"]},
        {"without": ["@query"]},
        {"without": ["content-digest"]},
        {"without": ["content-type"]},
        {"more": "1"},
        {"components": ["@method", "@authority", "@path", "@query", "content-digest", "content-type", "connection"]},
    ],
)
def test_what_is_wrong_with_a_signature_is_one_answer(world, changed):
    assert world.ask(**changed) == 401
    assert world.ledger.got == []


def test_whatever_is_changed_on_the_way_is_noticed(world):
    signed = Signer().sign("POST", "/s/x?a=1&b=2", HOST, BODY, [JSON])
    retyped = [("Content-Type", "text/plain") if field == JSON else field for field in signed]
    for method, target, fields, body, host in (
        ("PUT", "/s/x?a=1&b=2", signed, BODY, HOST),
        ("POST", "/s/y?a=1&b=2", signed, BODY, HOST),
        ("POST", "/s/x?b=2&a=1", signed, BODY, HOST),
        ("POST", "/s/x?a=1&b=2&", signed, BODY, HOST),
        ("POST", "/s/x?a=1&b=%32", signed, BODY, HOST),
        ("POST", "/s/x", signed, BODY, HOST),
        ("POST", "/s/x?a=1&b=2", retyped, BODY, HOST),
        ("POST", "/s/x?a=1&b=2", signed, BODY, OTHER_HOST),
        ("POST", "/s/x?a=1&b=2", signed, None, HOST),
    ):
        assert world.send(method, target, fields, body, host=host) == (401 if body is not None else 400)
    assert world.send("POST", "/s/x?a=1&b=2", signed, BODY + b" ") == 400
    assert world.ledger.got == []
    assert world.send("POST", "/s/x?a=1&b=2", signed, BODY) == 200, "none of that used its nonce up"


def test_two_credentials_and_fields_sent_twice_are_400(world):
    signed = Signer().sign("GET", "/s/x", HOST)
    assert world.send("GET", "/s/x", [*signed, ("Authorization", "Bearer x")]) == 400
    assert world.send("GET", "/s/x", [*signed, ("X-API-Key", "x")]) == 400
    assert world.send("GET", "/s/x", [*signed, ("Signature", "ve=:YQ==:")]) == 400
    assert world.send("GET", "/s/x", [*signed, ("Signature-Input", "x=()")]) == 400


def test_huge_and_broken_fields_are_refused_at_once(world):
    began = time.monotonic()
    for value in ("ve=" + "(" * 8_000, 've=("' + "a" * 8_000, "ve=()" + ";a" * 4_000, 've=("' + '\\"' * 4_000):
        assert world.send("GET", "/s/x", [("Signature-Input", value), ("Signature", "ve=:YQ==:")]) == 401
    assert world.send("GET", "/s/x", [("Signature-Input", "ve=" + "x" * 100_000)]) == 431
    assert time.monotonic() - began < 5
    assert world.ask() == 200


def test_a_service_of_one_tenant_is_nobody_at_another(world):
    assert world.ask(host=OTHER_HOST) == 401
    assert world.ask(host=OTHER_HOST, signer=Signer(SECRET, "svc_charlie")) == 200


# --- Once -----------------------------------------------------------------------------------------------------------


def test_a_replay_is_refused_by_every_worker(world):
    signed = Signer().sign("POST", "/s/x", HOST, BODY, [JSON])
    assert world.send("POST", "/s/x", signed, BODY) == 200
    assert {world.send("POST", "/s/x", signed, BODY) for _ in range(20)} == {401}
    assert len(world.ledger.got) == 1


def test_a_nonce_is_used_once_whatever_it_signs(world):
    nonce = '"0123456789abcdefg"'
    assert world.ask(nonce=nonce) == 200
    assert {world.ask("GET", "/s/other", body=None, nonce=nonce) for _ in range(10)} == {401}


# --- Bodies that arrive ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_bytes", [0, 50_000])
def test_a_long_body_passes_and_a_wrong_one_never_ends_at_the_origin(world, chunk_bytes):
    assert world.ask(body=BIG, chunk_bytes=chunk_bytes) == 200
    assert world.ledger.got.pop()[1:] == (BIG, True)
    for wrong in (BIG[:-1] + b"x", b"x" + BIG[1:]):
        assert world.ask(body=BIG, sent=wrong, chunk_bytes=chunk_bytes) == 400
        world.edge.eventually(lambda: world.ledger.got)
        _, body, whole = world.ledger.got.pop()
        assert not whole and len(body) < len(BIG)
        assert wrong.startswith(body)
    assert world.ask() == 200, "and the next request is served as ever"


def test_a_short_body_that_comes_late_is_held_back_whole(world):
    assert world.ask(pause_s=0.2) == 200
    assert world.ask(pause_s=0.2, sent=BODY[:-1] + b"x") == 400
    world.edge.eventually(lambda: len(world.ledger.got) == 2)
    _, body, whole = world.ledger.got[-1]
    assert (body, whole) == (b"", False)


# --- Secrets come and go --------------------------------------------------------------------------------------------


def test_a_replaced_secret_works_in_its_grace_and_not_after(world):
    until = time.time() + 3
    world.publish(a_service(secrets=(sealed(NEW_SECRET), sealed(SECRET)), previous_until=until))
    assert {world.ask() for _ in range(6)} == {200}
    assert world.ask(signer=Signer(NEW_SECRET)) == 200
    time.sleep(max(0.0, until - time.time()) + 0.01)
    assert {world.ask() for _ in range(6)} == {401}, "by the clock: nobody published anything"
    assert {world.ask(signer=Signer(NEW_SECRET)) for _ in range(6)} == {200}


def test_a_revoked_service_is_refused_by_both_workers_within_a_second(world):
    assert world.ask() == 200
    assert world.publish() < 1.0
    assert {world.ask() for _ in range(20)} == {401}


def test_a_secret_is_in_clear_in_no_store_no_log_and_no_file(world):
    assert world.ask() == 200
    world.publish(
        a_service(secrets=(sealing.seal(sealing.parse_keys(f"2:{'6b' * 32}"), SECRET, b"x", os.urandom(12)),))
    )
    assert world.ask() == 503, "sealed under a key that this host does not have"
    in_redis = everything_in(world.publisher.redis)

    def files() -> bytes:
        return b"".join(path.read_bytes() for path in world.edge.log.parent.rglob("*") if path.is_file())

    world.edge.eventually(lambda: b"which is not among the sealing keys" in files())
    assert b"s1.2." in in_redis and b"s1.2." in files(), "the search looks where the sealed secret is"
    for form in (SECRET, SECRET.hex().encode(), NEW_SECRET):
        assert form not in in_redis + files()


# --- Without the store ----------------------------------------------------------------------------------------------


def test_without_redis_signed_requests_are_503_and_come_back_with_it(tmp_path):
    ledger = Ledger()
    with Valkey(tmp_path / "store", aof=True) as store, Origin(ledger) as origin:
        publisher = Publisher(store.url)
        edge = EdgeHost(store.url, tmp_path, SEALING_KEYS=KEYS, EDGE_AUTH_FAILURES_MAX="0")
        with edge:
            world = World(edge, publisher, origin, ledger)
            world.publish(a_service())
            edge.eventually(lambda: {world.ask() for _ in range(10)} == {200})
            store.kill()
            edge.eventually(lambda: {world.ask() for _ in range(4)} == {503})
            assert world.ask(signer=Signer(b"x" * 32)) == 401, "what is wrong needs no store to be refused"
            assert world.ask(target="/public/x") == 200
            store.start()
            edge.eventually(lambda: {world.ask() for _ in range(4)} == {200})
            assert edge.metric("vantageedge_nonce_errors_total") >= 4
        publisher.close()
