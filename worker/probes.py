"""When a target counts as up or down, and when it is asked again.

In:    the state after the last probe, what this probe saw, the wall time, a chance in [0, 1).
Out:   the state after it; the next due time.
Laws:  1. Pure: no clock, no chance, no store. 2. `up_after` successes in a row make a target up, `down_after` failures
       in a row make it down; one answer of the other kind starts the count anew. 3. A target never seen counts as up
       for the edge, so its first success decides at once and its first failures do not. 4. A target that keeps
       changing must stay well for longer before it is believed (damping); going down is never delayed.
Not here: probing (worker.checker), keeping states (worker.ledger).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

_FLIPS_KEPT: Final = 16


@dataclass(frozen=True, slots=True)
class Rules:
    """How a verdict is reached. Beyond `flips_free` changes within `flip_window_s`, each doubles what `up` takes."""

    up_after: int = 2
    down_after: int = 3
    interval_s: float = 10.0
    jitter: float = 0.1
    """Share of the interval by which a due time moves, both ways."""
    flips_free: int = 6
    flip_window_s: float = 600.0
    up_after_max: int = 16

    @property
    def verdict_lives_s(self) -> float:
        """How long a verdict may be believed when no probe follows: three intervals and a late sweep."""
        return 3 * self.interval_s * (1 + self.jitter) + 10.0


class ProbeState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One target. `healthy` is None before the first verdict; `streak` counts answers that contradict it."""

    healthy: bool | None = None
    streak: int = 0
    since: float = 0.0
    """Wall time of the last verdict."""
    announced: bool | None = None
    """The verdict everybody was told; differs from `healthy` from a flip until the telling is done."""
    told_at: float = 0.0
    """Wall time of the last telling."""
    flips: tuple[float, ...] = ()
    """Wall times of the last changes between up and down, oldest first."""


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_DECODER: Final = msgspec.json.Decoder(ProbeState)


def encode(state: ProbeState) -> bytes:
    return _ENCODER.encode(state)


def decode(body: bytes | None) -> ProbeState:
    """Give the state, or that of a target never seen when there is none or it cannot be read."""
    if not body:
        return ProbeState()
    try:
        return _DECODER.decode(body)
    except msgspec.MsgspecError:
        return ProbeState()


def observe(state: ProbeState, success: bool, now: float, rules: Rules) -> ProbeState:
    """Give the state after one probe."""
    if state.healthy is None and success:
        return msgspec.structs.replace(state, healthy=True, streak=0, since=now)
    if success == (state.healthy is not False):
        return msgspec.structs.replace(state, streak=0)
    streak = state.streak + 1
    if streak < (successes_needed(state, now, rules) if success else rules.down_after):
        return msgspec.structs.replace(state, streak=streak)
    flips = state.flips if state.healthy is None else (*state.flips, now)[-_FLIPS_KEPT:]
    return msgspec.structs.replace(state, healthy=success, streak=0, since=now, flips=flips)


def successes_needed(state: ProbeState, now: float, rules: Rules) -> int:
    """Give how many successes in a row a down target needs now."""
    recent = sum(1 for flip in state.flips if now - flip < rules.flip_window_s)
    doublings = max(0, recent - rules.flips_free)
    return max(rules.up_after, min(rules.up_after_max, rules.up_after << doublings))


def must_tell(state: ProbeState, now: float, rules: Rules) -> bool:
    """Whether the edges must be told: of a new verdict, and again of a `down` that half its life ago was told."""
    if state.healthy is None or state.healthy != state.announced:
        return state.healthy is not None
    return not state.healthy and now - state.told_at > rules.verdict_lives_s / 2


def announced(state: ProbeState, now: float) -> ProbeState:
    """Give the state after everybody was told its verdict."""
    return msgspec.structs.replace(state, announced=state.healthy, told_at=now)


def next_due(now: float, rules: Rules, chance: float) -> float:
    """Give the wall time of the next probe; `chance` in [0, 1) spreads targets that began together."""
    return now + rules.interval_s * (1 + rules.jitter * (2 * chance - 1))


def first_due(now: float, rules: Rules, chance: float) -> float:
    """Give the wall time of a new target's first probe: somewhere in the first tenth of an interval."""
    return now + rules.interval_s * 0.1 * chance
