"""An origin in a process of its own that takes and gives any amount: `python -m tests.system.fast_origin`.

GET /public/bytes/N answers N bytes, PUT is read to its end and answered with the number of bytes, /public/slow/MS waits
so long, everything else is answered at once. Threads, blocking sockets, no memory to speak of.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

PIECE = b"x" * 65_536


class FastOrigin:
    def __enter__(self) -> FastOrigin:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.fast_origin"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate("", timeout=10)


def answer(sock: socket.socket, octets: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(octets), octets))


def serve(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = b""
    with sock:
        while True:
            while b"\r\n\r\n" not in buffer:
                piece = sock.recv(65_536)
                if not piece:
                    return
                buffer += piece
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            method, path, *_ = head.split(b" ", 2)
            lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            if method == b"PUT":
                left = lengths[0] - len(buffer)
                while left > 0:
                    left -= len(sock.recv(min(left, 262_144)))
                buffer = b""
                answer(sock, b"%d" % lengths[0])
            elif path.startswith(b"/public/bytes/"):
                left = int(path.rpartition(b"/")[2])
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
                while left:
                    left -= sock.send(PIECE[:left])
            else:
                if path.startswith(b"/public/slow/"):
                    time.sleep(int(path.rpartition(b"/")[2]) / 1000)
                answer(sock, path)


def accept_forever(listening: socket.socket) -> None:
    while True:
        sock, _ = listening.accept()
        threading.Thread(target=quietly, args=(sock,), daemon=True).start()


def quietly(sock: socket.socket) -> None:
    try:
        serve(sock)
    except OSError:
        pass  # the edge gave up on it


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    threading.Thread(target=accept_forever, args=(listening,), daemon=True).start()
    print(listening.getsockname()[1], flush=True)
    sys.stdin.read()
