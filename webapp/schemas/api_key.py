"""An API key as it is asked for, imported and shown.

Laws:  1. The key itself goes out once, in ApiKeyMade, and nowhere else. 2. A foreign key comes in as a SecretStr, so
       that no repr, log or error shows it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, SecretStr, StringConstraints, computed_field

from contracts import bounds
from webapp.schemas.base import Input, Name, Patch, Scope, View, absent, no_duplicates
from webapp.schemas.key_fields import Addresses, KeyRateLimit
from webapp.schemas.limit_words import summary
from webapp.schemas.paging import PageQuery

Mode = Literal["live", "test"]
Grace = Literal[0, 60, 3_600, 86_400, 604_800]
assert Grace.__args__ == bounds.KEY_GRACES_S  # type: ignore[attr-defined]
KeyState = Literal["active", "disabled", "expired", "revoked", "waiting"]
_Scopes = Annotated[tuple[Scope, ...], Field(max_length=bounds.KEY_SCOPES_MAX), AfterValidator(no_duplicates)]


def _storable(at: datetime) -> datetime:
    """Give the moment in UTC: year 9999 with an offset may be year 10000 there, which no reader could load again."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be before the year 10000 in UTC") from None


Expiry = Annotated[AwareDatetime, AfterValidator(_storable)]
_Days = Annotated[int, Field(ge=bounds.ROTATE_EVERY_DAYS_MIN, le=bounds.ROTATE_EVERY_DAYS_MAX)]


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
    """`read` covers GET, HEAD and OPTIONS, `write` the rest: a key with neither is refused everywhere. Routes may ask
    for more."""
    expires_at: Expiry | None = None
    addresses: Addresses = ()
    """Networks it may be used from; empty: any."""
    rate_limit: KeyRateLimit | None = None
    rotate_every_days: _Days | None = None
    """A successor is made so often, and waits to be revealed."""
    mode: Mode = "live"


class ApiKeyImport(Input):
    tenant_id: UUID | None = None
    name: Name
    key: Annotated[SecretStr, AfterValidator(_foreign_key)]
    scopes: _Scopes = ()
    expires_at: Expiry | None = None
    addresses: Addresses = ()
    rate_limit: KeyRateLimit | None = None
    rotate_every_days: _Days | None = None


class ApiKeyImports(Input):
    """All of them, or none."""

    keys: Annotated[tuple[ApiKeyImport, ...], Field(min_length=1, max_length=bounds.KEYS_PER_IMPORT_MAX)]


class ApiKeyPatch(Patch):
    name: Name = absent()
    scopes: _Scopes = absent()
    expires_at: Expiry | None = absent()
    addresses: Addresses = absent()
    rate_limit: KeyRateLimit | None = absent()
    rotate_every_days: _Days | None = absent()


class ApiKeyRotate(Input):
    grace_seconds: Grace = bounds.KEY_GRACE_S_DEFAULT
    """So long the old key goes on; never past its own end."""


class ApiKeyQuery(PageQuery):
    search: Annotated[str, StringConstraints(min_length=1, max_length=bounds.SEARCH_CHARS_MAX)] | None = None
    """The beginning of the name (as written, or in lower, upper or Title case), or of the key as it is shown."""


class ApiKeyView(View):
    id: UUID
    tenant_id: UUID
    name: str
    key_prefix: str
    last_four: str
    scopes: tuple[str, ...]
    addresses: tuple[str, ...]
    rate_limit: dict[str, Any] | None
    enabled: bool
    imported: bool
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    deprecated_at: datetime | None
    """Since then it has a successor; it ends at expires_at."""
    rotated_from_id: UUID | None
    rotate_every_days: int | None
    rotation_overdue_at: datetime | None
    reveal_until: datetime | None
    """Of a successor that waits: after that its key is destroyed."""
    created_by: str | None
    expired: bool
    row_version: int
    created_at: datetime
    updated_at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def rate_limit_summary(self) -> tuple[str, ...]:
        """Each limit in words."""
        return summary(self.rate_limit, "this key")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def state(self) -> KeyState:
        if self.revoked_at is not None:
            return "revoked"
        if self.reveal_until is not None:
            return "waiting"
        if self.expired:
            return "expired"
        return "active" if self.enabled else "disabled"


class ApiKeyMade(ApiKeyView):
    key: str = Field(repr=False)
    """Shown this once."""


class ApiKeysMade(View):
    items: tuple[ApiKeyView, ...]
