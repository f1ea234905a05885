"""A client of the product's Redis for console and worker, be it one server or a cluster.

In:    a URL as contracts.store_url reads it.
Out:   something that has redis-py's commands, pipelines without transactions, and eval.
Laws:  1. Making it connects to nothing. 2. Whatever goes wrong is a RedisError; redis-py's cluster has errors that are
       none. 3. In a cluster, the commands of a pipeline are in order at each node, and in none between nodes: what must
       be seen last is sent by itself. 4. A node that is away takes its own keys with it and nothing else.
Not here: timeouts and retries (whoever connects), the edge's own client (edge.store).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.commands import CoreCommands
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from contracts import store_url


def connect(url: str, retry: Retry, **options: Any) -> redis.Redis:
    """`options` are those of a connection. Raises ValueError for a URL that is wrong."""
    where = store_url.parse(url)
    if not where.is_cluster:
        return redis.Redis.from_url(url, retry=retry, **options)
    if where.tls:
        options |= {"ssl": True, "ssl_cert_reqs": "required" if where.tls_verify else "none"}
        if not where.tls_verify:
            options["ssl_check_hostname"] = False
    options |= {"username": where.username or None, "password": where.password or None, "retry": retry}
    # It has the commands of the one server's client, which is what everybody here is written against.
    return cast(redis.Redis, _Cluster(where.nodes, options))


@contextmanager
def _redis_errors() -> Iterator[None]:
    try:
        yield
    except RedisClusterException as error:
        raise redis.ConnectionError(str(error)) from error


class _Commands(RedisCluster):
    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        with _redis_errors():
            return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]


class _Cluster:
    """redis-py's client, made at the first use: to make it asks the cluster for its map."""

    def __init__(self, nodes: tuple[tuple[str, int], ...], options: dict[str, Any]) -> None:
        self._nodes = nodes
        self._options = options
        self._lock = threading.Lock()
        self._made: _Commands | None = None

    def __getattr__(self, command: str) -> Any:
        return getattr(self._client(), command)

    def __enter__(self) -> _Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    def pipeline(self, transaction: bool = False) -> _Pipeline:
        if transaction:
            raise ValueError("a cluster's pipeline is no transaction")
        return _Pipeline(self._client())

    def _client(self) -> _Commands:
        with self._lock:
            if self._made is None:
                startup = [ClusterNode(*node) for node in self._nodes]  # type: ignore[no-untyped-call]
                with _redis_errors():
                    self._made = _Commands(startup_nodes=startup, require_full_coverage=False, **self._options)
            return self._made


class _Pipeline(CoreCommands):
    """Commands that are sent together, to one node after the other; redis-py's own fails as a whole with any node."""

    _event_dispatcher: Any = None

    def __init__(self, cluster: _Commands) -> None:
        self._cluster = cluster
        self._queued: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __enter__(self) -> _Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self._queued.clear()

    def execute_command(self, *args: Any, **options: Any) -> _Pipeline:
        """Queue a command; every method of a command ends here."""
        self._queued.append((args, options))
        return self

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Give all answers, when all is done. Raises the first error among them, or leaves errors in their places."""
        queued, self._queued = self._queued, []
        answers: list[Any] = [None] * len(queued)
        parts: dict[str, list[int]] = {}
        for at, (args, _) in enumerate(queued):
            try:
                with _redis_errors():
                    slot: Any = self._cluster.determine_slot(*args)
                    parts.setdefault(self._cluster.nodes_manager.get_node_from_slot(slot).name, []).append(at)
            except redis.RedisError as error:
                answers[at] = error
        for places in parts.values():
            for at, answer in zip(places, self._ask([queued[at] for at in places]), strict=True):
                answers[at] = answer
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers

    def _ask(self, commands: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> list[Any]:
        pipeline = self._cluster.pipeline()  # type: ignore[no-untyped-call]
        for args, options in commands:
            pipeline.execute_command(*args, **options)
        try:
            with _redis_errors():
                answers: list[Any] = pipeline.execute(raise_on_error=False)
        except redis.RedisError as error:
            return [error] * len(commands)
        return answers
