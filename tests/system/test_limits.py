"""What a worker holds in memory, and what a healthy client notices, while others ask for too much.

The sizes are small enough for every run; `LIMITS_FULL_SIZE=1 pytest -s tests/system/test_limits.py` prints the figures
for 1 GiB each way, 5,000 idle and 1,000 slow connections.
"""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from devstack.valkey import Valkey
from tests.edge.publishing import HOST, Publisher, route, snapshot_of
from tests.system.edge_host import EdgeHost
from tests.system.fast_origin import FastOrigin
from tests.system.load import (
    Peak,
    SteadyLoad,
    connect,
    crowd,
    download,
    raise_descriptor_limit,
    read_head,
    resident_kib,
    sized,
    upload,
)

pytestmark = pytest.mark.system
MIB = 1 << 20
GET = f"GET /public/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """One worker, warmed up, so that what grows is its alone."""
    raise_descriptor_limit()
    folder = tmp_path_factory.mktemp("limits")
    with FastOrigin() as origin, Valkey(folder / "store", aof=False) as store:
        publisher = Publisher(store.url)
        publisher.config(snapshot_of(1, (route(1, "/public/*", body_bytes_max=2 << 30),), origin.url))
        publisher.close()
        with EdgeHost(store.url, folder, workers=1) as edge:
            edge.eventually(lambda: edge.get("/public/x")[0] == 200)
            download(edge.port, 4 * MIB), upload(edge.port, 4 * MIB)
            yield edge
            assert "a connection crashed" not in edge.log.read_text()


@pytest.fixture
def worker(edge):
    (pid,) = edge.pids()
    yield pid
    assert edge.pids() == [pid]


@pytest.mark.parametrize("transfer", [download, upload])
def test_a_body_of_any_size_goes_through_in_flat_memory(edge, worker, transfer):
    size = sized(1024, 192) * MIB
    with Peak(worker) as peak:
        began = time.monotonic()
        assert transfer(edge.port, size) == size
    speed = size / MIB / (time.monotonic() - began)
    print(f"{transfer.__name__} of {size / MIB:.0f} MiB: grew {peak.grown_kib / 1024:.1f} MiB, {speed:.0f} MiB/s")
    assert peak.grown_kib <= 16 * 1024


def test_an_idle_connection_costs_at_most_32_kib(edge, worker):
    count = sized(5_000, 1_500)
    before = resident_kib(worker)
    with crowd(edge.port, count, GET) as clients:
        for client in clients:
            assert read_head(client)[0].startswith(b"HTTP/1.1 200")
        edge.eventually(lambda: edge.metric("vantageedge_active_connections") >= count)
        each_kib = (resident_kib(worker) - before) / count
    print(f"{count} idle connections: {each_kib:.1f} KiB each")
    assert each_kib <= 32
    edge.eventually(lambda: edge.metric("vantageedge_active_connections") < 100)


def test_connections_that_send_their_head_slowly_do_not_slow_down_others(edge, worker):
    count = sized(1_000, 600)

    def healthy() -> float:
        with SteadyLoad([edge.port], "/public/x", clients=4) as load:
            time.sleep(sized(5, 2))
        assert load.counts.failures == []
        return load.counts.percentile(0.99)

    quiet_s = healthy()
    stop = threading.Event()
    with crowd(edge.port, count, GET[:20]) as clients, Peak(worker) as peak:

        def trickle() -> None:
            octets = iter(range(20, len(GET) - 4))
            for at in octets:
                for client in clients:
                    with contextlib.suppress(OSError):  # told 408 by now
                        client.send(GET[at : at + 1])
                if stop.wait(1.0):
                    return

        slow = threading.Thread(target=trickle)
        slow.start()
        try:
            busy_s = healthy()
        finally:
            stop.set()
            slow.join()
    print(f"p99 {quiet_s * 1000:.1f} ms quiet, {busy_s * 1000:.1f} ms beside {count} slow heads; +{peak.grown_kib} KiB")
    assert busy_s < max(10 * quiet_s, 0.1)
    assert peak.grown_kib <= 48 * count


def test_clients_that_do_not_read_their_answers_hold_back_the_origin_not_memory(edge, worker):
    count = sized(200, 60)
    request = f"GET /public/bytes/{64 * MIB} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    with Peak(worker) as peak, crowd(edge.port, count, request):
        time.sleep(1.5)
        assert edge.get("/public/x")[0] == 200
    print(f"{count} clients that do not read 64 MiB: grew {peak.grown_kib / count:.0f} KiB each")
    assert peak.grown_kib <= 256 * count


def test_a_flood_of_pipelined_requests_is_answered_in_order_in_bounded_memory(edge, worker):
    flood = GET * 200
    with Peak(worker) as peak, connect(edge.port) as client:
        client.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError):  # it stops reading while nobody reads its answers
            for _ in range(2_000):
                sent += client.send(flood)
        assert edge.get("/public/x")[0] == 200
        got = len(client.recv(1 << 20))
    print(f"{sent // len(GET)} pipelined requests, {sent / MIB:.1f} MiB: grew {peak.grown_kib} KiB")
    assert got > 0
    assert peak.grown_kib <= 4 * 1024


def test_heads_without_end_are_refused_in_bounded_memory(edge, worker):
    line = b"X-Filler: " + b"y" * 1_000 + b"\r\n"

    def bomb() -> bytes:
        with connect(edge.port) as client:
            client.sendall(GET[:-2])
            with contextlib.suppress(OSError):
                for _ in range(10_000):
                    client.sendall(line)
            with contextlib.suppress(OSError):
                return client.recv(12)
        return b""

    with Peak(worker) as peak:
        statuses = [bomb() for _ in range(20)]
        assert edge.get("/public/x")[0] == 200
    print(f"20 endless heads: grew {peak.grown_kib} KiB")
    assert {status for status in statuses if status} <= {b"HTTP/1.1 431"}
    assert b"HTTP/1.1 431" in statuses
    assert peak.grown_kib <= 4 * 1024


def test_garbage_is_refused_at_once(edge, worker):
    with crowd(edge.port, 200, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n\r\n") as clients:
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(12) in (b"HTTP/1.1 400", b"")
    assert edge.get("/public/x")[0] == 200
