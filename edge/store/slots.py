"""Which node of a cluster a key belongs to: slots of keys, and the map of slots that a node tells.

In:    keys, commands; the answer to CLUSTER SLOTS.
Out:   slots (0 to 16383); ranges of them with the endpoint of each one's primary.
Laws:  1. As the Redis Cluster specification has it: CRC16 (XMODEM) of what stands between the first `{` and the first
       `}` behind it, or of the whole key. 2. A range whose endpoint is unknown is left out.
Not here: asking (cluster), what the hash tags are (contracts.keyspace).
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Final

from edge.store.wire import Reply, Word

SLOTS: Final = 16_384
Endpoint = tuple[str, int]
Range = tuple[int, int, Endpoint]


def slot_of(key: Word) -> int:
    octets = key if isinstance(key, bytes) else str(key).encode()
    begin = octets.find(b"{") + 1
    if begin:
        end = octets.find(b"}", begin)
        if end > begin:
            octets = octets[begin:end]
    return crc_hqx(octets, 0) % SLOTS


def key_of(command: Sequence[Word]) -> Word:
    """Give the key that decides where a command goes."""
    return command[3 if command[0] in ("EVAL", "EVALSHA") else 1]


def read_map(answer: Reply, asked_host: str) -> tuple[Range, ...]:
    """Read the answer to CLUSTER SLOTS. Raises ValueError for what is none."""
    ranges: list[Range] = []
    try:
        for first, last, (host, port, *_), *_ in answer:
            name = (host or b"").decode("ascii") or asked_host  # empty: where you asked
            if not 0 <= first <= last < SLOTS:
                raise ValueError("a slot that does not exist")
            if name != "?":
                ranges.append((first, last, (name, int(port))))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not a map of slots: {error}") from None
    return tuple(sorted(ranges))
