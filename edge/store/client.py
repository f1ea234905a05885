"""One Redis connection that many greenlets share: what waits goes out in one write, answers come back in order.

In:    commands as words (str, bytes, int, float); scripts.
Out:   replies (bytes, int, None, lists of them), or StoreAway.
Laws:  1. Foreign exceptions of its socket end here. 2. Never blocks the hub: connecting, writing and
       waiting all yield. 3. Nobody waits longer than the deadline: when the oldest answer is late the connection is
       given up, and until a new one has answered PING every call is refused at once. 4. What was sent and not
       answered may have happened: callers must be able to bear that.
       5. A server that answers later than anybody would wait, or that may not write any more, counts as away.
Not here: what is said and understood (wire), which node of a cluster is asked (cluster), what keys mean
       (contracts.keyspace), the change stream (config_feed).
"""

from __future__ import annotations

import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent
import gevent.socket
import hiredis
from gevent.event import Event
from gevent.hub import Waiter, get_hub

from edge.errors import StoreAway
from edge.settings import RedisAddress
from edge.store.wire import (
    CONNECT_TIMEOUT_S,
    NOT_HERE,
    RECV_BYTES,
    Command,
    Reply,
    Script,
    Word,
    check,
    greeting,
    open_socket,
    pack,
    unknown_script,
)

DEADLINE_S: Final = 0.25
_TICK_S: Final = 0.05
_BACKOFF_S: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)


class _Call:
    """Commands of one caller that wait for their replies; without a waiter nobody cares for them."""

    __slots__ = ("left", "replies", "since_mono", "waiter")

    def __init__(self, left: int, waiter: Waiter[None] | _Begun | None, since_mono: float) -> None:
        self.left = left
        self.replies: list[Reply] = []
        self.waiter = waiter
        self.since_mono = since_mono


class _Begun:
    """A script that nobody waits for: `then` gets its outcome. switch and throw are those of a Waiter."""

    __slots__ = ("_accept", "_call", "_key_words", "_script", "_submit", "_taught", "_then")

    def __init__(
        self, script: Script, key_words: tuple[Word, ...], submit: Callable[[Sequence[bytes], _Begun], _Call],
        accept: Callable[[Reply], Reply], then: Callable[[Reply | StoreAway], None],
    ) -> None:  # fmt: skip
        self._script = script
        self._key_words = key_words
        self._submit = submit
        self._accept = accept
        self._then = then
        self._taught = False
        self._call: _Call | None = None

    def send(self) -> None:
        head = ("EVAL", self._script.text) if self._taught else ("EVALSHA", self._script.sha1)
        self._call = self._submit((pack((*head, *self._key_words)),), self)

    def switch(self, _: None) -> None:
        assert self._call is not None
        reply = self._call.replies[0]
        if unknown_script(reply) and not self._taught:
            self._taught = True
            self.send()
            return
        try:
            outcome = self._accept(reply)
        except StoreAway as error:
            outcome = error
        self._then(outcome)

    def throw(self, error: StoreAway) -> None:
        self._then(error)


