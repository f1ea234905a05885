"""Twin of edge.net.issuer_keys: key sets of tenants' issuers from servers that behave and servers that do not."""

from __future__ import annotations

import json
import socket
import time

import gevent
import pytest

from contracts.snapshot import IssuerConfig
from edge.errors import GatewayError
from edge.issuers import Issuer
from edge.net import issuer_keys
from edge.net.address import Resolver
from edge.net.issuer_keys import FRESH_S, REFRESH_GAP_S, STALE_KEPT_S, IssuerKeySets
from edge.net.upstream import UpstreamPool
from edge.settings import Limits
from tests.edge.net.gateway import LOOPBACK
from tests.forging import EC, EVIL, jwk, jwks
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

DOCUMENT = jwks(jwk(EC, "one"))
NEXT = jwks(jwk(EC, "one"), jwk(EVIL["ES256"], "two"))


def raw(body: bytes = DOCUMENT, status: str = "200 OK", lines: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status.encode(), lines, len(body), body)


def answering(body: bytes = DOCUMENT, status: str = "200 OK", lines: bytes = b""):
    return origins.answers(raw(body, status, lines))


def an_issuer(url: str, tenant_id: str = "t", **fields) -> Issuer:
    fields = {"id": "i", "name": "own", "kind": "jwt", "issuer": "https://own.example", "audience": ("a",),
              "algorithms": ("ES256",), "jwks_uri": url + "/jwks.json", **fields}  # fmt: skip
    return Issuer(IssuerConfig(**fields), tenant_id)


@pytest.fixture
def now():
    return [1_000.0]


@pytest.fixture
def sets(now):
    pool = UpstreamPool(Limits(), LOOPBACK, Resolver())
    yield IssuerKeySets(pool, lambda: now[0])
    pool.close_idle()


class Server(Origin):
    """Counts questions; `body` and `status` are what the next one is told."""

    def __init__(self, body: bytes = DOCUMENT) -> None:
        self.body, self.status, self.takes_s, self.asked = body, "200 OK", 0.0, 0
        super().__init__(self._answer)

    def _answer(self, sock: socket.socket) -> None:
        while origins.head(sock):
            self.asked += 1
            time.sleep(self.takes_s)
            sock.sendall(raw(self.body, self.status))


def unavailable(ask, issuer) -> str:
    with pytest.raises(GatewayError) as caught:
        ask(issuer)
    assert caught.value.problem.slug == "identity-unavailable"
    assert caught.value.fields == ((b"Retry-After", b"10"),)
    return caught.value.internal


def test_a_set_is_fetched_at_its_first_use_and_then_known(sets):
    with Server() as server:
        keys = sets.keys(an_issuer(server.url))
        assert len(keys.candidates("ES256", "one")) == 1
        assert sets.keys(an_issuer(server.url)) is keys
        assert (server.asked, len(sets)) == (1, 1)


def test_many_who_come_at_once_share_one_fetch(sets):
    with Server() as server:
        server.takes_s = 0.1
        issuer = an_issuer(server.url)
        got = gevent.joinall([gevent.spawn(sets.keys, issuer) for _ in range(20)])
        assert {id(one.value) for one in got} == {id(sets.keys(issuer))}
        assert server.asked == 1


def test_a_fetch_outlives_the_request_that_began_it(sets):
    with Server() as server:
        server.takes_s = 0.1
        issuer = an_issuer(server.url)
        first, second = gevent.spawn(sets.keys, issuer), gevent.spawn(sets.keys, issuer)
        gevent.sleep(0.02)
        first.kill()
        assert len(second.get(timeout=5)) == 1
        assert server.asked == 1


def test_a_set_that_is_no_longer_fresh_is_renewed_behind_the_requests(sets, now):
    with Server() as server:
        issuer = an_issuer(server.url)
        old = sets.keys(issuer)
        server.body = NEXT
        now[0] += FRESH_S + 1
        assert sets.keys(issuer) is old
        assert sets.keys(issuer) is old
        gevent.sleep(0.2)
        assert len(sets.keys(issuer)) == 2
        assert server.asked == 2


