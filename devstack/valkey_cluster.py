"""A Valkey Cluster on this machine: some primaries and perhaps a replica of each, for the tests and the benchmarks.

In:    a folder, how many primaries, whether each has a replica.
Out:   running nodes on 127.0.0.1 that serve all slots, and their URL.
Laws:  1. What is true of one server (devstack.valkey) is true of each node. 2. Started means that every node says that
       the cluster is well.
Not here: a cluster for production (docs/operating.md says what it must be set to).
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import redis
from redis.crc import key_slot

from devstack.child import DevstackError, free_port
from devstack.valkey import Valkey, write_private

SLOTS: Final = 16_384
_START_S: Final = 30.0


class ValkeyCluster:
    """`primaries` and `replicas` are servers: stop, kill and start them as you like."""

    def __init__(
        self, folder: Path, primaries: int = 3, *, replicas: bool = False, full_coverage: bool = False,
        node_timeout_ms: int = 1_000, aof: bool = False,
    ) -> None:  # fmt: skip
        self.folder = folder.absolute()
        self._settings = (
            "cluster-enabled yes", "cluster-config-file nodes.conf", f"cluster-node-timeout {node_timeout_ms}",
            f"cluster-require-full-coverage {'yes' if full_coverage else 'no'}",
            "cluster-replica-validity-factor 0", "repl-diskless-sync-delay 0", "cluster-allow-replica-migration no",
        )  # fmt: skip
        self._aof = aof
        self.password = secrets.token_hex(20)
        self.primaries = [self._node(f"primary-{number}") for number in range(primaries)]
        self.replicas = [self._node(f"replica-{number}") for number in range(primaries if replicas else 0)]

    def _node(self, name: str) -> Valkey:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(folder / "password", self.password)
        bus = f"cluster-port {free_port()}"
        # All log in to each other with the one password.
        return Valkey(folder, aof=self._aof, more=(*self._settings, bus, f"primaryauth {self.password}"))

    @property
    def nodes(self) -> list[Valkey]:
        return self.primaries + self.replicas

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.primaries)
        return f"redis+cluster://:{self.password}@{hosts}"

    def __enter__(self) -> ValkeyCluster:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def start(self) -> ValkeyCluster:
        """Start all nodes, deal out the slots, wait until all is well. Raises DevstackError. Blocks 1 or 2 s."""
        for node in self.nodes:
            node.start()
        first = self.nodes[0]
        for number, node in enumerate(self.primaries):
            begin, end = (SLOTS * at // len(self.primaries) for at in (number, number + 1))
            self.ask(node, "CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            bus = int(self.ask(first, "CONFIG", "GET", "cluster-port")["cluster-port"])
            self.ask(node, "CLUSTER", "MEET", "127.0.0.1", first.port, bus)
        self.await_known()
        for primary, replica in zip(self.primaries, self.replicas, strict=False):
            self.ask(replica, "CLUSTER", "REPLICATE", self.id_of(primary))
        self.await_well()
        return self

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def ask(self, node: Valkey, *command: Any) -> Any:
        """Ask one node by itself; answers are text."""
        with redis.Redis.from_url(node.url, decode_responses=True, socket_timeout=5) as client:
            return client.execute_command(*command)

    def id_of(self, node: Valkey) -> str:
        return str(self.ask(node, "CLUSTER", "MYID"))

    def node_of(self, key: str) -> Valkey:
        """Give the node that serves a key now, as a node that runs believes."""
        slot = key_slot(key.encode())
        ranges = self.ask(next(node for node in self.nodes if node.is_running), "CLUSTER", "SLOTS")
        port = next(entry[2][1] for entry in ranges if entry[0] <= slot <= entry[1])
        return next(node for node in self.nodes if node.port == port)

    def await_known(self) -> None:
        """Blocks until every node knows every other."""
        self._await(lambda node: int(self._info(node)["cluster_known_nodes"]) == len(self.nodes))

    def await_well(self) -> None:
        """Blocks until every node that runs says so, and every replica has its primary's data."""
        self._await(lambda node: self._info(node)["cluster_state"] == "ok")
        self._await(
            lambda node: (
                node not in self.replicas
                or self.ask(node, "INFO", "replication").get("master_link_status", "up") == "up"
            )
        )

    def _info(self, node: Valkey) -> dict[str, str]:
        text: Any = self.ask(node, "CLUSTER", "INFO")
        if isinstance(text, dict):
            return text
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def _await(self, holds: Any) -> None:
        deadline_mono = time.monotonic() + _START_S
        while not all(holds(node) for node in self.nodes if node.is_running):
            if time.monotonic() > deadline_mono:
                raise DevstackError(f"the cluster in {self.folder} did not come up within {_START_S:.0f} s")
            time.sleep(0.02)
