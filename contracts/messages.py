"""What travels through Redis between the programs, besides snapshots.

In:    values; bytes.
Out:   JSON bytes; values, strictly decoded.
Laws:  1. A Change says that something changed, never what it is now: the reader fetches the truth, so a message may
       be delivered twice, late or out of order. 2. Unknown kinds are decoded as "reload this tenant".
Not here: keys (keyspace), the stream's mechanics (edge.store.config_feed, webapp.services.publishing).
"""

from __future__ import annotations

from typing import Final, Literal, TypeVar

import msgspec

FIELD: Final = b"m"
"""The one field of each stream entry."""

ChangeKind = Literal["config", "key", "health", "purge", "session"]
_T = TypeVar("_T")


class MessageError(ValueError):
    """The bytes are not the message that was expected."""


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of keyspace.CHANGES."""

    kind: str
    tenant_id: str
    version: int = 0
    """config: the version that is now in keyspace.config."""
    digests: tuple[str, ...] = ()
    """key: digests whose records changed or went away."""
    hosts: tuple[str, ...] = ()
    """config: hosts whose meaning changed (tenant created, renamed, removed)."""
    session_id: str = ""
    """session: a signed-out Clerk session."""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """One edge worker's value in keyspace.EDGES."""

    edge: str
    """The machine (host name)."""
    worker: str
    pid: int
    at: float
    started_at: float
    applied: str
    """Id of the last stream entry this worker has in force."""
    tenants: int
    rejected: dict[str, str] = {}
    """Tenant id -> why its newest snapshot was refused (the last good one is still served)."""


class TargetHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One target's value in keyspace.origin_health."""

    healthy: bool
    reason: str
    """`ok`, or a slug: connect-refused, timeout, status-503, address-forbidden, ..."""
    checked_at: float
    since: float
    latency_ms: float
    expires_at: float
    """After this wall time the edge forgets it and trusts only what it sees itself."""


class KeyRenewal(msgspec.Struct, frozen=True, kw_only=True):
    """One key's value in keyspace.key_renewals: seen in clear by an edge, so its digest can move to a newer pepper."""

    old: str
    new: str
    proof: str
    """contracts.apikey.renewal_proof."""


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_CHANGE: Final = msgspec.json.Decoder(Change)
_HEARTBEAT: Final = msgspec.json.Decoder(Heartbeat)
_HEALTH: Final = msgspec.json.Decoder(TargetHealth)
_RENEWAL: Final = msgspec.json.Decoder(KeyRenewal)


def encode(message: Change | Heartbeat | TargetHealth | KeyRenewal) -> bytes:
    return _ENCODER.encode(message)


def _decode(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise MessageError(str(error)) from None


def decode_change(body: bytes) -> Change:
    """Raises MessageError."""
    return _decode(_CHANGE, body)


def decode_heartbeat(body: bytes) -> Heartbeat:
    """Raises MessageError."""
    return _decode(_HEARTBEAT, body)


def decode_health(body: bytes) -> TargetHealth:
    """Raises MessageError."""
    return _decode(_HEALTH, body)


def decode_renewal(body: bytes) -> KeyRenewal:
    """Raises MessageError."""
    return _decode(_RENEWAL, body)


def stream_id(text: str) -> tuple[int, int]:
    """Give a stream entry's id as a comparable pair; `0-0` for an empty one. Raises MessageError."""
    first, _, second = (text or "0-0").partition("-")
    if not (first.isdigit() and (second or "0").isdigit()):
        raise MessageError(f"{text!r} is not a stream id")
    return int(first), int(second or 0)
