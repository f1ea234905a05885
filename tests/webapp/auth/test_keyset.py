"""The instance's keys: fetched rarely, kept when Clerk is away, never fetched at a forger's pace."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from contracts.clerk import KeySetError
from webapp.auth import keyset
from webapp.auth.keyset import KeySet, KeysUnavailable, fetch_document

_PUBLIC = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()


def document(kid: str = "ins_1") -> bytes:
    numbers = _PUBLIC.public_numbers()

    def text(value: int, size: int) -> str:
        return base64.urlsafe_b64encode(value.to_bytes(size, "big")).decode().rstrip("=")

    key = {"kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig", "n": text(numbers.n, 256), "e": text(numbers.e, 3)}
    return json.dumps({"keys": [key]}).encode()


@dataclass
class Clerk:
    """What answers, what it was asked, and what time it is."""

    body: bytes = field(default_factory=document)
    away: bool = False
    asked: int = 0
    now_mono: float = 1_000.0

    def fetch(self, _url: str) -> bytes:
        self.asked += 1
        if self.away:
            raise OSError("connection refused")
        return self.body

    def keyset(self) -> KeySet:
        return KeySet("https://clerk.example.com/jwks", self.fetch, lambda: self.now_mono)


def test_keys_are_fetched_once_in_five_minutes() -> None:
    clerk = Clerk()
    held = clerk.keyset()
    for _ in range(3):
        assert list(held.keys()) == ["ins_1"]
    assert clerk.asked == 1
    clerk.now_mono += keyset.FRESH_S + 1
    clerk.body = document("ins_2")
    assert list(held.keys()) == ["ins_2"]
    assert clerk.asked == 2


def test_stale_keys_are_used_for_a_day_while_clerk_is_away() -> None:
    clerk = Clerk()
    held = clerk.keyset()
    held.keys()
    clerk.away = True
    clerk.now_mono += keyset.STALE_S - 1
    assert list(held.keys()) == ["ins_1"]
    assert list(held.keys()) == ["ins_1"]
    assert clerk.asked == 2  # not at every request
    clerk.now_mono += 2
    with pytest.raises(KeysUnavailable):
        held.keys()
    clerk.away = False
    clerk.now_mono += keyset.FORCED_EVERY_S
    assert list(held.keys()) == ["ins_1"]


def test_without_any_keys_nobody_is_believed_and_clerk_is_asked_once_a_second() -> None:
    clerk = Clerk(away=True)
    held = clerk.keyset()
    for _ in range(5):
        with pytest.raises(KeysUnavailable):
            held.keys()
    assert clerk.asked == 1
    clerk.now_mono += 1
    clerk.away = False
    assert list(held.keys()) == ["ins_1"]


def test_a_forger_makes_one_fetch_in_ten_seconds() -> None:
    clerk = Clerk()
    held = clerk.keyset()
    held.keys()
    assert held.renewed() is None  # it was fetched a moment ago
    clerk.now_mono += keyset.FORCED_EVERY_S
    assert held.renewed() is not None
    assert [held.renewed() for _ in range(50)] == [None] * 50
    assert clerk.asked == 2


def test_many_at_once_fetch_once() -> None:
    clerk = Clerk()
    slow = threading.Event()

    def fetch(url: str) -> bytes:
        slow.wait(2)
        return clerk.fetch(url)

    held = KeySet("https://clerk.example.com/jwks", fetch)
    found: list[list[str]] = []
    threads = [threading.Thread(target=lambda: found.append(list(held.keys()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    slow.set()
    for thread in threads:
        thread.join()
    assert found == [["ins_1"]] * 8
    assert clerk.asked == 1


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    answers: dict[str, tuple[int, bytes]] = {}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path]
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/good")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", answers
        listening.shutdown()
        thread.join()


def test_a_document_is_bounded_and_redirects_are_not_followed(
    server: tuple[str, dict[str, tuple[int, bytes]]],
) -> None:
    url, answers = server
    answers |= {
        "/good": (200, document()),
        "/moved": (302, b""),
        "/error": (500, b""),
        "/huge": (200, b" " * (keyset.DOCUMENT_BYTES_MAX + 1)),
    }
    assert fetch_document(f"{url}/good") == document()
    for path, reason in (("/moved", "302"), ("/error", "500"), ("/huge", "larger than")):
        with pytest.raises(KeySetError, match=reason):
            fetch_document(url + path)
    assert list(KeySet(f"{url}/good").keys()) == ["ins_1"]
