"""Table `identity_keys`: the keys of a tenant's identity tokens, and where each is in its life."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, Identified, Stamped, Versioned

STATES: Final = ("signing", "next", "retired")
"""In the order in which they are shown and published."""


class IdentityKey(Identified, Stamped, Versioned, Base):
    """`next` is published and waits, `signing` signs (one of each at most), `retired` is published until its last token
    is dead and has no private half any more. The id is the `kid`."""

    __tablename__ = "identity_keys"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        CheckConstraint("state IN ('next', 'signing', 'retired')", name="state"),
        CheckConstraint("(state = 'retired') = (private_key_sealed IS NULL)", name="private_key"),
        Index(
            "identity_keys_tenant_id_state_idx",
            "tenant_id",
            "state",
            unique=True,
            postgresql_where=text("state <> 'retired'"),
        ),
        Index("identity_keys_state_state_since_idx", "state", "state_since"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    state: Mapped[str]
    state_since: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    public_jwk: Mapped[str]
    private_key_sealed: Mapped[str | None]
    """contracts.sealing, belonging to contracts.snapshot.identity_key_place."""
