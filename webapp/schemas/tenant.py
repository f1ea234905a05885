"""A tenant as it is given and shown.

Laws:  1. A subdomain is one DNS label (RFC 1035 section 2.3.1), lower case, not reserved, not punycode: a look-alike
       name must not pass for another tenant's.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from contracts import bounds
from webapp.schemas.access import AddressRules, AddressRulesView
from webapp.schemas.base import Input, Name, Patch, View, absent
from webapp.schemas.paging import PageQuery

_SUBDOMAIN: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")

Status = Literal["active", "suspended"]


def _subdomain(text: str) -> str:
    if not _SUBDOMAIN.fullmatch(text):
        raise ValueError("must consist of lower-case letters, digits and inner hyphens")
    if text[2:4] == "--":
        raise ValueError("must not have hyphens in third and fourth place")
    if text in bounds.RESERVED_SUBDOMAINS:
        raise ValueError("is reserved")
    return text


Subdomain = Annotated[
    str,
    StringConstraints(min_length=bounds.SUBDOMAIN_CHARS_MIN, max_length=bounds.SUBDOMAIN_CHARS_MAX),
    AfterValidator(_subdomain),
]
OrgId = Annotated[str, StringConstraints(pattern=r"^org_[A-Za-z0-9_-]{1,120}$")]


class TenantNew(Input):
    name: Name
    subdomain: Subdomain
    clerk_org_id: OrgId
    """Must be the active organisation of whoever creates the tenant."""


class TenantPatch(Patch):
    name: Name = absent()
    subdomain: Subdomain = absent()
    in_flight_max: Annotated[int, Field(ge=1, le=100_000)] = absent()
    addresses: AddressRules | None = absent()
    """Clients that may speak to the tenant at all, whatever the route; null: all."""


class TenantQuery(PageQuery):
    pass


class TenantView(View):
    id: UUID
    name: str
    subdomain: str
    clerk_org_id: str
    status: Status
    in_flight_max: int
    addresses: AddressRulesView | None
    config_version: int
    row_version: int
    created_at: datetime
    updated_at: datetime