class Client:
    """The shared connection. `start` it once in the process that uses it; it reconnects by itself."""

    def __init__(self, address: RedisAddress, name: str = "vantageedge-edge", deadline_s: float = DEADLINE_S) -> None:
        self._address = address
        self._name = name
        self._deadline_s = deadline_s
        self._hub = get_hub()
        self._sock: gevent.socket.socket | None = None
        self._reader = hiredis.Reader()
        self._out: list[bytes] = []
        self._unsent = b""
        self._flushing = False
        self._watch_read: Any = None
        self._watch_write: Any = None
        self._pending: deque[_Call] = deque()
        self._up = False
        self._first_try_over = Event()
        self._lost = Event()
        self._keeper: gevent.Greenlet[[], None] | None = None
        self.on_up: list[Callable[[], None]] = []
        """Called, each in a greenlet of its own, whenever a connection has been made."""
        self.last_error = ""
        self.lost_mono = float("-inf")
        """When it was up last, for one that is not."""

    def __repr__(self) -> str:
        where = f"{self._address.host}:{self._address.port}"
        return f"<Client {where} {'up' if self._up else 'away'} pending={len(self._pending)}>"

    @property
    def up(self) -> bool:
        return self._up

    @property
    def reachable(self) -> bool:
        """Whether it makes sense to ask: it is up, or the first try after the start is not over."""
        return self._up or (self._keeper is not None and not self._first_try_over.is_set())

    def start(self) -> None:
        self._keeper = gevent.spawn(self._keep)

    def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper = None
        self._drop("the client was stopped")
        self._first_try_over.set()

    def call(self, *command: Word) -> Reply:
        """Give the reply to one command. Raises StoreAway. Blocks up to the deadline."""
        return self.accept(self.ask((pack(command),))[0])

    def call_many(self, commands: Sequence[Command]) -> list[Reply]:
        """Give the replies to several commands, sent together. Raises StoreAway, also when one was refused."""
        if not commands:
            return []
        return [self.accept(reply) for reply in self.ask([pack(command) for command in commands])]

    def call_each(self, commands: Sequence[Command]) -> list[Reply]:
        """One server has no parts: the same as call_many."""
        return self.call_many(commands)

    def send(self, *command: Word) -> None:
        """Send a command whose reply does not matter. Never blocks, never raises; away means it is lost."""
        if self._up:
            self._submit((pack(command),), None)

    def run(self, script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> Reply:
        """Run a script. Raises StoreAway. Blocks up to the deadline, twice that when the server has to learn it."""
        rest = (len(keys), *keys, *arguments)
        reply = self.ask((pack(("EVALSHA", script.sha1, *rest)),))[0]
        if unknown_script(reply):
            reply = self.ask((pack(("EVAL", script.text, *rest)),))[0]
        return self.accept(reply)

    def begin(
        self, script: Script, keys: Sequence[Word], arguments: Sequence[Word],
        then: Callable[[Reply | StoreAway], None],
    ) -> None:  # fmt: skip
        """Run a script whose keys are all in one slot, and go on. `then` is called once, in the hub, with the reply or
        with StoreAway, and must neither block nor raise. Never blocks; all that is begun in one turn of the hub leaves
        in one write.
        """
        begun = _Begun(script, (len(keys), *keys, *arguments), self._submit, self.accept, then)
        if self._up:
            begun.send()
        elif self.reachable:
            gevent.spawn(self._begin_later, begun)
        else:
            self._hub.loop.run_callback(begun.throw, StoreAway(self.last_error or "not connected"))

    # ---- sending

    def _begin_later(self, begun: _Begun) -> None:
        if self._await_first_try() and self._up:
            begun.send()
        else:
            self._hub.loop.run_callback(begun.throw, StoreAway(self.last_error or "not connected"))

    def accept(self, reply: Reply) -> Reply:
        """Give a reply of `ask` on, or raise StoreAway for an error. One that says that this server cannot take writes
        any more ends the connection: a new one may lead to the server that can."""
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith(NOT_HERE):
            self._hub.loop.run_callback(self._lose, f"refused: {reply}")
            raise StoreAway(f"refused: {reply}")
        return check(reply)

    def ask(self, packed: Sequence[bytes]) -> list[Reply]:
        """Give the replies to packed commands, errors among them. Raises StoreAway. Blocks up to the deadline."""
        if not self._up and not (self._await_first_try() and self._up):
            raise StoreAway(self.last_error or "not connected")
        waiter: Waiter[None] = Waiter()
        call = self._submit(packed, waiter)
        waiter.get()
        return call.replies

    def _await_first_try(self) -> bool:
        """At start the first caller may be quicker than the connection; afterwards nobody waits for one."""
        return self._keeper is not None and self._first_try_over.wait(self._deadline_s)

    def _submit(self, packed: Sequence[bytes], waiter: Waiter[None] | _Begun | None) -> _Call:
        call = _Call(len(packed), waiter, time.monotonic())
        self._pending.append(call)
        self._out.extend(packed)
        if not self._flushing:
            self._flushing = True
            self._hub.loop.run_callback(self._flush)
        return call

    def _flush(self) -> None:
        """Write all that waits; runs in the hub, so everything this loop turn asked for is one write."""
        self._flushing = False
        sock = self._sock
        if sock is None or not (self._out or self._unsent):
            return
        unsent = self._unsent + b"".join(self._out)
        self._out.clear()
        try:
            sent = sock.send(unsent)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            sent = 0
        except OSError as error:
            self._unsent = b""
            self._lose(f"write failed: {error}")
            return
        self._unsent = unsent[sent:]
        if self._unsent:
            if not self._watch_write.active:
                self._watch_write.start(self._flush)
        elif self._watch_write.active:
            self._watch_write.stop()

    # ---- receiving

    def _on_readable(self) -> None:
        """Read what is there and wake its callers; runs in the hub."""
        sock = self._sock
        if sock is None:
            return
        try:
            while True:
                piece = sock.recv(RECV_BYTES)
                if not piece:
                    self._lose("the server closed the connection")
                    return
                self._reader.feed(piece)
                if not self._address.tls:  # TLS may hold more than the socket shows: read it dry
                    break
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            self._lose(f"read failed: {error}")
            return
        self._deliver()

    def _deliver(self) -> None:
        pending, reader = self._pending, self._reader
        try:
            reply = reader.gets()
            while reply is not False and pending and reader is self._reader:
                call = pending[0]
                call.replies.append(reply)
                call.left -= 1
                if not call.left:
                    pending.popleft()
                    if call.waiter is not None:
                        call.waiter.switch(None)
                reply = reader.gets()
        except hiredis.ProtocolError as error:
            self._lose(f"not the Redis protocol: {error}")

    # ---- the connection's life

    def _lose(self, why: str) -> None:
        self._drop(why)
        self._lost.set()

    def _drop(self, why: str) -> None:
        if self._up:
            self._up, self.lost_mono = False, time.monotonic()
        self.last_error = why
        for watcher in (self._watch_read, self._watch_write):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._watch_read = self._watch_write = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        self._out.clear()
        self._unsent = b""
        self._reader = hiredis.Reader()
        failed, self._pending = self._pending, deque()
        for call in failed:
            if call.waiter is not None:
                self._hub.loop.run_callback(call.waiter.throw, StoreAway(why))

    def _keep(self) -> None:
        """Keep one connection: connect, watch for late answers, back off, again."""
        failures = 0
        while True:
            try:
                self._connect()
                self._first_try_over.set()
                for listener in self.on_up:
                    gevent.spawn(listener)
                up_mono = time.monotonic()
                try:
                    self._watch_lateness()
                finally:
                    if time.monotonic() - up_mono > _BACKOFF_S[-1]:
                        failures = 0
            except StoreAway as error:
                self._drop(str(error))
            self._first_try_over.set()
            pause_s = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
            failures += 1
            gevent.sleep(pause_s * random.uniform(0.75, 1.25))

    def _connect(self) -> None:
        sock = open_socket(self._address, CONNECT_TIMEOUT_S)
        sock.settimeout(0.0)
        self._lost.clear()
        self._sock = sock
        self._watch_read = self._hub.loop.io(sock.fileno(), 1)
        self._watch_write = self._hub.loop.io(sock.fileno(), 2)
        self._watch_read.start(self._on_readable)
        commands = self._greeting()
        waiter: Waiter[None] = Waiter()
        call = self._submit([pack(command) for command in commands], waiter)
        # One that answers, but later than anybody would wait, is away: else each of its returns would hold up requests.
        with gevent.Timeout(min(CONNECT_TIMEOUT_S, self._deadline_s), StoreAway("no answer to PING in time")):
            waiter.get()
        self._welcome(call.replies)
        self._up = True

    def _greeting(self) -> list[Command]:
        return greeting(self._address, self._name)

    def _welcome(self, replies: list[Reply]) -> None:
        """Raises StoreAway when the answers to the greeting are not what they should be."""
        for reply in replies:
            check(reply)

    def _watch_lateness(self) -> None:
        while not self._lost.wait(_TICK_S):
            if self._pending and time.monotonic() - self._pending[0].since_mono > self._deadline_s:
                raise StoreAway(f"no answer within {self._deadline_s:g} s")
