"""Table `config_versions`: every configuration a tenant ever had, as it was published. Append-only."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base


class ConfigVersion(Base):
    __tablename__ = "config_versions"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger(), primary_key=True)
    body: Mapped[str]
    """Canonical JSON of contracts.snapshot, text and not jsonb: `sha256` is of these very bytes."""
    sha256: Mapped[str]
    author: Mapped[str | None]
    """Clerk user id."""
    message: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
