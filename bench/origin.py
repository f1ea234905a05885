"""A fixed answer of 230 bytes of JSON, as cheap as Python can give it: the origin where nginx is not installed, and one
that can freeze.

Run:   python -m bench.origin PORT [FREEZE_S EVERY_S]     stands still for FREEZE_S at the end of every EVERY_S
"""

from __future__ import annotations

import select
import socket
import sys
import time

BODY = (b'{"id":1,"title":"' + b"x" * 230)[:228] + b'"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


def serve(port: int, freeze_s: float = 0.0, every_s: float = 0.0) -> None:
    """Answer until we are ended."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(1024)
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    freezes_mono = time.monotonic() + every_s - freeze_s
    while True:
        for number, _ in poll.poll(0.01 if every_s else None):
            if number == listening.fileno():
                client, _ = listening.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
                continue
            client = clients[number]
            try:
                piece = client.recv(65_536)
                client.sendall(ANSWER * piece.count(b"\r\n\r\n"))
            except OSError:
                piece = b""
            if not piece:
                poll.unregister(number)
                clients.pop(number).close()
        if every_s and time.monotonic() >= freezes_mono:
            time.sleep(freeze_s)
            freezes_mono += every_s


if __name__ == "__main__":
    serve(int(sys.argv[1]), *(float(text) for text in sys.argv[2:4]))
