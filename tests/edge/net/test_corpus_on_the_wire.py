"""The corpus over real sockets: what a client is answered for each request, and for what an origin said."""

from __future__ import annotations

import hashlib
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge.http import upgrade
from edge.http.messages import Reply
from tests.edge.http.corpus import records
from tests.edge.http.corpus.records import Record
from tests.edge.http.readings import our_request, our_response
from tests.edge.net.gateway import Answer, Client, Gateway
from tests.origins import misbehaving
from tests.origins.misbehaving import Origin

REQUESTS = records.requests()
RESPONSES = [record for record in records.responses() if record.verdict[0] != "wait" and record.verdict[1] != "101"]
_WAIT_S = 0.25


def digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"\x00".join(parts)).hexdigest().encode()


def telling(exchange) -> Reply:
    """Answer with what was seen of the request, in a field: an answer to HEAD has no body."""
    body = exchange.body
    content = body if isinstance(body, bytes) else b""
    while not isinstance(body, bytes | None) and (piece := body.read()):
        content += piece
    head = exchange.head
    saw = digest(head.method, head.target, head.host, content)
    return Reply(200, b"OK", b"X-Saw: %b\r\n" % saw, b"")


def heard(client: Client, method: bytes = b"GET") -> Answer | None:
    """Give the next answer, None when there is none in time or any more."""
    try:
        return client.answer(method)
    except (TimeoutError, EOFError, ConnectionResetError):
        return None


def asked(gateway: Gateway, record: Record) -> list[str]:
    """Send a record and say what does not hold."""
    wrong = []
    rest = record.raw
    with gateway.client(5.0) as client:
        client.send(rest)
        while True:
            reading = our_request(rest)
            if reading.verdict == "wait":
                client.sock.settimeout(_WAIT_S)
                if rest and (answer := heard(client)) is not None:
                    wrong.append(f"{answer.status} for what is not complete")
                break
            answer = heard(client, reading.start[0] if reading.start else b"GET")
            if answer is None:
                wrong.append("no answer")
                break
            close = answer.field(b"Connection") == b"close"
            if reading.verdict == "refuse":
                slug = "request-malformed" if reading.slug == "body" else reading.slug
                if answer.body not in (slug.encode(), b"") or answer.status == 200 or not close:
                    wrong.append(f"{answer.status} {answer.body!r}, close: {close}, for {reading.slug}")
                break
            method, target, _ = reading.start
            assert reading.head is not None
            saw = digest(method, target, reading.head.host, reading.body)
            if answer.status != 200 or answer.field(b"X-Saw") != saw:
                wrong.append(f"{answer.status} {answer.head!r} for {reading.start}")
            # Octets behind a declined upgrade might be the tunnel's: the connection ends.
            if close == (reading.keep_alive and not (reading.left and upgrade.offered(reading.head))):
                wrong.append(f"close: {close}")
            rest = reading.left
            if close:
                break
        if not wrong and reading.verdict != "wait" and reading.keep_alive is not True and not client.closed():
            wrong.append("an answer too many, or the connection goes on")
    return [f"{record.name}: {what}" for what in wrong]


def test_every_request_of_the_corpus_is_answered_as_its_record_says():
    """ "wait" included: nothing is answered, and the connection stays."""
    with Gateway() as gateway:
        gateway.pipeline.answer = telling
        with ThreadPoolExecutor(8) as clients:
            wrong = [line for lines in clients.map(lambda record: asked(gateway, record), REQUESTS) for line in lines]
        statuses = {error.problem.status for error in gateway.pipeline.refused}
    assert wrong == []
    assert statuses == {400, 414, 417, 431, 501, 505}


def _answering(sock: socket.socket) -> None:
    """Answer /NUMBER with that record and keep the connection, where it keeps it; anything else with 204."""
    while got := misbehaving.head(sock):
        number = re.match(rb"[A-Z]+ /([0-9]+) ", got)
        if number is None:
            sock.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            return
        record = RESPONSES[int(number[1])]
        sock.sendall(record.raw)
        if record.closed:
            return


def _wanted(record: Record) -> tuple[int, bytes, bool]:
    """Give (status, body, whether the connection may be used again) of the final response."""
    raw = record.raw
    while True:
        reading = our_response(raw, record.method, record.closed)
        assert reading.head is not None
        if reading.head.status >= 200:
            break
        raw = reading.left
    return reading.head.status, reading.body, bool(reading.keep_alive) and not reading.left


@pytest.fixture(scope="module")
def between():
    with Origin(_answering) as origin, Gateway(origin.url) as gateway:
        yield gateway


@pytest.mark.parametrize("number", range(len(RESPONSES)), ids=lambda number: RESPONSES[number].name)
def test_a_client_gets_what_the_origin_may_say(between, number):
    record = RESPONSES[number]
    with between.client() as client:
        client.send(record.method + b" /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        answer = heard(client, record.method)
    if record.verdict[0] == "accept":
        status, body, again = _wanted(record)
        assert answer is not None and (answer.status, answer.body) == (status, body)
    elif record.verdict[1] == "502":
        again = False
        assert answer is not None
        assert (answer.status, answer.body) == (
            502,
            b"origin-invalid-response"[: 0 if record.method == b"HEAD" else None],
        )
    else:  # the head may be out already: then the client sees a body cut short
        again = False
        assert answer is None or answer.status == 502
    with between.client() as client:
        client.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer().status == 204
    assert between.pipeline.reused[-1] is again
