"""Table `users`: a person as a member of one tenant. A cache for display: rights come from the token alone."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, Identified, Stamped


class User(Identified, Stamped, Base):
    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "clerk_user_id"),
        CheckConstraint("role IN ('admin', 'member')", name="role"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    clerk_user_id: Mapped[str]
    email: Mapped[str | None]
    role: Mapped[str]
    last_seen_at: Mapped[datetime | None]
