"""Twin of edge.net.fetching: documents from servers that behave and servers that do not, over real sockets."""

from __future__ import annotations

import socket
import time

import pytest

from contracts.addresses import parse_networks
from edge.net.address import Resolver
from edge.net.fetching import FetchFailed, fetch
from edge.net.upstream import UpstreamPool
from edge.settings import Limits
from tests.origins import misbehaving as origins
from tests.origins.misbehaving import Origin

LOOPBACK = parse_networks("127.0.0.0/8")


@pytest.fixture
def upstream():
    pool = UpstreamPool(Limits(), LOOPBACK, Resolver())
    yield pool
    pool.close_idle()


def answering(body: bytes, status: str = "200 OK", lines: bytes = b""):
    return origins.answers(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status.encode(), lines, len(body), body))


def test_a_document_comes_whole_with_its_status_and_fields(upstream):
    with Origin(answering(b'{"keys":[]}', lines=b"Cache-Control: max-age=60\r\n")) as server:
        got = fetch(upstream, "t", f"{server.url}/.well-known/jwks.json")
    assert (got.status, got.body) == (200, b'{"keys":[]}')
    assert got.section.index[b"cache-control"] == (b"max-age=60",)


def test_what_is_asked_is_what_was_meant(upstream):
    with Origin(origins.echoes) as server:
        got = fetch(upstream, "t", f"{server.url}/a", method=b"POST", fields=((b"Accept", b"x/y"),), body=b"token=1")
    authority = server.url.removeprefix("http://").encode()
    assert got.body == b"POST /a HTTP/1.1\r\nHost: %b\r\nAccept: x/y\r\nContent-Length: 7\r\n\r\ntoken=1" % authority


@pytest.mark.parametrize(
    ("path", "asked"), [("", b"/"), ("/", b"/"), ("/o/introspect/", b"/o/introspect/"), ("?p=a", b"/?p=a")]
)
def test_the_document_is_asked_for_as_its_url_was_written(upstream, path, asked):
    with Origin(origins.echoes) as server:
        got = fetch(upstream, "t", f"{server.url}{path}")
    assert got.body.startswith(b"GET %b HTTP/1.1\r\n" % asked)


def test_a_redirect_is_an_answer_like_any_other_and_nobody_goes_there(upstream):
    with Origin(answering(b"", "302 Found", b"Location: http://169.254.169.254/\r\n")) as server:
        assert fetch(upstream, "t", server.url).status == 302
        assert server.connections == 1


def test_a_document_that_is_too_large_is_refused_by_its_announced_and_by_its_real_length(upstream):
    with Origin(answering(b"x" * 2_000)) as server, pytest.raises(FetchFailed, match="larger than 1000 bytes"):
        fetch(upstream, "t", server.url, bytes_max=1_000)
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1_000 + b"\r\n1\r\nx\r\n0\r\n\r\n"
    )
    with Origin(origins.answers(chunked)) as server, pytest.raises(FetchFailed, match="larger than 1000 bytes"):
        fetch(upstream, "t", server.url, bytes_max=1_000)


def drips(sock: socket.socket) -> None:
    origins.head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(100):
        sock.sendall(b"x")
        time.sleep(0.05)


def test_one_that_drips_is_given_up_in_time_though_each_byte_comes_in_time(upstream):
    with Origin(drips) as server:
        began = time.monotonic()
        with pytest.raises(FetchFailed, match=r"within 0\.5 s"):
            fetch(upstream, "t", server.url, timeout_s=0.5)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("url", ["http://10.0.0.1/jwks", "http://169.254.169.254/latest", "http://[::1]:8080/"])
def test_an_address_inside_is_forbidden_at_connect_time(upstream, url):
    with pytest.raises(FetchFailed, match="origin-forbidden") as caught:
        fetch(upstream, "t", url)
    assert caught.value.is_forbidden


@pytest.mark.parametrize("url", ["ftp://a.example/", "http://user@a.example/", "https://a.example/#f", "nonsense"])
def test_a_url_of_another_form_is_refused_unasked(upstream, url):
    with pytest.raises(FetchFailed) as caught:
        fetch(upstream, "t", url)
    assert caught.value.is_forbidden


def test_a_server_that_is_not_there_or_talks_nonsense_is_a_failure_with_a_reason(upstream):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(FetchFailed, match="origin-unreachable"):
        fetch(upstream, "t", f"http://127.0.0.1:{port}/")
    with Origin(origins.answers(b"SSH-2.0-x\r\n\r\n")) as server, pytest.raises(FetchFailed, match="origin-invalid"):
        fetch(upstream, "t", server.url)


def test_a_kept_connection_that_had_been_closed_is_tried_once_more_over_a_new_one(upstream):
    with Origin(origins.closes_on_reuse) as server:
        for _ in range(2):
            assert fetch(upstream, "t", server.url, method=b"POST", body=b"x").body == b"ok"
        assert server.connections == 2
    with Origin(origins.closes_at_once) as server, pytest.raises(FetchFailed):
        fetch(upstream, "t", server.url)
    assert server.connections == 1, "what fails on a new connection has failed"
