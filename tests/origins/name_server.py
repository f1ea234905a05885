"""A name server on loopback, UDP and TCP on one port, that answers as a test tells it to.

In:    `zone[(name, "A" or "AAAA")]`: a Reply, a list of them (one a question, the last one for ever), or a function of
       the query.
Out:   answers; `asked`: (name, type, transport) in order.
Laws:  1. A thread of its own, blocking sockets: nothing here depends on the hub under test.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


@dataclass
class Reply:
    """`records`: (owner or "" for the name asked, TTL, type, *values). `how`: plain, silent, truncated, raw octets."""

    records: list[tuple[str, int, str, Any]] = field(default_factory=list)
    rcode: str = "NOERROR"
    soa: tuple[int, int] | None = None
    """(TTL, minimum) of a negative answer's SOA."""
    silent: bool = False
    truncated: bool = False
    raw: bytes | None = None


def a(*addresses: str, ttl: int = 60) -> Reply:
    kind = "AAAA" if ":" in addresses[0] else "A"
    return Reply([("", ttl, kind, list(addresses))])


def none(ttl: int = 60, minimum: int = 60) -> Reply:
    return Reply(soa=(ttl, minimum))


def nxdomain(ttl: int = 60, minimum: int = 60) -> Reply:
    return Reply(rcode="NXDOMAIN", soa=(ttl, minimum))


SILENT = Reply(silent=True)
SERVFAIL = Reply(rcode="SERVFAIL")
Says = Reply | list[Reply] | Callable[[dns.message.Message], Reply]


class NameServer:
    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.zone: dict[tuple[str, str], Says] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.mangle: Callable[[bytes, bytes], list[bytes]] | None = None
        """Given the query and the answer's octets: the datagrams to send instead."""
        self.over_tcp: dict[tuple[str, str], Says] = {}
        self._tcp = socket.create_server((address, 0))
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((address, self.port))
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)]
        self.conf = folder / f"resolv-{self.port}.conf"
        self.conf.write_text(f"nameserver [{address}]:{self.port}\n")
        self.hosts = folder / f"hosts-{self.port}"
        self.hosts.write_text("")

    def __enter__(self) -> NameServer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._udp.setblocking(False)
        for sock, kind in ((self._tcp, socket.SOCK_STREAM), (self._udp, socket.SOCK_DGRAM)):
            with contextlib.suppress(OSError), socket.socket(socket.AF_INET, kind) as waker:
                waker.connect(sock.getsockname())
                waker.send(b"")
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)

    def names(self, name: str, v4: Says, v6: Says | None = None) -> None:
        self.zone[name, "A"] = v4
        self.zone[name, "AAAA"] = none() if v6 is None else v6

    def count(self, name: str, kind: str = "A") -> int:
        return sum(asked[:2] == (name, kind) for asked in self.asked)

    def _serve_udp(self) -> None:
        while True:
            try:
                octets, peer = self._udp.recvfrom(65_535)
            except OSError:
                return
            if not octets:
                continue
            answer = self._answer(octets, "udp")
            if answer is None:
                continue
            for datagram in self.mangle(octets, answer) if self.mangle else [answer]:
                with contextlib.suppress(OSError):
                    self._udp.sendto(datagram, peer)

    def _serve_tcp(self) -> None:
        while True:
            try:
                peer, _ = self._tcp.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                peer.settimeout(5)
                size = int.from_bytes(peer.recv(2), "big")
                answer = self._answer(peer.recv(size), "tcp") if size else None
                if answer is not None:
                    peer.sendall(len(answer).to_bytes(2, "big") + answer)

    def _answer(self, octets: bytes, transport: str) -> bytes | None:
        query = dns.message.from_wire(octets)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, transport))
        zone = {**self.zone, **self.over_tcp} if transport == "tcp" else self.zone
        says = zone.get((name, kind), nxdomain())
        if isinstance(says, list):
            says = says.pop(0) if len(says) > 1 else says[0]
        reply = says if isinstance(says, Reply) else says(query)
        if reply.silent:
            return None
        if reply.raw is not None:
            return octets[:2] + reply.raw
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.from_text(reply.rcode))
        if reply.truncated:
            response.flags |= dns.flags.TC
        for owner, ttl, record, values in reply.records:
            listed = values if isinstance(values, list) else [values]
            response.answer.append(dns.rrset.from_text_list(f"{owner or name}.", ttl, "IN", record, listed))
        if reply.soa is not None:
            ttl, minimum = reply.soa
            parent = name.partition(".")[2] or name
            soa = f"ns.{parent}. admin.{parent}. 1 3600 600 86400 {minimum}"
            response.authority.append(dns.rrset.from_text(f"{parent}.", ttl, "IN", "SOA", soa))
        return response.to_wire(max_size=65_535)
