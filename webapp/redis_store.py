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
        return _Pipeline(self._client().pipeline())  # type: ignore[no-untyped-call]

    def _client(self) -> _Commands:
        with self._lock:
            if self._made is None:
                startup = [ClusterNode(*node) for node in self._nodes]  # type: ignore[no-untyped-call]
                with _redis_errors():
                    self._made = _Commands(startup_nodes=startup, require_full_coverage=False, **self._options)
            return self._made


class _Pipeline:
    """redis-py's, with eval and with errors that are RedisErrors."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def __getattr__(self, command: str) -> Any:
        return getattr(self._pipeline, command)

    def __enter__(self) -> _Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipeline.reset()

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any:
        return self._pipeline.execute_command("EVAL", script, numkeys, *keys_and_args)

    def execute(self) -> list[Any]:
        """Give all answers. Raises the first error among them, when all else is done."""
        with _redis_errors():
            answers: list[Any] = self._pipeline.execute()
        return answers
