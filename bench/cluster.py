"""A Valkey Cluster in the place of a lab's one Valkey; an outage is one of the node on which a tenant is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.lab import Lab
from contracts import keyspace
from devstack.valkey_cluster import ValkeyCluster


class _Part:
    def __init__(self, cluster: ValkeyCluster, tenant_id: str) -> None:
        self._cluster = cluster
        self._node = cluster.node_of(keyspace.config(tenant_id))
        self.url = cluster.url

    def kill(self) -> None:
        self._node.kill()

    def start(self) -> None:
        self._node.start()
        self._cluster.await_well()  # the tenant is written again right after


@contextmanager
def in_place_of_one(lab: Lab, tenant_id: str, *, wanted: bool) -> Iterator[None]:
    """Raises DevstackError."""
    if not wanted:
        yield
        return
    lab.valkey.stop()
    with ValkeyCluster(lab.folder / "cluster") as cluster:
        lab.valkey = _Part(cluster, tenant_id)  # type: ignore[assignment]  # what a bench asks of it
        yield
