"""Trailers from socket to socket (edge.net.request_body, reply_body, pump, downstream): which arrive, and where."""

from __future__ import annotations

import time

import pytest

from tests.edge.fakes import a_cache, a_route
from tests.edge.net.gateway import Client, WholeGateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

FORBIDDEN = b"Content-Length: 999\r\nSet-Cookie: a=b\r\nX-Vantage-Tenant: other\r\nX-Hop: 1\r\n"
TRAILERS = b"grpc-status: 0\r\n" + FORBIDDEN + b"X-Sum: abc\r\n"


def get(lines: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"GET / HTTP/" + version + b"\r\nHost: demo.example.com\r\n" + lines + b"\r\n"


def answers_in_chunks(*pieces: bytes, pause_s: float = 0.0, trailers: bytes = TRAILERS):
    """An origin whose chunked answer announces and sends trailers; `heads` is what it was asked."""

    def behave(sock):
        while head := origins.head(sock):
            behave.heads.append(head)
            raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Hop\r\nConnection: X-Hop\r\n\r\n"
            for piece in pieces:
                raw += b"%x;ext=1\r\n%b\r\n" % (len(piece), piece)
                if pause_s:
                    sock.sendall(raw)
                    time.sleep(pause_s)
                    raw = b""
            sock.sendall(raw + b"0;last\r\n" + trailers + b"\r\n")

    behave.heads = []
    return behave


def message(client: Client) -> tuple[bytes, bytes]:
    """Give head and the raw chunked body with its trailer section."""
    head = client.until(b"\r\n\r\n")
    body = b""
    while (line := client.until(b"\r\n")) != b"0\r\n":
        body += line + client.exactly(int(line, 16) + 2)
    body += line
    while (line := client.until(b"\r\n")) != b"\r\n":
        body += line
    return head, body + line


@pytest.mark.parametrize("pause_s", [0.0, 0.05])
def test_response_trailers_reach_a_client_that_takes_them(pause_s):
    """RFC 9110 section 10.1.4: TE: trailers says that the client will not discard them."""
    origin_side = answers_in_chunks(b"one", b"two", pause_s=pause_s)
    with Origin(origin_side) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        for _ in range(2):
            client.send(get(b"TE: trailers\r\nConnection: TE\r\n"))
            head, body = message(client)
            assert b"\r\nTransfer-Encoding: chunked\r\n" in head
            assert b"\r\nTrailer: X-Sum\r\n" in head
            assert body.endswith(b"\r\n0\r\ngrpc-status: 0\r\nX-Sum: abc\r\n\r\n")
            assert b";" not in body, "chunk extensions are of one hop"
        assert all(b"\r\nTE: trailers\r\nConnection: TE\r\n" in head for head in origin_side.heads)
        assert origin.connections == 1


@pytest.mark.parametrize("pause_s", [0.0, 0.05])
def test_who_did_not_ask_gets_the_body_without(pause_s):
    origin_side = answers_in_chunks(b"one", b"two", pause_s=pause_s)
    with Origin(origin_side) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(get())
        answer = client.answer()  # which fails at a trailer
        assert (answer.body, answer.field(b"Trailer")) == (b"onetwo", None)
        client.send(get())
        assert client.answer().body == b"onetwo"
        assert origin.connections == 1
        assert b"TE:" not in origin_side.heads[0]


def test_an_http_1_0_client_gets_neither_chunks_nor_trailers():
    with Origin(answers_in_chunks(b"one")) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(get(b"TE: trailers\r\n", b"1.0"))
        answer = client.answer()
        assert (answer.body, answer.field(b"Trailer"), answer.field(b"Transfer-Encoding")) == (b"one", None, None)


def test_an_answer_that_may_be_kept_comes_without_trailers_from_origin_and_memory():
    origin_side = answers_in_chunks(b"one")
    route = a_route("/*", cache=a_cache())
    with Origin(origin_side) as origin, WholeGateway(origin.url, route) as gateway, gateway.client() as client:
        for result in (b"MISS", b"HIT"):
            client.send(get(b"TE: trailers\r\n"))
            answer = client.answer()
            assert (answer.body, answer.field(b"X-Cache"), answer.field(b"Trailer")) == (b"one", result, None)
        assert b"TE:" not in origin_side.heads[0]


def test_trailers_that_break_the_rules_break_the_answer():
    raw = answers_in_chunks(b"one", pause_s=0.05, trailers=b"A : b\r\n")
    with Origin(raw) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(get(b"TE: trailers\r\n"))
        client.until(b"one")
        with pytest.raises((ConnectionResetError, EOFError)):
            client.until(b"0\r\n")
        eventually(lambda: bool(gateway.records))
        assert gateway.records[0].error.problem.slug == "origin-invalid-response"
        eventually(lambda: gateway.upstream.connections == 0)


def takes_chunks(sock):
    while head := origins.head(sock):
        body = b""
        while not (b"\r\n0\r\n" in body and body.endswith(b"\r\n\r\n")):
            body += sock.recv(65_536)
        takes_chunks.got.append((head, body))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.mark.parametrize("pause_s", [0.0, 0.05])
def test_request_trailers_reach_the_origin_behind_a_chunked_upload(pause_s):
    takes_chunks.got = []
    head = b"POST / HTTP/1.1\r\nHost: demo.example.com\r\nConnection: x-hop\r\nTrailer: X-Sum, Host\r\n"
    with Origin(takes_chunks) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        behind = get().replace(b"demo", b"nobody")  # a pipelined request
        client.send(head + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n")
        time.sleep(pause_s)
        client.send(b"0\r\nX_Sum: x\r\n" + TRAILERS + b"\r\n" + behind)
        assert (client.answer().body, client.answer().status) == (b"ok", 404)
        sent_head, sent_body = takes_chunks.got[0]
        assert b"\r\nTrailer: X-Sum\r\n" in sent_head
        assert sent_body == b"3\r\nabc\r\n0\r\ngrpc-status: 0\r\nX-Sum: abc\r\n\r\n"


def test_trailers_that_may_not_pass_leave_nothing_behind():
    with Origin(origins.echoes) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        chunks = b"Transfer-Encoding: chunked\r\nTrailer: Cookie\r\n\r\n3\r\nabc\r\n0\r\nCookie: x\r\n\r\n"
        client.send(b"POST / HTTP/1.1\r\nHost: demo.example.com\r\n" + chunks)
        body = client.answer().body
        assert body.endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert b"Trailer" not in body and b"Cookie" not in body


def test_a_trailer_that_ends_like_a_last_chunk_is_not_lost():
    takes_chunks.got = []
    with Origin(takes_chunks) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        chunks = b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 10\r\n\r\n"
        client.send(b"POST / HTTP/1.1\r\nHost: demo.example.com\r\n" + chunks)
        assert client.answer().status == 200
        assert takes_chunks.got[0][1] == b"3\r\nabc\r\n0\r\nX-Sum: 10\r\n\r\n"


@pytest.mark.parametrize(
    "trailers", [b"A : b\r\n", b" A: b\r\n", b"A: b\nC: d\r\n", b"A: \x00\r\n", b"A: " + b"b" * 8200 + b"\r\n"]
)
def test_trailers_that_break_the_rules_are_the_clients_fault(trailers):
    with Origin(origins.echoes) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: demo.example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
            + trailers
        )
        client.send(b"\r\n")
        answer = client.answer()
        assert (answer.status, answer.field(b"Connection")) == (400, b"close")
        eventually(lambda: gateway.upstream.connections == 0)
