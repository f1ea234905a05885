"""A fixed answer of 230 bytes of JSON, as cheap as Python can give it: the origin where nginx is not installed.

Run:   python -m bench.origin PORT
"""

from __future__ import annotations

import select
import socket
import sys

BODY = (b'{"id":1,"title":"' + b"x" * 230)[:228] + b'"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


def serve(port: int) -> None:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(1024)
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == listening.fileno():
                client, _ = listening.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
                continue
            client = clients[number]
            piece = client.recv(65_536)
            if piece:
                client.sendall(ANSWER * piece.count(b"\r\n\r\n"))
            else:
                poll.unregister(number)
                clients.pop(number).close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
