"""What is said to a Redis and how it is understood: words, scripts, errors, and the link of one greenlet.

In:    addresses; commands as words (str, bytes, int, float).
Out:   replies (bytes, int, None, lists of them), or StoreAway and what it may be more exactly.
Laws:  1. Only this module maps foreign exceptions of the store, and client those of its own socket. 2. Whatever is not
       the answer to the command is a StoreAway.
Not here: the connection that many share (client), which node of a cluster is asked (cluster).
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

import gevent.socket
import gevent.ssl
import hiredis

from edge.errors import StoreAway
from edge.settings import RedisAddress

Word = str | bytes | int | float
Reply = Any
Command = tuple[Word, ...]

CONNECT_TIMEOUT_S: Final = 1.0
RECV_BYTES: Final = 65_536
NOT_HERE: Final = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN The cluster is down")
"""Error replies of a server that was demoted, is not ready again, or has lost its cluster."""
# hiredis' own stub takes a tuple of exactly one word.
pack: Final = cast(Callable[[Command], bytes], hiredis.pack_command)


class ShardAway(StoreAway):
    """A part of a cluster is away. When it is back, whoever listens (`on_up`) is told and may make up for it."""


class Refused(StoreAway):
    """The server is there and refuses this command."""


class Redirected(StoreAway):
    """Not done here. `port` 0: soon, at the same node (TRYAGAIN); `asking`: only this once, and after ASKING; an empty
    `host`: the one that was asked."""

    def __init__(self, text: str) -> None:
        """Raises ValueError for what is no redirection."""
        super().__init__(f"refused: {text}; REDIS_URL names a cluster by redis+cluster://")
        kind, _, place = text.partition(" ")
        slot, _, endpoint = place.partition(" ")
        self.asking = kind == "ASK"
        self.slot, self.host, self.port = -1, "", 0
        if kind != "TRYAGAIN":
            host, _, port = endpoint.rpartition(":")
            self.slot, self.host, self.port = int(slot), host, int(port)


class Store(Protocol):
    """What the stores ask of Redis, be it one server (Client) or a cluster (cluster.ClusterClient).

    All keys of one command or script are in one slot. In a cluster what fails with ShardAway works elsewhere.
    """

    on_up: list[Callable[[], None]]
    """Called, each in a greenlet of its own, when it is there, and whenever it or a part of it has come back."""

    @property
    def up(self) -> bool:
        """All of it is there."""

    @property
    def reachable(self) -> bool:
        """Whether it makes sense to ask: some of it is there, or the first try after the start is not over."""

    def call(self, *command: Word) -> Reply:
        """Give the reply to one command. Raises StoreAway. Blocks up to the deadline."""

    def call_many(self, commands: Sequence[Command]) -> list[Reply]:
        """Give the replies to several commands, sent together. Raises StoreAway, also when one was refused."""

    def call_each(self, commands: Sequence[Command]) -> list[Reply]:
        """The same, with a ShardAway in place of each reply of a part that is away."""

    def send(self, *command: Word) -> None:
        """Send a command whose reply does not matter. Never blocks, never raises; away means it is lost."""

    def begin(
        self, script: Script, keys: Sequence[Word], arguments: Sequence[Word],
        then: Callable[[Reply | StoreAway], None],
    ) -> None:  # fmt: skip
        """Run a script and go on. `then` is called once, in the hub, with the reply or with StoreAway, and must neither
        block nor raise. Never blocks; all that is begun in one turn of the hub leaves in one write (to each node)."""


class Script:
    """A Lua script, sent by its sha1 and by its text when the server does not know it yet."""

    __slots__ = ("sha1", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def unknown_script(reply: Reply) -> bool:
    """Say whether a server does not know the script that it was asked to run."""
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")


def open_socket(address: RedisAddress, timeout_s: float) -> gevent.socket.socket:
    """Connect, with TLS where asked. Raises StoreAway. Blocks up to `timeout_s` for each of name, TCP and TLS."""
    try:
        sock = gevent.socket.create_connection((address.host, address.port), timeout=timeout_s)
        sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        if address.tls:
            context = ssl.create_default_context()
            if not address.tls_verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            sock = gevent.ssl.SSLSocket(sock, _context=context, server_side=False, server_hostname=address.host)
    except OSError as error:
        raise StoreAway(f"cannot connect: {error}") from None
    return sock


def greeting(address: RedisAddress, name: str) -> list[Command]:
    """Give the commands that begin a connection; the last is PING."""
    login: list[Command] = []
    if address.password:
        login.append(("AUTH", address.username, address.password) if address.username else ("AUTH", address.password))
    return [*login, ("CLIENT", "SETNAME", name), ("PING",)]


def check(reply: Reply) -> Reply:
    """Give a reply on. Raises Refused or Redirected for an error."""
    if isinstance(reply, hiredis.ReplyError):
        text = str(reply)
        if text.startswith(("MOVED ", "ASK ", "TRYAGAIN")):
            with contextlib.suppress(ValueError):
                raise Redirected(text)
        raise Refused(f"refused: {text}")
    return reply


class Link:
    """A connection of one greenlet, for commands that wait on the server (XREAD BLOCK); the caller reconnects."""

    def __init__(self, address: RedisAddress, name: str) -> None:
        self._address = address
        self._name = name
        self._sock: gevent.socket.socket | None = None
        self._reader = hiredis.Reader()

    def open(self) -> None:
        """Connect and log in. Raises StoreAway. Blocks up to a second for each step."""
        self.close()
        self._sock = open_socket(self._address, CONNECT_TIMEOUT_S)
        for command in greeting(self._address, self._name):
            self.request(*command, timeout_s=CONNECT_TIMEOUT_S)

    def request(self, *command: Word, timeout_s: float) -> Reply:
        """Send one command and give its reply. Raises StoreAway. Blocks up to `timeout_s` between two reads."""
        sock = self._sock
        if sock is None:
            raise StoreAway("not connected")
        try:
            sock.settimeout(timeout_s)
            sock.sendall(pack(command))
            reply = self._reader.gets()
            while reply is False:
                piece = sock.recv(RECV_BYTES)
                if not piece:
                    raise StoreAway("the server closed the connection")
                self._reader.feed(piece)
                reply = self._reader.gets()
        except (OSError, hiredis.ProtocolError) as error:
            self.close()
            raise StoreAway(f"lost: {error}") from None
        return check(reply)

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._reader = hiredis.Reader()
