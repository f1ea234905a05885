"""Everything a service refuses, as facts a door can show: a slug of the catalogue, a sentence, and the fields.

Laws:  1. The sentence is public: no secret, no other tenant's existence. 2. A thing of another tenant is NotFound, in
       the very words of a thing that does not exist.
Not here: the wire form (webapp.api.problems, webapp.console).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError

from contracts.problems import PROBLEMS, Problem


@dataclass(frozen=True, slots=True)
class FieldError:
    """`location` is the field's path with dots: rate_limit.burst, targets.0.url."""

    location: str
    message: str


class ServiceError(Exception):
    slug: ClassVar[str] = "internal-error"

    def __init__(self, detail: str, errors: Iterable[FieldError] = (), extra: dict[str, object] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.extra = extra or {}

    @property
    def problem(self) -> Problem:
        return PROBLEMS[self.slug]


class NotFound(ServiceError):
    slug = "not-found"

    def __init__(self, field: str | None = None) -> None:
        """`field` is the one of a body that names the thing; none when the URL does."""
        errors = () if field is None else [FieldError(field, "names nothing here, or nothing of yours")]
        super().__init__("There is nothing here by this id, or it is not yours.", errors)


class Forbidden(ServiceError):
    slug = "forbidden"


class Invalid(ServiceError):
    """Some fields are not valid; `errors` names each."""

    slug = "validation-failed"

    @classmethod
    def field(cls, location: str, message: str) -> Invalid:
        return cls(f"{location}: {message}", [FieldError(location, message)])


class Conflict(ServiceError):
    slug = "conflict"


class PreconditionFailed(ServiceError):
    slug = "precondition-failed"

    def __init__(self) -> None:
        super().__init__("It changed since you read it. Read it again, then repeat your change.")


class StoreUnavailable(ServiceError):
    slug = "store-unavailable"


_LENGTHS = {
    "too_short": "has {actual_length} members: at least {min_length} must be given",
    "too_long": "has {actual_length} members: at most {max_length} may be given",
}
"""Of lists: pydantic speaks of Python's tuples."""


def invalid_from(error: ValidationError, prefix: str = "") -> Invalid:
    """Turn pydantic's error into ours: names and reasons, never the values that were sent."""
    errors = [FieldError(_location(item, prefix), _message(item)) for item in _causes(error.errors(include_url=False))]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Invalid(f"{first.location}: {first.message}{more}", errors)


def _causes(items: Sequence[Any]) -> list[Any]:
    """Leave out that a list is too short where members of it are wrong: those were only not counted."""
    wrong = [item["loc"] for item in items]

    def follows(item: Any) -> bool:
        loc = item["loc"]
        return item["type"] == "too_short" and any(
            len(other) > len(loc) and other[: len(loc)] == loc for other in wrong
        )

    return [item for item in items if not follows(item)]


def _location(item: Any, prefix: str) -> str:
    parts = [prefix] if prefix else []
    parts += [str(part) for part in item["loc"]]
    field = (item.get("ctx") or {}).get("field") if item["type"] == "rule" else None
    if field:
        parts.append(str(field))
    return ".".join(parts) or "body"


def _message(item: Any) -> str:
    message: str = item["msg"]
    if item["type"] in _LENGTHS and isinstance(item["ctx"].get("actual_length"), int):
        return _LENGTHS[item["type"]].format_map(item["ctx"])
    return message.removeprefix("Value error, ")


_CONFLICTS = {
    "tenants_subdomain_key": ("subdomain", "is taken"),
    "tenants_clerk_org_id_key": ("clerk_org_id", "has a tenant already"),
    "origins_tenant_id_name_key": ("name", "is the name of another origin"),
    "issuers_tenant_id_name_key": ("name", "is the name of another issuer"),
    "issuers_tenant_id_issuer_key": ("issuer", "is another issuer's already"),
    "api_keys_tenant_id_digest_key": ("key", "exists already"),
    "services_tenant_id_key_id_key": ("machine_id", "is a service already"),
    "routes_tenant_id_origin_id_fkey": ("origin_id", "names no origin of this tenant"),
}


def conflict_from(error: IntegrityError) -> ServiceError:
    """Name the field behind a violated constraint. Gives a plain Conflict for one we do not know."""
    name = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    if name in _CONFLICTS:
        field, message = _CONFLICTS[name]
        return Conflict(f"{field}: {message}", [FieldError(field, message)])
    return Conflict("The change conflicts with what is there.")
