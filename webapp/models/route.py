"""Table `routes`: which requests go to which origin, for whom, how often, and what may be stored."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models.base import Base, Identified, Stamped, Versioned

_EMPTY_LIST = text("'{}'::text[]")


class Route(Identified, Stamped, Versioned, Base):
    """The composite foreign key keeps a route from pointing at another tenant's origin."""

    __tablename__ = "routes"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        ForeignKeyConstraint(["tenant_id", "origin_id"], ["origins.tenant_id", "origins.id"], ondelete="RESTRICT"),
        CheckConstraint(
            "auth_mode IN ('public', 'jwt_required', 'apikey_required', 'oauth_required', 'service_required', 'any')",
            name="auth_mode",
        ),
        Index("routes_tenant_id_created_at_id_idx", "tenant_id", "created_at", "id"),
        Index("routes_tenant_id_origin_id_idx", "tenant_id", "origin_id"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str | None]
    path_pattern: Mapped[str]
    methods: Mapped[list[str]] = mapped_column(server_default=_EMPTY_LIST, default=list)
    origin_id: Mapped[UUID]
    auth_mode: Mapped[str]
    priority: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    enabled: Mapped[bool] = mapped_column(server_default=text("true"), default=True)
    required_scopes: Mapped[list[str]] = mapped_column(server_default=_EMPTY_LIST, default=list)
    any_user: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    access: Mapped[dict[str, Any] | None]
    """As services.route_access keeps it: what contracts.snapshot.AccessConfig has, None where there is nothing."""
    rate_limit: Mapped[dict[str, Any] | None]
    cache_policy: Mapped[dict[str, Any] | None]
    rewrite: Mapped[dict[str, Any] | None]
    forward_credential: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    preserve_host: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    body_bytes_max: Mapped[int] = mapped_column(BigInteger())
