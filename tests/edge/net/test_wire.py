"""Twins of edge.net.wire and edge.net.sweeper: waiting, waking, interrupting, over a socket pair."""

from __future__ import annotations

import _socket
import gc
import math
import socket
import time

import gevent
import pytest

from edge.net.sweeper import Sweeper
from edge.net.wire import TimedOut, Wire, interrupt


@pytest.fixture
def pair():
    near, far = _socket_pair()
    wire = Wire(near, Sweeper.of_this_hub())
    yield wire, far
    wire.close()
    far.close()


def _socket_pair():
    near, far = (_socket.socket(fileno=end.detach()) for end in socket.socketpair())
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def test_a_reader_waits_without_stopping_others(pair):
    wire, far = pair
    reader = gevent.spawn(wire.recv)
    gevent.sleep(0.01)
    assert not reader.ready()
    assert "reads" in repr(wire)
    far.send(b"abc")
    assert reader.get(timeout=1) == b"abc"
    assert "at rest" in repr(wire)


def test_what_came_while_nobody_was_reading_is_told_and_then_read(pair):
    wire, far = pair
    woken = []
    wire.on_wake = lambda: woken.append(wire.peek())
    far.send(b"abc")
    gevent.sleep(0.05)
    assert woken == [b"a"] and wire.readable  # once: the watcher stopped
    assert wire.recv() == b"abc"
    far.close()
    assert wire.recv() == b""


def test_what_is_there_can_be_taken_without_waiting(pair):
    wire, far = pair
    assert wire.take() is None
    far.send(b"abc")
    assert (wire.take(), wire.take()) == (b"abc", None)
    far.close()
    assert wire.take() == b""


def test_only_tcp_tells_that_a_peer_left_behind_what_is_unread(pair):
    wire, far = pair
    far.send(b"abc")
    far.close()
    assert not wire.peer_left, "a pair of sockets has no TCP_INFO: nothing is claimed"
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        tcp = Wire(_socket.socket(fileno=accepted.detach()), Sweeper.of_this_hub())
        client.sendall(b"abc")
        assert not tcp.peer_left
        client.close()
        gevent.sleep(0.05)
        assert tcp.peer_left
        tcp.close()
        assert not tcp.peer_left


def test_a_writer_waits_for_room_and_everything_arrives(pair):
    wire, far = pair
    sent = bytes(range(256)) * 10_000
    writer = gevent.spawn(wire.send, sent)
    gevent.sleep(0.01)
    assert not writer.ready() and "writes" in repr(wire)
    got = b""
    while len(got) < len(sent):
        gevent.sleep(0)
        try:
            got += far.recv(100_000)
        except BlockingIOError:
            continue
    assert got == sent
    writer.get(timeout=1)


def test_a_wait_ends_at_its_deadline_and_the_wire_lives_on(pair):
    wire, far = pair
    wire.deadline_mono = wire.sweeper.now_mono + 0.2
    began = time.monotonic()
    with pytest.raises(TimedOut):
        wire.recv()
    assert 0.2 <= time.monotonic() - began < 1.0
    assert wire.deadline_mono == math.inf
    far.send(b"late")
    assert wire.recv() == b"late"


def test_a_write_without_progress_ends(pair):
    wire, _ = pair
    wire.write_timeout_s = 0.2
    with pytest.raises(TimedOut):
        wire.send(bytes(10_000_000))


def test_a_deadline_that_passes_while_nobody_waits_harms_nobody(pair):
    wire, far = pair
    wire.deadline_mono = 0.0
    gevent.sleep(0.6)
    far.send(b"abc")
    assert wire.recv() == b"abc"


def test_a_greenlet_is_interrupted_where_it_waits_on_a_wire_and_nowhere_else(pair):
    wire, _ = pair
    reader = gevent.spawn(wire.recv)
    sleeper = gevent.spawn(gevent.sleep, 0.2)
    gevent.sleep(0.01)
    told: list[bool] = []
    loop = gevent.get_hub().loop
    loop.run_callback(lambda: told.append(interrupt(reader, KeyError("left"))))
    loop.run_callback(lambda: told.append(interrupt(sleeper, KeyError("left"))))
    with pytest.raises(KeyError):
        reader.get(timeout=1)
    sleeper.get(timeout=1)
    assert told == [True, False]


def test_closing_wakes_whoever_waits_and_twice_is_once(pair):
    wire, _ = pair
    reader = gevent.spawn(wire.recv)
    gevent.sleep(0.01)
    wire.close()
    wire.close()
    with pytest.raises(OSError):
        reader.get(timeout=1)
    assert repr(wire) == "<Wire closed>"
    assert wire not in wire.sweeper.wires


def test_a_closed_wire_leaves_nothing_behind():
    sweeper = Sweeper.of_this_hub()
    gc.collect()
    before = len(sweeper.wires)
    for _ in range(100):
        near, far = _socket_pair()
        Wire(near, sweeper).close()
        far.close()
    assert len(sweeper.wires) == before
    assert repr(sweeper) == f"<Sweeper {before} connections>"


def test_a_lost_peer_looks_like_the_end(pair):
    wire, far = pair
    assert wire.peek() is None
    far.close()
    assert wire.peek() == b""


def test_chores_run_with_each_sweep():
    sweeper = Sweeper.of_this_hub()
    seen: list[float] = []
    sweeper.chores.append(seen.append)
    gevent.sleep(0.7)
    sweeper.chores.remove(seen.append)
    assert 2 <= len(seen) <= 4
    assert sweeper is Sweeper.of_this_hub()


def test_a_loop_that_stood_still_lets_nobody_time_out_early(pair):
    """What was stopped, or paused with its machine, finds what came meanwhile before it gives up on anybody."""
    wire, far = pair
    gevent.sleep(0)
    time.sleep(0.8)  # the whole loop
    wire.deadline_mono = wire.sweeper.now_mono + 0.2
    reader = gevent.spawn(wire.recv)
    gevent.spawn_later(0.1, far.send, b"in time")
    assert reader.get(timeout=2) == b"in time"


def test_time_in_which_the_loop_stood_still_is_no_waiting():
    sweeper = Sweeper.of_this_hub()
    gevent.sleep(0.3)
    before_s, before_mono = sweeper.awake_s, sweeper.now_mono
    time.sleep(1.5)  # the whole loop
    gevent.sleep(0.6)
    assert sweeper.now_mono - before_mono > 1.9
    assert 0.4 < sweeper.awake_s - before_s < 1.1
