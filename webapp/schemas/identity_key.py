"""A key of identity tokens as it is shown, and how a change of keys is asked for.

Laws:  1. The private half has no place in any form.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from webapp.schemas.base import Input, View

KeyState = Literal["next", "signing", "retired"]


class Rotation(Input):
    at_once: bool = False
    """The key is known to somebody else: it is taken away now, and so is a next one. Origins that keep a key set refuse
    calls until they fetch it again."""


class IdentityKeyView(View):
    id: UUID
    """The `kid`."""
    tenant_id: UUID
    state: KeyState
    """next: published, will sign. signing: signs. retired: published until its last token is dead."""
    state_since: datetime
    state_until: datetime | None
    """When it moves on. Of a signing key, none is known here: the deployment says how often keys change."""
    algorithm: Literal["ES256"] = "ES256"
    public_jwk: dict[str, Any]
    row_version: int
    created_at: datetime
    updated_at: datetime


class IdentityKeys(View):
    items: tuple[IdentityKeyView, ...]
    """The signing one first. None until a route asks for identity tokens."""
