"""A limit in plain words, one sentence each: what the API's `rate_limit_summary` and the console say.

In:    a rate_limit in the API's shape (complete or half typed).
Out:   sentences, like "At most 100 requests per minute for each API key; more are answered 429."
Laws:  1. Never raises: a half-typed value is shown as `…`. 2. Says nothing the edge does not do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contracts.snapshot import SCOPE_HEADER

_SCOPES: Final = {
    "tenant": "the whole tenant",
    "route": "this route",
    "user": "each user",
    "key": "each API key",
    "ip": "each address",
}
_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def policies_of(rate_limit: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if not rate_limit:
        return []
    listed = rate_limit.get("policies")
    if isinstance(listed, list | tuple):
        return [policy for policy in listed if isinstance(policy, Mapping)]
    return [rate_limit]


def summary(rate_limit: Mapping[str, Any] | None, whom: str | None = None) -> tuple[str, ...]:
    """Give a sentence for each policy. `whom`: whom limits count that have no scope."""
    return tuple(_sentence(policy, whom) for policy in policies_of(rate_limit))


def in_short(policy: Mapping[str, Any]) -> str:
    """Give a limit as a table's cell shows it: `100/s`, `5,000 per hour`."""
    if policy.get("algorithm") == "concurrency":
        return f"{figure(policy.get('limit'))} at once"
    if policy.get("limit") and policy.get("window_seconds"):
        return f"{figure(policy['limit'])} per {_window(policy['window_seconds'])}"
    return f"{figure(policy.get('requests_per_second'))}/s"


def figure(number: object) -> str:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return "…"
    return f"{int(number):,}" if number == int(number) else f"{number:g}"


def _sentence(policy: Mapping[str, Any], whom: str | None) -> str:
    for_whom = whom or _whom(policy.get("scope") or "route")
    cost = policy.get("cost")
    priced = f"; each request counts as {figure(cost)}" if cost not in (None, 1) else ""
    after = "counted only, never refused" if policy.get("mode") == "shadow" else "more are answered 429"
    if policy.get("algorithm") == "concurrency":
        return f"At most {_counted(policy.get('limit'))} at the same time for {for_whom}; {after}."
    if policy.get("algorithm") == "calendar":
        period = policy.get("period") or "…"
        return (
            f"At most {_counted(policy.get('limit'))} in each calendar {period} (UTC) for {for_whom}{priced}; {after}."
        )
    if policy.get("limit") or policy.get("window_seconds"):
        window = _window(policy.get("window_seconds"))
        return f"At most {_counted(policy.get('limit'))} per {window} for {for_whom}{priced}; {after}."
    rate, burst = policy.get("requests_per_second"), policy.get("burst")
    bursts = f"; bursts up to {figure(burst)}" if burst else ""
    return f"At most {_rate(rate)} for {for_whom}{bursts}{priced}; {after}."


def _whom(scope: object) -> str:
    scopes = [scope] if isinstance(scope, str) else list(scope) if isinstance(scope, list | tuple) else []
    words = [_of(str(name)) for name in scopes]
    if len(words) > 1:
        return f"each combination of {', '.join(map(_bare, words[:-1]))} and {_bare(words[-1])}"
    return words[0] if words else "…"


def _of(scope: str) -> str:
    if scope.startswith(SCOPE_HEADER):
        return f"each value of the header {scope.removeprefix(SCOPE_HEADER) or '…'}"
    return _SCOPES.get(scope, scope)


def _bare(words: str) -> str:
    return words.removeprefix("each ").removeprefix("this ").removeprefix("the whole ")


def _rate(rate: object) -> str:
    """Slow rates in the unit in which they are whole: 0.5 a second is 30 a minute."""
    if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < 1:
        for seconds, unit in ((60, "minute"), (3_600, "hour")):
            times = rate * seconds
            if times >= 1 and abs(times - round(times)) < 1e-9:
                return f"{_counted(round(times))} per {unit}"
    return f"{_counted(rate)} per second"


def _counted(number: object) -> str:
    return f"{figure(number)} request{'' if number == 1 else 's'}"


def _window(seconds: object) -> str:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        return "…"
    unit, word = next(((unit, word) for unit, word in _UNITS if seconds % unit == 0), (1, "second"))
    count = seconds / unit
    return word if count == 1 else f"{figure(count)} {word}s"
