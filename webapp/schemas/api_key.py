"""An API key as it is asked for, imported and shown.

Laws:  1. The key itself goes out once, in ApiKeyMade, and nowhere else. 2. A foreign key comes in as a SecretStr, so
       that no repr, log or error shows it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, computed_field

from contracts import bounds
from webapp.schemas.base import Input, Name, Patch, Scope, View, absent, no_duplicates
from webapp.schemas.paging import PageQuery

Mode = Literal["live", "test"]
KeyState = Literal["active", "disabled", "expired", "revoked"]
_Scopes = Annotated[tuple[Scope, ...], Field(max_length=bounds.KEY_SCOPES_MAX), AfterValidator(no_duplicates)]


def _storable(at: datetime) -> datetime:
    """Give the moment in UTC: year 9999 with an offset may be year 10000 there, which no reader could load again."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be before the year 10000 in UTC") from None


Expiry = Annotated[AwareDatetime, AfterValidator(_storable)]


def _foreign_key(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not bounds.KEY_CHARS_MIN <= len(text) <= bounds.KEY_CHARS_MAX:
        raise ValueError(f"must have from {bounds.KEY_CHARS_MIN} to {bounds.KEY_CHARS_MAX} characters")
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("must consist of visible ASCII characters")
    return secret


class ApiKeyNew(Input):
    tenant_id: UUID | None = None
    """May be left out: it is always the caller's tenant."""
    name: Name
    scopes: _Scopes = ()
    expires_at: Expiry | None = None
    mode: Mode = "live"


class ApiKeyImport(Input):
    tenant_id: UUID | None = None
    name: Name
    key: Annotated[SecretStr, AfterValidator(_foreign_key)]
    scopes: _Scopes = ()
    expires_at: Expiry | None = None


class ApiKeyPatch(Patch):
    name: Name = absent()
    scopes: _Scopes = absent()
    expires_at: Expiry | None = absent()


class ApiKeyQuery(PageQuery):
    pass


class ApiKeyView(View):
    id: UUID
    tenant_id: UUID
    name: str
    key_prefix: str
    last_four: str
    scopes: tuple[str, ...]
    enabled: bool
    imported: bool
    expires_at: datetime | None
    revoked_at: datetime | None
    created_by: str | None
    expired: bool
    row_version: int
    created_at: datetime
    updated_at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def state(self) -> KeyState:
        if self.revoked_at is not None:
            return "revoked"
        if self.expired:
            return "expired"
        return "active" if self.enabled else "disabled"


class ApiKeyMade(ApiKeyView):
    key: str = Field(repr=False)
    """Shown this once."""
