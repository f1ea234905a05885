"""Origins that do what origins should not, one real socket per connection; and a few that behave.

Each behaviour is a function of an accepted, blocking socket. `Origin` runs one in threads of its own and counts.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

Behaviour = Callable[[socket.socket], None]


class Origin:
    """A server on loopback whose connections all behave in one way. `requests`: heads received, in order."""

    def __init__(self, behaviour: Behaviour, address: str = "127.0.0.1", port: int = 0) -> None:
        self.behaviour = behaviour
        self.connections = 0
        self._listening = socket.create_server((address, port), backlog=64)
        self.port = self._listening.getsockname()[1]
        self.url = f"http://{address}:{self.port}"
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Origin:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.behaviour(sock)
        with contextlib.suppress(OSError):
            sock.close()


def head(sock: socket.socket) -> bytes:
    """Read one request head, octet by octet so that nothing of the body is taken. b"" when the peer closed."""
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        octet = sock.recv(1)
        if not octet:
            return b""
        got += octet
    return got


def exactly(sock: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        piece = sock.recv(size - len(got))
        if not piece:
            break
        got += piece
    return got


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def answers(*raw: bytes) -> Behaviour:
    """Answer each request with the next of these, then with the last again; keep the connection."""

    def behave(sock: socket.socket) -> None:
        queue = list(raw)
        while head(sock):
            sock.sendall(queue.pop(0) if len(queue) > 1 else queue[0])

    return behave


def answers_and_closes(raw: bytes) -> Behaviour:
    def behave(sock: socket.socket) -> None:
        head(sock)
        sock.sendall(raw)

    return behave


def echoes(sock: socket.socket) -> None:
    """Answer with the request's head and body as the body; understands Content-Length and chunked."""
    while got := head(sock):
        body = b""
        lower = got.lower()
        if b"content-length: " in lower:
            body = exactly(sock, int(lower.split(b"content-length: ")[1].split(b"\r\n")[0]))
        elif b"transfer-encoding: chunked" in lower:
            while not body.endswith(b"0\r\n\r\n"):
                body += sock.recv(65_536)
        whole = got + body
        content = b"" if got.startswith(b"HEAD ") else whole
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(whole) + content)


def silent(sock: socket.socket) -> None:
    """Never answer."""
    while sock.recv(65_536):
        pass


def resets(sock: socket.socket) -> None:
    head(sock)
    reset(sock)


def closes_at_once(sock: socket.socket) -> None:
    head(sock)


def one_octet_at_a_time(raw: bytes, pause_s: float = 0.002) -> Behaviour:
    def behave(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while head(sock):
            for at in range(len(raw)):
                sock.sendall(raw[at : at + 1])
                time.sleep(pause_s)

    return behave


def half_body(sock: socket.socket) -> None:
    head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.")


def half_body_then_reset(sock: socket.socket) -> None:
    half_body(sock)
    time.sleep(0.05)
    reset(sock)


def stalls_in_the_body(sock: socket.socket) -> None:
    half_body(sock)
    sock.recv(1)


def keep_alive_liar(sock: socket.socket) -> None:
    """Promise to keep the connection, close it behind the first answer."""
    head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok")


def closes_on_reuse(sock: socket.socket) -> None:
    """Close when the second request arrives: the race every client of kept connections meets."""
    head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    sock.recv(1)
    reset(sock)


def says_more_than_it_announced(sock: socket.socket) -> None:
    while head(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")


def speaks_unasked(sock: socket.socket) -> None:
    """Send a second answer to the first request a moment later: response splitting, or a confused origin."""
    head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    time.sleep(0.05)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    sock.recv(1)


def early_answer(sock: socket.socket) -> None:
    """Refuse an upload after its head, without reading the body."""
    head(sock)
    sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
    sock.recv(1)
    time.sleep(0.5)


def downloads(size: int, piece: int = 65_536) -> Behaviour:
    """Send a body of `size` zeros by Content-Length as fast as it is taken."""

    def behave(sock: socket.socket) -> None:
        while head(sock):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            left = size
            while left:
                sock.sendall(bytes(min(piece, left)))
                left -= min(piece, left)

    return behave


def chunked(*pieces: bytes, pause_s: float = 0.0, trailer: bytes = b"") -> Behaviour:
    def behave(sock: socket.socket) -> None:
        while head(sock):
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in pieces:
                time.sleep(pause_s)
                sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            sock.sendall(b"0\r\n" + trailer + b"\r\n")

    return behave
