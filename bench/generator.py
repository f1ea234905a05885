"""A closed-loop load generator over raw sockets, for machines without wrk: so many keep-alive connections, one request
at a time on each.

Run:   python -m bench.generator URL CONNECTIONS SECONDS [NAME: VALUE]...     prints {"requests": n, "errors": n}
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)")


def run(url: str, connections: int, seconds: float, fields: list[str]) -> dict[str, int]:
    parts = urlsplit(url)
    lines = "".join(f"{field}\r\n" for field in fields)
    if not any(field.lower().startswith("host:") for field in fields):
        lines += f"Host: {parts.netloc}\r\n"
    request = f"GET {parts.path or '/'} HTTP/1.1\r\n{lines}\r\n".encode()
    poll = select.epoll()
    open_now: dict[int, socket.socket] = {}
    for _ in range(connections):
        sock = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 80))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        open_now[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
        sock.sendall(request)
    waiting = dict.fromkeys(open_now, b"")
    requests = errors = 0
    end = time.monotonic() + seconds
    while open_now and time.monotonic() < end:
        for number, _ in poll.poll(0.1):
            sock = open_now[number]
            answer = waiting[number] + sock.recv(65_536)
            head_end = answer.find(b"\r\n\r\n")
            if not answer:
                poll.unregister(number)
                open_now.pop(number).close()
                errors += 1
                continue
            length = _LENGTH.search(answer, 0, head_end + 2) if head_end >= 0 else None
            if head_end < 0 or (length and len(answer) < head_end + 4 + int(length[1])):
                waiting[number] = answer
                continue
            requests += 1
            errors += answer[9:10] != b"2"
            waiting[number] = b""
            sock.sendall(request)
    for sock in open_now.values():
        sock.close()
    return {"requests": requests, "errors": errors}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])))
