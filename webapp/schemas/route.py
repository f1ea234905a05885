"""A route as it is given and shown, with its limits and its cache rules.

Laws:  1. `rate_limit` has two forms: {requests_per_second, burst}, or {policies: [...]}. Both are kept as written and
       mean the same policies (RateLimit.all_policies). 2. A path pattern is kept in its normal form.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from contracts import bounds
from contracts.patterns import Literal as LiteralSegment
from contracts.patterns import PatternError, parse_pattern
from webapp.schemas.access import (
    Accept,
    Accepted,
    AddressRules,
    AddressRulesView,
    AuthMode,
    Cors,
    CorsView,
    Issuers,
    Method,
    Permissions,
    Roles,
    check_access,
)
from webapp.schemas.base import Input, Name, Patch, Scope, View, absent, field_name, no_duplicates, wrong
from webapp.schemas.paging import PageQuery

LimitScope = Literal["tenant", "route", "user", "key", "ip"]


def _pattern(text: str) -> str:
    try:
        return parse_pattern(text).text
    except PatternError as error:
        raise ValueError(str(error)) from None


def _prefix(text: str) -> str:
    try:
        pattern = parse_pattern(text)
    except PatternError as error:
        raise ValueError(str(error)) from None
    if not all(isinstance(segment, LiteralSegment) for segment in pattern.segments) or text.endswith("/"):
        raise ValueError("must be literal segments, like /api/public, without a final '/'")
    return pattern.text


_Pattern = Annotated[
    str, StringConstraints(min_length=1, max_length=bounds.PATTERN_CHARS_MAX), AfterValidator(_pattern)
]
_Prefix = Annotated[str, StringConstraints(min_length=2, max_length=bounds.PATTERN_CHARS_MAX), AfterValidator(_prefix)]
_Rate = Annotated[float, Field(ge=bounds.RATE_PER_SECOND_MIN, le=bounds.RATE_PER_SECOND_MAX)]
_Burst = Annotated[int, Field(ge=bounds.BURST_MIN, le=bounds.BURST_MAX)]
_FieldName = Annotated[str, AfterValidator(field_name)]
_Methods = Annotated[tuple[Method, ...], Field(max_length=len(bounds.METHODS)), AfterValidator(no_duplicates)]
_Scopes = Annotated[tuple[Scope, ...], Field(max_length=bounds.REQUIRED_SCOPES_MAX), AfterValidator(no_duplicates)]


class Policy(Input):
    """One limit. Token bucket: requests_per_second and burst. Sliding window: limit and window_seconds."""

    name: Name = "default"
    algorithm: Literal["token_bucket", "sliding_window"] = "token_bucket"
    requests_per_second: _Rate | None = None
    burst: _Burst | None = None
    limit: Annotated[int, Field(ge=1, le=bounds.WINDOW_LIMIT_MAX)] | None = None
    window_seconds: Annotated[int, Field(ge=bounds.WINDOW_S_MIN, le=bounds.WINDOW_S_MAX)] | None = None
    scope: Annotated[tuple[LimitScope, ...], Field(min_length=1, max_length=5), AfterValidator(no_duplicates)] = (
        "route",
    )
    mode: Literal["enforce", "shadow"] = "enforce"
    on_store_failure: Literal["share", "open", "closed"] = "share"

    @model_validator(mode="after")
    def _fits_algorithm(self) -> Self:
        bucket = self.requests_per_second, self.burst
        window = self.limit, self.window_seconds
        if self.algorithm == "token_bucket":
            if self.requests_per_second is None or window != (None, None):
                raise wrong("algorithm", "a token_bucket takes requests_per_second and burst")
        elif None in window or bucket != (None, None):
            raise wrong("algorithm", "a sliding_window takes limit and window_seconds")
        return self


class RateLimit(Input):
    requests_per_second: _Rate | None = None
    burst: _Burst | None = None
    policies: Annotated[tuple[Policy, ...], Field(min_length=1, max_length=bounds.POLICIES_PER_ROUTE_MAX)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.policies is None:
            if self.requests_per_second is None:
                raise wrong("requests_per_second", "requests_per_second or policies must be given")
        elif self.requests_per_second is not None or self.burst is not None:
            raise wrong("policies", "give requests_per_second and burst, or policies, not both")
        elif len({policy.name for policy in self.policies}) != len(self.policies):
            raise wrong("policies", "must have different names")
        return self

    @property
    def all_policies(self) -> tuple[Policy, ...]:
        if self.policies is not None:
            return self.policies
        return (Policy(requests_per_second=self.requests_per_second, burst=self.burst),)


class CachePolicy(Input):
    enabled: bool = True
    ttl_seconds: Annotated[int, Field(ge=0, le=bounds.CACHE_TTL_S_MAX)] = bounds.CACHE_TTL_S_DEFAULT
    cache_key_pattern: Literal["path", "path+query", "path+query+headers"] = "path+query"
    key_headers: Annotated[
        tuple[_FieldName, ...], Field(max_length=bounds.CACHE_KEY_HEADERS_MAX), AfterValidator(no_duplicates)
    ] = ()
    shared: bool = False
    """Answers to authenticated requests may be shared between callers."""

    @model_validator(mode="after")
    def _headers_fit(self) -> Self:
        if (self.cache_key_pattern == "path+query+headers") != bool(self.key_headers):
            raise wrong("key_headers", "go with cache_key_pattern path+query+headers, and only with it")
        return self


class Rewrite(Input):
    strip_prefix: _Prefix | None = None


class RouteNew(Input):
    tenant_id: UUID | None = None
    """May be left out: it is always the caller's tenant."""
    name: Name | None = None
    path_pattern: _Pattern
    methods: _Methods = ()
    """Empty: every method."""
    origin_id: UUID
    auth_mode: AuthMode
    priority: Annotated[int, Field(ge=bounds.PRIORITY_MIN, le=bounds.PRIORITY_MAX)] = 0
    enabled: bool = True
    required_scopes: _Scopes = ()
    any_user: bool = False
    """Clerk's users of any organisation. Without it a token must name the tenant's: OAuth tokens do if they are signed
    and were granted `user:org:read`."""
    """Accept users of any organisation, not only the tenant's own."""
    accept: Accept = ()
    """auth_mode any: the kinds of credential it takes."""
    issuers: Issuers = ()
    """Only tokens of these; empty: of the sign-in service and of every issuer of the tenant."""
    required_roles: Roles = ()
    """One of these, like org:admin."""
    required_permissions: Permissions = ()
    """All of these, like org:invoices:create."""
    cors: Cors | None = None
    addresses: AddressRules | None = None
    identity_token: bool = False
    """Send the origin an identity token signed by the gateway."""
    rate_limit: RateLimit | None = None
    cache_policy: CachePolicy | None = None
    rewrite: Rewrite | None = None
    forward_credential: bool = False
    preserve_host: bool = False
    body_bytes_max: Annotated[int, Field(ge=0, le=bounds.BODY_BYTES_MAX)] = bounds.BODY_BYTES_MAX_DEFAULT

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_access(self)
        prefix = self.rewrite.strip_prefix if self.rewrite else None
        if prefix and not (self.path_pattern == prefix or self.path_pattern.startswith(prefix + "/")):
            raise wrong("rewrite.strip_prefix", "must be the beginning of path_pattern")
        return self


