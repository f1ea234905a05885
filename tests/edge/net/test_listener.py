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


def drain(gateway) -> threading.Event:
    drained = threading.Event()
    gateway.spawn(lambda: (gateway.listener.drain(), drained.set()))
    return drained


def test_drain_closes_connections_that_stay_idle_and_lets_the_busy_one_finish():
    with Gateway() as gateway, gateway.client() as idle, gateway.client() as busy, gateway.client() as fresh:
        gateway.pipeline.answer = slow(1.2)
        busy.send(GET)
        eventually(lambda: gateway.listener.connections == 3)
        time.sleep(0.1)
        drained = drain(gateway)
        assert idle.closed() and fresh.closed()
        assert not drained.is_set()
        answer = busy.answer()
        assert (answer.status, answer.field(b"Connection")) == (200, b"close")
        assert busy.closed()
        busy.sock.close()
        assert drained.wait(2)
        assert gateway.listener.connections == 0
        gateway._sock.close()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", gateway.port), timeout=1).recv(1)


def test_a_kept_connection_has_its_next_answer_after_the_drain_began_and_is_told_that_it_is_the_last():
    with Gateway() as gateway, gateway.client() as kept, gateway.client() as fresh:
        gateway.pipeline.answer = slow(0)
        kept.send(GET)
        assert kept.answer().field(b"Connection") is None
        drained = drain(gateway)
        for client in (kept, fresh):
            time.sleep(0.3)  # the grace is a quarter of the drain's 3 s
            client.send(GET)
            answer = client.answer()
            assert (answer.status, answer.field(b"Connection")) == (200, b"close")
            assert client.closed()
            client.sock.close()
        assert drained.wait(1)


def test_who_waits_to_be_accepted_when_the_drain_begins_is_served_even_when_it_sends_later():
    with Gateway() as gateway:
        gateway.pipeline.answer = slow(0)
        gateway.get()
        clients = []

        def connect_and_drain() -> None:
            clients.append(gateway.client())  # in the kernel's queue: the hub is here
            drain(gateway)

        gateway.call(connect_and_drain)
        eventually(lambda: gateway.listener.draining)
        time.sleep(0.1)
        with clients[0] as client:
            client.send(GET)
            assert client.answer().status == 200


def test_the_last_answer_is_not_lost_to_requests_that_were_pipelined_behind_it():
    with Gateway() as gateway, gateway.client() as client:
        gateway.pipeline.answer = slow(0.3)
        client.send(GET)
        time.sleep(0.1)
        drain(gateway)
        client.send(GET * 5_000)  # more than one read takes: closing over the rest would reset the connection
        answer = client.answer()
        assert (answer.status, answer.body, answer.field(b"Connection")) == (200, b"done", b"close")
        assert client.sock.recv(1) == b""
        assert len(gateway.pipeline.served) == 1


def test_a_request_that_arrives_at_the_very_end_of_the_idle_time_is_served():
    with Gateway() as gateway, gateway.client() as client:
        gateway.pipeline.answer = slow(0)
        eventually(lambda: gateway.listener.connections == 1)
        time.sleep(0.05)
        (wire,) = gateway.sweeper.wires
        gateway.call(lambda: (client.sock.sendall(GET), wire.expire()))
        assert client.answer().status == 200


def test_what_is_cut_at_the_drains_end_cannot_be_taken_for_complete():
    origin = socket.create_server(("127.0.0.1", 0))

    def half() -> None:
        sock, _ = origin.accept()
        sock.recv(65_536)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        sock.recv(1)
        sock.close()

    answering = threading.Thread(target=half)
    answering.start()
    with origin, Gateway(f"http://127.0.0.1:{origin.getsockname()[1]}") as gateway, gateway.client() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        client.until(b"half")
        drained = drain(gateway)
        with pytest.raises(ConnectionResetError):
            client.sock.recv(1)
        assert drained.wait(2)
        assert gateway.pipeline.gone == 1
    answering.join(5)


def test_more_than_one_socket_can_be_accepted_from():
    with socket.create_server(("127.0.0.1", 0)) as other:
        gateway = Gateway()
        gateway.more_socks = (other,)
        with gateway, socket.create_connection(other.getsockname(), timeout=5) as client:
            gateway.pipeline.answer = slow(0)
            client.sendall(GET)
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
            assert gateway.get().status == 200


def test_drain_does_not_wait_for_ever():
    with Gateway() as gateway, gateway.client() as stuck:
        gateway.pipeline.answer = slow(4.5)
        stuck.send(GET)
        eventually(lambda: gateway.listener.connections == 1)
        time.sleep(0.05)
        began = time.monotonic()
        drained = drain(gateway)
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
