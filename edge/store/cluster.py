"""A Redis Cluster as the stores see it (wire.Store): one shared connection to each primary, commands sent by slot.

In:    commands and scripts whose keys are in one slot each; the addresses of some nodes.
Out:   replies, or StoreAway; a ShardAway concerns the slots of one node alone.
Laws:  1. A redirection is followed: it says that nothing was done. What was sent and not answered is never sent again.
       2. A node that fails takes its own slots with it and nothing else, until it is back or the map names another.
       3. The map is asked for anew when a node fails, moves or is unknown, but at most every _REFRESH_S; in between
       MOVED mends it slot by slot. 4. When a node is back, or another has taken its slots over, `on_up` says so: it may
       have come back with less than it had. Slots that move between living nodes take their keys along: no word.
       5. Each node is asked something every second, so one that hangs is found without a caller.
Not here: the connection (client), slots (slots), what to do when a part is away (each port says it).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import gevent
from gevent.event import Event
from gevent.hub import get_hub

from edge.errors import StoreAway
from edge.settings import RedisAddress
from edge.store.client import DEADLINE_S, Client
from edge.store.slots import SLOTS, Endpoint, Range, key_of, read_map, slot_of
from edge.store.wire import (
    CONNECT_TIMEOUT_S,
    Command,
    Link,
    Redirected,
    Refused,
    Reply,
    Script,
    ShardAway,
    Word,
    greeting,
    pack,
)

_REFRESH_S: Final = 0.5
_PING_S: Final = 1.0
_REDIRECTIONS_MAX: Final = 5
_AGAIN_S: Final = 0.05
_LEAVE_S: Final = 2.0
"""A node that has no slots any more is left after this time: it may still owe answers."""
_ASKING: Final[Command] = ("ASKING",)
_MAP: Final[Command] = ("CLUSTER", "SLOTS")


class _Node(Client):
    """One primary. It is up when it says that its cluster is well: one that was cut off answers PING too."""

    def __init__(self, address: RedisAddress, name: str, deadline_s: float, came_up: Callable[[_Node], None]) -> None:
        super().__init__(address, name, deadline_s)
        self.endpoint: Endpoint = (address.host, address.port)
        self.owes_word = False
        """When it is up the next time, that is worth a word (law 4)."""
        self.on_up.append(partial(came_up, self))

    def _greeting(self) -> list[Command]:
        return [*greeting(self._address, self._name), ("CLUSTER", "INFO")]

    def _welcome(self, replies: list[Reply]) -> None:
        super()._welcome(replies)
        if b"cluster_state:ok" not in replies[-1]:
            raise StoreAway("it says that its cluster is not well")

    def ask_once(self, command: Command) -> Reply:
        """Ask for what is just moving here, after an ASK."""
        return self.call_many((_ASKING, command))[1]


class ClusterClient:
    """`start` it once in the process that uses it; it finds the nodes and follows them by itself."""

    def __init__(self, address: RedisAddress, name: str = "vantageedge-edge", deadline_s: float = DEADLINE_S) -> None:
        self._address = address
        self._name = name
        self._deadline_s = deadline_s
        self._hub = get_hub()
        self._nodes: dict[Endpoint, _Node] = {}
        self._owners: list[_Node | None] = [None] * SLOTS
        self._map: tuple[Range, ...] = ()
        self._serving: tuple[_Node, ...] = ()
        self._looked = Event()
        self._refresh_wanted = Event()
        self._been_up = False
        self._gap_asked = False
        """Somebody asked for a slot that nobody serves."""
        self._gap_mono = float("inf")
        """Since when the map has had such slots."""
        self._greenlets: list[gevent.Greenlet[[], None]] = []
        self.on_up: list[Callable[[], None]] = []
        self.last_error = ""

    def __repr__(self) -> str:
        nodes = ", ".join(f"{host}:{port} {'up' if n.up else 'away'}" for (host, port), n in self._nodes.items())
        return f"<ClusterClient {nodes}>"

    @property
    def up(self) -> bool:
        """Every primary that the map names is there."""
        return bool(self._serving) and self._gap_mono == float("inf") and all(node.up for node in self._serving)

    @property
    def reachable(self) -> bool:
        return not self._looked.is_set() or any(node.reachable for node in self._serving)

    @property
    def whole_mono(self) -> float:
        """When all of it was last known to be there: now, or when the first of what is away now was lost."""
        if not self._serving:
            return float("-inf")
        now = time.monotonic()
        return min(self._gap_mono, *[now if node.up else node.lost_mono for node in self._serving])

    def start(self) -> None:
        self._greenlets = [gevent.spawn(self._keep), gevent.spawn(self._ping_forever)]

    def stop(self) -> None:
        gevent.killall(self._greenlets)
        for node in self._nodes.values():
            node.stop()
        self._looked.set()

    # ---- asking

    def call(self, *command: Word) -> Reply:
        """Give the reply to one command. Raises StoreAway. Blocks up to the deadline, longer when it is redirected."""
        return self._ask(slot_of(key_of(command)), lambda node: node.call(*command), lambda n: n.ask_once(command))

    def call_many(self, commands: Sequence[Command]) -> list[Reply]:
        """Raises StoreAway, also when one was refused. In order at each node; blocks on one node after the other."""
        replies = self.call_each(commands)
        for reply in replies:
            if isinstance(reply, ShardAway):
                raise reply
        return replies

    def call_each(self, commands: Sequence[Command]) -> list[Reply]:
        replies: list[Reply] = [None] * len(commands)
        parts: dict[_Node | None, list[int]] = {}
        self._await_first_look()
        for at, command in enumerate(commands):
            parts.setdefault(self._owners[slot_of(key_of(command))], []).append(at)
        for node, places in parts.items():
            for at, reply in zip(places, self._ask_part(node, [commands[at] for at in places]), strict=True):
                replies[at] = reply
        return replies

    def _ask_part(self, node: _Node | None, commands: list[Command]) -> list[Reply]:
        try:
            raw = self._owner_or_away(node).ask([pack(command) for command in commands])
        except StoreAway as error:
            return [self._away(node, error)] * len(commands)
        assert node is not None
        replies = []
        for command, reply in zip(commands, raw, strict=True):
            try:
                replies.append(self._settle(node, command, reply))
            except ShardAway as error:
                replies.append(error)
        return replies

    def _settle(self, node: _Node, command: Command, reply: Reply) -> Reply:
        try:
            return node.accept(reply)
        except Redirected:
            return self.call(*command)  # the owner of the map may say it again, and then is believed
        except Refused:
            raise
        except StoreAway as error:
            raise self._away(node, error) from None

    def run(self, script: Script, keys: Sequence[Word], arguments: Sequence[Word]) -> Reply:
        """Run a script. Raises StoreAway. Blocks like `call`."""
        whole: Command = ("EVAL", script.text, len(keys), *keys, *arguments)
        return self._ask(
            slot_of(keys[0]), lambda node: node.run(script, keys, arguments), lambda node: node.ask_once(whole)
        )

    def send(self, *command: Word) -> None:
        node = self._owners[slot_of(key_of(command))]
        if node is not None:
            node.send(*command)

    def begin(
        self, script: Script, keys: Sequence[Word], arguments: Sequence[Word],
        then: Callable[[Reply | StoreAway], None],
    ) -> None:  # fmt: skip
        node = self._owners[slot_of(keys[0])]
        if node is None:
            gevent.spawn(self._finish, script, keys, arguments, then)
        else:
            node.begin(script, keys, arguments, partial(self._begun, node, (script, keys, arguments), then))

    def _begun(
        self, node: _Node, asked: tuple[Script, Sequence[Word], Sequence[Word]],
        then: Callable[[Reply | StoreAway], None], outcome: Reply | StoreAway,
    ) -> None:  # fmt: skip
        if isinstance(outcome, Redirected):
            gevent.spawn(self._finish, *asked, then)
            return
        if isinstance(outcome, StoreAway) and not isinstance(outcome, Refused):
            outcome = self._away(node, outcome)
        then(outcome)

    def _finish(
        self, script: Script, keys: Sequence[Word], arguments: Sequence[Word],
        then: Callable[[Reply | StoreAway], None],
    ) -> None:  # fmt: skip
        outcome: Reply | StoreAway
        try:
            outcome = self.run(script, keys, arguments)
        except StoreAway as error:
            outcome = error
        self._hub.loop.run_callback(then, outcome)

    def address_of(self, key: Word) -> RedisAddress:
        """Give the address of the node that serves a key. Raises StoreAway. Blocks up to the deadline at the start."""
        self._await_first_look()
        host, port = self._owner_or_away(self._owners[slot_of(key)]).endpoint
        return replace(self._address, host=host, port=port, seeds=())

    # ---- whom to ask

    def _ask(self, slot: int, ask: Callable[[_Node], Reply], ask_once: Callable[[_Node], Reply]) -> Reply:
        """Ask the owner of a slot, or whom it names."""
        self._await_first_look()
        node, how = self._owner_or_away(self._owners[slot]), ask
        for _ in range(_REDIRECTIONS_MAX):
            try:
                return how(node)
            except Redirected as hop:
                if not hop.port:
                    gevent.sleep(_AGAIN_S)
                    continue
                node, how = self.redirected(node.endpoint, hop), ask_once if hop.asking else ask
            except Refused:
                raise
            except StoreAway as error:
                raise self._away(node, error) from None
        raise Refused("redirected too often")

    def redirected(self, asked: Endpoint, hop: Redirected) -> _Node:
        """Give the node that a redirection names; MOVED also changes the map."""
        node = self._node((hop.host or asked[0], hop.port))
        if not hop.asking:
            self._map = ()
            self._owners[hop.slot] = node
            self._serving = tuple({owner for owner in self._owners if owner is not None})
            self._refresh_wanted.set()
        return node

    def _owner_or_away(self, node: _Node | None) -> _Node:
        if node is None:
            raise self._away(node, StoreAway(self.last_error or "no node serves this slot"))
        return node

    def _away(self, node: _Node | None, why: StoreAway) -> ShardAway:
        if isinstance(why, ShardAway):
            return why
        self._refresh_wanted.set()
        if node is None:
            self._gap_asked = True
            return ShardAway(str(why))
        node.owes_word = True
        return ShardAway(f"{node.endpoint[0]}:{node.endpoint[1]}: {why}")

    def _await_first_look(self) -> None:
        if not self._looked.is_set():
            self._looked.wait(self._deadline_s)

    # ---- the map

    def _keep(self) -> None:
        while True:
            try:
                self._refresh()
            except StoreAway as error:
                self.last_error = str(error)
                self._refresh_wanted.set()
            self._looked.set()
            gevent.sleep(_REFRESH_S * random.uniform(1.0, 1.2))
            self._refresh_wanted.wait()
            self._refresh_wanted.clear()

    def _ping_forever(self) -> None:
        while True:
            gevent.sleep(_PING_S)
            for node in self._serving:
                node.send("PING")
            if not self.up:
                self._refresh_wanted.set()

    def _refresh(self) -> None:
        """Ask any node for the map. Raises StoreAway. Blocks up to some seconds where nodes do not answer at all."""
        known = [node for node in self._nodes.values() if node.up]
        random.shuffle(known)
        for node in known:
            try:
                self._hold(read_map(node.call(*_MAP), node.endpoint[0]))
                return
            except (StoreAway, ValueError) as error:
                self.last_error = str(error)
        places = list(dict.fromkeys((*self._address.seeds, *self._nodes)))
        random.shuffle(places)
        for host, port in places:
            link = Link(replace(self._address, host=host, port=port, seeds=()), self._name)
            try:
                link.open()
                self._hold(read_map(link.request(*_MAP, timeout_s=CONNECT_TIMEOUT_S), host))
                return
            except (StoreAway, ValueError) as error:
                self.last_error = f"{host}:{port}: {error}"
            finally:
                link.close()
        raise StoreAway(f"no node tells the map of the cluster ({self.last_error})")

    def _hold(self, ranges: tuple[Range, ...]) -> None:
        """Put a map in force."""
        if ranges == self._map:
            return
        if not ranges:
            raise StoreAway("the cluster has no slots")
        before, owners = self._owners, list[_Node | None]([None] * SLOTS)
        for first, last, endpoint in ranges:
            owners[first : last + 1] = [self._node(endpoint)] * (last - first + 1)
        self._map, self._owners = ranges, owners
        self._serving = tuple({node for node in owners if node is not None})
        has_gap = None in owners
        self._gap_mono = min(self._gap_mono, time.monotonic()) if has_gap else float("inf")
        # Whoever took over from one that is away, or from nobody where somebody asked, is as good as back (law 4).
        heirs = {
            new
            for old, new in set(zip(before, owners, strict=True))
            if new is not None and new is not old and (self._gap_asked if old is None else not old.up)
        }
        self._gap_asked = self._gap_asked and has_gap
        for node in heirs:
            node.owes_word = True
            if node.up:
                self._came_up(node)
        for endpoint, node in list(self._nodes.items()):
            if node not in self._serving:
                del self._nodes[endpoint]
                gevent.spawn_later(_LEAVE_S, node.stop)

    def _node(self, endpoint: Endpoint) -> _Node:
        node = self._nodes.get(endpoint)
        if node is None:
            address = replace(self._address, host=endpoint[0], port=endpoint[1], seeds=())
            node = self._nodes[endpoint] = _Node(address, self._name, self._deadline_s, self._came_up)
            node.start()
        return node

    def _came_up(self, node: _Node) -> None:
        owed, node.owes_word = node.owes_word, True  # every later time is a return
        if owed or not self._been_up:
            self._been_up = True
            for listener in self.on_up:
                gevent.spawn(listener)


class ClusterLink(Link):
    """A link to whichever node serves a key."""

    def __init__(self, cluster: ClusterClient, key: Word, name: str) -> None:
        super().__init__(RedisAddress("", 0, False), name)
        self._cluster = cluster
        self._key = key

    def open(self) -> None:
        self._address = self._cluster.address_of(self._key)
        super().open()

    def request(self, *command: Word, timeout_s: float) -> Reply:
        try:
            return super().request(*command, timeout_s=timeout_s)
        except Redirected as hop:
            if hop.port and not hop.asking:
                self._cluster.redirected((self._address.host, self._address.port), hop)
            raise


def client_for(address: RedisAddress, deadline_s: float = DEADLINE_S) -> Client | ClusterClient:
    """Give the client of one server or of a cluster, as the address says."""
    kind = ClusterClient if address.seeds else Client
    return kind(address, deadline_s=deadline_s)


def link_to(client: Client | ClusterClient, address: RedisAddress, key: Word, name: str) -> Link:
    """Give a link to where a key is."""
    return ClusterLink(client, key, name) if isinstance(client, ClusterClient) else Link(address, name)
