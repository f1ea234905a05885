"""Tables `origins` and `targets`: where a route's requests go, and the addresses behind that name.

Laws:  1. An origin has at least one target; `origins.url` is the URL of its first one (services.origins keeps it so).
       2. What probes found is written on the target, and only when it changed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, ForeignKeyConstraint, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp.models.base import Base, Identified, Stamped, Versioned


class Origin(Identified, Stamped, Versioned, Base):
    __tablename__ = "origins"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "name"),
        CheckConstraint("load_balancing IN ('round_robin')", name="load_balancing"),
    )

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str]
    url: Mapped[str]
    health_check_path: Mapped[str | None]
    timeout_seconds: Mapped[float] = mapped_column(Double())
    connect_timeout_seconds: Mapped[float] = mapped_column(Double(), server_default=text("5"), default=5.0)
    load_balancing: Mapped[str] = mapped_column(server_default=text("'round_robin'"), default="round_robin")
    tls: Mapped[dict[str, Any] | None]
    """As services.origin_tls keeps it: PEM, the client key sealed."""
    targets: Mapped[list[Target]] = relationship(
        order_by="Target.position", cascade="all, delete-orphan", passive_deletes=True, lazy="raise"
    )


class Target(Identified, Base):
    __tablename__ = "targets"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        ForeignKeyConstraint(["tenant_id", "origin_id"], ["origins.tenant_id", "origins.id"], ondelete="CASCADE"),
        UniqueConstraint("tenant_id", "origin_id", "position", deferrable=True, initially="DEFERRED"),
    )

    tenant_id: Mapped[UUID]
    origin_id: Mapped[UUID]
    url: Mapped[str]
    weight: Mapped[int] = mapped_column(server_default=text("1"), default=1)
    position: Mapped[int]
    healthy: Mapped[bool | None]
    """None until the first probe."""
    health_reason: Mapped[str | None]
    health_since: Mapped[datetime | None]
    health_latency_ms: Mapped[float | None] = mapped_column(Double())
