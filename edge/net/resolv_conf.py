"""What the machine says about names: /etc/resolv.conf and /etc/hosts, read again when they change.

In:    two files (resolv.conf(5), hosts(5)).
Out:   ResolvConf: servers, search list, patience; host names to addresses.
Laws:  1. A file is looked at once a second at most, and only when a name is asked for. 2. A line that is not understood
       is skipped, as the C library skips it; a file that is not there counts as empty. 3. The order of the names tried
       is the C library's, so that the edge, the worker and a person at the machine find the same host.
Not here: asking (dns), keeping answers (address).
"""

from __future__ import annotations

import _socket
import ipaddress
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_LOOK_S: Final = 1.0
_FILE_BYTES_MAX: Final = 1024 * 1024
_SERVERS_MAX: Final = 3
_SEARCH_MAX: Final = 6
_BRACKETED: Final = re.compile(r"\[([^\]]+)\]:([0-9]{1,5})")
Server = tuple[int, tuple[object, ...]]
"""An address family and an address as sockets take it."""


@dataclass(frozen=True, slots=True)
class ResolvConf:
    servers: tuple[Server, ...]
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout_s: float = 5.0
    attempts: int = 2

    def candidates(self, host: str) -> tuple[str, ...]:
        """Give the full names a host may mean, the first one that exists counts."""
        searched = [f"{host}.{domain}" for domain in self.search]
        names = [host, *searched] if host.count(".") >= self.ndots else [*searched, host]
        return tuple(name for name in names if len(name) <= 253)


def parse_resolv_conf(text: str) -> ResolvConf:
    """Read resolv.conf(5); a server may carry a port as `[address]:port`. Without a server, this machine is asked."""
    servers: list[Server] = []
    search: tuple[str, ...] = ()
    options: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        keyword, rest = words[0], words[1:]
        if keyword == "nameserver" and rest and (server := _server(rest[0])) is not None:
            servers.append(server)
        elif keyword in ("search", "domain"):
            search = tuple(word.strip(".").lower() for word in rest if word.strip("."))[:_SEARCH_MAX]
        elif keyword == "options":
            for option in rest:
                name, _, value = option.partition(":")
                if value.isascii() and value.isdigit() and len(value) < 4:
                    options[name] = int(value)
    local = _server("127.0.0.1")
    assert local is not None
    return ResolvConf(
        servers=tuple(servers[:_SERVERS_MAX]) or (local,),
        search=search,
        ndots=min(options.get("ndots", 1), 15),
        timeout_s=float(min(max(options.get("timeout", 5), 1), 30)),
        attempts=min(max(options.get("attempts", 2), 1), 5),
    )


def _server(text: str) -> Server | None:
    match = _BRACKETED.fullmatch(text)
    host, port = (match[1], int(match[2])) if match else (text, 53)
    try:  # numeric only: nothing is resolved; a zone id is welcome here, it is the machine's own file
        found = _socket.getaddrinfo(host, port, 0, _socket.SOCK_DGRAM, 0, _socket.AI_NUMERICHOST)
    except (OSError, OverflowError):
        return None
    return (found[0][0], found[0][4]) if found else None


def parse_hosts(text: str) -> dict[str, tuple[str, ...]]:
    """Read hosts(5): names, lower-cased, to their addresses in the order of the file."""
    hosts: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2:
            continue
        try:
            address = str(ipaddress.ip_address(words[0]))
        except ValueError:
            continue
        for name in words[1:]:
            known = hosts.get(name.lower(), ())
            hosts[name.lower()] = known if address in known else (*known, address)
    return hosts


class Watched(Generic[T]):
    """A small file and what it says. `value` blocks on the disk, at most once in _LOOK_S."""

    def __init__(self, path: Path, parse: Callable[[str], T], mono: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._parse = parse
        self._mono = mono
        self._looked_mono = -_LOOK_S
        self._seen: tuple[int, int, int] | None = None
        self._value = parse("")

    @property
    def value(self) -> T:
        now = self._mono()
        if now - self._looked_mono >= _LOOK_S:
            self._looked_mono = now
            self._look()
        return self._value

    def _look(self) -> None:
        try:
            state = self._path.stat()
            seen = (state.st_mtime_ns, state.st_ino, state.st_size)
            if seen == self._seen:
                return
            with self._path.open("rb") as file:
                text = file.read(_FILE_BYTES_MAX).decode("utf-8", "replace")
        except OSError:
            seen, text = None, ""
            if self._seen is None:
                return
        self._seen = seen
        self._value = self._parse(text)

    def __repr__(self) -> str:
        return f"<Watched {self._path}>"
