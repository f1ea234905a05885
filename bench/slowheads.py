"""Clients that send a header one byte a second and begin again when they are sent away.

Run:   python -m bench.slowheads PORT HOST CLIENTS     prints "ready" once all are connected, then goes on until ended
Laws:  1. They come from several addresses of 127/8, so that no ceiling per client hides them.
"""

from __future__ import annotations

import select
import socket
import sys
import time

PER_ADDRESS = 250
_EVERY_S = 1.0


def client_address(number: int, per_address: int) -> tuple[str, int]:
    """Give the local address of client `number`: 127.0.1.1 and up, with any port."""
    host = number // per_address
    return f"127.0.{1 + host // 250}.{1 + host % 250}", 0


def main(port: int, host: str, clients: int) -> None:
    head = f"GET /plain/slow HTTP/1.1\r\nHost: {host}\r\nX-Slow: ".encode()
    poll = select.epoll()
    socks: dict[int, tuple[int, socket.socket]] = {}

    def begin(number: int) -> None:
        sock = socket.create_connection(("127.0.0.1", port), 10, client_address(number, PER_ADDRESS))
        sock.setblocking(False)
        sock.send(head)
        socks[sock.fileno()] = (number, sock)
        poll.register(sock, select.EPOLLIN)

    for number in range(clients):
        begin(number)
    print("ready", flush=True)
    next_mono = time.monotonic() + _EVERY_S
    while True:
        for descriptor, _ in poll.poll(max(0.0, next_mono - time.monotonic())):
            number, sock = socks.pop(descriptor)
            poll.unregister(descriptor)
            sock.close()
            begin(number)
        if time.monotonic() >= next_mono:
            next_mono += _EVERY_S
            for _, sock in socks.values():
                try:
                    sock.send(b"a")
                except OSError:
                    pass  # it is readable, and next in line


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
