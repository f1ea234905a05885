"""Twin of edge.net.racing: which of several addresses takes the connection."""

from __future__ import annotations

import contextlib
import socket
import time

import gevent
import pytest

from edge.net import racing
from edge.net.racing import first_connected, in_turn, note_failure
from edge.net.wire import TimedOut, interrupt


@pytest.fixture(autouse=True)
def nothing_failed_lately():
    racing._failed.clear()
    yield
    racing._failed.clear()


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def deaf(*addresses: str, port: int = 0):
    """Listeners whose backlog is full: the kernel drops what comes next."""
    with contextlib.ExitStack() as stack:
        for address in addresses:
            full = stack.enter_context(socket.socket())
            full.bind((address, port))
            full.listen(0)
            port = full.getsockname()[1]
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex((address, port))
        gevent.sleep(0.05)
        yield port


def connected(addresses: list[str], port: int, timeout_s: float = 2.0) -> str:
    sock, address = first_connected(addresses, port, time.monotonic() + timeout_s)
    assert sock.getpeername() == (address, port)
    sock.close()
    return address


def test_the_families_take_turns_ipv6_first_and_so_do_the_addresses():
    addresses = ("192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3", "2001:db8::2")
    orders = [in_turn(addresses, 80) for _ in range(6)]
    for order in orders:
        assert [":" in address for address in order] == [True, False, True, False, False]
        assert sorted(order) == sorted(addresses)
    assert {order[1] for order in orders} == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}
    assert {order[0] for order in orders} == {"2001:db8::1", "2001:db8::2"}
    assert in_turn(("192.0.2.1",), 80) == ["192.0.2.1"]


def test_an_address_that_failed_lately_goes_last(monkeypatch):
    note_failure("2001:db8::1", 80)
    assert in_turn(("2001:db8::1", "192.0.2.1"), 80)[0] == "192.0.2.1"
    assert in_turn(("2001:db8::1", "192.0.2.1"), 443)[0] == "2001:db8::1"
    later = time.monotonic() + 31
    monkeypatch.setattr(racing.time, "monotonic", lambda: later)
    assert in_turn(("2001:db8::1", "192.0.2.1"), 80)[0] == "2001:db8::1"


def test_what_failed_is_remembered_within_a_bound():
    for number in range(3000):
        note_failure(f"n{number}", 80)
    assert len(racing._failed) <= 1024


def test_an_address_that_refuses_hands_over_at_once(listening, monkeypatch):
    monkeypatch.setattr(racing, "ATTEMPT_S", 5.0)
    began = time.monotonic()
    assert connected(["127.0.0.2", "127.0.0.3", "127.0.0.1"], listening, timeout_s=8.0) == "127.0.0.1"
    assert time.monotonic() - began < 3


def test_an_address_without_a_route_hands_over_at_once(listening):
    assert connected(["ff00::", "127.0.0.1"], listening) == "127.0.0.1"


def test_a_slow_address_is_overtaken():
    """RFC 8305 section 5: the next attempt starts after a delay, without giving up the first."""
    with deaf("127.0.0.2") as port, socket.create_server(("127.0.0.1", port)):
        began = time.monotonic()
        assert connected(["127.0.0.2", "127.0.0.1"], port) == "127.0.0.1"
        assert 0.2 < time.monotonic() - began < 0.8


def test_when_all_refuse_the_last_refusal_is_told(listening):
    with pytest.raises(ConnectionRefusedError):
        connected(["127.0.0.2", "127.0.0.3"], listening)


def test_when_all_are_slow_it_is_a_timeout():
    with deaf("127.0.0.2", "127.0.0.3") as port:
        began = time.monotonic()
        with pytest.raises(TimedOut):
            connected(["127.0.0.2", "127.0.0.3"], port, timeout_s=0.6)
        assert 0.5 < time.monotonic() - began < 1.2


def test_who_waits_here_can_be_interrupted_and_leaves_nothing_behind():
    class Enough(Exception):
        pass

    with deaf("127.0.0.2", "127.0.0.3") as port:
        waiting = gevent.spawn(connected, ["127.0.0.2", "127.0.0.3"], port, 5.0)
        gevent.sleep(0.05)
        gevent.get_hub().loop.run_callback(interrupt, waiting, Enough())
        with pytest.raises(Enough):
            waiting.get(timeout=1)
