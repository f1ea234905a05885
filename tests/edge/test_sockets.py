"""Twin of edge.sockets: real listening sockets, dealt out and handed over."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.child import free_port
from edge.sockets import VARIABLE, Place, Sockets, StartError, inherit


@pytest.fixture
def places():
    return (
        Place("EDGE_PORT", "127.0.0.1", free_port(), spread=True),
        Place("EDGE_METRICS_PORT", "127.0.0.1", free_port(), spread=False),
    )


@pytest.fixture
def sockets(places):
    sockets = Sockets(places, 2)
    yield sockets
    sockets.close()


def numbers(dealt):
    return {setting: [sock.fileno() for sock in sockets] for setting, sockets in dealt.items()}


def test_each_worker_has_a_socket_of_its_own_and_all_share_the_metrics_port(sockets):
    first, second = (numbers(sockets.dealt(slot, 2)) for slot in (0, 1))
    assert len(first["EDGE_PORT"]) == len(second["EDGE_PORT"]) == 1
    assert first["EDGE_PORT"] != second["EDGE_PORT"]
    assert first["EDGE_METRICS_PORT"] == second["EDGE_METRICS_PORT"]
    assert repr(sockets) == "<Sockets EDGE_PORT=2 EDGE_METRICS_PORT=1>"


def test_sockets_beyond_the_workers_are_served_by_all_of_them(sockets):
    sockets.grow(3)
    sockets.grow(1)
    dealt = [numbers(sockets.dealt(slot, 2))["EDGE_PORT"] for slot in (0, 1)]
    assert dealt[0][1:] == dealt[1][1:] != []
    assert {number for own in dealt for number in own} == {sock.fileno() for sock in sockets.all[:3]}
    assert len(numbers(sockets.dealt(0, 1))["EDGE_PORT"]) == 3


def test_what_joins_a_serving_host_does_not_listen_before_a_worker_does_and_is_not_handed_over(sockets, tmp_path):
    first = sockets.dealt(0, 2)["EDGE_PORT"][0]
    sockets.grow(6)
    for _ in range(40):  # each is taken by one of the two that listen
        socket.create_connection(first.getsockname()).close()
    waiting = 0
    for sock in sockets.all[:6]:
        with contextlib.suppress(OSError):
            while True:
                sock.accept()[0].close()
                waiting += 1
    assert waiting == 40
    told = json.loads(sockets.hand_over(tmp_path))["sockets"]["EDGE_PORT"]["descriptors"]
    assert told == [sock.fileno() for sock in sockets.all[:2]]


def test_a_taken_port_is_refused_although_it_could_be_shared(places, sockets):
    with pytest.raises(StartError, match=rf"^EDGE_PORT: cannot listen on 127.0.0.1 port {places[0].port}: "):
        Sockets(places, 1)


def test_when_one_port_is_taken_the_others_are_given_back(places):
    taken = socket.create_server(("127.0.0.1", places[1].port))
    with taken, pytest.raises(StartError, match="^EDGE_METRICS_PORT: "):
        Sockets(places, 1)
    Sockets(places, 1).close()


def test_what_is_handed_over_is_the_same_sockets_and_more_can_join(places, sockets, tmp_path):
    text = sockets.hand_over(tmp_path)
    inherited = inherit(text)
    assert inherited.folder == tmp_path
    successor = Sockets(places, 3, inherited)
    assert [sock.fileno() for sock in successor.all][:2] == [sock.fileno() for sock in sockets.all][:2]
    assert not any(sock.get_inheritable() for sock in successor.all)
    assert len(successor.all) == 4
    for sock in successor.all[:2] + successor.all[3:]:  # two objects, one descriptor: the fixture closes the others
        sock.detach()
    successor.all[2].close()


def test_a_changed_port_is_taken_anew_and_the_inherited_one_let_go(places, tmp_path):
    old = Sockets(places, 1)
    inherited = inherit(old.hand_over(tmp_path))
    numbers_before = [sock.fileno() for sock in old.all]
    moved = (Place("EDGE_PORT", "127.0.0.1", free_port(), spread=True), places[1])
    new = Sockets(moved, 1, inherited)
    assert new.all[0].getsockname()[1] == moved[0].port
    assert new.all[1].fileno() == numbers_before[1]
    with pytest.raises(OSError):
        os.fstat(numbers_before[0])
    new.close()
    for sock in old.all:
        sock.detach()


def test_a_program_that_we_become_inherits_the_sockets_and_no_other_does(sockets, tmp_path):
    read = "import os,sys; from edge.sockets import inherit; print(inherit(os.environ['X']).sockets['EDGE_PORT'][1])"
    other = subprocess.run([sys.executable, "-c", read], env={"X": sockets.hand_over(tmp_path)}, capture_output=True,
                           text=True, cwd=Path(__file__).parents[2], check=False)  # fmt: skip
    assert f"{VARIABLE}: was left for process {os.getpid()}" in other.stderr


def told(**changes) -> str:
    return json.dumps({"pid": os.getpid(), "folder": "/tmp", "sockets": {}} | changes)


def entry(number: int, port: int = 1) -> dict:
    return {"EDGE_PORT": {"address": "127.0.0.1", "port": port, "descriptors": [number]}}


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", "7", told(sockets=[1]), told(sockets={"A": 1}), told(pid="x")],
    ids=["cut", "list", "empty", "number", "sockets", "socket", "pid"],  # the texts differ from process to process
)
def test_what_no_parent_wrote_is_refused(text):
    with pytest.raises(StartError, match=f"^{VARIABLE}: is not what a parent leaves"):
        inherit(text)


def test_a_folder_that_is_gone_is_refused(tmp_path):
    with pytest.raises(StartError, match=f"^{VARIABLE}: the folder .* is not there"):
        inherit(told(folder=str(tmp_path / "none")))


def test_a_descriptor_that_is_no_such_socket_is_refused_and_left_alone(tmp_path):
    def complaint(number: int, port: int = 1) -> str:
        with pytest.raises(StartError) as caught:
            inherit(told(sockets=entry(number, port)))
        return str(caught.value)

    assert complaint(2).endswith("descriptor 2 for EDGE_PORT is a standard stream")
    with (tmp_path / "file").open("w") as file:
        assert "is no socket" in complaint(file.fileno())
        os.fstat(file.fileno())
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        assert complaint(elsewhere.fileno()).endswith("does not listen on 127.0.0.1 port 1")
        os.fstat(elsewhere.fileno())
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        assert "does not listen" in complaint(deaf.fileno(), deaf.getsockname()[1])
    with socket.socket(socket.AF_UNIX) as private:
        assert "does not listen" in complaint(private.fileno())


@pytest.mark.skipif(sys.platform != "linux", reason="a filter of Linux's sockets")
def test_before_the_end_nobody_new_is_let_in_while_a_connection_that_stands_is_served(places, sockets):
    address = ("127.0.0.1", places[0].port)
    with socket.create_connection(address) as standing:
        assert sockets.let_nobody_begin()
        standing.sendall(b"hello")
        served = next(sock for listening in sockets.all[:2] if (sock := accepted(listening)))
        with served:
            assert served.recv(5) == b"hello"
            served.sendall(b"world")
            assert standing.recv(5) == b"world"
    with pytest.raises(TimeoutError):
        socket.create_connection(address, timeout=0.3)
    assert not any(accepted(listening) for listening in sockets.all[:2])
    with socket.create_connection(("127.0.0.1", places[1].port), timeout=2):
        pass  # /readyz answers to the end


def accepted(listening: socket.socket) -> socket.socket | None:
    try:
        return listening.accept()[0]
    except BlockingIOError:
        return None
