"""WebSockets through a running edge host: who may, what is counted and logged, and what a restart does to them."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from devstack.valkey import Valkey
from tests.edge.publishing import HOST, KEY, Publisher, bucket, route, snapshot_of
from tests.system.edge_host import EdgeHost

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def origin():
    """A WebSocket server that echoes; gives its URL and the close codes it saw."""
    codes: list[int | None] = []

    def echo(socket):
        try:
            for message in socket:
                socket.send(message)
        finally:
            codes.append(socket.close_code)

    with serve(echo, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", codes
        server.shutdown()
        thread.join(5)


@pytest.fixture(scope="module")
def host(origin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tunnels")
    limited = bucket(rate=0.01, burst=3)
    routes = (
        route(1, "/public/*"),
        route(2, "/keyed/*", "apikey_required"),
        route(3, "/limited/*", policies=(limited,)),
    )
    with Valkey(folder / "store") as store:
        publisher = Publisher(store.url)
        publisher.config(snapshot_of(1, routes, origin[0]))
        publisher.key()
        with EdgeHost(store.url, folder) as edge:
            yield edge
        publisher.close()


def opened(edge, path, key=None):
    fields = {"X-API-Key": key} if key else {}
    url = f"ws://{HOST}:{edge.port}{path}"
    return connect(url, address=("127.0.0.1", edge.port), additional_headers=fields, compression=None, proxy=None)


def status_of(edge, path, key=None):
    try:
        with opened(edge, path, key) as socket:
            socket.send("x")
            assert socket.recv(5) == "x"
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


def lines_of(edge, path):
    """The access log's lines of a path, once there is one."""
    found: list[dict] = []

    def look():
        found[:] = [
            line for line in map(json.loads, edge.access_log.read_text().splitlines()) if line["url.path"] == path
        ]
        return bool(found)

    edge.eventually(look)
    return found


def test_a_route_with_keys_opens_to_a_key_alone(host):
    assert status_of(host, "/keyed/x") == 401
    assert status_of(host, "/keyed/x", "wrong_key_123") == 401
    assert status_of(host, "/keyed/x", KEY) == 101


def test_limits_count_what_is_opened(host):
    statuses = [status_of(host, "/limited/x") for _ in range(5)]
    assert statuses.count(101) == 3
    assert statuses.count(429) == 2


def test_a_tunnel_is_a_gauge_while_it_lives_and_one_line_of_the_log_when_it_ends(host):
    def tunnels():
        return host.metric('vantageedge_active_connections{kind="tunnel"}')

    with opened(host, "/public/gauge") as socket:
        host.eventually(lambda: tunnels() == 1)
        for _ in range(10):
            socket.send("x" * 1_000)
            assert len(socket.recv(5)) == 1_000
        time.sleep(0.5)
        assert "/public/gauge" not in host.access_log.read_text()
    host.eventually(lambda: tunnels() == 0)
    (line,) = lines_of(host, "/public/gauge")
    assert line["http.response.status_code"] == 101
    assert line["duration_ms"] > 500
    assert 10_080 < line["http.request.size"] < 11_000  # masked, and the head
    assert 10_040 < line["http.response.size"] < 11_000
    assert "error.type" not in line
    name = 'vantageedge_requests_total{tenant="demo",route="route-1",method="GET",status="101"}'
    host.eventually(lambda: host.metric(name) >= 1)


@pytest.fixture
def restarted(origin, tmp_path):
    """A host of its own that drains for 6 s, of which the last 3 are for taking leave; ten open WebSockets on it."""
    url, codes = origin
    codes.clear()
    with Valkey(tmp_path / "store") as store, contextlib.ExitStack() as open_ones:
        publisher = Publisher(store.url)
        publisher.config(snapshot_of(1, (route(1, "/public/*"),), url))
        edge = open_ones.enter_context(EdgeHost(store.url, tmp_path, EDGE_DRAIN_TIMEOUT_S="6"))
        sockets = [open_ones.enter_context(opened(edge, "/public/x")) for _ in range(10)]
        yield edge, sockets, codes
        publisher.close()


def talk_until_told_to_leave(sockets) -> float:
    """Give how long they were let go on; each is then told that we go away, and none is cut off."""
    began = time.monotonic()
    for _ in range(4):
        time.sleep(0.5)
        for socket in sockets:
            socket.send("still here")
            assert socket.recv(5) == "still here"
    for socket in sockets:
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
        assert socket.close_code == 1001
    return time.monotonic() - began


def test_a_terminated_host_lets_tunnels_go_on_and_then_says_going_away(restarted):
    edge, sockets, codes = restarted
    process, edge.process = edge.process, None
    process.send_signal(signal.SIGTERM)
    assert 2.5 < talk_until_told_to_leave(sockets) < 5
    assert process.wait(10) == 0
    assert codes == [1001] * 10
    lines = [json.loads(line) for line in edge.access_log.read_text().splitlines()]
    assert [line["http.response.status_code"] for line in lines] == [101] * 10


def test_in_a_reload_new_tunnels_go_to_the_new_workers(restarted):
    edge, sockets, codes = restarted
    before = set(edge.pids())
    told = threading.Thread(target=talk_until_told_to_leave, args=(sockets,))
    edge.process.send_signal(signal.SIGHUP)
    told.start()
    edge.eventually(lambda: "edge.parent: reload: " in edge.log.read_text())
    time.sleep(0.3)  # the last old worker hears of it
    with opened(edge, "/public/new") as fresh:
        assert before & set(edge.pids()), "the old ones still carry theirs"
        told.join(20)
        edge.eventually(lambda: not before & set(edge.pids()))
        assert codes == [1001] * 10
        fresh.send("x")
        assert fresh.recv(5) == "x"
