"""The address of a Redis as an operator writes it: one server, or some nodes of a cluster.

In:    `redis://` or `rediss://` with one host; `redis+cluster://` or `rediss+cluster://` with one or several,
       comma-separated; before them user and password, behind them perhaps `?ssl_cert_reqs=none`.
Out:   StoreUrl.
Laws:  1. A refusal says what is wrong and never echoes the URL: there is a password in it. 2. Only database 0: a
       cluster has no other.
Not here: which variable it stood in (each program's settings), connecting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

SCHEMES: Final = ("redis", "rediss")
CLUSTER_SCHEMES: Final = ("redis+cluster", "rediss+cluster")
_PORT: Final = 6379


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """`nodes`: host and port of the server, or of each node named; the others are learned from these."""

    nodes: tuple[tuple[str, int], ...]
    is_cluster: bool
    tls: bool
    tls_verify: bool = True
    """False for `?ssl_cert_reqs=none`: managed stores with a self-signed certificate."""
    username: str = ""
    password: str = field(default="", repr=False)


def is_cluster(text: str) -> bool:
    """Say whether a URL, right or wrong, means a cluster."""
    return text.partition("://")[0] in CLUSTER_SCHEMES


def parse(text: str) -> StoreUrl:
    """Raises ValueError, whose text goes on behind the name of a variable."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in SCHEMES + CLUSTER_SCHEMES:
        raise ValueError(
            "must start with redis:// or rediss://, or for a cluster redis+cluster:// or rediss+cluster://"
        )
    if parts.path not in ("", "/", "/0"):
        raise ValueError("must use database 0 (a cluster has no other)")
    if parts.query not in ("", "ssl_cert_reqs=none", "ssl_cert_reqs=required"):
        raise ValueError("may carry no parameter other than ssl_cert_reqs=none")
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    nodes = tuple(_node(host) for host in hosts.split(","))
    cluster = is_cluster(text)
    if len(nodes) > 1 and not cluster:
        raise ValueError("must name one host; several make a cluster, redis+cluster://")
    return StoreUrl(
        nodes=nodes,
        is_cluster=cluster,
        tls=parts.scheme.startswith("rediss"),
        tls_verify=parts.query != "ssl_cert_reqs=none",
        username=unquote(username),
        password=unquote(password),
    )


def _node(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit("//" + text)
        port = parts.port or _PORT
    except ValueError:
        raise ValueError("is not a URL") from None
    if not parts.hostname:
        raise ValueError("must name a host")
    return parts.hostname, port
