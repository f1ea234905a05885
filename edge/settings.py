"""The environment, read once into frozen values; a wrong value is an error that names its variable.

In:    a mapping of environment variables.
Out:   Settings, Limits.
Laws:  1. Nothing else on the edge reads the environment. 2. No silent default for a wrong value.
Not here: what tenants configure (contracts.snapshot).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one worker's connections and messages."""

    request_line_bytes_max: int = 8_192
    head_bytes_max: int = 32_768
    fields_max: int = 100
    head_timeout_s: float = 10.0
    """From the first byte of a head to its end."""
    idle_timeout_s: float = 75.0
    """A kept connection without a request."""
    body_idle_timeout_s: float = 60.0
    """Between two reads or writes of a body with the client."""
    connections_max: int = 10_000
    connections_per_client_max: int = 1_000
    upstream_idle_per_target_max: int = 64
    upstream_per_target_max: int = 512
    upstream_idle_timeout_s: float = 50.0
    drain_timeout_s: float = 25.0