class RoutePatch(Patch):
    name: Name | None = absent()
    path_pattern: _Pattern = absent()
    methods: _Methods = absent()
    origin_id: UUID = absent()
    auth_mode: AuthMode = absent()
    priority: Annotated[int, Field(ge=bounds.PRIORITY_MIN, le=bounds.PRIORITY_MAX)] = absent()
    enabled: bool = absent()
    required_scopes: _Scopes = absent()
    any_user: bool = absent()
    accept: Accept = absent()
    issuers: Issuers = absent()
    required_roles: Roles = absent()
    required_permissions: Permissions = absent()
    cors: Cors | None = absent()
    addresses: AddressRules | None = absent()
    identity_token: bool = absent()
    rate_limit: RateLimit | None = absent()
    cache_policy: CachePolicy | None = absent()
    rewrite: Rewrite | None = absent()
    forward_credential: bool = absent()
    preserve_host: bool = absent()
    body_bytes_max: Annotated[int, Field(ge=0, le=bounds.BODY_BYTES_MAX)] = absent()


class RouteQuery(PageQuery):
    origin_id: UUID | None = None
    """Only routes that lead to this origin."""


class RouteView(View):
    id: UUID
    tenant_id: UUID
    name: str | None
    path_pattern: str
    methods: tuple[str, ...]
    origin_id: UUID
    auth_mode: AuthMode
    priority: int
    enabled: bool
    required_scopes: tuple[str, ...]
    any_user: bool
    accept: tuple[Accepted, ...] = ()
    issuers: tuple[UUID, ...] = ()
    required_roles: tuple[str, ...] = ()
    required_permissions: tuple[str, ...] = ()
    cors: CorsView | None = None
    addresses: AddressRulesView | None = None
    identity_token: bool = False
    rate_limit: RateLimit | None
    cache_policy: CachePolicy | None
    rewrite: Rewrite | None
    forward_credential: bool
    preserve_host: bool
    body_bytes_max: int
    row_version: int
    created_at: datetime
    updated_at: datetime
