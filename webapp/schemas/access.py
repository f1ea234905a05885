"""Who may call, as it is given and shown: kinds of credential, roles, browsers' origins, networks.

In:    plain values.
Out:   the types of a route's access fields, AddressRules (a tenant has them too), their views, check_access.
Laws:  1. A field goes only with an auth_mode that reads it, so that nothing that is written is silently without effect.
       2. Credentials and an origin that anybody can have (`*`, `null`) never go together. 3. Networks and origins are
       kept in their one canonical spelling.
Not here: whether an issuer exists (webapp.services.route_access), what the edge does (edge.phases).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Protocol, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from contracts import bounds
from contracts.networks import NetworkError, canonical_network
from contracts.web_origins import ORIGIN_CHARS_MAX, OriginError, check_rule
from webapp.schemas.base import Input, View, field_name, no_duplicates, wrong

AuthMode = Literal["public", "jwt_required", "apikey_required", "oauth_required", "service_required", "any"]
Accepted = Literal["jwt", "apikey", "oauth", "service"]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
assert set(Method.__args__) == set(bounds.METHODS)  # type: ignore[attr-defined]
_KIND_OF_MODE: Final[dict[str, Accepted]] = {
    "jwt_required": "jwt", "apikey_required": "apikey", "oauth_required": "oauth", "service_required": "service",
}  # fmt: skip


def _network(text: str) -> str:
    try:
        return canonical_network(text)
    except NetworkError as error:
        raise ValueError(str(error)) from None


def _origin(text: str) -> str:
    try:
        return check_rule(text)
    except OriginError as error:
        raise ValueError(str(error)) from None


def _star_alone(items: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in items and len(items) > 1:
        raise ValueError("must name * alone or not at all")
    return no_duplicates(items)


Network = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_network)]
Networks = Annotated[tuple[Network, ...], Field(max_length=bounds.NETWORKS_MAX), AfterValidator(no_duplicates)]
Accept = Annotated[tuple[Accepted, ...], Field(max_length=4), AfterValidator(no_duplicates)]
Issuers = Annotated[tuple[UUID, ...], Field(max_length=bounds.ISSUERS_PER_TENANT_MAX), AfterValidator(no_duplicates)]
Role = Annotated[str, StringConstraints(max_length=bounds.ROLE_CHARS_MAX, pattern=r"^org:[A-Za-z0-9_-]+$")]
Permission = Annotated[
    str, StringConstraints(max_length=bounds.ROLE_CHARS_MAX, pattern=r"^org:[A-Za-z0-9_-]+:[A-Za-z0-9_-]+$")
]
Roles = Annotated[tuple[Role, ...], Field(max_length=bounds.REQUIRED_ROLES_MAX), AfterValidator(no_duplicates)]
Permissions = Annotated[
    tuple[Permission, ...], Field(max_length=bounds.REQUIRED_ROLES_MAX), AfterValidator(no_duplicates)
]
_WebOrigin = Annotated[str, StringConstraints(min_length=1, max_length=ORIGIN_CHARS_MAX), AfterValidator(_origin)]
_FieldNames = Annotated[
    tuple[Annotated[str, AfterValidator(field_name)], ...],
    Field(max_length=bounds.CORS_FIELD_NAMES_MAX),
    AfterValidator(_star_alone),
]


class AddressRules(Input):
    """Networks in CIDR form. Deny wins; where anything is allowed, everything else is denied."""

    allow: Networks = ()
    deny: Networks = ()


class Cors(Input):
    """What the edge answers to browsers whose page is of another origin. Without it they are told nothing."""

    allow_origins: Annotated[
        tuple[_WebOrigin, ...],
        Field(max_length=bounds.CORS_ORIGINS_MAX),
        AfterValidator(_star_alone),
    ]
    """`https://app.example.com`, `https://*.example.com` (one label), `null`, or `*` alone."""
    allow_methods: Annotated[tuple[Method, ...], AfterValidator(no_duplicates)] = ()
    """Empty: those of the route."""
    allow_headers: _FieldNames = ()
    """Fields a request may carry beyond the ones every page may send; `*` alone: whatever is asked for."""
    expose_headers: _FieldNames = ()
    """Fields of the answer that a script may read beyond the ones every script may; `*` alone: all of them."""
    allow_credentials: bool = False
    """Cookies, and whatever else the browser adds by itself."""
    max_age_seconds: Annotated[int, Field(ge=0, le=bounds.CORS_MAX_AGE_S_MAX)] = bounds.CORS_MAX_AGE_S_DEFAULT
    """How long a browser may remember the answer to its preflight; 0: not at all."""

    @model_validator(mode="after")
    def _for_somebody(self) -> Self:
        if not self.allow_origins:
            raise wrong("allow_origins", "must name at least one origin")
        if self.allow_credentials:
            if "*" in self.allow_origins or "null" in self.allow_origins:
                raise wrong("allow_credentials", "must not go with the origins * and null, which any page can have")
            if "*" in self.expose_headers:
                raise wrong("expose_headers", "must name the fields where allow_credentials is on: browsers read no *")
        return self


class AddressRulesView(View):
    allow: tuple[str, ...]
    deny: tuple[str, ...]


class CorsView(View):
    """What was checked when it was written is not checked again for each reader."""

    allow_origins: tuple[str, ...]
    allow_methods: tuple[str, ...]
    allow_headers: tuple[str, ...]
    expose_headers: tuple[str, ...]
    allow_credentials: bool
    max_age_seconds: int


class AccessFields(Protocol):
    """What check_access looks at."""

    @property
    def auth_mode(self) -> AuthMode: ...
    @property
    def methods(self) -> tuple[Method, ...]: ...
    @property
    def accept(self) -> tuple[Accepted, ...]: ...
    @property
    def issuers(self) -> tuple[UUID, ...]: ...
    @property
    def any_user(self) -> bool: ...
    @property
    def required_scopes(self) -> tuple[str, ...]: ...
    @property
    def required_roles(self) -> tuple[str, ...]: ...
    @property
    def required_permissions(self) -> tuple[str, ...]: ...
    @property
    def cors(self) -> Cors | None: ...


def accepted(auth_mode: str, accept: Sequence[str]) -> frozenset[str]:
    """Give the kinds of credential a route takes; none where it is public."""
    if auth_mode == "any":
        return frozenset(accept)
    return frozenset({_KIND_OF_MODE[auth_mode]}) if auth_mode in _KIND_OF_MODE else frozenset()


def check_access(route: AccessFields) -> None:
    """Raises the error of a rule about several fields."""
    if (route.auth_mode == "any") != bool(route.accept):
        raise wrong("accept", "goes with auth_mode any, and names at least one kind of credential there")
    kinds = accepted(route.auth_mode, route.accept)
    if route.required_scopes and not kinds:
        raise wrong("required_scopes", "need an auth_mode other than public")
    if route.any_user and not kinds & {"jwt", "oauth"}:
        raise wrong("any_user", "goes with auth_mode jwt_required, oauth_required, or any that accepts one of these")
    if route.issuers and not kinds & {"jwt", "oauth"}:
        raise wrong("issuers", "go with auth_mode jwt_required, oauth_required, or any that accepts one of these")
    for field in ("required_roles", "required_permissions"):
        if getattr(route, field) and "jwt" not in kinds:
            raise wrong(field, "need users: auth_mode jwt_required, or any that accepts jwt")
    if route.cors is not None and route.methods:
        taken = {*route.methods, *(("HEAD",) if "GET" in route.methods else ())}
        beyond: Any = next((method for method in route.cors.allow_methods if method not in taken), None)
        if beyond is not None:
            raise wrong("cors.allow_methods", f"names {beyond}, which is not among the route's methods")
