"""Asks the machine's name servers for a host's addresses: a stub resolver that never blocks the hub.

In:    a host name; resolv.conf and hosts (resolv_conf).
Out:   Answer: addresses of both families and how long they hold; OSError when nobody can say.
Laws:  1. Only a datagram of the server asked, with our id and our question, is an answer; what else arrives is ignored.
       2. Every wait is bounded, and so is the whole look-up (`LOOKUP_S`); so are the bytes, the addresses and the
       aliases of an answer. 3. A truncated answer is asked for again over TCP. 4. A name that cannot be asked for ends
       the look-up: the next of the search list may be somebody else's. 5. One family that fails while the other answers
       shortens the answer's life, no more.
Not here: keeping answers, asking again in time (address); which addresses may be connected to (contracts.addresses).
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import gevent
from gevent.socket import wait_read, wait_write

from edge.net.resolv_conf import ResolvConf, Server, Watched, parse_hosts, parse_resolv_conf

LOOKUP_S: Final = 4.5
ADDRESSES_MAX: Final = 256
_ALIASES_MAX: Final = 8
_UDP_PAYLOAD_BYTES: Final = 1_232
_ANSWER_BYTES_MAX: Final = 16_384
_HOSTS_TTL_S: Final = 5.0
_HALF_ANSWER_TTL_S: Final = 30.0
_OTHER_FAMILY_S: Final = 0.3
"""What one family waits for the other (RFC 8305 section 3 asks for less; a look-up ahead of need can afford it)."""
_TRY_S_MIN: Final = 0.2
_LOOPBACK: Final = ("127.0.0.1", "::1")
_MALFORMED: Final = (dns.exception.DNSException, ValueError, IndexError, struct.error)


class Answer(NamedTuple):
    """`addresses` is empty when the name, or an address of it, does not exist: the servers said so."""

    addresses: tuple[str, ...]
    ttl_s: float


class DnsClient:
    """Call it with a host name. Blocks the greenlet up to LOOKUP_S. Raises OSError when no server can say."""

    def __init__(
        self,
        resolv_conf: Path = Path("/etc/resolv.conf"),
        hosts: Path = Path("/etc/hosts"),
        mono: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mono = mono
        self._conf = Watched(resolv_conf, parse_resolv_conf, mono)
        self._hosts = Watched(hosts, parse_hosts, mono)
        self._good: Server | None = None
        """The server that answered last is asked first."""

    def __call__(self, host: str) -> Answer:
        named = self._hosts.value.get(host)
        if named is not None:
            return Answer(named, _HOSTS_TTL_S)
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3: never asked for
            return Answer(_LOOPBACK, _HOSTS_TTL_S)
        conf = self._conf.value
        deadline_mono = self._mono() + LOOKUP_S
        ttl_s = float("inf")
        for candidate in conf.candidates(host):
            answer = self._both_families(candidate, conf, deadline_mono)
            if answer.addresses:
                return answer
            ttl_s = min(ttl_s, answer.ttl_s)
        return Answer((), ttl_s)

    def _both_families(self, name: str, conf: ResolvConf, deadline_mono: float) -> Answer:
        try:
            asked = dns.name.from_text(name)
        except _MALFORMED as error:
            raise OSError(errno.EINVAL, f"{name} is not a DNS name") from error
        types = (dns.rdatatype.AAAA, dns.rdatatype.A)
        asking = [gevent.spawn(self._family, asked, rdtype, conf, deadline_mono) for rdtype in types]
        try:
            gevent.wait(asking, count=1)
            first = next(greenlet for greenlet in asking if greenlet.ready())
            found = isinstance(first.value, Answer) and first.value.addresses
            gevent.wait(asking, timeout=_OTHER_FAMILY_S if found else None)
        finally:
            gevent.killall(asking, block=False)
        return _merged(name, [greenlet.value if greenlet.ready() else None for greenlet in asking])

    def _family(self, name: dns.name.Name, rdtype: Any, conf: ResolvConf, deadline_mono: float) -> Answer | OSError:
        """Give one family's addresses, or why there are none, following aliases (RFC 1034 section 3.6.2)."""
        ttl_s = float("inf")
        aliases = 0
        try:
            while True:
                response, chain = self._ask(name, rdtype, conf, deadline_mono)
                ttl_s = min(ttl_s, chain.minimum_ttl)
                aliases += len(chain.cnames)
                if aliases > _ALIASES_MAX:
                    return OSError(errno.ELOOP, f"{name} has too many aliases")
                if chain.answer is not None:
                    addresses = tuple(dict.fromkeys(record.address for record in chain.answer))
                    if len(addresses) > ADDRESSES_MAX:
                        return OSError(errno.E2BIG, f"{name} has {len(addresses)} addresses")
                    return Answer(addresses, ttl_s)
                if not chain.cnames or response.authority or response.rcode() == dns.rcode.NXDOMAIN:
                    return Answer((), ttl_s)
                name = chain.canonical_name
        except OSError as error:
            return error

    def _ask(self, name: dns.name.Name, rdtype: Any, conf: ResolvConf, deadline_mono: float) -> Any:
        """Ask server after server; a server that was silent is asked again. Raises OSError."""
        silent = sorted(conf.servers, key=lambda server: server != self._good)
        tries = len(silent) * conf.attempts
        error: Exception = TimeoutError(errno.ETIMEDOUT, "no name server answered")
        for _ in range(conf.attempts):
            servers, silent = silent, []
            for server in servers:
                left_s = deadline_mono - self._mono()
                wait_s = min(conf.timeout_s, max(left_s / max(tries, 1), _TRY_S_MIN))
                tries -= 1
                if left_s <= 0:
                    raise error
                try:
                    response = self._exchange(server, name, rdtype, self._mono() + min(wait_s, left_s))
                    if response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                        chain = response.resolve_chaining()
                        self._good = server
                        return response, chain
                    error = OSError(errno.EIO, f"{name}: {dns.rcode.to_text(response.rcode())}")
                except TimeoutError:
                    silent.append(server)
                except OSError as refused:
                    error = refused
                except _MALFORMED as malformed:
                    error = OSError(errno.EBADMSG, f"{name}: {type(malformed).__name__}")
        raise error

    def _exchange(self, server: Server, name: dns.name.Name, rdtype: Any, until_mono: float) -> Any:
        chance = int.from_bytes(os.urandom(4), "big")  # two ids: RFC 5452 section 9.2 wants them unforeseeable
        query = dns.message.make_query(name, rdtype, use_edns=0, payload=_UDP_PAYLOAD_BYTES, id=chance >> 16)
        response = self._over_udp(server, query, until_mono)
        if response is not None and response.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
            # RFC 6891 section 7: a server that knows no EDNS says so like this.
            query = dns.message.make_query(name, rdtype, id=chance & 0xFFFF)
            response = self._over_udp(server, query, until_mono)
        return self._over_tcp(server, query, until_mono) if response is None else response

    def _over_udp(self, server: Server, query: Any, until_mono: float) -> Any:
        """Give the answer, None when it was truncated (RFC 1035 section 4.2.1)."""
        with _socket_to(server, _socket.SOCK_DGRAM) as sock:
            sock.connect(server[1])  # from now on the kernel drops what others send
            sock.send(query.to_wire())
            while True:
                octets = self._receive(sock, 65_535, until_mono)
                if len(octets) > 3 and int.from_bytes(octets[:2], "big") == query.id and octets[2] & 0x82 == 0x82:
                    return None
                response = _matching(octets, query)
                if response is not None:
                    return response

    def _over_tcp(self, server: Server, query: Any, until_mono: float) -> Any:
        wire = query.to_wire()
        with _socket_to(server, _socket.SOCK_STREAM) as sock:
            code = sock.connect_ex(server[1])
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, "connect to the name server failed")
            self._wait(wait_write, sock, until_mono)
            code = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            if code:
                raise OSError(code, "connect to the name server failed")
            sock.send(len(wire).to_bytes(2, "big") + wire)  # some 50 octets into an empty buffer
            length = int.from_bytes(self._exactly(sock, 2, until_mono), "big")
            if length > _ANSWER_BYTES_MAX:
                raise OSError(errno.EMSGSIZE, f"the name server's answer has {length} octets")
            response = _matching(self._exactly(sock, length, until_mono), query)
            if response is None:
                raise OSError(errno.EBADMSG, "the name server answered something else")
            return response

    def _exactly(self, sock: _socket.socket, size: int, until_mono: float) -> bytes:
        octets = b""
        while len(octets) < size:
            piece = self._receive(sock, size - len(octets), until_mono)
            if not piece:
                raise OSError(errno.ECONNRESET, "the name server closed the connection")
            octets += piece
        return octets

    def _receive(self, sock: _socket.socket, size: int, until_mono: float) -> bytes:
        while True:
            self._wait(wait_read, sock, until_mono)
            try:
                return sock.recv(size)
            except BlockingIOError:
                continue

    def _wait(self, wait: Callable[..., None], sock: _socket.socket, until_mono: float) -> None:
        late = TimeoutError(errno.ETIMEDOUT, "the name server is silent")
        wait(sock.fileno(), timeout=max(until_mono - self._mono(), 0.001), timeout_exc=late)

    def __repr__(self) -> str:
        return f"<DnsClient {len(self._conf.value.servers)} servers>"


