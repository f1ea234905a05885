"""How often a caller may ask, as it is given and shown: the limits of a route or of an API key.

Laws:  1. `rate_limit` has two forms: {requests_per_second, burst}, or {policies: [...]}. Both are kept as written and
       mean the same policies (RateLimit.all_policies). 2. What could never admit a request, or never refuse one that
       another policy does not refuse, is an error and not a policy.
Not here: words for people (limit_words), the policies an edge is told (webapp.services.snapshots).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from contracts import bounds
from contracts.snapshot import SCOPE_HEADER
from webapp.schemas.base import Input, Name, field_name, no_duplicates, wrong

SCOPES: Final = ("tenant", "route", "user", "key", "ip")
_TAKES: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "token_bucket": (frozenset({"requests_per_second"}), frozenset({"burst", "cost"})),
    "sliding_window": (frozenset({"limit", "window_seconds"}), frozenset({"cost"})),
    "concurrency": (frozenset({"limit"}), frozenset()),
    "calendar": (frozenset({"limit", "period"}), frozenset({"cost"})),
}
"""Of each algorithm: the figures it needs, and those it may have besides."""
_FIGURES: Final = ("requests_per_second", "burst", "limit", "window_seconds", "period", "cost")


def _scope(text: str) -> str:
    if text in SCOPES:
        return text
    if not text.startswith(SCOPE_HEADER):
        raise ValueError(f"must be one of {', '.join(SCOPES)}, or {SCOPE_HEADER}<name>")
    return SCOPE_HEADER + field_name(text.removeprefix(SCOPE_HEADER))


def _listed(given: Any) -> Any:
    if isinstance(given, list):
        return tuple(given)  # after this step JSON's arrays are no longer known as such
    return (given,) if isinstance(given, str) else given


_Rate = Annotated[float, Field(ge=bounds.RATE_PER_SECOND_MIN, le=bounds.RATE_PER_SECOND_MAX)]
_Burst = Annotated[int, Field(ge=bounds.BURST_MIN, le=bounds.BURST_MAX)]
_Scopes = Annotated[
    tuple[Annotated[str, AfterValidator(_scope)], ...],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=bounds.POLICY_SCOPES_MAX),
    AfterValidator(no_duplicates),
]


class Policy(Input):
    """One limit. Token bucket: requests_per_second and burst. Sliding window: limit and window_seconds. Concurrency:
    limit, of requests in flight. Calendar, for API keys: limit in each period, by UTC."""

    name: Name = "default"
    algorithm: Literal["token_bucket", "sliding_window", "concurrency", "calendar"] = "token_bucket"
    requests_per_second: _Rate | None = None
    burst: _Burst | None = None
    limit: Annotated[int, Field(ge=1, le=bounds.WINDOW_LIMIT_MAX)] | None = None
    window_seconds: Annotated[int, Field(ge=bounds.WINDOW_S_MIN, le=bounds.WINDOW_S_MAX)] | None = None
    period: Literal["day", "month"] | None = None
    cost: Annotated[int, Field(ge=1, le=bounds.POLICY_COST_MAX)] | None = None
    """What each request takes of it; 1 when left out."""
    scope: _Scopes = ("route",)
    """Whom it counts apart: several together count each combination. header:<name>: by that field's value."""
    mode: Literal["enforce", "shadow"] = "enforce"
    on_store_failure: Literal["share", "open", "closed"] = "share"

    @property
    def whole(self) -> int:
        """The most a caller can have at once. Without a burst a bucket holds one second's worth, at least a request."""
        if self.algorithm == "token_bucket":
            return self.burst or max(1, int(self.requests_per_second or 0))
        return self.limit or 0

    @model_validator(mode="after")
    def _fits_algorithm(self) -> Self:
        needed, possible = _TAKES[self.algorithm]
        given = {name for name in _FIGURES if getattr(self, name) is not None}
        if not needed <= given or not given <= needed | possible:
            also = " and ".join(sorted(needed, key=_FIGURES.index))
            more = " and ".join(name for name in _FIGURES if name in possible)
            raise wrong("algorithm", f"a {self.algorithm} takes {also}" + (f", and may have {more}" if more else ""))
        if (self.cost or 1) > self.whole:
            raise wrong("cost", f"is more than the {self.whole} that can be had at once: no request would ever pass")
        rate = self.requests_per_second
        if rate is not None and self.whole / rate > bounds.BUCKET_FILL_S_MAX:
            days = bounds.BUCKET_FILL_S_MAX // 86_400
            raise wrong("burst", f"takes more than {days} days to come back at this rate")
        return self

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What two policies of one list must not have in common."""
        figures = tuple(getattr(self, name) for name in _FIGURES)
        if self.algorithm == "sliding_window":  # the smaller of two limits decides alone
            figures = (self.window_seconds, self.cost)
        elif self.algorithm == "calendar":
            figures = (self.period, self.cost)
        elif self.algorithm == "concurrency":
            figures = ()
        return (self.algorithm, self.mode, tuple(sorted(self.scope)), *figures)


class RateLimit(Input):
    of_key: ClassVar[bool] = False
    requests_per_second: _Rate | None = None
    burst: _Burst | None = None
    policies: Annotated[tuple[Policy, ...], Field(min_length=1, max_length=bounds.POLICIES_PER_ROUTE_MAX)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.policies is None:
            if self.requests_per_second is None:
                raise wrong("requests_per_second", "requests_per_second or policies must be given")
            seconds = bounds.BUCKET_FILL_S_MAX
            if self.burst is not None and self.burst / self.requests_per_second > seconds:
                raise wrong("burst", f"takes more than {seconds // 86_400} days to come back at this rate")
        elif self.requests_per_second is not None or self.burst is not None:
            raise wrong("policies", "give requests_per_second and burst, or policies, not both")
        else:
            _check_apart(self.policies)
            if not self.of_key and any(policy.algorithm == "calendar" for policy in self.policies):
                raise wrong("policies", "of a route count no calendar: a quota belongs to an API key")
        return self

    @property
    def all_policies(self) -> tuple[Policy, ...]:
        if self.policies is not None:
            return self.policies
        return (Policy(requests_per_second=self.requests_per_second, burst=self.burst),)


def _check_apart(policies: tuple[Policy, ...]) -> None:
    if len({policy.name for policy in policies}) != len(policies):
        raise wrong("policies", "must have different names")
    seen: dict[tuple[Any, ...], str] = {}
    for policy in policies:
        twin = seen.setdefault(policy.meaning, policy.name)
        if twin != policy.name:
            raise wrong("policies", f"{twin!r} and {policy.name!r} limit the same thing twice")
