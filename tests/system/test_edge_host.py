"""A running edge host: what changes, what breaks, and what its clients notice of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from contracts import snapshot
from devstack.valkey import Valkey
from tests.edge.publishing import DEMO, HOST, KEY, Publisher, bucket, route, snapshot_of
from tests.system.edge_host import EdgeHost, Load, Origin

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def origin():
    origin = Origin()
    yield origin
    origin.close()


def routes(*more):
    return (route(1, "/public/*"), route(2, "/keyed/*", "apikey_required"), *more)


@pytest.fixture
def store(tmp_path):
    with Valkey(tmp_path / "store", aof=True) as server:
        yield server


@pytest.fixture
def publisher(store, origin):
    publisher = Publisher(store.url)
    publisher.config(snapshot_of(1, routes(), origin.url))
    publisher.key()
    yield publisher
    publisher.close()


@pytest.fixture
def edge(store, publisher, tmp_path):
    with EdgeHost(store.url, tmp_path) as edge:
        yield edge


def both_hold_the_tenant(edge):
    edge.eventually(lambda: edge.statuses("/public/x") == {200} and edge.metric("vantageedge_tenants_held") == 2)


def test_a_change_is_in_force_on_both_workers_within_a_second(edge, publisher, origin):
    both_hold_the_tenant(edge)
    assert edge.statuses("/new/x") == {404}
    entry = publisher.config(snapshot_of(2, routes(route(3, "/new/*")), origin.url))
    assert publisher.await_live(entry, workers=2) < 1.0
    assert edge.statuses("/new/x") == {200}
    assert edge.metric("vantageedge_config_propagation_seconds_count") >= 2


def test_a_new_tenants_first_request_works_though_its_host_was_unknown_a_moment_ago(edge, publisher, origin):
    publisher.redis.delete("ve:none")
    assert edge.statuses("/public/x") == {200}
    other = snapshot_of(1, routes(), origin.url, "0197a000-0000-7000-8000-0000000000c4", "charlie")

    def ask():
        with socket.create_connection(("127.0.0.1", edge.port), 5) as sock:
            sock.sendall(b"GET /public/x HTTP/1.1\r\nHost: charlie.localhost\r\nConnection: close\r\n\r\n")
            return int(sock.recv(65_536).split(b" ", 2)[1])

    assert {ask() for _ in range(10)} == {404}
    entry = publisher.config(other, ("charlie.localhost",))
    assert publisher.await_live(entry, workers=2) < 1.0
    assert {ask() for _ in range(10)} == {200}


def test_a_revoked_key_is_refused_by_both_workers_within_a_second(edge, publisher):
    assert edge.statuses("/keyed/x", key=KEY) == {200}
    entry = publisher.revoke()
    assert publisher.await_live(entry, workers=2) < 1.0
    assert edge.statuses("/keyed/x", key=KEY) == {401}


def test_both_workers_together_admit_the_burst_and_no_more(edge, publisher, origin):
    limited = route(3, "/limited/*", policies=(bucket(rate=0.01, burst=15),))
    publisher.await_live(publisher.config(snapshot_of(2, routes(limited), origin.url)), workers=2)
    statuses = [edge.get("/limited/x")[0] for _ in range(40)]
    assert statuses.count(200) == 15
    assert statuses.count(429) == 25


def test_a_malformed_snapshot_is_refused_and_the_console_can_see_it(edge, publisher):
    both_hold_the_tenant(edge)
    entry = publisher.raw_config(DEMO, 2, "0" * 64, b'{"format":1}', (HOST,))
    publisher.await_live(entry, workers=2)
    assert edge.statuses("/public/x") == {200}
    assert all("version 2" in beat.rejected[DEMO] for beat in publisher.live_on().values())


def test_a_snapshot_of_a_newer_format_is_refused(edge, publisher, origin):
    both_hold_the_tenant(edge)
    body, sha256 = snapshot.encode(snapshot.Snapshot(format=99, tenant=snapshot_of().tenant, version=3))
    publisher.await_live(publisher.raw_config(DEMO, 3, sha256, body), workers=2)
    assert edge.statuses("/public/x") == {200}


def test_with_redis_killed_under_load_known_routes_and_keys_go_on(edge, store, publisher, origin):
    both_hold_the_tenant(edge)
    assert edge.statuses("/keyed/x", key=KEY) == {200}
    with Load(edge, "/public/x") as public, Load(edge, "/keyed/x", 2, KEY) as keyed:
        time.sleep(0.5)
        publisher.close()
        store.kill()
        time.sleep(1.5)
        assert edge.get("/keyed/x", "unknown-key-12345")[0] == 503
        assert edge.metric("vantageedge_redis_degraded") == 1
        assert edge.probe("/readyz")[0] == 200
        store.start()
        edge.eventually(lambda: edge.metric("vantageedge_redis_degraded") == 0)
        entry = publisher.config(snapshot_of(5, routes(route(3, "/after/*")), origin.url))
        publisher.await_live(entry, workers=2)
    assert public.failures == []
    assert keyed.failures == []
    assert public.answered > 10
    assert edge.statuses("/after/x") == {200}
    assert edge.statuses("/keyed/x", key="unknown-key-12345") == {401}


def test_a_restart_with_redis_away_serves_from_disk(store, publisher, tmp_path):
    with EdgeHost(store.url, tmp_path) as edge:
        both_hold_the_tenant(edge)
    publisher.close()
    store.kill()
    with EdgeHost(store.url, tmp_path) as edge:
        assert edge.statuses("/public/x") == {200}
        assert edge.statuses("/keyed/x", key=KEY) == {503}
    assert oct((tmp_path / "state").stat().st_mode)[-3:] == "700"


def test_sigterm_under_load_loses_nothing_and_ends_with_zero(edge, publisher):
    both_hold_the_tenant(edge)
    slow: list[tuple[int, bytes]] = []
    waiting = threading.Thread(target=lambda: slow.append(edge.get("/public/slow?ms=1500")))
    with Load(edge, "/public/x") as load:
        waiting.start()
        time.sleep(0.5)
        process = edge.process
        edge.process = None
        process.send_signal(signal.SIGTERM)
        edge.eventually(lambda: edge.probe("/readyz")[0] == 503)
        assert process.wait(20) == 0
        waiting.join()
    assert slow == [(200, b"/public/slow?ms=1500")]
    assert load.failures == []
    assert load.answered > 5
    lines = [json.loads(line) for line in edge.access_log.read_text().splitlines()]
    assert sum(line["url.path"] == "/public/x" for line in lines) >= load.answered
    assert publisher.live_on() == {}


def test_a_killed_worker_is_replaced_and_what_it_counted_stays(edge):
    both_hold_the_tenant(edge)
    edge.statuses("/public/x", 30)
    before = edge.metric('vantageedge_requests_total{tenant="demo",route="route-1",method="GET",status="200"}')
    time.sleep(1.3)  # what a worker counted is left in its file each second
    first = set(edge.pids())
    os.kill(min(first), signal.SIGKILL)
    edge.eventually(lambda: len(set(edge.pids()) - first) == 1 and edge.metric("vantageedge_workers") == 2)
    assert edge.statuses("/public/x", 30) == {200}
    after = edge.metric('vantageedge_requests_total{tenant="demo",route="route-1",method="GET",status="200"}')
    assert after == before + 30


def test_a_stopped_worker_is_killed_and_replaced(store, publisher, tmp_path):
    with EdgeHost(store.url, tmp_path, EDGE_HEARTBEAT_TIMEOUT_S="2") as edge:
        first = set(edge.pids())
        os.kill(min(first), signal.SIGSTOP)
        edge.eventually(lambda: min(first) not in edge.pids() and len(edge.pids()) == 2, timeout_s=20)
        edge.eventually(lambda: edge.metric("vantageedge_workers") == 2)
        assert edge.statuses("/public/x") == {200}


def test_the_kernel_spreads_connections_over_the_workers(edge):
    connections = [socket.create_connection(("127.0.0.1", edge.port)) for _ in range(64)]
    try:
        for sock in connections:
            sock.sendall(b"GET /public/x HTTP/1.1\r\nHost: demo.localhost\r\n\r\n")
            sock.recv(65_536)
        edge.eventually(lambda: edge.metric("vantageedge_active_connections") == 64)
        import psutil

        counts = [len([c for c in psutil.Process(pid).net_connections("tcp") if c.laddr.port == edge.port and c.raddr])
                  for pid in edge.pids()]  # fmt: skip
        assert sum(counts) == 64
        assert min(counts) >= 12
    finally:
        for sock in connections:
            sock.close()


def start(environ):
    done = subprocess.run(
        [sys.executable, "-m", "edge"], env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stderr.splitlines()


def test_a_taken_port_is_one_line_that_names_the_setting(edge, store, tmp_path):
    other = EdgeHost(store.url, tmp_path)
    for setting, port in (("EDGE_PORT", edge.port), ("EDGE_METRICS_PORT", edge.metrics_port)):
        code, lines = start(other.environ | {setting: str(port)})
        assert code == 2
        assert len(lines) == 1
        assert setting in lines[0]
        assert str(port) in lines[0]


def test_wrong_settings_are_named_one_line_each(store, tmp_path):
    environ = EdgeHost(store.url, tmp_path).environ | {"EDGE_WORKERS": "many", "KEY_PEPPERS": "1:secret-not-hex"}
    code, lines = start(environ)
    assert code == 2
    assert [line.split()[1] for line in lines] == ["KEY_PEPPERS", "EDGE_WORKERS"]
    assert "secret-not-hex" not in "".join(lines)


def test_a_state_folder_that_cannot_be_written_is_named(store, tmp_path):
    (tmp_path / "file").touch()
    code, lines = start(EdgeHost(store.url, tmp_path).environ | {"EDGE_STATE_DIR": str(tmp_path / "file" / "x")})
    assert code == 2
    assert len(lines) == 1
    assert "EDGE_STATE_DIR" in lines[0]
