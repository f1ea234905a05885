"""A machine that calls, as it is given and shown.

Laws:  1. A signing secret goes out once, in ServiceMade, and nowhere else; it never comes in: we make it. 2. A machine
       of Clerk comes with its id; whose key id it is does not change afterwards. 3. A network is kept in its one form.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, computed_field, model_validator

from contracts import bounds
from webapp.schemas.access import Network
from webapp.schemas.api_key import Expiry
from webapp.schemas.base import Input, Name, Patch, Scope, View, absent, no_duplicates, wrong
from webapp.schemas.paging import PageQuery

ServiceKind = Literal["hmac", "clerk_machine"]
ServiceState = Literal["active", "disabled", "expired", "revoked"]


_Networks = Annotated[
    tuple[Network, ...], Field(max_length=bounds.SERVICE_ADDRESSES_MAX), AfterValidator(no_duplicates)
]
_Scopes = Annotated[tuple[Scope, ...], Field(max_length=bounds.KEY_SCOPES_MAX), AfterValidator(no_duplicates)]
MachineId = Annotated[str, StringConstraints(pattern=r"^mch_[A-Za-z0-9]{1,120}$")]


class ServiceNew(Input):
    tenant_id: UUID | None = None
    """May be left out: it is always the caller's tenant."""
    name: Name
    kind: ServiceKind = "hmac"
    """hmac: it signs its requests with a secret that the answer shows. clerk_machine: Clerk issues its tokens."""
    machine_id: MachineId | None = None
    """clerk_machine: the id that Clerk gave it."""
    scopes: _Scopes = ()
    addresses: _Networks = ()
    """Networks it may call from; empty: any."""
    expires_at: Expiry | None = None

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if self.kind == "hmac" and self.machine_id is not None:
            raise wrong("machine_id", "does not go with a service of kind hmac")
        if self.kind == "clerk_machine" and self.machine_id is None:
            raise wrong("machine_id", "must be given for a service of kind clerk_machine")
        return self


class ServicePatch(Patch):
    name: Name = absent()
    scopes: _Scopes = absent()
    addresses: _Networks = absent()
    expires_at: Expiry | None = absent()


class ServiceRotation(Input):
    grace_seconds: Annotated[int, Field(ge=0, le=bounds.SECRET_GRACE_S_MAX)] = bounds.SECRET_GRACE_S_DEFAULT
    """How long the secret of before is still believed."""


class ServiceQuery(PageQuery):
    name: Name | None = None
    """Only services of this very name."""


class ServiceView(View):
    id: UUID
    tenant_id: UUID
    name: str
    kind: ServiceKind
    key_id: str
    """What it signs as, or the id that Clerk knows it by."""
    scopes: tuple[str, ...]
    addresses: tuple[str, ...]
    enabled: bool
    previous_until: datetime | None
    """Until when the secret of before is still believed, too."""
    expires_at: datetime | None
    revoked_at: datetime | None
    created_by: str | None
    expired: bool
    row_version: int
    created_at: datetime
    updated_at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def state(self) -> ServiceState:
        if self.revoked_at is not None:
            return "revoked"
        if self.expired:
            return "expired"
        return "active" if self.enabled else "disabled"


class ServiceMade(ServiceView):
    secret: str | None = Field(repr=False)
    """hmac: 32 octets in base64, shown this once."""