def test_a_set_nobody_asked_for_for_long_is_renewed_before_it_is_used(sets, now):
    """What its issuer withdrew meanwhile is not believed even once."""
    with Server() as server:
        issuer = an_issuer(server.url)
        sets.keys(issuer)
        server.body = jwks(jwk(EVIL["ES256"], "two"))
        now[0] += 2 * FRESH_S + 1
        assert sets.keys(issuer).candidates("ES256", "one") == ()


def test_an_equal_document_gives_the_very_same_set_so_what_was_believed_by_it_stays(sets, now):
    with Server() as server:
        issuer = an_issuer(server.url)
        keys = sets.keys(issuer)
        now[0] += 2 * FRESH_S + 1
        assert sets.keys(issuer) is keys
        assert sets.refreshed(issuer) is keys
        assert server.asked == 2


def test_a_refresh_finds_a_new_key_at_most_once_in_ten_seconds_whoever_asks(sets, now):
    with Server() as server:
        issuer = an_issuer(server.url)
        sets.keys(issuer)
        server.body = NEXT
        assert len(sets.refreshed(issuer)) == 1, "it was asked just now"
        now[0] += REFRESH_GAP_S
        got = gevent.joinall([gevent.spawn(sets.refreshed, issuer) for _ in range(20)])
        assert [len(one.value) for one in got] == [2] * 20
        for _ in range(20):
            sets.refreshed(issuer)
        assert server.asked == 2


def big(sock: socket.socket) -> None:
    origins.head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b" " * 200_000)


def endless(sock: socket.socket) -> None:
    origins.head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(1_000):
        sock.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")


def drips(sock: socket.socket) -> None:
    origins.head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        sock.sendall(b" ")
        time.sleep(0.05)


