"""Both ends of a WebSocket echo (RFC 6455), as cheap as Python can be: one loop, short text messages, no extensions.

Run:   python -m bench.websocket serve PORT
       python -m bench.websocket load PORT HOST PATH CONNECTIONS SECONDS     prints {"messages": n} or {"refused": text}
Laws:  1. A client's frames are masked, a server's are not (section 5.1). 2. An echo that is not what was sent is an
       error.
Not here: close handshake, fragments, frames of 64 KiB and more.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import select
import socket
import sys
import time

PAYLOAD = b"x" * 64
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"\r\nSec-WebSocket-Key: *(\S+)", re.IGNORECASE)
_TEXT = 0x81
_MASK = b"\x11\x22\x33\x44"


def accept_of(key: bytes) -> bytes:
    """RFC 6455 section 4.2.2: the base64 of the SHA-1 of the key and a fixed text."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def frame(payload: bytes, mask: bytes = b"") -> bytes:
    """Build one final text frame (section 5.2)."""
    masked = 0x80 if mask else 0
    length = len(payload)
    head = bytes((_TEXT, masked | length)) if length < 126 else bytes((_TEXT, masked | 126)) + length.to_bytes(2, "big")
    return head + mask + (_masked(payload, mask) if mask else payload)


def unframe(waiting: bytes) -> tuple[bytes | None, bytes]:
    """Take one whole frame off the front; gives its payload, unmasked, or None, and the rest."""
    if len(waiting) < 2:
        return None, waiting
    length, at = waiting[1] & 0x7F, 2
    if length == 126:
        length, at = int.from_bytes(waiting[2:4], "big"), 4
    mask = b""
    if waiting[1] & 0x80:
        mask, at = waiting[at : at + 4], at + 4
    if len(waiting) < at + length:
        return None, waiting
    payload = waiting[at : at + length]
    return (_masked(payload, mask) if mask else payload), waiting[at + length :]


def _masked(payload: bytes, mask: bytes) -> bytes:
    key = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")


def serve(port: int) -> None:
    """Echo until we are ended."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(1024)
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    waiting: dict[int, bytes] = {}
    open_now: set[int] = set()
    while True:
        for number, _ in poll.poll():
            if number == listening.fileno():
                client, _ = listening.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                waiting[client.fileno()] = b""
                poll.register(client, select.EPOLLIN)
                continue
            try:
                piece = clients[number].recv(65_536)
                rest = waiting[number] + piece
                if number not in open_now:
                    rest = _shake(clients[number], number, rest, open_now)
                if number in open_now:
                    rest = _echo(clients[number], rest)
                waiting[number] = rest
            except OSError:
                piece = b""
            if not piece:
                poll.unregister(number)
                clients.pop(number).close()
                open_now.discard(number)


def _shake(client: socket.socket, number: int, waiting: bytes, open_now: set[int]) -> bytes:
    """Answer the handshake once its head is whole; gives what comes behind it."""
    end = waiting.find(b"\r\n\r\n")
    if end < 0:
        return waiting
    key = _KEY.search(waiting)
    if key is None:
        client.sendall(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
        return b""
    fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n" % accept_of(key[1])
    client.sendall(b"HTTP/1.1 101 Switching Protocols\r\n%b\r\n" % fields)
    open_now.add(number)
    return waiting[end + 4 :]


def _echo(client: socket.socket, waiting: bytes) -> bytes:
    while True:
        payload, waiting = unframe(waiting)
        if payload is None:
            return waiting
        client.sendall(frame(payload))


class RefusedError(Exception):
    """The upgrade was answered by something other than 101; the text is the status line."""


def connect(port: int, host: str, path: str) -> socket.socket:
    """Open a tunnel. Raises RefusedError, OSError."""
    sock = socket.create_connection(("127.0.0.1", port), 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(b"a key of 16 byte")
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = sock.recv(65_536)
        if not piece:
            break
        answer += piece
    if not answer.startswith(b"HTTP/1.1 101 ") or accept_of(key) not in answer:
        sock.close()
        raise RefusedError(answer.partition(b"\r\n")[0].decode("latin-1") or "the connection was closed")
    return sock


def load(port: int, host: str, path: str, connections: int, seconds: float) -> int:
    """Send one message at a time on each connection; gives how many came back. Raises RefusedError, OSError."""
    poll = select.epoll()
    socks: dict[int, socket.socket] = {}
    for _ in range(connections):
        sock = connect(port, host, path)
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    message, answer = frame(PAYLOAD, _MASK), frame(PAYLOAD)
    waiting = dict.fromkeys(socks, b"")
    messages = 0
    for sock in socks.values():
        sock.sendall(message)
    until_mono = time.monotonic() + seconds
    while time.monotonic() < until_mono:
        for number, _ in poll.poll(0.1):
            piece = socks[number].recv(65_536)
            if not piece:
                raise OSError("a tunnel was closed")
            got = waiting[number] + piece
            if len(got) < len(answer):
                waiting[number] = got
                continue
            if got != answer:
                raise OSError(f"the echo is not what was sent: {got[:80]!r}")
            waiting[number] = b""
            messages += 1
            socks[number].sendall(message)
    for sock in socks.values():
        sock.close()
    return messages


def main(argv: list[str]) -> int:
    if argv[0] == "serve":
        serve(int(argv[1]))
    try:
        messages = load(int(argv[1]), argv[2], argv[3], int(argv[4]), float(argv[5]))
    except (RefusedError, OSError) as error:
        print(json.dumps({"refused": str(error)}))
        return 0
    print(json.dumps({"messages": messages}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
