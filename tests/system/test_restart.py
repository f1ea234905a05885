"""Restarts, crashes and wedges of a real edge host, under steady keep-alive load that counts every failure."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from devstack.child import free_port
from devstack.valkey import Valkey
from tests.edge.publishing import HOST, Publisher, route, snapshot_of
from tests.system.edge_host import EdgeHost
from tests.system.fast_origin import FastOrigin
from tests.system.load import SteadyLoad

pytestmark = pytest.mark.system
GET = f"GET /public/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
WEDGE = str(Path(__file__).parent / "wedge")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with FastOrigin() as origin, Valkey(tmp_path_factory.mktemp("store"), aof=False) as server:
        publisher = Publisher(server.url)
        publisher.config(snapshot_of(1, (route(1, "/public/*"),), origin.url))
        publisher.close()
        yield server


class Host(EdgeHost):
    """An edge with a settings file, so that it can be told something new while it runs."""

    def __init__(self, store, folder: Path, workers: int = 2, **environ: str) -> None:
        super().__init__(store.url, folder, workers, EDGE_SETTINGS_FILE=str(folder / "settings"), **environ)
        self.environ.pop("EDGE_WORKERS")
        self.environ.pop("EDGE_PORT")
        self.settings(EDGE_WORKERS=str(workers))

    def settings(self, **values: str) -> None:
        text = "".join(f"{name}={value}\n" for name, value in ({"EDGE_PORT": self.port} | values).items())
        Path(self.environ["EDGE_SETTINGS_FILE"]).write_text(text)

    def start(self) -> Host:
        super().start()
        self.eventually(
            lambda: self.metric("vantageedge_tenants_held") == self.workers or not self.statuses("/public/x", 4)
        )
        self.parent = psutil.Process(self.process.pid)
        return self

    def send(self, number: signal.Signals) -> None:
        self.parent.send_signal(number)

    def settled(self, workers: int, without: set[int] = frozenset()) -> set[int]:
        """Wait until so many workers serve, none of them of `without`; gives their pids."""
        self.eventually(lambda: self.metric("vantageedge_workers") == workers == len(self.children() - without))
        return self.children() - without

    def reload(self, number: signal.Signals = signal.SIGHUP) -> None:
        """Send it, and wait until every worker is a new one that serves and the others are gone."""
        told, before = self.log.read_text().count("edge.parent: reload: "), self.children()
        self.send(number)
        self.eventually(lambda: self.log.read_text().count("edge.parent: reload: ") == told + 1)
        self.eventually(lambda: not before & self.children())

    def children(self) -> set[int]:
        return {child.pid for child in self.parent.children() if not grown(child)}

    def successor(self) -> psutil.Process:
        """Wait until a new parent serves beside the old one."""
        found: list[psutil.Process] = []

        def there() -> bool:
            found[:] = [child for child in self.parent.children() if grown(child)]
            return bool(found)

        self.eventually(there)
        return found[0]

    def requests(self) -> float:
        return self.metric('vantageedge_requests_total{tenant="demo"')

    def said(self, text: str) -> bool:
        return text in self.log.read_text()


def grown(process: psutil.Process) -> bool:
    """Whether it is a parent itself."""
    with contextlib.suppress(psutil.Error):
        return bool(process.children())
    return False


@pytest.fixture
def edge(store, tmp_path):
    with Host(store, tmp_path) as edge:
        yield edge


@contextlib.contextmanager
def always_ready(edge):
    """Asks /readyz again and again; it must be 200 each time."""
    seen: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.03):
            try:
                seen.append(edge.probe("/readyz")[0])
            except OSError as error:
                seen.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 10
    assert set(seen) == {200}


def load_of(edge, **more) -> SteadyLoad:
    return SteadyLoad([edge.port], "/public/x", **more)


def test_hup_replaces_every_worker_and_loses_no_request_and_no_count(edge):
    before = edge.requests()
    edge.settled(2)
    with always_ready(edge), load_of(edge) as busy, load_of(edge, clients=20, pause_s=0.7) as rare:
        time.sleep(0.5)
        edge.reload()
        for pid in edge.children():  # as from a terminal that is closed: the whole group gets it
            os.kill(pid, signal.SIGHUP)
        edge.reload()
        time.sleep(0.5)
    for counts in (busy.counts, rare.counts):  # the rare ones are idle when the drain begins
        assert counts.failures == []
        assert counts.refused == 0
    assert busy.counts.answered > 200
    assert rare.counts.connections > 20
    assert busy.counts.silent_s < 1.0
    edge.settled(2)
    assert edge.requests() - before == busy.counts.answered + rare.counts.answered
    assert not edge.said("ERROR")


def test_workers_become_more_and_fewer_by_the_settings_file_and_by_signals_without_a_loss(edge):
    with load_of(edge, pause_s=0.0) as load:
        for workers, number in ((3, signal.SIGHUP), (2, signal.SIGTTOU), (1, signal.SIGHUP), (2, signal.SIGTTIN)):
            if number == signal.SIGHUP:
                edge.settings(EDGE_WORKERS=str(workers))
            edge.reload(number)
            edge.settled(workers)
            assert edge.statuses("/public/x", 30) == {200}  # also over sockets that are nobody's own now
    assert load.counts.failures == []
    assert load.counts.refused == 0


def test_hup_with_a_wrong_setting_or_another_port_changes_nothing(edge):
    first = edge.settled(2)
    edge.settings(EDGE_WORKERS="many")
    edge.send(signal.SIGHUP)
    edge.eventually(lambda: edge.said("SIGHUP changes nothing: EDGE_WORKERS must be a whole number from 1 to 64"))
    edge.settings(EDGE_WORKERS="2", EDGE_PORT=str(free_port()))
    edge.send(signal.SIGHUP)
    edge.eventually(lambda: edge.said("SIGHUP changes nothing: EDGE_PORT"))
    assert edge.settled(2) == first


def test_a_reload_whose_workers_cannot_boot_is_given_up_and_the_old_ones_stay(edge):
    first = edge.settled(2)
    edge.settings(EDGE_WORKERS="3", SENTRY_DSN="https://without-a-key.test")
    with load_of(edge) as load:
        edge.send(signal.SIGHUP)
        edge.eventually(lambda: edge.said("the reload is given up"))
        assert edge.settled(2) == first
        assert edge.statuses("/public/x", 30) == {200}  # nobody waits at the third worker's socket
    assert load.counts.failures == []
    edge.settings(EDGE_WORKERS="2")
    edge.reload()
    edge.settled(2)


def test_a_first_start_whose_workers_cannot_boot_ends_with_3(store, tmp_path):
    environ = Host(store, tmp_path).environ | {"SENTRY_DSN": "https://without-a-key.test"}
    done = subprocess.run([sys.executable, "-m", "edge"], env=environ, capture_output=True, timeout=20, check=False)
    assert done.returncode == 3


@pytest.mark.parametrize("workers", [3, 1])
def test_usr2_hands_every_socket_to_a_new_parent_and_loses_no_request(store, tmp_path, workers):
    edge = Host(store, tmp_path).start()
    before = edge.requests()
    folder = next(tmp_path.glob("vantageedge-*"))
    new = None
    try:
        with always_ready(edge), load_of(edge, clients=12) as load:
            edge.settings(EDGE_WORKERS=str(workers))
            edge.send(signal.SIGUSR2)
            new = edge.successor()
            edge.eventually(lambda: edge.metric("vantageedge_workers") == 2 + workers)
            edge.eventually(lambda: edge.said(f"serving beside the parent {edge.parent.pid}: end that one"))
            edge.send(signal.SIGUSR2)
            edge.eventually(lambda: edge.said("there are two parents already"))
            assert edge.stop() == 0
            assert edge.metric("vantageedge_workers") == workers
            assert edge.statuses("/public/x", 30) == {200}
            time.sleep(0.3)
        assert load.counts.failures == []
        assert load.counts.refused == 0
        assert edge.requests() - before == load.counts.answered + 30
        assert folder.is_dir()
    finally:
        if new is not None:
            new.terminate()
            gone(new)
    assert not folder.exists()
    with pytest.raises(ConnectionRefusedError):
        edge.get("/public/x")


def gone(process: psutil.Process, timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, f"{process} is still there"
        time.sleep(0.02)


def test_usr2_can_be_taken_back_and_a_new_parent_that_cannot_start_changes_nothing(edge):
    first = edge.settled(2)
    with load_of(edge) as load:
        edge.settings(EDGE_WORKERS="none")
        edge.send(signal.SIGUSR2)
        edge.eventually(lambda: edge.said("ended (exit code 2); this one goes on"))
        edge.settings(EDGE_WORKERS="2")
        edge.send(signal.SIGUSR2)
        new = edge.successor()
        edge.eventually(lambda: edge.metric("vantageedge_workers") == 4)
        new.terminate()
        edge.eventually(lambda: edge.said("ended (exit code 0); this one goes on"))
        assert edge.settled(2) == first
    assert load.counts.failures == []
    assert edge.probe("/readyz")[0] == 200


def test_term_of_one_of_two_hosts_loses_nothing_and_is_announced_first(store, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    with (
        Host(store, folders[0], EDGE_DRAIN_NOTICE_S="1", EDGE_DRAIN_TIMEOUT_S="4") as one,
        Host(store, folders[1]) as other,
    ):
        with (
            SteadyLoad([one.port, other.port], "/public/x") as load,
            socket.create_connection(("127.0.0.1", one.port)) as idle,
        ):
            time.sleep(0.5)
            began = time.monotonic()
            one.send(signal.SIGTERM)
            one.eventually(lambda: one.probe("/readyz") == (503, "draining\n"))
            assert one.get("/public/x")[0] == 200  # red, and still accepting
            process, one.process = one.process, None
            one.eventually(lambda: refused(one))
            time.sleep(0.5)
            idle.sendall(GET)  # a kept connection has its next answer, and is told that it was the last one
            assert b"Connection: close" in idle.recv(65_536)
            idle.close()
            assert process.wait(20) == 0
            assert time.monotonic() - began < 10
        assert load.counts.failures == []
        assert load.counts.answered > 100


def refused(edge) -> bool:
    try:
        socket.create_connection(("127.0.0.1", edge.port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_killed_worker_takes_only_what_it_was_serving_and_its_successor_is_there_at_once(edge):
    first = edge.settled(2)
    with load_of(edge, clients=8) as load:
        time.sleep(0.5)
        os.kill(min(first), signal.SIGKILL)
        killed = time.monotonic()
        edge.settled(2, without={min(first)})
        took_s = time.monotonic() - killed
        time.sleep(0.5)
    print(f"a successor served after {took_s:.2f} s; {len(load.counts.failures)} requests of 8 clients failed")
    assert took_s < 5
    assert len(load.counts.failures) <= 8
    assert load.counts.slow_s < 5


def test_a_worker_that_dies_again_and_again_is_started_less_and_less_often(edge):
    births = []
    seen = edge.settled(2)
    keep = max(seen)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        for pid in edge.children() - {keep}:
            if pid not in seen:
                births.append(time.monotonic())
                seen.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    assert 2 <= len(births) <= 6
    gaps = [after - before for before, after in itertools.pairwise(births)]
    assert gaps[-1] > 1.5 * gaps[0]
    edge.settled(2)
    assert keep in edge.children()


def test_a_worker_whose_hub_spins_is_killed_and_replaced(store, tmp_path):
    with Host(store, tmp_path, PYTHONPATH=WEDGE, EDGE_HEARTBEAT_TIMEOUT_S="2") as edge:
        first = edge.settled(2)
        os.kill(min(first), signal.SIGRTMIN)
        edge.eventually(lambda: min(first) not in edge.children(), timeout_s=12)
        edge.settled(2, without={min(first)})
        assert edge.statuses("/public/x", 10) == {200}


def test_when_the_whole_host_stood_still_nobody_is_taken_for_wedged(store, tmp_path):
    with Host(store, tmp_path, EDGE_HEARTBEAT_TIMEOUT_S="2") as edge:
        first = edge.settled(2)
        everybody = [edge.parent, *edge.parent.children()]
        for process in everybody:
            process.suspend()
        time.sleep(3)
        for process in everybody:
            process.resume()
        time.sleep(1.5)
        assert edge.children() == first


def test_workers_whose_parent_was_killed_finish_and_leave(edge):
    workers = edge.parent.children()
    with socket.create_connection(("127.0.0.1", edge.port)) as busy:
        busy.sendall(GET.replace(b"/x", b"/slow/700"))
        time.sleep(0.2)
        process, edge.process = edge.process, None
        process.kill()
        process.wait()
        answer = busy.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in answer
    for worker in workers:
        gone(worker)
    assert refused(edge)


def test_term_in_the_middle_of_a_reload_reaches_also_a_worker_that_still_boots(edge):
    process, edge.process = edge.process, None
    began = time.monotonic()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert time.monotonic() - began < 6
    assert not edge.said("ERROR")


def test_quit_does_not_wait_for_anybody(edge):
    with socket.create_connection(("127.0.0.1", edge.port)) as idle:
        idle.sendall(GET)
        assert idle.recv(65_536).startswith(b"HTTP/1.1 200")
        process, edge.process = edge.process, None
        began = time.monotonic()
        process.send_signal(signal.SIGQUIT)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 2.5
    lines = [json.loads(line) for line in edge.access_log.read_text().splitlines()]
    assert any(line["url.path"] == "/public/x" for line in lines)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sockets", "is not what a parent leaves its successor"),
        (json.dumps({"pid": 1, "folder": "/", "sockets": {}}), "was left for process 1, not for this one"),
    ],
)
def test_a_wrong_inheritance_is_one_line_and_no_start(store, tmp_path, text, complaint):
    environ = Host(store, tmp_path).environ | {"VANTAGEEDGE_INHERITED": text}
    done = subprocess.run(
        [sys.executable, "-m", "edge"], env=environ, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert re.fullmatch(rf"edge: VANTAGEEDGE_INHERITED: {complaint}.*\n", done.stderr)
