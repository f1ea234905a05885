from __future__ import annotations

import base64
import http.server
import json
import threading

import gevent
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contracts.messages import Change
from edge.errors import GatewayError
from edge.net.jwks import REFRESH_GAP_S, STALE_KEPT_S, SessionKeySet
from edge.settings import ClerkSettings

KEY = rsa.generate_private_key(65_537, 2_048).public_key()


def number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


def keyset(*kids: str) -> bytes:
    numbers = KEY.public_numbers()
    keys = [{"kty": "RSA", "kid": kid, "n": number(numbers.n), "e": number(numbers.e)} for kid in kids]
    return json.dumps({"keys": keys}).encode()


class Issuer:
    """An issuer that answers what it is told to, in a thread of its own."""

    def __init__(self) -> None:
        issuer = self
        self.asked = 0
        self.status, self.body, self.location = 200, keyset("one"), ""

        class Answers(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(issuer.status)
                if issuer.location:
                    self.send_header("Location", issuer.location)
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *_) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer():
    issuer = Issuer()
    yield issuer
    issuer.close()


@pytest.fixture
def now():
    return [1_000.0]


@pytest.fixture
def keys(issuer, now):
    return SessionKeySet(ClerkSettings("https://clerk.test", issuer.url, ("https://console.test",)), lambda: now[0])


def test_the_set_is_fetched_once_and_then_known(keys, issuer):
    assert keys.keys()["one"].public_numbers() == KEY.public_numbers()
    keys.keys()
    assert issuer.asked == 1
    assert keys.expectation.issuer == "https://clerk.test"
    assert keys.expectation.authorized_parties == ("https://console.test",)


def test_a_refresh_finds_a_new_key_at_most_once_in_ten_seconds(keys, issuer, now):
    keys.keys()
    issuer.body = keyset("one", "two")
    assert set(keys.refreshed()) == {"one"}
    now[0] += REFRESH_GAP_S
    assert {kid for one in gevent.joinall([gevent.spawn(keys.refreshed) for _ in range(5)]) for kid in one.value} == {
        "one", "two",
    }  # fmt: skip
    assert issuer.asked == 2


def test_an_equal_document_leaves_the_very_same_set(keys, issuer, now):
    first = keys.keys()
    now[0] += REFRESH_GAP_S
    assert keys.refreshed() is first
    issuer.body = keyset("two")
    now[0] += REFRESH_GAP_S
    assert set(keys.refreshed()) == {"two"}
    assert issuer.asked == 3


def test_an_empty_document_is_no_set(keys, issuer):
    issuer.body = b""
    with pytest.raises(GatewayError):
        keys.keys()
    assert keys.errors_total == 1


@pytest.mark.parametrize("how", ["500", "redirect", "not a set", "too large"])
def test_a_fetch_that_fails_keeps_the_last_good_set_for_a_day(keys, issuer, now, how):
    keys.keys()
    if how == "500":
        issuer.status = 500
    elif how == "redirect":
        issuer.status, issuer.location = 302, issuer.url
    elif how == "not a set":
        issuer.body = b'{"keys": []}'
    else:
        issuer.body = keyset("one") + b" " * 70_000
    now[0] += REFRESH_GAP_S
    assert set(keys.refreshed()) == {"one"}
    assert issuer.asked == 2
    assert keys.errors_total == 1
    now[0] += STALE_KEPT_S
    with pytest.raises(GatewayError) as refused:
        keys.keys()
    assert refused.value.problem.slug == "identity-unavailable"


def test_an_issuer_that_was_never_reached_is_not_asked_by_every_request(issuer, now):
    keys = SessionKeySet(ClerkSettings("https://clerk.test", issuer.url, ()), lambda: now[0])
    issuer.status = 503
    for _ in range(5):
        with pytest.raises(GatewayError):
            keys.keys()
    assert issuer.asked == 1


def test_a_pinned_key_stands_for_every_kid_and_asks_nobody(issuer):
    pem = KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    keys = SessionKeySet(ClerkSettings("https://clerk.test", issuer.url, (), pem))
    assert keys.keys().get("any").public_numbers() == KEY.public_numbers()
    assert keys.refreshed()["other"] is not None
    assert len(keys.keys()) == 1
    assert issuer.asked == 0


def test_a_session_that_was_signed_out_is_denied_as_long_as_its_tokens_live(keys, now):
    keys.on_change(Change(kind="session", tenant_id="", session_id="sess_1"))
    keys.on_change(Change(kind="config", tenant_id="", session_id="sess_2"))
    assert keys.denied("sess_1")
    assert not keys.denied("sess_2")
    keys.on_resync(lost=True)
    assert keys.denied("sess_1")
    now[0] += 4_000
    assert not keys.denied("sess_1")
