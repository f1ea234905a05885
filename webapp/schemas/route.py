"""A route as it is given and shown, with its cache rules; its limits are in schemas.limits.

Laws:  1. A path pattern is kept in its normal form.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, computed_field, model_validator

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
from webapp.schemas.limit_words import summary
from webapp.schemas.limits import RateLimit
from webapp.schemas.paging import PageQuery


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
_FieldName = Annotated[str, AfterValidator(field_name)]
_Methods = Annotated[tuple[Method, ...], Field(max_length=len(bounds.METHODS)), AfterValidator(no_duplicates)]
_Scopes = Annotated[tuple[Scope, ...], Field(max_length=bounds.REQUIRED_SCOPES_MAX), AfterValidator(no_duplicates)]


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

    @computed_field  # type: ignore[prop-decorator]
    @property
    def rate_limit_summary(self) -> tuple[str, ...]:
        """Each limit in words."""
        return summary(None if self.rate_limit is None else self.rate_limit.model_dump())
