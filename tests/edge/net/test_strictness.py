"""What must never be taken, said over sockets: refused requests close, refused answers are 502, nothing leaks through.

The rules one by one are the parser's twins'; here each is seen to hold for a client of the whole edge.
"""

from __future__ import annotations

import socket
import time

import pytest

from tests.edge.fakes import a_bucket, a_cache, a_route, a_snapshot, an_origin
from tests.edge.net.gateway import WholeGateway, eventually
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

HOST = b"Host: demo.example.com\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST


@pytest.fixture(scope="module")
def edge():
    """One edge for all refusals, before an origin that would echo what reached it."""
    with Origin(origins.echoes) as origin, WholeGateway(origin.url) as gateway:
        yield gateway


REFUSED = {
    # framing
    "both lengths": (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "differing lengths": (POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
    "equal lengths": (POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "listed length": (POST + b"Content-Length: 3, 3\r\n\r\nabc", 400),
    "signed length": (POST + b"Content-Length: +3\r\n\r\nabc", 400),
    "negative length": (POST + b"Content-Length: -3\r\n\r\nabc", 400),
    "spaced length": (POST + b"Content-Length: 3 0\r\n\r\nabc", 400),
    "hexadecimal length": (POST + b"Content-Length: 0x3\r\n\r\nabc", 400),
    "empty length": (POST + b"Content-Length:\r\n\r\nabc", 400),
    "endless length": (POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabc", 400),
    "gzip, chunked": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "identity": (POST + b"Transfer-Encoding: identity\r\n\r\n", 400),
    "xchunked": (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "vertical tab": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    # lines
    "space before colon": (POST + b"Content-Length : 3\r\n\r\nabc", 400),
    "folded": (POST + b"A: b\r\n c\r\n\r\n", 400),
    "folded first line": (b"GET / HTTP/1.1\r\n Host: a\r\n" + HOST + b"\r\n", 400),
    "bare line feeds": (POST.replace(b"\r\n", b"\n") + b"\n", 400),
    "one bare line feed": (POST + b"A: b\nC: d\r\n\r\n", 400),
    "bare carriage return": (POST + b"A: b\rC: d\r\n\r\n", 400),
    "nul": (POST + b"A: b\x00c\r\n\r\n", 400),
    "control": (POST + b"A: b\x01c\r\n\r\n", 400),
    "delete": (POST + b"A: b\x7fc\r\n\r\n", 400),
    "empty name": (POST + b": b\r\n\r\n", 400),
    "invalid name": (POST + b"A(b): c\r\n\r\n", 400),
    "no colon": (POST + b"A\r\n\r\n", 400),
    # hosts
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "host disagrees": (b"GET http://other.example/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "port disagrees": (b"GET http://demo.example.com:81/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "bad port": (b"GET / HTTP/1.1\r\nHost: demo.example.com:99x\r\n\r\n", 400),
    "open bracket": (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
    "bad escape": (b"GET / HTTP/1.1\r\nHost: a%zz\r\n\r\n", 400),
    "userinfo": (b"GET / HTTP/1.1\r\nHost: a@demo.example.com\r\n\r\n", 400),
    # chunks
    "signed chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", 400),
    "prefixed chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400),
    "overflowing chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 17 + b"\r\nabc\r\n", 400),
    "long extension": (POST + b"Transfer-Encoding: chunked\r\n\r\n3;a=" + b"b" * 600 + b"\r\nabc\r\n0\r\n\r\n", 400),
    "chunk too long": (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
    "chunk ends by LF": (POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n", 400),
    # the rest
    "0.9": (b"GET /\r\n\r\n", 400),
    "2.0": (b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "1.2": (b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    "unknown expectation": (POST + b"Expect: 100-continue, x\r\nContent-Length: 3\r\n\r\nabc", 417),
    "TRACE": (b"TRACE / HTTP/1.1\r\n" + HOST + b"Max-Forwards: 0\r\n\r\n", 501),
    "CONNECT": (b"CONNECT demo.example.com:80 HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    "a star for GET": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "fragment": (b"GET /#x HTTP/1.1\r\n" + HOST + b"\r\n", 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_two_parsers_could_read_differently_is_refused_and_the_connection_closed(edge, name):
    raw, status = REFUSED[name]
    follower = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    with edge.client() as client:
        client.send(raw + follower)
        answer = client.answer()
        assert (answer.status, answer.field(b"Connection")) == (status, b"close")
        assert answer.field(b"Content-Type") == b"application/problem+json"
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
    assert not [record for record in edge.records if b"smuggled" in record.head.target]


def test_what_follows_connection_close_is_not_read(edge):
    """RFC 9112 section 9.6: a server MUST NOT process any further requests on a connection it said it will close."""
    with edge.client() as client:
        client.send(b"GET /a HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\nGET /b HTTP/1.1\r\n" + HOST + b"\r\n")
        assert client.answer().field(b"Connection") == b"close"
        assert client.closed()
    assert not [record for record in edge.records if record.head.target == b"/b"]


def test_hop_by_hop_look_alikes_and_our_own_fields_do_not_reach_an_origin(edge):
    dropped = (
        b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", b"Keep-Alive: 5", b"Proxy-Authorization: x", b"X-Hop: 1",
        b"Transfer_Encoding: chunked", b"Content_Length: 99", b"X-Vantage-Principal: root", b"X-Forwarded-For: 1.2.3.4",
    )  # fmt: skip
    with edge.client() as client:
        client.send(
            b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings, X-Hop, Authorization\r\n"
            b"Authorization: kept\r\n" + b"".join(line + b"\r\n" for line in dropped) + b"\r\n"
        )
        got = client.answer().body.lower()
    assert b"\r\nauthorization: kept\r\n" in got, "Connection cannot nominate what the origin decides by"
    assert b"\r\nvia: 1.1 vantageedge\r\n" in got
    assert [line for line in dropped if line.lower() in got] == []
    assert b"connection:" not in got


def test_hop_by_hop_fields_of_an_origin_do_not_reach_a_client():
    raw = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Hop, Set-Cookie\r\nX-Hop: 1\r\nSet-Cookie: kept\r\n"
        b"Keep-Alive: 5\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nTrailer: X\r\nVia: 1.1 theirs\r\n\r\nok"
    )
    with Origin(origins.answers(raw)) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        for version in (b"1.1", b"1.0"):
            client.send(b"GET / HTTP/" + version + b"\r\n" + HOST + b"\r\n")
            head = client.answer().head.lower()
            assert b"\r\nset-cookie: kept\r\n" in head
            assert b"\r\nvia: 1.1 theirs\r\n" in head and b"\r\nvia: 1.1 vantageedge\r\n" in head
            for name in (b"x-hop", b"keep-alive", b"upgrade", b"proxy-authenticate", b"trailer"):
                assert b"\r\n" + name + b":" not in head


ANSWERS = {
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "differing lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "bare carriage return": b"HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\nContent-Length: 2\r\n\r\nok",
    "nul": b"HTTP/1.1 200 OK\r\nA: b\x00\r\nContent-Length: 2\r\n\r\nok",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    "folded": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok",
    "no HTTP": b"SSH-2.0-x\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
    "interim with CR": b"HTTP/1.1 103 Early Hints\r\nLink: a\rb\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_origin_is_held_to_the_same_rules_and_its_connection_is_not_used_again(name):
    with (
        Origin(origins.answers(ANSWERS[name])) as origin,
        WholeGateway(origin.url) as gateway,
        gateway.client() as client,
    ):
        client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        answer = client.answer()
        assert (answer.status, answer.field(b"Proxy-Status") is not None) == (502, True)
        eventually(lambda: gateway.upstream.connections == 0)
        client.send(b"GET / HTTP/1.1\r\nHost: nobody.example.com\r\n\r\n")
        assert client.answer().status == 404, "the client did nothing wrong: its connection stays"


@pytest.mark.parametrize("before", [b"", b'Via: 1.1 a"\r\n', b"Via: 1.1 a (\r\n", b'Via: "\r\n'])
def test_an_origin_that_points_back_at_the_gateway_is_508(before):
    """RFC 9110 section 7.6.3: Via is used "for ... avoiding request loops". Nothing a client writes there hides us."""
    with WholeGateway("http://127.0.0.1:9999") as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        gateway.stage.publish(a_snapshot(a_route(preserve_host=True), origins=[an_origin(url)]))
        with gateway.client() as client:
            client.send(b"GET / HTTP/1.1\r\n" + HOST + before + b"\r\n")
            answer = client.answer()
        assert (answer.status, b'"loop-detected"' in answer.body) == (508, True)
        eventually(lambda: len(gateway.records) == 2)
        assert gateway.records[0].error.problem.slug == "loop-detected"


def test_options_of_the_server_and_of_the_last_hop_are_answered_here():
    """RFC 9110 sections 7.6.2 and 9.3.7."""
    with Origin(origins.echoes) as origin, WholeGateway(origin.url) as gateway, gateway.client() as client:
        client.send(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n")
        answer = client.answer()
        assert (answer.status, answer.field(b"Content-Length"), b"PATCH" in answer.field(b"Allow")) == (204, None, True)
        client.send(b"OPTIONS / HTTP/1.1\r\n" + HOST + b"Max-Forwards: 0\r\n\r\n")
        assert client.answer().status == 204
        assert origin.connections == 0
        client.send(b"OPTIONS / HTTP/1.1\r\n" + HOST + b"Max-Forwards: 1\r\n\r\n")
        assert b"\r\nMax-Forwards: 0\r\n" in client.answer().body


def test_a_head_in_drops_is_the_same_head(edge):
    raw = POST + b"Content-Length: 3\r\n\r\nabc"
    with edge.client() as client:
        for at in range(len(raw)):
            client.send(raw[at : at + 1])
            time.sleep(0.001)
        assert client.answer().body.endswith(b"Content-Length: 3\r\n\r\nabc")


def test_no_method_and_no_protocol_is_a_way_around_who_may_ask_and_how_often():
    route = a_route("/*", "apikey_required", policies=(a_bucket(rate=0.001, burst=1),))
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    ways = (
        b"OPTIONS / HTTP/1.1\r\n" + HOST + b"Max-Forwards: 0\r\n", b"OPTIONS / HTTP/1.1\r\n" + HOST,
        b"GET / HTTP/1.1\r\n" + HOST + upgrade, b"GET http://demo.example.com HTTP/1.0\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTrailer: X-API-Key\r\n",
    )  # fmt: skip
    with Origin(origins.echoes) as origin, WholeGateway(origin.url, route) as gateway:
        gateway.stage.knows_key("key-of-alice")
        for way in ways:
            body = b"0\r\nX-API-Key: key-of-alice\r\n\r\n" if way.startswith(b"POST") else b""
            with gateway.client() as client:
                client.send(way + b"\r\n" + body)
                assert client.answer().status == 401, way
        for expected in (204, 429):
            with gateway.client() as client:
                client.send(ways[0] + b"X-API-Key: key-of-alice\r\n\r\n")
                assert client.answer().status == expected
        with gateway.client() as client:
            client.send(ways[2] + b"X-API-Key: key-of-alice\r\n\r\n")
            assert client.answer().status == 429
        assert origin.connections == 0


def test_one_client_cannot_have_its_word_kept_as_another_ones():
    """RFC 9110 section 7.6.1: Connection takes fields away on this hop; RFC 9111 section 4.1: what a stored answer was
    selected by are the fields of the request. Over sockets, with the parser's memo in between."""
    by_locale = a_cache(key_pattern="path+query+headers", key_headers=("x-locale",))
    with Origin(origins.echoes) as origin, WholeGateway(origin.url, a_route(cache=by_locale)) as gateway:
        for _ in range(4):
            with gateway.client() as client:
                client.send(b"GET / HTTP/1.1\r\n" + HOST + b"X-Locale: de\r\nConnection: X-Locale\r\n\r\n")
                assert b"X-Locale" not in client.answer().body
                client.send(b"GET / HTTP/1.1\r\n" + HOST + b"X-Locale: de\r\n\r\n")
                assert b"\r\nX-Locale: de\r\n" in client.answer().body
