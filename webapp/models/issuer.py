"""Table `issuers`: authorities besides the deployment's Clerk instance whose tokens a tenant takes."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, Identified, Stamped, Versioned

_EMPTY_LIST = text("'{}'::text[]")


class Issuer(Identified, Stamped, Versioned, Base):
    """Routes name issuers inside `routes.access`; services.issuers keeps one that is named from being removed."""

    __tablename__ = "issuers"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "name"),
        UniqueConstraint("tenant_id", "issuer"),
        CheckConstraint("kind IN ('jwt', 'oauth', 'introspection')", name="kind"),
        Index("issuers_tenant_id_created_at_id_idx", "tenant_id", "created_at", "id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str]
    kind: Mapped[str]
    issuer: Mapped[str]
    audience: Mapped[list[str]] = mapped_column(server_default=_EMPTY_LIST, default=list)
    algorithms: Mapped[list[str]] = mapped_column(server_default=_EMPTY_LIST, default=list)
    jwks_uri: Mapped[str | None]
    public_keys: Mapped[str | None]
    required_scopes: Mapped[list[str]] = mapped_column(server_default=_EMPTY_LIST, default=list)
    introspection_url: Mapped[str | None]
    client_id: Mapped[str | None]
    client_secret_sealed: Mapped[str | None]
    """contracts.sealing, belonging to contracts.snapshot.issuer_secret_place."""
