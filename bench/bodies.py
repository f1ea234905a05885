"""Large bodies: an origin that makes and swallows them, and clients that count what comes through.

Run:   python -m bench.bodies PORT
In:    GET /bodies/<bytes> answers so many bytes; POST swallows the body and answers how many bytes it had.
Laws:  1. Neither end keeps what it has seen. 2. A body of another length than was promised is an error.
"""

from __future__ import annotations

import re
import socket
import sys
import threading

MIB = 1024 * 1024
_PIECE = bytes(256 * 1024)
_LENGTH = re.compile(rb"\r\nContent-Length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\nTransfer-Encoding: *chunked", re.IGNORECASE)


def serve(port: int) -> None:
    """One thread per connection, until we are ended."""
    listening = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        client, _ = listening.accept()
        threading.Thread(target=_serve_one, args=(client,), daemon=True).start()


def _serve_one(client: socket.socket) -> None:
    with client:
        try:
            while (message := read_head(client)) is not None:
                head, rest = message
                if head.startswith(b"GET "):
                    size = int(head.split(b" ", 2)[1].rpartition(b"/")[2])
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                    send_zeros(client, size)
                    continue
                if _CHUNKED.search(head):
                    client.sendall(b"HTTP/1.1 411 Length Required\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    return
                size = length_of(head)
                if b"100-continue" in head:
                    client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                swallow(client, size - len(rest))
                text = b"%d" % size
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
        except OSError:
            return


def read_head(sock: socket.socket) -> tuple[bytes, bytes] | None:
    """Give a head and what came with it of the body; None when the connection ended before."""
    waiting = b""
    while True:
        piece = sock.recv(65_536)
        if not piece:
            return None
        waiting += piece
        head, end, rest = waiting.partition(b"\r\n\r\n")
        if end:
            return head + b"\r\n", rest


def length_of(head: bytes) -> int:
    """Raises OSError where no length is given."""
    match = _LENGTH.search(head)
    if match is None:
        raise OSError("no Content-Length")
    return int(match[1])


def send_zeros(sock: socket.socket, size: int) -> None:
    view = memoryview(_PIECE)
    while size > 0:
        sock.sendall(view[:size])
        size -= len(_PIECE)


def swallow(sock: socket.socket, size: int) -> None:
    """Read so many bytes. Raises OSError when there are fewer."""
    buffer = memoryview(bytearray(MIB))
    while size > 0:
        got = sock.recv_into(buffer, min(size, MIB))
        if not got:
            raise OSError(f"the body ended {size} bytes early")
        size -= got


def download(port: int, host: str, size: int) -> None:
    """Raises OSError unless exactly `size` bytes are answered by 200."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(f"GET /bodies/{size} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head, rest = _final(sock)
        if length_of(head) != size:
            raise OSError(f"{length_of(head)} bytes instead of {size}")
        swallow(sock, size - len(rest))


def upload(port: int, host: str, size: int) -> None:
    """Raises OSError unless the origin says that it got exactly `size` bytes."""
    with socket.create_connection(("127.0.0.1", port), 60) as sock:
        sock.sendall(f"POST /bodies/up HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n".encode())
        send_zeros(sock, size)
        head, rest = _final(sock)
        while len(rest) < length_of(head):
            rest += sock.recv(4096) or b"?"
        if rest != b"%d" % size:
            raise OSError(f"the origin got {rest!r} instead of {size}")


def _final(sock: socket.socket) -> tuple[bytes, bytes]:
    message = read_head(sock)
    if message is None or not message[0].startswith(b"HTTP/1.1 200"):
        raise OSError(f"refused: {message[0][:200] if message else b'closed'!r}")
    return message


if __name__ == "__main__":
    serve(int(sys.argv[1]))
