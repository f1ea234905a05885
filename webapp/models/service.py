"""Table `services`: machines that call; one that signs its requests, or one that Clerk knows."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, Identified, Stamped, Versioned


class Service(Identified, Stamped, Versioned, Base):
    __tablename__ = "services"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "key_id"),
        CheckConstraint("kind IN ('hmac', 'clerk_machine')", name="kind"),
        CheckConstraint("(kind = 'hmac' AND revoked_at IS NULL) = (secret IS NOT NULL)", name="secret"),
        CheckConstraint("(previous_secret IS NULL) = (previous_until IS NULL)", name="previous"),
        Index("services_tenant_id_created_at_id_idx", "tenant_id", "created_at", "id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str]
    kind: Mapped[str]
    key_id: Mapped[str]
    """hmac: `svc_...`, made by us. clerk_machine: the machine's id, `mch_...`."""
    scopes: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"), default=list)
    addresses: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"), default=list)
    enabled: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    secret: Mapped[str | None]
    """Sealed, belonging to contracts.snapshot.service_secret_place; gone once revoked."""
    previous_secret: Mapped[str | None]
    """Sealed; believed until `previous_until`."""
    previous_until: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    created_by: Mapped[str | None]
    """Clerk user id."""
