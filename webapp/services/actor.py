"""Who asks for something: a person as their token says, or the system itself.

Out:   Caller (a person in an organisation), Actor (the same within a tenant), may_change.
Laws:  1. The role is the token's, never the row's. 2. `org:admin` changes things; every other role reads, and has API
       keys of its own.
Not here: believing a token (webapp.auth).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from webapp.services.errors import Forbidden

Role = Literal["admin", "member"]
Via = Literal["api", "console", "worker", "cli"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    org_id: str
    clerk_user_id: str | None
    role: Role
    via: Via
    request_id: str
    ip: str | None = None
    session_id: str | None = None
    email: str | None = None
    impersonator: str | None = None
    """Clerk user id of the one who acts in this person's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor(Caller):
    tenant_id: UUID
    user_id: UUID | None
    """Of our row; None for the system."""


def role_of(org_role: str | None) -> Role:
    """Map the token's role: `org:admin` is admin, any other a member."""
    return "admin" if org_role == "org:admin" else "member"


def may_change(caller: Caller) -> bool:
    return caller.role == "admin"


def require_admin(caller: Caller) -> None:
    """Raises Forbidden, before anything is looked up: a refusal tells nothing about what exists."""
    if not may_change(caller):
        raise Forbidden("Only an admin of the organisation may change things here.")


def require_own(caller: Caller, made_by: str | None) -> None:
    """Whoever is no admin may change what they made themselves. Raises Forbidden."""
    if not may_change(caller) and (made_by is None or made_by != caller.clerk_user_id):
        raise Forbidden("Only an admin of the organisation may do this to what somebody else made.")
