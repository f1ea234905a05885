"""The small programs of the bench: WebSocket echo, bodies, flame graph."""

import threading
from xml.etree import ElementTree as ET

import pytest

from bench import bodies, flame, websocket
from bench.lab import BenchError
from bench.slowheads import client_address
from devstack.child import free_port


def serving(target, port):
    thread = threading.Thread(target=target, args=(port,), daemon=True)
    thread.start()


def eventually(action):
    import time

    until = time.monotonic() + 10
    while True:
        try:
            return action()
        except ConnectionRefusedError:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_the_accept_value_is_that_of_the_rfc():
    """RFC 6455 section 1.3: the key dGhlIHNhbXBsZSBub25jZQ== gives s3pPLMBiTxaQ9kYGzzhZRbK+xOo=."""
    assert websocket.accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_frames_are_those_of_the_rfc():
    """RFC 6455 section 5.7: a single-frame unmasked and a masked text message, both "Hello"."""
    assert websocket.frame(b"Hello") == bytes.fromhex("810548656c6c6f")
    masked = bytes.fromhex("818537fa213d7f9f4d5158")
    assert websocket.frame(b"Hello", bytes.fromhex("37fa213d")) == masked
    assert websocket.unframe(masked + b"\x81") == (b"Hello", b"\x81")
    assert websocket.unframe(masked[:-1]) == (None, masked[:-1])
    long = bytes(range(256)) * 2
    assert websocket.unframe(websocket.frame(long, b"abcd")) == (long, b"")


def test_an_echo_is_counted_and_a_refusal_is_said():
    port = free_port()
    serving(websocket.serve, port)
    eventually(lambda: websocket.connect(port, "h", "/").close())
    assert websocket.load(port, "h", "/", 4, 0.2) > 4
    other = free_port()
    serving(bodies.serve, other)
    with pytest.raises(websocket.RefusedError, match="HTTP/1.1 200"):
        eventually(lambda: websocket.connect(other, "h", "/bodies/0"))


def test_bodies_come_through_whole_and_a_short_one_is_an_error():
    port = free_port()
    serving(bodies.serve, port)
    eventually(lambda: bodies.download(port, "h", 3 * bodies.MIB + 1))
    bodies.upload(port, "h", 3 * bodies.MIB + 1)
    with pytest.raises(OSError, match="5 bytes instead of 6"):
        bodies_of_another_length(port)


def bodies_of_another_length(port):
    import socket

    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(b"GET /bodies/5 HTTP/1.1\r\nHost: h\r\n\r\n")
        head, _ = bodies.read_head(sock)
    if bodies.length_of(head) != 6:
        raise OSError(f"{bodies.length_of(head)} bytes instead of 6")


def test_slow_clients_come_from_several_addresses():
    assert client_address(0, 250) == ("127.0.1.1", 0)
    assert client_address(250, 250) == ("127.0.1.2", 0)
    assert len({client_address(number, 250) for number in range(5_000)}) == 20


RAW = """\
main;a (edge/net/x.py:1);b (edge/http/y.py:2) 6
main;a (edge/net/x.py:1) 3
main;c<d> (gevent/hub.py:3) 1
pool;wait 9
"""


def test_only_the_thread_that_serves_is_drawn():
    stacks = flame.main_thread(RAW)
    assert sum(stacks.values()) == 10
    assert flame.own_time(stacks)[0] == ("b (edge/http/y.py:2)", 0.6)
    with pytest.raises(BenchError, match="saw nothing"):
        flame.main_thread("")


def test_own_time_is_told_by_room_and_system_calls_apart():
    raw = (
        "main;Wire.send (edge/net/wire.py:80) 5\nmain;Wire.wake (edge/net/wire.py:9) 2\nmain;run (gevent/hub.py:3) 3\n"
    )
    assert flame.rooms(flame.main_thread(raw)) == [
        ("edge/net: writes", 0.5),
        ("gevent and the standard library", 0.3),
        ("edge/net", 0.2),
    ]


def test_a_frame_is_as_wide_as_its_share_and_names_are_escaped():
    root = flame.tree(flame.main_thread(RAW))
    drawn = ET.fromstring(flame.svg(root, "a title"))
    space = "{http://www.w3.org/2000/svg}"
    widths = {
        group.find(f"{space}title").text: float(group.find(f"{space}rect").get("width"))
        for group in drawn.iter(f"{space}g")
    }
    assert widths["all: 100.0%"] == 1_400
    assert widths["a (edge/net/x.py:1): 90.0%"] == 1_260
    assert widths["c<d> (gevent/hub.py:3): 10.0%"] == 140
