"""All that a Redis holds, as bytes to search in (DUMP would compress them)."""

from __future__ import annotations

from typing import Any

import redis


def everything_in(client: redis.Redis) -> bytes:
    """Give names and values of all keys of all types. Raises KeyError for a type it does not know."""
    readers: dict[bytes, Any] = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
    }
    found = []
    for key in client.scan_iter("*"):
        value = readers[client.type(key)](key)  # type: ignore[index]
        found += [key, value if isinstance(value, bytes) else str(value).encode()]
    return b"\n".join(found)
