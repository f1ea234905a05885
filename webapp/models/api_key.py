"""Table `api_keys`: what may be known of a key for ever; the key itself is nowhere, but sealed while a successor that
was made by its rotation waits to be revealed."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, Identified, Stamped, Versioned

_LIVES = "revoked_at IS NULL AND"


class ApiKey(Identified, Stamped, Versioned, Base):
    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "digest"),
        ForeignKeyConstraint(
            ["tenant_id", "rotated_from_id"],
            ["api_keys.tenant_id", "api_keys.id"],
            ondelete="SET NULL (rotated_from_id)",
        ),
        Index("api_keys_tenant_id_created_at_id_idx", "tenant_id", "created_at", "id"),
        Index(
            "api_keys_tenant_id_rotated_from_id_idx",
            "tenant_id",
            "rotated_from_id",
            postgresql_where=text("rotated_from_id IS NOT NULL"),
        ),
        Index("api_keys_tenant_id_name_idx", "tenant_id", "name", postgresql_ops={"name": "text_pattern_ops"}),
        Index(
            "api_keys_tenant_id_key_prefix_idx",
            "tenant_id",
            "key_prefix",
            postgresql_ops={"key_prefix": "text_pattern_ops"},
        ),
        Index(
            "api_keys_rotating_idx",
            "tenant_id",
            "id",
            postgresql_where=text(f"{_LIVES} (rotate_every_days IS NOT NULL OR deprecated_at IS NOT NULL)"),
        ),
        Index(
            "api_keys_expiring_idx",
            "expires_at",
            postgresql_where=text(f"enabled AND {_LIVES} expires_at IS NOT NULL"),
        ),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str]
    key_prefix: Mapped[str]
    last_four: Mapped[str]
    digest: Mapped[str]
    """contracts.apikey.digest: HMAC under a pepper that is not in the database; it says which pepper's by itself."""
    scopes: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"), default=list)
    enabled: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    imported: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """As far as edges have told (services.key_uses); at most about a minute behind."""
    created_by: Mapped[str | None]
    """Clerk user id."""
    addresses: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"), default=list)
    rate_limit: Mapped[dict[str, Any] | None]
    deprecated_at: Mapped[datetime | None]
    """Since then it has a successor that somebody holds."""
    rotated_from_id: Mapped[UUID | None]
    rotate_every_days: Mapped[int | None]
    rotation_overdue_at: Mapped[datetime | None]
    """Its last successor was not revealed in time."""
    sealed_key: Mapped[str | None]
    """contracts.sealing, belonging to snapshot.successor_place: a successor that waits. No edge knows it yet."""
    reveal_until: Mapped[datetime | None]
    revealed_at: Mapped[datetime | None]