class _socket_to:  # noqa: N801 - reads like the call it stands for
    """A raw non-blocking socket of the server's family, closed at the end."""

    def __init__(self, server: Server, kind: int) -> None:
        self._sock = _socket.socket(server[0], kind)

    def __enter__(self) -> _socket.socket:
        self._sock.setblocking(False)
        return self._sock

    def __exit__(self, *_: object) -> None:
        self._sock.close()


def _matching(octets: bytes, query: Any) -> Any:
    """Read an answer to this query; None for anything else."""
    try:
        response = dns.message.from_wire(octets, ignore_trailing=True)
        return response if query.is_response(response) else None
    except _MALFORMED:
        return None


def _merged(name: str, results: list[Answer | OSError | None]) -> Answer:
    """Put the families together. None: it was not waited for. Raises the failure when no address was found."""
    answers = [result for result in results if isinstance(result, Answer)]
    found = [answer for answer in answers if answer.addresses]
    if found:
        ttl_s = min(answer.ttl_s for answer in found)
        whole = len(answers) == len(results)
        addresses = tuple(address for answer in found for address in answer.addresses)
        return Answer(addresses, ttl_s if whole else min(ttl_s, _HALF_ANSWER_TTL_S))
    for result in results:
        if isinstance(result, OSError):
            raise result
    if len(answers) < len(results):
        raise TimeoutError(errno.ETIMEDOUT, f"{name}: no name server answered")
    return Answer((), min(answer.ttl_s for answer in answers))