HMAC = {"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"}
BAD = {
    "says 500": (answering(status="500 Oops"), "status 500"),
    "says 404": (answering(status="404 No"), "status 404"),
    "says 304": (origins.answers(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "status 304"),
    "redirects inside": (answering(b"", "302 Found", b"Location: http://169.254.169.254/\r\n"), "status 302"),
    "redirects with a document": (answering(DOCUMENT, "301 Moved", b"Location: /x\r\n"), "status 301"),
    "is garbage": (answering(b"<html>no</html>"), "not a JWKS"),
    "is empty": (answering(b""), "not a JWKS"),
    "is nested without end": (answering(b"[" * 60_000), "not a JWKS"),
    "has no key": (answering(b'{"keys": []}'), "no usable key"),
    "has keys of another kind": (answering(jwks(HMAC)), "no usable key"),
    "is huge": (big, "larger than 65536"),
    "does not end": (endless, "larger than 65536"),
    "drips": (drips, "no whole answer"),
    "hangs": (origins.silent, "no whole answer|origin-timeout"),
    "resets": (origins.resets, "origin-"),
    "closes": (origins.closes_at_once, "origin-"),
    "talks nonsense": (origins.answers(b"SSH-2.0-x\r\n\r\n"), "origin-invalid"),
    "breaks off": (origins.answers_and_closes(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"), "origin-|closed"),
}


@pytest.mark.parametrize("how", BAD)
def test_an_issuer_whose_document(sets, now, monkeypatch, how):
    """... is bad in this way is 503, soon, and is not asked again at once; one that was good before is kept a day."""
    monkeypatch.setattr(issuer_keys, "TIMEOUT_S", 0.5)
    behaviour, reason = BAD[how]
    with Origin(behaviour) as bad:
        issuer = an_issuer(bad.url)
        began = time.monotonic()
        because = unavailable(sets.keys, issuer)
        assert time.monotonic() - began < 3
        assert any(word in because for word in reason.split("|")), because
        for _ in range(5):
            unavailable(sets.keys, issuer)
            unavailable(sets.refreshed, issuer)
        assert (bad.connections, sets.errors_total) == (1, 1)
    with Server() as server:
        good = an_issuer(server.url, id="other")
        keys = sets.keys(good)
        server.behaviour, server.connections = behaviour, 0
        sets._upstream.close_idle()
        now[0] += 2 * FRESH_S + 1
        assert sets.keys(good) is keys
        assert (server.connections, sets.errors_total) == (1, 2)
        now[0] += STALE_KEPT_S
        unavailable(sets.keys, good)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254", "http://10.0.0.1", "http://[::ffff:10.0.0.1]", "http://192.168.1.1:8080"]
)
def test_a_jwks_uri_that_points_inside_is_not_connected_to(sets, url):
    assert "origin-forbidden" in unavailable(sets.keys, an_issuer(url))


def test_without_an_opened_network_not_even_loopback_is_asked(now):
    pool = UpstreamPool(Limits(), (), Resolver())
    with Server() as server:
        assert "origin-forbidden" in unavailable(IssuerKeySets(pool).keys, an_issuer(server.url))
        by_name = an_issuer(f"http://localhost:{server.port}")
        assert "origin-forbidden" in unavailable(IssuerKeySets(pool).keys, by_name)
        assert server.connections == 0


def test_after_a_failure_the_issuer_is_asked_again_ten_seconds_later_and_nothing_wrong_was_kept(sets, now):
    with Server(b"garbage") as server:
        issuer = an_issuer(server.url)
        unavailable(sets.keys, issuer)
        server.body = DOCUMENT
        now[0] += REFRESH_GAP_S - 1
        unavailable(sets.keys, issuer)
        now[0] += 1
        assert len(sets.keys(issuer)) == 1
        assert server.asked == 2


def test_while_an_issuer_is_down_nobody_waits_for_it(sets, now):
    with Server() as server:
        issuer = an_issuer(server.url)
        keys = sets.keys(issuer)
        server.status = "503 Down"
        now[0] += 2 * FRESH_S + 1
        assert sets.keys(issuer) is keys
        server.takes_s = 1.0
        for _ in range(3):
            now[0] += REFRESH_GAP_S
            began = time.monotonic()
            assert sets.keys(issuer) is keys
            assert time.monotonic() - began < 0.5


def test_tenants_issuers_and_addresses_do_not_share_a_set(sets):
    with Server() as one, Server(NEXT) as two:
        assert len(sets.keys(an_issuer(one.url))) == 1
        assert len(sets.keys(an_issuer(two.url))) == 2, "a changed jwks_uri does not use old keys"
        sets.keys(an_issuer(one.url, "another tenant"))
        sets.keys(an_issuer(one.url, id="another issuer"))
        assert (one.asked, two.asked) == (3, 1)


def test_a_name_or_an_audience_that_changes_keeps_the_keys(sets):
    with Server() as server:
        keys = sets.keys(an_issuer(server.url))
        assert sets.keys(an_issuer(server.url, name="renamed", audience=("b",), required_scopes=("s",))) is keys


def test_a_dropped_tenant_takes_its_sets_along(sets):
    with Server() as server:
        for tenant_id in ("t", "u"):
            sets.keys(an_issuer(server.url, tenant_id))
        sets.drop("t")
        sets.drop("nobody")
        assert (len(sets), sets._keys_held) == (1, 1)
        sets.keys(an_issuer(server.url, "t"))
        assert server.asked == 3


def test_a_tenant_dropped_while_its_set_was_fetched_leaves_nothing(sets):
    with Server() as server:
        server.takes_s = 0.1
        asking = gevent.spawn(sets.keys, an_issuer(server.url))
        gevent.sleep(0.02)
        sets.drop("t")
        assert len(asking.get(timeout=5)) == 1
        assert (len(sets), sets._keys_held) == (0, 0)


def test_sets_and_keys_of_all_tenants_together_are_bounded(sets, monkeypatch):
    monkeypatch.setattr(issuer_keys, "SETS_MAX", 3)
    with Server(json.dumps({"keys": [jwk(EC, f"k{number}") for number in range(10)]}).encode()) as server:
        for number in range(6):
            sets.keys(an_issuer(server.url, f"t{number}"))
            assert len(sets) <= 3
        assert sets._keys_held == 30
        monkeypatch.setattr(issuer_keys, "KEYS_MAX", 25)
        sets.keys(an_issuer(server.url, "t9"))
        assert (len(sets), sets._keys_held) == (2, 20)


def test_what_we_got_wrong_ourselves_is_503_too_and_ends_no_worker(sets, monkeypatch, caplog):
    monkeypatch.setattr(issuer_keys, "fetch", None)
    assert "our fault" in unavailable(sets.keys, an_issuer("http://127.0.0.1:9"))
    assert "TypeError" in caplog.text
