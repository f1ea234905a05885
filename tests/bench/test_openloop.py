"""The open-model generator counts what a closed loop leaves out."""

import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from bench import generator, openloop
from bench.openloop import Schedule
from devstack.child import free_port


def test_requests_are_due_at_a_constant_rate_from_the_beginning():
    schedule = Schedule(began=100.0, rate=10, seconds=1)
    assert schedule.total == 10
    schedule.due(100.25, free=True)
    assert list(schedule.waiting) == pytest.approx([100.0, 100.1, 100.2])
    assert schedule.next_in(100.25) == pytest.approx(0.05)
    schedule.due(200.0, free=True)
    assert len(schedule.waiting) == 10
    assert schedule.next_in(200.0) == 1.0


def test_latency_counts_from_the_intended_time_and_not_from_the_sending():
    schedule = Schedule(began=0.0, rate=1, seconds=2)
    schedule.due(0.0, free=False)
    intended = schedule.leaves(3.0)
    schedule.answered(intended, 3.5)
    assert schedule.latencies == [3.5]


def test_a_request_that_waited_for_a_connection_does_not_make_the_sender_late():
    schedule = Schedule(began=0.0, rate=1, seconds=3)
    schedule.due(0.0, free=False)
    schedule.due(1.0, free=True)  # one became free, but the first had waited already
    schedule.leaves(1.0)
    schedule.leaves(1.0)
    assert schedule.lateness == []
    schedule.due(2.25, free=True)
    schedule.leaves(2.25)
    assert schedule.lateness == [0.25]


def test_what_is_unanswered_at_the_end_counts_with_what_it_has_waited():
    schedule = Schedule(began=0.0, rate=1, seconds=4)
    schedule.due(2.0, free=True)  # the last of them has not even been looked for
    schedule.answered(schedule.leaves(0.0), 0.001)
    in_flight = [schedule.leaves(1.0)]
    report = schedule.report(10.0, 0, in_flight)
    assert (report.requests, report.unfinished) == (1, 3)
    assert report.max_us == pytest.approx(9e6)
    assert report.p50_us == pytest.approx(7e6)


@contextmanager
def origin(*freeze):
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.origin", str(port), *map(str, freeze)])
    try:
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def opened(port, rate, seconds):
    argv = [sys.executable, "-m", "bench.openloop", str(port), "/", str(rate), str(seconds), "Host: test"]
    return json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout)


def test_an_origin_that_freezes_a_fifth_of_the_time_is_seen_where_a_closed_loop_sees_nothing():
    """Frozen 0.3 s in every 1.5: a fifth of the requests wait 0.15 s on average, so the 90th percentile is 0.15 s."""
    with origin(0.3, 1.5) as port:
        began = time.monotonic()
        report = opened(port, 200, 3)
        assert time.monotonic() - began < 20
        closed = []

        def ask_and_wait():
            until = time.monotonic() + 3
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                while time.monotonic() < until:
                    asked = time.monotonic()
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                    sock.recv(65_536)
                    closed.append(time.monotonic() - asked)

        ask_and_wait()
    assert report["requests"] == 600
    assert report["errors"] == report["unfinished"] == 0
    assert 0.08e6 < report["p90_us"] < 0.4e6
    assert report["p50_us"] < 0.08e6
    assert openloop.percentile(closed, 0.99) < 0.05  # two in thousands: that is what coordinated omission hides


def test_a_quiet_origin_is_fast_and_everything_is_asked():
    with origin() as port:
        report = opened(port, 300, 1)
    assert report["requests"] == 300
    assert report["p50_us"] < 50_000


def test_a_connection_that_is_closed_is_an_error_and_is_opened_again():
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = listening.getsockname()[1]
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def serve_once_each():
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(client,), daemon=True).start()

    def one(client):
        with client:
            if client.recv(65_536):
                client.sendall(answer)

    accepting = threading.Thread(target=serve_once_each, daemon=True)
    accepting.start()
    report = opened(port, 50, 1)
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    accepting.join()
    assert report["requests"] == 50
    assert report["errors"] > 0


def test_the_closed_generator_counts_answers_that_are_not_2xx():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve():
            client, _ = listening.accept()
            with client, suppress(OSError):  # the generator leaves in the middle
                while client.recv(65_536):
                    client.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        result = generator.run(f"http://127.0.0.1:{port}/", 1, 0.3, [])
        serving.join(5)
    assert result["requests"] == result["errors"] > 0
