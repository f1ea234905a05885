"""Twin of edge.net.listener: ceilings and drain."""

from __future__ import annotations

import resource
import socket
import threading
import time

import gevent
import pytest

from edge.http.messages import Reply
from tests.edge.net.gateway import Gateway, eventually

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def slow(seconds: float):
    def answer(exchange) -> Reply:
        gevent.sleep(seconds)
        return Reply(200, b"OK", b"", b"done")

    return answer


def test_above_the_workers_ceiling_a_client_is_told_and_let_go():
    with Gateway(connections_max=2) as gateway, gateway.client() as first, gateway.client():
        gateway.pipeline.answer = slow(0)
        eventually(lambda: gateway.listener.connections == 2)
        with gateway.client() as third:
            answer = third.answer()
            assert (answer.status, answer.body, answer.field(b"Connection")) == (503, b"gateway-overloaded", b"close")
            assert third.closed()
        first.send(GET)
        assert first.answer().status == 200
    assert [error.problem.slug for error in gateway.pipeline.refused] == ["gateway-overloaded"]


def test_one_client_cannot_take_all_connections():
    with Gateway(connections_per_client_max=1) as gateway:
        gateway.pipeline.answer = slow(0)
        with gateway.client():
            eventually(lambda: gateway.listener.connections == 1)
            with gateway.client() as second:
                assert second.answer().status == 503
        eventually(lambda: gateway.listener.connections == 0)
        assert gateway.get().status == 200
        eventually(lambda: not gateway.listener._per_client)
        assert repr(gateway.listener) == "<Listener 0 connections>"


def test_drain_closes_idle_connections_and_lets_the_busy_one_finish():
    with Gateway() as gateway, gateway.client() as idle, gateway.client() as busy, gateway.client() as fresh:
        gateway.pipeline.answer = slow(0.4)
        idle.send(GET)
        idle.answer()
        busy.send(GET)
        eventually(lambda: gateway.listener.connections == 3)
        time.sleep(0.1)
        drained = threading.Event()
        gateway.spawn(lambda: (gateway.listener.drain(), drained.set()))
        assert idle.closed() and fresh.closed()
        assert not drained.is_set()
        answer = busy.answer()
        assert (answer.status, answer.field(b"Connection")) == (200, b"close")
        assert busy.closed()
        assert drained.wait(2)
        assert gateway.listener.connections == 0
        gateway._sock.close()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", gateway.port), timeout=1).recv(1)


def test_drain_does_not_wait_for_ever():
    with Gateway() as gateway, gateway.client() as stuck:
        gateway.pipeline.answer = slow(60)
        stuck.send(GET)
        eventually(lambda: gateway.listener.connections == 1)
        time.sleep(0.05)
        drained = threading.Event()
        began = time.monotonic()
        gateway.spawn(lambda: (gateway.listener.drain(), drained.set()))
        assert drained.wait(6)
        assert 2.5 < time.monotonic() - began < 5


def test_a_request_on_its_way_when_the_drain_begins_is_still_served():
    with Gateway() as gateway, gateway.client() as client:
        gateway.pipeline.answer = slow(0)
        client.send(GET)
        client.answer()
        drained = threading.Event()

        def request_and_drain() -> None:
            client.sock.sendall(GET)  # it is in our socket's buffer, unread, when the drain looks
            gevent.spawn(lambda: (gateway.listener.drain(), drained.set()))

        gateway.call(request_and_drain)
        answer = client.answer()
        assert (answer.status, answer.field(b"Connection")) == (200, b"close")
        assert drained.wait(3)


def test_no_descriptors_left_is_survived():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Gateway() as gateway:
        gateway.pipeline.answer = slow(0)
        gateway.get()
        client = gateway.client.__self__  # the socket must exist before the limit falls
        waiting = socket.socket()
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 1, hard))
            waiting.settimeout(5)
            waiting.connect(("127.0.0.1", client.port))
            waiting.sendall(GET)
            time.sleep(0.2)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert waiting.recv(100).startswith(b"HTTP/1.1 200")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            waiting.close()


def test_an_idle_connection_costs_little_memory():
    with Gateway() as gateway:
        gateway.pipeline.answer = slow(0)
        clients = []
        for number in range(550):
            if number == 50:
                before_kib = resident_kib()
            client = gateway.client()
            client.send(GET)
            client.answer()
            clients.append(client)
        grown_kib = resident_kib() - before_kib
        for client in clients:
            client.sock.close()
    assert grown_kib / 500 < 32, f"{grown_kib / 500} KiB a connection, the client's end included"


def resident_kib() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() // 1024
