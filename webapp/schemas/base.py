"""The two bases (what comes in, what goes out) and the fields that several nouns share.

In:    plain values from JSON (strict) or from a form (lax).
Out:   Input, View, and annotated types.
Not here: rules of one noun (its own module), rules that need the database (webapp.services).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from contracts import bounds

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SCOPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._/*-]*")

__all__ = ["Input", "Name", "Patch", "Scope", "View", "absent", "field_name", "no_duplicates", "wrong"]


def _drop_null_defaults(schema: dict[str, Any]) -> None:
    """In a patch a default of null would read as "clears"; absent means unchanged."""
    for field in schema.get("properties", {}).values():
        if "default" in field and field["default"] is None:
            del field["default"]


class Input(BaseModel):
    model_config = ConfigDict(
        extra="forbid", str_strip_whitespace=True, frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class Patch(Input):
    model_config = ConfigDict(json_schema_extra=_drop_null_defaults)


class View(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


def absent() -> Any:
    """The default of a patch's field: never validated, never stored (see model_fields_set)."""
    return Field(default=None)


def wrong(field: str, reason: str) -> PydanticCustomError:
    """Make the error of a rule about several fields that names the one to mend."""
    return PydanticCustomError("rule", "{reason}", {"field": field, "reason": reason})


def _printable(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


def field_name(text: str) -> str:
    """Check an HTTP field name (RFC 9110 section 5.1) and lower-case it."""
    if not _TOKEN.fullmatch(text) or len(text) > 64:
        raise ValueError("must be an HTTP field name of at most 64 characters")
    return text.lower()


def _scope(text: str) -> str:
    if not _SCOPE.fullmatch(text):
        raise ValueError("must consist of letters, digits and : . _ / * -")
    return text


def no_duplicates(items: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(items)) != len(items):
        raise ValueError("must not name anything twice")
    return items


Name = Annotated[str, StringConstraints(min_length=1, max_length=bounds.NAME_CHARS_MAX), AfterValidator(_printable)]
Scope = Annotated[str, StringConstraints(min_length=1, max_length=bounds.SCOPE_CHARS_MAX), AfterValidator(_scope)]
