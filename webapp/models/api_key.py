"""Table `api_keys`: what may be known of a key for ever; the key itself is nowhere."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, Identified, Stamped, Versioned


class ApiKey(Identified, Stamped, Versioned, Base):
    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "digest"),
        Index("api_keys_tenant_id_created_at_id_idx", "tenant_id", "created_at", "id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str]
    key_prefix: Mapped[str]
    last_four: Mapped[str]
    digest: Mapped[str]
    """contracts.apikey.digest: HMAC under a pepper that is not in the database."""
    scopes: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"), default=list)
    enabled: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    imported: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """Nobody writes it yet, so nobody shows it."""
    created_by: Mapped[str | None]
    """Clerk user id."""
