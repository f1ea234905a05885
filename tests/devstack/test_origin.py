"""devstack.origin: answers like jsonplaceholder, in our own words, over a real socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from devstack import origin
from devstack.child import loopback_listener
from tests.devstack.serving import in_process


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with in_process("from devstack.origin import main; main()", "--port") as url:
        yield url


def test_a_post_and_its_comments(base: str) -> None:
    assert len(requests.get(f"{base}/posts", timeout=5).json()) == 100
    post = requests.get(f"{base}/posts/1", timeout=5).json()
    assert set(post) == {"userId", "id", "title", "body"} and post["id"] == 1
    comments = requests.get(f"{base}/posts/1/comments", timeout=5).json()
    assert len(comments) == 5 and {each["postId"] for each in comments} == {1}
    assert requests.get(f"{base}/comments?postId=1", timeout=5).json() == comments
    assert len(requests.get(f"{base}/users/2/posts", timeout=5).json()) == 10


@pytest.mark.parametrize(("name", "count"), [("users", 10), ("comments", 500), ("todos", 200), ("albums", 100)])
def test_each_collection_has_its_rows(base: str, name: str, count: int) -> None:
    assert len(requests.get(f"{base}/{name}", timeout=5).json()) == count
    assert requests.get(f"{base}/{name}/{count}", timeout=5).json()["id"] == count
    assert requests.get(f"{base}/{name}/{count + 1}", timeout=5).status_code == 404


def test_writes_are_answered_and_not_kept(base: str) -> None:
    made = requests.post(f"{base}/posts", json={"title": "new"}, timeout=5)
    assert (made.status_code, made.json()) == (201, {"title": "new", "id": 101})
    assert requests.get(f"{base}/posts/101", timeout=5).status_code == 404
    assert requests.put(f"{base}/posts/1", json={"title": "t"}, timeout=5).json() == {"title": "t", "id": 1}
    assert requests.patch(f"{base}/posts/1", json={"title": "t"}, timeout=5).json()["userId"] == 1
    assert requests.delete(f"{base}/posts/1", timeout=5).json() == {}
    assert requests.post(f"{base}/posts", data="[1", timeout=5).status_code == 400


def test_a_known_tag_is_answered_without_a_body(base: str) -> None:
    first = requests.get(f"{base}/users/1", timeout=5)
    assert first.headers["Cache-Control"] == "public, max-age=300"
    again = requests.get(f"{base}/users/1", headers={"If-None-Match": first.headers["ETag"]}, timeout=5)
    assert (again.status_code, again.content) == (304, b"")


def test_anything_shows_what_arrived(base: str) -> None:
    seen = requests.post(f"{base}/anything/x?q=1", data=b"hello", headers={"X-Seen": "yes"}, timeout=5).json()
    assert (seen["method"], seen["path"], seen["query"], seen["body"]) == ("POST", "/anything/x", {"q": "1"}, "hello")
    assert seen["headers"]["X-Seen"] == "yes"


def test_a_client_that_breaks_off_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with in_process("from devstack.origin import main; main()", "--port") as url:
        where = urlsplit(url)
        with socket.create_connection((where.hostname, where.port), timeout=5) as half:
            half.sendall(b"POST /posts HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[")
            half.shutdown(socket.SHUT_WR)
            assert half.recv(64).startswith(b"HTTP/1.1 400 ")
        assert requests.get(f"{url}/posts/1", timeout=5).ok
    assert "Traceback" not in capfd.readouterr().err


def test_streams_in_chunks_and_keeps_its_bounds(base: str) -> None:
    with requests.get(f"{base}/stream?count=3&every=0", stream=True, timeout=5) as answer:
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert len(list(answer.iter_lines())) == 3
    assert requests.get(f"{base}/slow?s=0.01", timeout=5).json() == {"waited_s": 0.01}
    assert requests.get(f"{base}/status/503", timeout=5).status_code == 503
    assert requests.post(f"{base}/posts", data=b"x" * (origin.BODY_BYTES_MAX + 1), timeout=5).status_code == 413


def test_kept_connections_are_answered_without_a_pause(base: str) -> None:
    with requests.Session() as session:
        session.get(f"{base}/users/1", timeout=5)
        begun_mono = time.monotonic()
        for _ in range(20):
            session.get(f"{base}/users/1", timeout=5)
        assert time.monotonic() - begun_mono < 0.6  # a delayed acknowledgement for each would cost 0.8 s


def test_it_listens_on_loopback_alone() -> None:
    with loopback_listener(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
